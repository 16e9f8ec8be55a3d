"""The packet: constant in size, unlinkable at every hop, read only at its end."""

from __future__ import annotations

from .geometry import BODY_BYTES, HEADER_BYTES, ID_BYTES, MAX_DELAY_US, MAX_HOPS, PACKET_BYTES, PAYLOAD_BYTES
from .header import Hop, OpenHeader, open_header
from .packet import Arrived, Forward, build, read_body, unwrap
from .reply import REPLY_BLOCK_BYTES, ReplyBlock, ReplyKeys, make_reply_block

__all__ = [
    "BODY_BYTES",
    "HEADER_BYTES",
    "ID_BYTES",
    "MAX_DELAY_US",
    "MAX_HOPS",
    "PACKET_BYTES",
    "PAYLOAD_BYTES",
    "REPLY_BLOCK_BYTES",
    "Arrived",
    "Forward",
    "Hop",
    "OpenHeader",
    "ReplyBlock",
    "ReplyKeys",
    "build",
    "make_reply_block",
    "open_header",
    "read_body",
    "unwrap",
]
