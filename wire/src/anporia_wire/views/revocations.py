"""What authors took back (kind 9): other views ask here, so that the order of arrival does not matter."""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import Any, Self

from ..canonical import is_id
from ..events import Event
from ..kinds import REVOKE

__all__ = ["Revocations"]

_DIGEST = 16  # bytes: 2^64 tries for a collision, and whoever finds one only takes back an event of his own


class Revocations:
    """Pairs of author and event id, each as a 16-byte digest: about 120 bytes of memory a revoked id."""

    def __init__(self) -> None:
        self._pairs: set[bytes] = set()

    def apply(self, event: Event) -> None:
        """Take one stored event; of a kind 9 every `e` tag counts, whether its target is here or not."""
        if event.kind == REVOKE:
            self._pairs.update(_pair(event.agent_id, target) for target in event.tag_values("e") if is_id(target))

    def holds(self, agent_id: str, event_id: str) -> bool:
        """Say whether an event was taken back by this author; others cannot."""
        return bool(self._pairs) and _pair(agent_id, event_id) in self._pairs

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return base64.b64encode(b"".join(sorted(self._pairs))).decode()

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        pairs = base64.b64decode(state)
        view._pairs = {pairs[at : at + _DIGEST] for at in range(0, len(pairs), _DIGEST)}
        return view


def _pair(agent_id: str, event_id: str) -> bytes:
    return blake2b(f"{agent_id}{event_id}".encode(), digest_size=_DIGEST).digest()
