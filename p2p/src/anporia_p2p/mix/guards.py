"""The few mixes that a node's own packets enter the network by, kept for weeks.

Whoever changes the first hop with every packet uses a bad one sooner or later. With three guards, and a fifth of the
mixes bad, half of the nodes do not while their guards last; the price is that an observer of all links can tell which
packets are likely to be fresh (measured in docs/p2p.md).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from .descriptor import Descriptor

__all__ = ["GUARDS", "LIFETIME", "Guard", "Guards"]

GUARDS = 3  # used at a time
LIFETIME = 30 * 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class Guard:
    """A mix chosen as guard, and when (Unix seconds)."""

    node_id: bytes
    chosen_at: float


class Guards:
    """An ordered list: the first `size` that can be used are in use; new ones come in only when those are too few.

    Twice `size` at most in a lifetime: nobody is to make a node try out the whole network by killing guards. `kept` is
    what to store after each change, and to hand in again after a restart: choosing anew would undo all of it.
    """

    def __init__(self, rng: random.Random, kept: Iterable[Guard] = (), size: int = GUARDS) -> None:
        self._rng = rng
        self._size = size
        self._new: list[Guard] = []
        self.kept: list[Guard] = list(kept)

    def current(self, now: float, mixes: Mapping[bytes, Descriptor], unusable: Collection[bytes]) -> list[bytes]:
        """Give the guards to use now, drawing new ones out of `mixes` where needed and allowed.

        No two of one network or family. New ones are kept when `keep_new` is called.
        """
        if any(now >= guard.chosen_at + LIFETIME or guard.chosen_at > now for guard in self.kept):
            # a date in the future is that of a clock which was wrong once: the lifetime begins now
            dated = [Guard(guard.node_id, min(guard.chosen_at, now)) for guard in self.kept]
            self.kept = [guard for guard in dated if now < guard.chosen_at + LIFETIME]
        used: list[bytes] = []
        for node_id in (guard.node_id for guard in self.kept):
            # one that was away while another of its network came in is not used beside it
            if node_id in mixes and node_id not in unusable and not any(mixes[node_id].related(mixes[u]) for u in used):
                used.append(node_id)
        self._new = []
        if len(used) < self._size and len(self.kept) < 2 * self._size:
            beside = [mixes[guard.node_id] for guard in self.kept if guard.node_id in mixes]
            free = sorted(mixes.keys() - {guard.node_id for guard in self.kept} - set(unusable))
            self._rng.shuffle(free)
            for node_id in free:
                if len(used) == self._size or len(self.kept) + len(self._new) == 2 * self._size:
                    break
                if not any(mixes[node_id].related(other) for other in beside):
                    self._new.append(Guard(node_id, now))
                    beside.append(mixes[node_id])
                    used.append(node_id)
        return used[: self._size]

    def keep_new(self) -> None:
        """Keep the guards that `current` drew: a path was found with them."""
        self.kept += self._new
        self._new = []

    def forget_new(self) -> None:
        """Let go of the guards that `current` drew."""
        self._new = []
