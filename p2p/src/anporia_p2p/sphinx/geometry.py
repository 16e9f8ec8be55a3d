"""How many bytes each part of a packet has: the same at every hop, for every path of 1 to 5 hops.

```
alpha 1,120   X-Wing ciphertext for this hop
beta  4,744   4 blocks of 1,176 and a routing of 40; a block is routing 40 | next gamma 16 | next alpha 1,120
gamma    16   HMAC-SHA256(alpha | beta), cut
delta 10,500  LIONESS; inside: 32 zero bytes | length 2 | flags 2 | body, filled up
```

The sizes follow from two wishes: five hops, and an event with a hybrid signature (3.8 kB deflated) together with one
reply block in one body (docs/decisions/0033).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from ..crypto import xwing
from ..errors import BadPacket

__all__ = [
    "BETA_BYTES",
    "BLOCK_BYTES",
    "BODY_BYTES",
    "HEADER_BYTES",
    "ID_BYTES",
    "MAC_BYTES",
    "MAX_DELAY_US",
    "MAX_HOPS",
    "PACKET_BYTES",
    "PAYLOAD_BYTES",
    "ROUTING_BYTES",
    "Command",
    "Routing",
]

MAX_HOPS = 5  # as asked for; each more costs 1,176 bytes of header (docs/decisions/0033)
MAC_BYTES = 16  # 128 bits: as long as a forgery needs on-line tries, each of which is dropped
ID_BYTES = 32
_ROUTING = struct.Struct(">B3sI32s")  # command, flags, delay in microseconds, id
ROUTING_BYTES = _ROUTING.size
BLOCK_BYTES = ROUTING_BYTES + MAC_BYTES + xwing.CIPHERTEXT_BYTES
BETA_BYTES = (MAX_HOPS - 1) * BLOCK_BYTES + ROUTING_BYTES
HEADER_BYTES = xwing.CIPHERTEXT_BYTES + BETA_BYTES + MAC_BYTES
PAYLOAD_BYTES = 10_500
BODY_BYTES = PAYLOAD_BYTES - 32 - 2 - 2  # the longest body: less the zero bytes, its length, the flags
PACKET_BYTES = HEADER_BYTES + PAYLOAD_BYTES
MAX_DELAY_US = 2**32 - 1  # four bytes: 71 minutes

_NO_FLAGS = bytes(3)
_NO_ID = bytes(ID_BYTES)


class Command(IntEnum):
    """What a hop is to do with the packet."""

    FORWARD = 1
    """Hold it for the delay, then send it to the node `id`."""
    DELIVER = 2
    """It has arrived: the payload is for this node's services."""
    REPLY = 3
    """It has arrived by a reply block, which this node made and knows by `id`."""


@dataclass(frozen=True, slots=True)
class Routing:
    """One hop's orders. `delay_us`: microseconds, 0 to `MAX_DELAY_US`; `id`: of the next node or the reply block."""

    command: Command
    delay_us: int = 0
    id: bytes = _NO_ID

    def to_bytes(self) -> bytes:
        """Write the 40 bytes."""
        return _ROUTING.pack(self.command, _NO_FLAGS, self.delay_us, self.id)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Routing:
        """Read 40 bytes. Raises `BadPacket` `bad_command` for an unknown command, any flag yet, or an idle field.

        A delay is idle but at a `FORWARD`, and an id at a `DELIVER`.
        """
        number, flags, delay_us, id_ = _ROUTING.unpack(raw)
        command = _COMMANDS.get(number)
        idle_delay = command is not Command.FORWARD and delay_us
        idle_id = command is Command.DELIVER and id_ != _NO_ID
        if command is None or flags != _NO_FLAGS or idle_delay or idle_id:
            raise BadPacket("bad_command")
        return cls(command, delay_us, id_)


_COMMANDS = {int(command): command for command in Command}
