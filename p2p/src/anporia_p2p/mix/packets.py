"""The seam between mixing and packets: Sphinx in use, and a keyless stand-in where a simulation needs speed.

Mixing never looks into a packet but through this. `anporia_p2p.sim.keyless` is the other implementation; a test runs
one network over each, and the two do the same at the same times.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .. import sphinx
from ..crypto import xwing
from ..sphinx import Arrived, Forward

__all__ = ["Leg", "Opened", "Packets", "Private", "SphinxPackets"]

_KEPT_KEYS = 4_096  # parsed public keys, 5 kB each; parsing costs as much as a sixth of an unwrap


@dataclass(frozen=True, slots=True)
class Leg:
    """One hop of a chosen path: the node, its mix key as its descriptor has it, and the delay asked of it."""

    node_id: bytes
    key: bytes
    delay_us: int = 0


class Opened(Protocol):
    """A packet whose header is for this mix. `unwrap` raises `BadPacket`."""

    @property
    def tag(self) -> bytes: ...

    def unwrap(self) -> Forward | Arrived: ...


class Private(Protocol):
    """A mix's private key of one epoch. `open` raises `BadPacket`."""

    @property
    def public(self) -> bytes: ...

    def open(self, packet: bytes) -> Opened: ...


class Packets(Protocol):
    """Makes and reads packets of one kind."""

    @property
    def size(self) -> int: ...

    def private(self, seed: bytes) -> Private: ...

    def build(self, path: Sequence[Leg], body: bytes) -> bytes: ...

    def read(self, payload: bytes) -> bytes: ...

    def make_reply_block(self, path: Sequence[Leg]) -> tuple[bytes, bytes, Any]:
        """Give the block to hand out, the reply's id, and what is needed to read the answer."""
        ...

    def answer(self, block: bytes, body: bytes) -> tuple[bytes, bytes]:
        """Give the node to send to, and the packet."""
        ...

    def read_reply(self, keys: Any, payload: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _SphinxOpened:
    header: sphinx.OpenHeader

    @property
    def tag(self) -> bytes:
        return self.header.tag

    def unwrap(self) -> Forward | Arrived:
        return sphinx.unwrap(self.header)


class _SphinxPrivate:
    def __init__(self, seed: bytes) -> None:
        self._key = xwing.PrivateKey(seed)
        self.public = self._key.public.raw

    def open(self, packet: bytes) -> Opened:
        return _SphinxOpened(sphinx.open_header(self._key, packet))


class SphinxPackets:
    """Real packets. `random_bytes` fills what must be random beside the keys, which are the operating system's."""

    size = sphinx.PACKET_BYTES

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random_bytes = random_bytes
        self._keys: OrderedDict[bytes, xwing.PublicKey] = OrderedDict()

    def private(self, seed: bytes) -> Private:
        """Make a mix's key from a seed of 32 bytes. Raises `BadKey`."""
        return _SphinxPrivate(seed)

    def build(self, path: Sequence[Leg], body: bytes) -> bytes:
        """Seal a body for a path. Raises `BadPath`, `BodyTooLarge`, `BadKey`."""
        return sphinx.build(self._hops(path), body, self._random_bytes)

    def read(self, payload: bytes) -> bytes:
        """Read a payload at its end. Raises `BadPacket`."""
        return sphinx.read_body(payload)

    def make_reply_block(self, path: Sequence[Leg]) -> tuple[bytes, bytes, sphinx.ReplyKeys]:
        """Make a reply block of 5,944 bytes. Raises `BadPath`, `BadKey`."""
        block, keys = sphinx.make_reply_block(self._hops(path), self._random_bytes)
        return block.to_bytes(), keys.id, keys

    def answer(self, block: bytes, body: bytes) -> tuple[bytes, bytes]:
        """Answer a reply block. Raises `BadPacket` for a block of another size, `BodyTooLarge`."""
        read = sphinx.ReplyBlock.from_bytes(block)
        return read.first_hop, read.answer(body, self._random_bytes)

    def read_reply(self, keys: sphinx.ReplyKeys, payload: bytes) -> bytes:
        """Read an answer. Raises `BadPacket`."""
        return keys.read(payload)

    def _hops(self, path: Sequence[Leg]) -> list[sphinx.Hop]:
        return [sphinx.Hop(leg.node_id, self._key(leg.key), leg.delay_us) for leg in path]

    def _key(self, raw: bytes) -> xwing.PublicKey:
        key = self._keys.get(raw)
        if key is None:
            key = self._keys[raw] = xwing.PublicKey(raw)
            if len(self._keys) > _KEPT_KEYS:
                self._keys.popitem(last=False)
        return key
