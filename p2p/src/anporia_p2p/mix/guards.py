"""The few mixes that a node's own packets enter the network by, kept for weeks.

Whoever changes the first hop with every packet uses a bad one sooner or later. With guards most nodes never do; the
price is that an observer of all links can tell which packets are likely to be fresh (measured in docs/p2p.md).
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
    """An ordered list: the first `size` that can be used are in use; new ones come in only when those are too few."""

    def __init__(self, rng: random.Random, kept: Iterable[Guard] = (), size: int = GUARDS) -> None:
        self._rng = rng
        self._size = size
        self.kept: list[Guard] = list(kept)
        """What to store and hand in again after a restart: choosing anew each time would undo all of it."""

    def current(self, now: float, mixes: Mapping[bytes, Descriptor], unusable: Collection[bytes]) -> list[bytes]:
        """Give the guards to use now, choosing new ones out of `mixes` where needed and allowed."""
        if any(now >= guard.chosen_at + LIFETIME for guard in self.kept):
            self.kept = [guard for guard in self.kept if now < guard.chosen_at + LIFETIME]
        used = [guard.node_id for guard in self.kept if guard.node_id in mixes and guard.node_id not in unusable]
        if len(used) < self._size and len(self.kept) < 2 * self._size:
            taken = {guard.node_id for guard in self.kept}
            free = sorted(mixes.keys() - taken - set(unusable))
            self._rng.shuffle(free)
            for node_id in free[: min(self._size - len(used), 2 * self._size - len(self.kept))]:
                self.kept.append(Guard(node_id, now))
                used.append(node_id)
        return used[: self._size]
