"""The mix key of the hour, and those before it, two at most, for packets that were on their way.

Keys live in memory only: a restart makes a new one, so that packets recorded before it cannot be replayed to a mix that
has forgotten their tags, and nobody can be made to open them later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import BadPacket
from .effects import NewMixKey
from .packets import Opened, Packets, Private
from .replay import ReplayCache

__all__ = ["EPOCH", "GRACE", "Epochs"]

EPOCH = 3_600.0  # seconds a key is new; bounds the replay cache, and what a seized key opens
GRACE = 600.0  # seconds it is still taken; senders use it for half of them, so that the other half is for travelling

_MOST = 3  # keys: the last two may both be within their grace where a full replay cache has cut one short


@dataclass(slots=True)
class _Epoch:
    private: Private
    ends: float
    replays: ReplayCache = field(default_factory=ReplayCache)


class Epochs:
    """The keys of one mix. `random_bytes` gives their seeds."""

    def __init__(self, now: float, packets: Packets, random_bytes: Callable[[int], bytes]) -> None:
        self._packets = packets
        self._random_bytes = random_bytes
        self._epochs = [self._fresh(now)]  # newest first

    @property
    def public(self) -> bytes:
        """The newest key, which descriptors are to name."""
        return self._epochs[0].private.public

    def announced(self) -> NewMixKey:
        """Give what a descriptor says of the newest key."""
        ends = self._epochs[0].ends
        return NewMixKey(self.public, ends - EPOCH, ends + GRACE / 2)

    def take(self, packet: bytes) -> Opened:
        """Open a packet and spend its tag. Raises `BadPacket`; its code is then also that of a replay."""
        for epoch in self._epochs:
            try:
                opened = epoch.private.open(packet)
            except BadPacket as exc:
                if exc.code != "bad_mac" or epoch is self._epochs[-1]:
                    raise
                continue
            if reason := epoch.replays.refuse(opened.tag):
                raise BadPacket(reason)
            return opened
        raise AssertionError("there is always one key")

    def turn(self, now: float) -> NewMixKey | None:
        """Begin a new epoch when the last is over or its replay cache nearly full; gives the new key, if any."""
        new = None
        newest = self._epochs[0]
        if newest.replays.nearly_full:
            newest.ends = now  # rather a new key than a mix that takes nothing for the rest of the hour
        if now >= newest.ends:
            self._epochs = [self._fresh(now), *self._epochs][:_MOST]
            new = self.announced()
        while len(self._epochs) > 1 and now >= self._epochs[-1].ends + GRACE:
            del self._epochs[-1]
        return new

    def deadline(self) -> float:
        """Say when `turn` has something to do."""
        new = self._epochs[0].ends
        return new if len(self._epochs) == 1 else min(new, self._epochs[-1].ends + GRACE)

    def _fresh(self, now: float) -> _Epoch:
        return _Epoch(self._packets.private(self._random_bytes(32)), now + EPOCH)
