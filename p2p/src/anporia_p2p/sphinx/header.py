"""The header: each hop finds its own orders in it, and nothing of the others'.

Sphinx (Danezis and Goldberg, 2009) with a KEM in place of the blinded group element: each hop's ciphertext lies in the
block of the hop before (KEM-Sphinx; Outfox, 2024, nests them alike).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..crypto import kdf, lioness, xwing
from ..errors import BadKey, BadPacket, BadPath
from .geometry import (
    BETA_BYTES,
    BLOCK_BYTES,
    ID_BYTES,
    MAC_BYTES,
    MAX_DELAY_US,
    MAX_HOPS,
    PACKET_BYTES,
    ROUTING_BYTES,
    Command,
    Routing,
)

__all__ = ["Hop", "HopKeys", "Layer", "OpenHeader", "assemble", "encapsulated", "open_header"]

_ALPHA_END = xwing.CIPHERTEXT_BYTES
_BETA_END = _ALPHA_END + BETA_BYTES
_GAMMA_END = _BETA_END + MAC_BYTES
_TAG_BYTES = 16  # of 128 bits: 2^32 packets an hour still collide with probability 2^-64


@dataclass(frozen=True, slots=True)
class Hop:
    """One mix of a path. `node_id`: 32 bytes; `key`: its mix key; `delay_us`: how long it is to hold the packet.

    The last hop of a path holds nothing, whatever its delay says.
    """

    node_id: bytes
    key: xwing.PublicKey
    delay_us: int = 0


@dataclass(frozen=True, slots=True)
class HopKeys:
    """What a hop's shared secret gives: keys of 32, 32 and 128 bytes, and 16 bytes by which a replay is known."""

    mac: bytes = field(repr=False)
    stream: bytes = field(repr=False)
    lioness: bytes = field(repr=False)
    tag: bytes

    @classmethod
    def derive(cls, secret: bytes) -> HopKeys:
        """Derive all from a secret of 32 bytes."""
        raw = kdf.expand(secret, kdf.HOP, 64 + lioness.KEY_BYTES + _TAG_BYTES)
        return cls(raw[:32], raw[32:64], raw[64:192], raw[192:])


@dataclass(frozen=True, slots=True)
class Layer:
    """One hop as its builder sees it: the ciphertext for it, its keys, its orders."""

    ciphertext: bytes
    keys: HopKeys
    routing: Routing


def encapsulated(path: Sequence[Hop], last: Routing) -> list[Layer]:
    """Agree on fresh keys with each hop of a path and write its orders; the last hop's are `last`.

    Raises `BadPath` for other than 1 to 5 hops, or a delay or id out of range.
    """
    if not 1 <= len(path) <= MAX_HOPS:
        raise BadPath(f"a path has 1 to {MAX_HOPS} hops, not {len(path)}")
    for hop in path:
        if len(hop.node_id) != ID_BYTES or not 0 <= hop.delay_us <= MAX_DELAY_US:
            raise BadPath(f"a hop has an id of {ID_BYTES} bytes and a delay of 0 to {MAX_DELAY_US} microseconds")
    orders = [
        *(Routing(Command.FORWARD, hop.delay_us, after.node_id) for hop, after in pairwise(path)),
        last,
    ]
    layers = []
    for hop, routing in zip(path, orders, strict=True):
        secret, ciphertext = hop.key.encapsulate()
        layers.append(Layer(ciphertext, HopKeys.derive(secret), routing))
    return layers


def assemble(layers: Sequence[Layer], random_bytes: Callable[[int], bytes]) -> bytes:
    """Nest the layers, first hop outermost, into a header of 5,880 bytes. No other randomness than `random_bytes`."""
    streams = [lioness.keystream(layer.keys.stream, bytes(BETA_BYTES + BLOCK_BYTES)) for layer in layers]
    # each hop appends a block of zeros and adds its stream: what has piled up at the end when the last hop is reached
    filler = b""
    for stream in streams[:-1]:
        filler = lioness.xor(filler + bytes(BLOCK_BYTES), stream[BETA_BYTES - len(filler) :])
    # a fill of zeros would show the last hop how long the path was
    room = BETA_BYTES - ROUTING_BYTES - len(filler)
    plain = layers[-1].routing.to_bytes() + random_bytes(room)
    beta = lioness.xor(plain, streams[-1][: len(plain)]) + filler
    after = layers[-1]
    gamma = _mac(after.keys, after.ciphertext + beta)
    for layer, stream in zip(reversed(layers[:-1]), reversed(streams[:-1]), strict=True):
        plain = layer.routing.to_bytes() + gamma + after.ciphertext + beta[: BETA_BYTES - BLOCK_BYTES]
        beta = lioness.xor(plain, stream[:BETA_BYTES])
        gamma = _mac(layer.keys, layer.ciphertext + beta)
        after = layer
    return after.ciphertext + beta + gamma


@dataclass(frozen=True, slots=True)
class OpenHeader:
    """A packet whose header was meant for this mix: its `tag` is to be looked up before the rest is worked on."""

    packet: bytes = field(repr=False)
    keys: HopKeys

    @property
    def tag(self) -> bytes:
        """16 bytes, the same each time this header comes and for no other."""
        return self.keys.tag

    def orders(self) -> tuple[Routing, bytes]:
        """Give this hop's orders and the header for the next hop, 5,880 bytes. Raises `BadPacket` `bad_command`."""
        beta = self.packet[_ALPHA_END:_BETA_END] + bytes(BLOCK_BYTES)
        plain = lioness.keystream(self.keys.stream, beta)
        gamma = plain[ROUTING_BYTES : ROUTING_BYTES + MAC_BYTES]
        return Routing.from_bytes(plain[:ROUTING_BYTES]), plain[ROUTING_BYTES + MAC_BYTES :] + gamma

    def payload(self) -> bytes:
        """Take this hop's layer off the payload: 10,500 bytes."""
        return lioness.decrypt(self.keys.lioness, self.packet[_GAMMA_END:])


def open_header(private: xwing.PrivateKey, packet: bytes) -> OpenHeader:
    """Hold a packet against a mix key: its size, then its header. Raises `BadPacket` `bad_size` or `bad_mac`."""
    if len(packet) != PACKET_BYTES:
        raise BadPacket("bad_size")
    try:
        secret = private.decapsulate(packet[:_ALPHA_END])
    except BadKey:
        raise BadPacket("bad_mac") from None
    keys = HopKeys.derive(secret)
    if not hmac.compare_digest(_mac(keys, packet[:_BETA_END]), packet[_BETA_END:_GAMMA_END]):
        raise BadPacket("bad_mac")
    return OpenHeader(packet, keys)


def _mac(keys: HopKeys, data: bytes) -> bytes:
    return hmac.digest(keys.mac, data, "sha256")[:MAC_BYTES]
