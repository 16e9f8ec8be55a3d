"""What a corrupt mix knows more than its links show: which packet that it sends is which that came."""

from __future__ import annotations

from typing import Any

from ..mix.packets import Opened, Packets, Private
from ..sphinx import Arrived, Forward
from .flights import Flight

__all__ = ["Insight"]


class Insight:
    """Stands between a core and its packets as `Packets`, and so needs no second unwrap.

    `current`: the flight that is being handled; `causes`: by packet that is to leave, the flight that brought it.
    """

    def __init__(self, packets: Packets) -> None:
        self._packets = packets
        self.current: Flight | None = None
        self.causes: dict[bytes, Flight] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._packets, name)

    def private(self, seed: bytes) -> Private:
        return _Watched(self._packets.private(seed), self)


class _Watched:
    def __init__(self, private: Private, insight: Insight) -> None:
        self._private = private
        self._insight = insight
        self.public = private.public

    def open(self, packet: bytes) -> Opened:
        return _WatchedPacket(self._private.open(packet), self._insight)


class _WatchedPacket:
    def __init__(self, opened: Opened, insight: Insight) -> None:
        self._opened = opened
        self._insight = insight
        self.tag = opened.tag

    def unwrap(self) -> Forward | Arrived:
        unwrapped = self._opened.unwrap()
        if isinstance(unwrapped, Forward) and self._insight.current is not None:
            self._insight.causes[unwrapped.packet] = self._insight.current
        return unwrapped
