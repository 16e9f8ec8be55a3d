"""When a node sends packets of its own: at times drawn beforehand, which nothing it does can move."""

from __future__ import annotations

import random

__all__ = ["Slots"]

_MOST_LATE = 1.0  # seconds; after a longer sleep the missed slots are not made up for in one burst


class Slots:
    """A Poisson process of `rate` slots a second, drawn from a `rng` of its own so that no other draw moves it."""

    def __init__(self, now: float, rate: float, rng: random.Random) -> None:
        self._rate = rate
        self._rng = rng
        self._next = now + rng.expovariate(rate)

    def take(self, now: float, upto: float | None = None) -> bool:
        """Use up the next slot if its time has come: by `upto`, where that is given, else by `now`."""
        if self._next > (now if upto is None else upto):
            return False
        if self._next < now - _MOST_LATE:
            self._next = now
        self._next += self._rng.expovariate(self._rate)
        return True

    def deadline(self) -> float:
        """Say when the next slot is."""
        return self._next
