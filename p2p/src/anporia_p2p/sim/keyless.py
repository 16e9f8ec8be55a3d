"""Packets without keys, for simulations of many: all a mix can see or do about a packet, at a seventh of the cost.

Each block names the key it is for and is checked by a plain hash, so that a changed header ends at the next hop and a
changed payload at the last, as with real packets. Nothing in it is secret: never send one over a network.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import BadPacket, BadPath, BodyTooLarge
from ..mix.packets import Leg, Opened, Private
from ..sphinx import MAX_HOPS, Arrived, Forward
from ..sphinx.geometry import ID_BYTES, ROUTING_BYTES, Command, Routing

__all__ = ["KEYLESS_BODY_BYTES", "KeylessPackets"]

_KEY, _TAG, _CHECK = 32, 16, 16
_BLOCK = _KEY + _TAG + ROUTING_BYTES
_HEADER = MAX_HOPS * _BLOCK
KEYLESS_BODY_BYTES = 704  # a message's id and a reply block
_PAYLOAD = _CHECK + 2 + KEYLESS_BODY_BYTES


@dataclass(frozen=True, slots=True)
class _KeylessOpened:
    packet: bytes

    @property
    def tag(self) -> bytes:
        return self.packet[_KEY : _KEY + _TAG]

    def unwrap(self) -> Forward | Arrived:
        routing = Routing.from_bytes(self.packet[_KEY + _TAG : _BLOCK])
        payload = self.packet[_HEADER + _CHECK :]
        if routing.command is Command.FORWARD:
            header = self.packet[_BLOCK:_HEADER] + bytes(_BLOCK)
            return Forward(routing.id, routing.delay_us, header + _check(header) + payload)
        return Arrived(routing.id if routing.command is Command.REPLY else None, payload)


@dataclass(frozen=True, slots=True)
class _KeylessPrivate:
    public: bytes

    def open(self, packet: bytes) -> Opened:
        if len(packet) != KeylessPackets.size:
            raise BadPacket("bad_size")
        if packet[:_KEY] != self.public or _check(packet[:_HEADER]) != packet[_HEADER : _HEADER + _CHECK]:
            raise BadPacket("bad_mac")
        return _KeylessOpened(packet)


class KeylessPackets:
    """The stand-in for `SphinxPackets`. `rng` draws tags and reply ids."""

    size = _HEADER + _CHECK + _PAYLOAD

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def private(self, seed: bytes) -> Private:
        """Make a mix's key, which is no secret."""
        return _KeylessPrivate(hashlib.blake2b(seed, digest_size=_KEY).digest())

    def build(self, path: Sequence[Leg], body: bytes) -> bytes:
        """Write a packet. Raises `BadPath`, `BodyTooLarge`."""
        return self._header(path, Routing(Command.DELIVER)) + _payload(body)

    def read(self, payload: bytes) -> bytes:
        """Read a payload at its end. Raises `BadPacket`."""
        check, rest = payload[:_CHECK], payload[_CHECK:]
        if _check(rest) != check:
            raise BadPacket("bad_payload")
        return rest[2 : 2 + int.from_bytes(rest[:2], "big")]

    def make_reply_block(self, path: Sequence[Leg]) -> tuple[bytes, bytes, None]:
        """Make a reply block."""
        reply_id = self._rng.randbytes(ID_BYTES)
        return path[0].node_id + self._header(path, Routing(Command.REPLY, 0, reply_id)), reply_id, None

    def answer(self, block: bytes, body: bytes) -> tuple[bytes, bytes]:
        """Answer a reply block. Raises `BadPacket`, `BodyTooLarge`."""
        if len(block) != ID_BYTES + _HEADER + _CHECK:
            raise BadPacket("bad_size")
        return block[:ID_BYTES], block[ID_BYTES:] + _payload(body)

    def read_reply(self, keys: None, payload: bytes) -> bytes:
        """Read an answer. Raises `BadPacket`."""
        return self.read(payload)

    def _header(self, path: Sequence[Leg], last: Routing) -> bytes:
        if not 1 <= len(path) <= MAX_HOPS:
            raise BadPath(f"a path has 1 to {MAX_HOPS} hops, not {len(path)}")
        blocks = []
        for at, leg in enumerate(path):
            onward = at + 1 < len(path)
            routing = Routing(Command.FORWARD, leg.delay_us, path[at + 1].node_id) if onward else last
            blocks.append(leg.key + self._rng.randbytes(_TAG) + routing.to_bytes())
        header = b"".join(blocks).ljust(_HEADER, b"\0")
        return header + _check(header)


def _payload(body: bytes) -> bytes:
    if len(body) > KEYLESS_BODY_BYTES:
        raise BodyTooLarge(f"a keyless packet holds {KEYLESS_BODY_BYTES} bytes, and this body has {len(body):,}")
    rest = (len(body).to_bytes(2, "big") + body).ljust(_PAYLOAD - _CHECK, b"\0")
    return _check(rest) + rest


def _check(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECK).digest()
