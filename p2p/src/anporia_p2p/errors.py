"""What can go wrong in the anonymous network, each with a stable `code`; texts never repeat a secret.

AnporiaError
  P2pError
    BadKey                  bad_key         key material of the wrong length or shape
    BadPacket               see REASONS     a packet that ends here; also the name it is counted under
    BadPath                 bad_path        a path no packet can take
    BodyTooLarge            body_too_large  more than one packet holds
    BadDescriptor           bad_descriptor  a kind-1510 event that describes no node
    NoPath                  no_path         too few usable mixes are known
    QueueFull               queue_full      more waits to be sent than is kept
"""

from __future__ import annotations

from anporia_wire import AnporiaError

__all__ = [
    "REASONS",
    "BadDescriptor",
    "BadKey",
    "BadPacket",
    "BadPath",
    "BodyTooLarge",
    "NoPath",
    "P2pError",
    "QueueFull",
]

REASONS = frozenset(
    {"bad_size", "bad_mac", "bad_command", "bad_payload", "replay", "replay_cache_full", "unknown_next"}
)


class P2pError(AnporiaError):
    """Base of every error of this package."""

    code = "p2p_error"


class BadKey(P2pError):
    """Key material is not a key."""

    code = "bad_key"


class BadPacket(P2pError):
    """A packet this mix cannot take, or whose payload did not arrive whole; `code` is one of `REASONS`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code.replace("_", " "))


class BadPath(P2pError):
    """A path needs 1 to 5 hops."""

    code = "bad_path"


class BodyTooLarge(P2pError):
    """The body exceeds what one packet holds."""

    code = "body_too_large"


class BadDescriptor(P2pError):
    """The event is no descriptor of a node."""

    code = "bad_descriptor"


class NoPath(P2pError):
    """Too few usable mixes are known to make a path."""

    code = "no_path"


class QueueFull(P2pError):
    """More waits to be sent than is kept; try again when some of it is out."""

    code = "queue_full"
