"""The packet: built by its sender, one layer taken off at each hop, its body read at the last.

All packets look alike: 16,380 bytes, whatever the path, the hop, and whether they go out or come back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..crypto import lioness
from ..errors import BadPacket, BodyTooLarge
from .geometry import BODY_BYTES, HEADER_BYTES, PAYLOAD_BYTES, Command, Routing
from .header import Hop, OpenHeader, assemble, encapsulated

__all__ = ["Arrived", "Forward", "build", "read_body", "unwrap", "wrap_body"]

_MARK = bytes(32)  # what shows that a payload arrived whole: LIONESS makes it survive by chance once in 2^256
_SIZES = 2  # bytes of the body's length, and again of the flags


@dataclass(frozen=True, slots=True)
class Forward:
    """A packet to hold for `delay_us` microseconds and send to `next_id` (32 bytes)."""

    next_id: bytes
    delay_us: int
    packet: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet that ends here. `reply_id`: that of the reply block it came by, or None; `payload`: 10,500 bytes."""

    reply_id: bytes | None
    payload: bytes = field(repr=False)


def build(path: Sequence[Hop], body: bytes, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """Make a packet that goes through `path` (1 to 5 hops) and delivers `body` (at most 10,464 bytes) at its end.

    Gives 16,380 bytes for the first hop. Raises `BadPath`, `BodyTooLarge`.
    """
    payload = wrap_body(body, random_bytes)
    layers = encapsulated(path, Routing(Command.DELIVER))
    for layer in reversed(layers):
        payload = lioness.encrypt(layer.keys.lioness, payload)
    return assemble(layers, random_bytes) + payload


def unwrap(opened: OpenHeader) -> Forward | Arrived:
    """Carry out a hop's part for a header that `open_header` took and whose tag is new.

    Raises `BadPacket` `bad_command`. A changed payload is not seen here: it is noise by now, and `read_body` at the
    packet's end refuses it.
    """
    routing, header = opened.orders()
    payload = opened.payload()
    if routing.command is Command.FORWARD:
        return Forward(routing.id, routing.delay_us, header[:HEADER_BYTES] + payload)
    return Arrived(routing.id if routing.command is Command.REPLY else None, payload)


def wrap_body(body: bytes, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """Lay a body into a payload of 10,500 bytes. Raises `BodyTooLarge` above 10,464."""
    if len(body) > BODY_BYTES:
        raise BodyTooLarge(f"a packet holds {BODY_BYTES:,} bytes, and this body has {len(body):,}")
    head = _MARK + len(body).to_bytes(_SIZES, "big") + bytes(_SIZES)
    return head + body + random_bytes(PAYLOAD_BYTES - len(head) - len(body))


def read_body(payload: bytes) -> bytes:
    """Read the body of a payload at its end. Raises `BadPacket` `bad_payload` for one that did not arrive whole."""
    at = len(_MARK)
    length = int.from_bytes(payload[at : at + _SIZES], "big")
    flags = payload[at + _SIZES : at + 2 * _SIZES]
    if payload[:at] != _MARK or length > BODY_BYTES or any(flags) or len(payload) != PAYLOAD_BYTES:
        raise BadPacket("bad_payload")
    return payload[at + 2 * _SIZES :][:length]
