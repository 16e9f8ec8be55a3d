"""From a body to a packet: choose a path, draw the delays, build."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..errors import NoPath
from ..sphinx import MAX_HOPS
from .descriptor import Descriptor
from .effects import Service
from .packets import Leg, Packets
from .paths import Paths
from .profiles import Profile

__all__ = ["SealedPacket", "Sealer"]


_PROBING = 0.25  # of the loops: a mix that came back is used again after some 13 of them, 5 minutes in `fast`


@dataclass(frozen=True, slots=True)
class SealedPacket:
    """A packet ready to go. `mixes`: those it passes, in order, without this node; `held`: seconds they hold it."""

    first_hop: bytes
    packet: bytes
    mixes: tuple[bytes, ...]
    held: float


class Sealer:
    """Builds the packets of one node. The delays are the sender's to draw: one source of chance, and one who knows."""

    def __init__(self, me: bytes, profile: Profile, packets: Packets, paths: Paths, rng: random.Random) -> None:
        self._me = me
        self._profile = profile
        self._packets = packets
        self._paths = paths
        self._rng = rng
        self.built = 0
        """Packets and reply blocks made so far."""

    def seal(
        self,
        now: float,
        my_key: bytes,
        service: Service,
        body: bytes,
        avoid: Collection[bytes] = (),
        avoid_guards: Collection[bytes] = (),
    ) -> SealedPacket:
        """Seal a body for the end of a fresh path, which may be this node. Raises `NoPath`, `BodyTooLarge`."""
        legs = self._legs(now, self._paths.out(now, avoid, avoid_guards))
        if len(legs) < MAX_HOPS:
            legs.append(Leg(self._me, my_key))
        legs[-1] = Leg(legs[-1].node_id, legs[-1].key)  # the last hop does not wait
        return self._build(legs, bytes((service,)) + body)

    def loop(self, now: float, my_key: bytes, nonce: bytes) -> SealedPacket:
        """Seal a packet to oneself through four mixes. Raises `NoPath`."""
        # some go through suspects too: how else would be found out that one is back, or was accused by chance
        path = self._paths.home(now, probing=self._rng.random() < _PROBING)
        legs = [*self._legs(now, path), Leg(self._me, my_key)]
        return self._build(legs, bytes((Service.LOOP,)) + nonce)

    def reply_block(self, now: float, my_key: bytes) -> tuple[bytes, bytes, Any]:
        """Make a reply block that leads home: gives it, the reply's id, and what reads the answer. Raises `NoPath`.

        The guard is its last mix, next to home: were it the first, whoever gets some blocks would know one's guards.
        """
        self.built += 1
        path = self._paths.home(now)
        return self._packets.make_reply_block([*self._legs(now, path[::-1]), Leg(self._me, my_key)])

    def _legs(self, now: float, path: list[Descriptor]) -> list[Leg]:
        legs = []
        for node in path:
            key = node.mix_key(now)
            if key is None:
                raise NoPath("a mix key has just run out")
            legs.append(Leg(node.node_id, key.key, round(self._delay() * 1e6)))
        return legs

    def _delay(self) -> float:
        # exponential, and so without memory: of all held packets each is as likely to be the next to leave
        while (delay := self._rng.expovariate(1 / self._profile.mean_delay)) > self._profile.max_delay:
            pass
        return delay

    def _build(self, legs: list[Leg], body: bytes) -> SealedPacket:
        self.built += 1
        packet = self._packets.build(legs, body)
        mixes = tuple(leg.node_id for leg in legs if leg.node_id != self._me)
        return SealedPacket(legs[0].node_id, packet, mixes, sum(leg.delay_us for leg in legs) / 1e6)
