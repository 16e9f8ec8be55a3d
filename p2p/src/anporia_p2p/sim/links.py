"""What lies between nodes: how long a packet travels, and whether it arrives."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Links"]


class Links:
    """All links of a network. `latency(a, b)`: seconds one way between two nodes, by number, such as a matrix's entry.

    `jitter`: up to so many seconds more, uniformly; `loss`: the share of packets that vanish, 0 to 1.
    """

    def __init__(
        self,
        latency: float | Callable[[int, int], float],
        *,
        jitter: float = 0.0,
        loss: float = 0.0,
        rng: random.Random,
    ) -> None:
        self._latency = latency
        self._jitter = jitter
        self._rng = rng
        self.loss = loss
        self._cut: set[frozenset[int]] = set()

    def cut(self, a: int, b: int) -> None:
        """Let nothing through between two nodes, in either direction."""
        self._cut.add(frozenset((a, b)))

    def mend(self, a: int, b: int) -> None:
        """Undo `cut`."""
        self._cut.discard(frozenset((a, b)))

    def passage(self, a: int, b: int) -> float | None:
        """Give how many seconds the next packet from `a` to `b` travels; None if it does not arrive."""
        if self._cut and frozenset((a, b)) in self._cut:
            return None
        if self.loss and self._rng.random() < self.loss:
            return None
        seconds = self._latency if isinstance(self._latency, float) else self._latency(a, b)
        return seconds + self._jitter * self._rng.random() if self._jitter else seconds
