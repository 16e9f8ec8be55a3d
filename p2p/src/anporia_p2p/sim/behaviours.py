"""What corrupt nodes do to packets: the adversaries that act. Those that only look are `Observer`s."""

from __future__ import annotations

import random
from collections.abc import Iterable

__all__ = ["Behaviour", "Delayer", "Dropper", "Replayer", "Tagger"]


class Behaviour:
    """What a node does to packets that is not in its core; the honest one does nothing."""

    def incoming(self, now: float, packet: bytes) -> Iterable[tuple[float, bytes]]:
        """Give what the core is to see instead, each after so many seconds."""
        return ((0.0, packet),)

    def outgoing(self, now: float, receiver: int, packet: bytes, forwarded: bool) -> Iterable[tuple[float, bytes]]:
        """Give what is to leave instead; `forwarded`: it is another's packet."""
        return ((0.0, packet),)


class Dropper(Behaviour):
    """Throws away a share of what it should pass on."""

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share = share
        self._rng = rng

    def outgoing(self, now: float, receiver: int, packet: bytes, forwarded: bool) -> Iterable[tuple[float, bytes]]:
        """Pass on what is not thrown away."""
        return () if forwarded and self._rng.random() < self._share else ((0.0, packet),)


class Delayer(Behaviour):
    """Holds what it passes on for so many seconds more than asked."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def outgoing(self, now: float, receiver: int, packet: bytes, forwarded: bool) -> Iterable[tuple[float, bytes]]:
        """Pass on late."""
        return ((self._seconds if forwarded else 0.0, packet),)


class Replayer(Behaviour):
    """Sends each packet it passes on once more, after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def outgoing(self, now: float, receiver: int, packet: bytes, forwarded: bool) -> Iterable[tuple[float, bytes]]:
        """Pass on, twice."""
        return ((0.0, packet), (self._seconds, packet)) if forwarded else ((0.0, packet),)


class Tagger(Behaviour):
    """Flips one bit between `first` and `last` (bytes) of all it passes on, to know it again further down."""

    def __init__(self, first: int, last: int, rng: random.Random) -> None:
        self._range = (first, last)
        self._rng = rng

    def outgoing(self, now: float, receiver: int, packet: bytes, forwarded: bool) -> Iterable[tuple[float, bytes]]:
        """Pass on with a mark."""
        if not forwarded:
            return ((0.0, packet),)
        at = self._rng.randrange(*self._range)
        marked = packet[:at] + bytes((packet[at] ^ 1 << self._rng.randrange(8),)) + packet[at + 1 :]
        return ((0.0, marked),)
