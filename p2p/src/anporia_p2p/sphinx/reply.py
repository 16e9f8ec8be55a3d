"""Single-use reply blocks (SURBs): whoever holds one can answer its maker without learning who or where that is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..crypto import kdf, lioness
from ..errors import BadPacket, BadPath
from .geometry import HEADER_BYTES, ID_BYTES, PAYLOAD_BYTES, Command, Routing
from .header import Hop, assemble, encapsulated
from .packet import read_body, wrap_body

__all__ = ["REPLY_BLOCK_BYTES", "ReplyBlock", "ReplyKeys", "make_reply_block"]

_SEED_BYTES = 32
REPLY_BLOCK_BYTES = ID_BYTES + HEADER_BYTES + _SEED_BYTES


@dataclass(frozen=True, slots=True)
class ReplyBlock:
    """What is given away: where to send first (32 bytes), a ready header (5,880), a seed for the payload's keys (32).

    It works once: a second use has the same header, which the first mix knows by its tag.
    """

    first_hop: bytes
    header: bytes
    seed: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Write the 5,944 bytes."""
        return self.first_hop + self.header + self.seed

    @classmethod
    def from_bytes(cls, raw: bytes) -> ReplyBlock:
        """Read 5,944 bytes. Raises `BadPacket` `bad_size`. Whether it works shows only when it is used."""
        if len(raw) != REPLY_BLOCK_BYTES:
            raise BadPacket("bad_size")
        end = ID_BYTES + HEADER_BYTES
        return cls(raw[:ID_BYTES], raw[ID_BYTES:end], raw[end:])

    def answer(self, body: bytes, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
        """Make the packet that carries `body` (at most 10,464 bytes) back, by `first_hop`. Raises `BodyTooLarge`."""
        key = kdf.expand(self.seed, kdf.REPLY, lioness.KEY_BYTES)
        return self.header + lioness.encrypt(key, wrap_body(body, random_bytes))


@dataclass(frozen=True, slots=True)
class ReplyKeys:
    """What the maker keeps: with it, and nothing else, the answer can be read. `id`: 32 bytes."""

    id: bytes
    seed: bytes = field(repr=False)
    layers: tuple[bytes, ...] = field(repr=False)
    """The payload keys of the hops, first hop first; 128 bytes each."""

    def read(self, payload: bytes) -> bytes:
        """Read the body of the payload that arrived by the block. Raises `BadPacket` `bad_payload`."""
        if len(payload) != PAYLOAD_BYTES:
            raise BadPacket("bad_payload")
        # each hop has *decrypted*, as it does with every packet: put the layers on again, the last hop's first
        for key in reversed(self.layers):
            payload = lioness.encrypt(key, payload)
        return read_body(lioness.decrypt(kdf.expand(self.seed, kdf.REPLY, lioness.KEY_BYTES), payload))


def make_reply_block(
    path: Sequence[Hop], random_bytes: Callable[[int], bytes] = os.urandom
) -> tuple[ReplyBlock, ReplyKeys]:
    """Make a block whose packets go through `path`, 1 to 5 hops of which the last is the maker. Raises `BadPath`."""
    if not path:
        raise BadPath("a reply block needs its maker as the last hop")
    id_, seed = random_bytes(ID_BYTES), random_bytes(_SEED_BYTES)
    layers = encapsulated(path, Routing(Command.REPLY, 0, id_))
    block = ReplyBlock(path[0].node_id, assemble(layers, random_bytes), seed)
    return block, ReplyKeys(id_, seed, tuple(layer.keys.lioness for layer in layers))
