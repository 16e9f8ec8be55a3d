"""Packets that wait out their delay: the mix proper."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

__all__ = ["MAX_HELD", "Hold"]

MAX_HELD = 4_096  # packets: 64 MiB; three are held on average in `fast` (88 a second, 32 ms), four in the others


class Hold:
    """A bounded queue ordered by when each packet is due; equal times leave in the order they came."""

    def __init__(self, most: int = MAX_HELD) -> None:
        self._heap: list[tuple[float, int, bytes, bytes]] = []
        self._most = most
        self._came = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def full(self) -> bool:
        """Say whether nothing more is taken: the newest is dropped, not the oldest, which a flood must not push out."""
        return len(self._heap) >= self._most

    def put(self, due: float, next_id: bytes, packet: bytes) -> None:
        """Hold a packet until `due`, for the node `next_id`. Call only while not `full`."""
        self._came += 1
        heapq.heappush(self._heap, (due, self._came, next_id, packet))

    def release(self, now: float) -> Iterator[tuple[bytes, bytes]]:
        """Give (next node, packet) of all that is due."""
        while self._heap and self._heap[0][0] <= now:
            _, _, next_id, packet = heapq.heappop(self._heap)
            yield next_id, packet

    def deadline(self) -> float:
        """Say when the next packet is due; infinity when none is held."""
        return self._heap[0][0] if self._heap else math.inf
