"""Packets that look like any other and carry nothing: loops to oneself, and drops that a random mix throws away.

Both lie ready before they are needed and are made anew after a slot, in the next tick, so that cover does not leave
later than a real packet by the time it takes to build.
"""

from __future__ import annotations

import math
import random

from ..errors import P2pError
from .effects import Service
from .epochs import Epochs
from .health import Health
from .profiles import Profile
from .sealing import SealedPacket, Sealer

__all__ = ["Cover"]

_NONCE_BYTES = 16
_GRACE = (
    2.0  # seconds a loop may come later than its delays add up to, beside a mean delay a mix: links, a busy processor
)
_RETRY = 1.0  # seconds until a path is looked for again where there was none
_STALE = 150.0  # seconds a packet lies ready at most: half of what a mix key is taken for after senders stop using it


class Cover:
    """The next loop and the next drop of one node."""

    def __init__(
        self, now: float, profile: Profile, sealer: Sealer, epochs: Epochs, health: Health, rng: random.Random
    ) -> None:
        self._profile = profile
        self._sealer = sealer
        self._epochs = epochs
        self._health = health
        self._rng = rng
        self._loop: tuple[bytes, SealedPacket] | None = None
        self._drop: SealedPacket | None = None
        self._made = {Service.LOOP: now, Service.DROP: now}
        self._retry = now

    def prepare(self, now: float) -> None:
        """Have a fresh one of each ready. Without a path there is none, until it is tried again."""
        if now < self._retry:
            return
        try:
            if self._loop is None or now > self._made[Service.LOOP] + _STALE:
                nonce = self._rng.randbytes(_NONCE_BYTES)
                self._loop = (nonce, self._sealer.loop(now, self._epochs.public, nonce))
                self._made[Service.LOOP] = now
            if self._drop is None or now > self._made[Service.DROP] + _STALE:
                self._drop = self._sealer.seal(now, self._epochs.public, Service.DROP, b"")
                self._made[Service.DROP] = now
        except P2pError:  # no path; or a key in the directory that nothing can be sealed to
            self._retry = now + _RETRY

    def deadline(self) -> float:
        """Say when `prepare` has something to do: at once after a slot; infinity while both lie ready."""
        return math.inf if self._loop is not None and self._drop is not None else self._retry

    def loop(self, now: float) -> SealedPacket | None:
        """Take the loop, and expect it home."""
        if self._loop is None:
            self.prepare(now)  # two slots in one tick
        if self._loop is None:
            return None
        (nonce, sealed), self._loop = self._loop, None
        slack = _GRACE + len(sealed.mixes) * self._profile.mean_delay
        self._health.sent_loop(nonce, sealed.mixes, now + sealed.held + slack)
        return sealed

    def drop(self, now: float) -> SealedPacket | None:
        """Take the drop."""
        if self._drop is None:
            self.prepare(now)
        sealed, self._drop = self._drop, None
        return sealed
