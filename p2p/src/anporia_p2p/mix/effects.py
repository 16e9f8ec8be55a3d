"""What a mix wants done: the only way anything leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Deliver", "Effect", "Failed", "NewMixKey", "Reply", "Send", "Service"]


class Service(IntEnum):
    """The first byte of a body: what its last hop is to do with the rest."""

    DROP = 0
    """Nothing: cover."""
    LOOP = 1
    """To oneself: cover, and a probe of the mixes on the way."""
    PUBLISH = 2
    """An event for everybody."""
    PUT = 3
    """Mail for a box."""
    GET = 4
    """Ask for a box's mail."""
    DIRECTORY = 5
    """A record of the distributed directory."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a packet to a node, now."""

    peer: bytes
    packet: bytes


@dataclass(frozen=True, slots=True)
class Deliver:
    """A body for one of this node's services has arrived, from nobody knows whom."""

    service: Service
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer has arrived by the reply block `reply_id`, which is spent by that."""

    reply_id: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """A message was tried as often as is tried, and never heard of."""

    message_id: bytes


@dataclass(frozen=True, slots=True)
class NewMixKey:
    """From now on packets may be sealed to this key: publish a new descriptor. Times in seconds of the mix's clock."""

    public: bytes
    since: float
    until: float


Effect = Send | Deliver | Reply | Failed | NewMixKey
