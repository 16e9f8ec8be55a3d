"""What authors took back (kind 9), and when: other views ask here, so that the order of arrival does not matter."""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import Any, Self

from ..canonical import is_id
from ..events import Event
from ..kinds import REVOKE

__all__ = ["Revocations", "pair"]

_DIGEST = 16  # bytes: 2^64 tries for a collision, and whoever finds one only takes back an event of his own
_TIME = 8  # bytes of a snapshot; times are below 2^53


class Revocations:
    """Pairs of author and event id, each as a 16-byte digest: about 150 bytes of memory a revoked id."""

    def __init__(self) -> None:
        self._since: dict[bytes, int] = {}  # earliest created_at of a kind 9

    def apply(self, event: Event) -> None:
        """Take one stored event; of a kind 9 every `e` tag counts, whether its target is here or not."""
        if event.kind == REVOKE:
            for one in {pair(event.agent_id, target) for target in event.tag_values("e") if is_id(target)}:
                self._since[one] = min(event.created_at, self._since.get(one, event.created_at))

    def holds(self, agent_id: str, event_id: str) -> bool:
        """Say whether an event was taken back by this author; others cannot."""
        return self.since(agent_id, event_id) is not None

    def since(self, agent_id: str, event_id: str) -> int | None:
        """Give the date, Unix seconds, of the earliest kind 9 by which this author took an event back, or None."""
        return self.since_of(pair(agent_id, event_id)) if self._since else None

    def since_of(self, pair: bytes) -> int | None:
        """Give what `since` gives, for whoever asks so often that hashing the pair each time takes too long."""
        return self._since.get(pair)

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return base64.b64encode(b"".join(one + at.to_bytes(_TIME) for one, at in sorted(self._since.items()))).decode()

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot. Raises `ValueError` for one that is cut."""
        view = cls()
        rows = base64.b64decode(state)
        if len(rows) % (_DIGEST + _TIME):
            raise ValueError("cut short")
        for at in range(0, len(rows), _DIGEST + _TIME):
            view._since[rows[at : at + _DIGEST]] = int.from_bytes(rows[at + _DIGEST : at + _DIGEST + _TIME])
        return view


def pair(agent_id: str, event_id: str) -> bytes:
    """Give the digest by which an author and an event are kept."""
    return blake2b(f"{agent_id}{event_id}".encode(), digest_size=_DIGEST).digest()
