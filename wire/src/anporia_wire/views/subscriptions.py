"""Whom an agent follows: `GET /subscriptions/{id}`, the latest kind 8 for each target (WIRE section 16)."""

from __future__ import annotations

from bisect import insort
from typing import Any, Self

from ..canonical import is_id
from ..events import Event
from ..kinds import SUBSCRIBE
from .revocations import Revocations

__all__ = ["Subscriptions"]

MAX_LISTED = 10_000  # follows of one answer: 2 MB


class Subscriptions:
    """Follows of each agent, about 300 bytes each. Revoking every kind 8 for a target unfollows it."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations
        self._follows: dict[str, dict[str, list[tuple[int, str]]]] = {}  # agent: target: (created_at, id), oldest first

    def apply(self, event: Event) -> None:
        """Take one stored event; each of its `p` tags is a target."""
        if event.kind != SUBSCRIBE:
            return
        for target in {target for target in event.tag_values("p") if is_id(target)}:
            said = self._follows.setdefault(event.agent_id, {}).setdefault(target, [])
            if (event.created_at, event.id) not in said:
                insort(said, (event.created_at, event.id))

    def read(self, agent_id: str) -> dict[str, Any]:
        """Give the answer of `/subscriptions/{id}`, latest first, then by target; `count` them all, list 10,000."""
        rows: list[dict[str, Any]] = []
        for target, said in self._follows.get(agent_id, {}).items():
            latest = next((one for one in reversed(said) if not self._revocations.holds(agent_id, one[1])), None)
            if latest is not None:
                rows.append({"target": target, "at": latest[0], "id": latest[1]})
        rows.sort(key=lambda row: (-row["at"], row["target"]))
        return {"agent_id": agent_id, "follows": rows[:MAX_LISTED], "count": len(rows)}

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [[agent_id, sorted(follows.items())] for agent_id, follows in sorted(self._follows.items())]

    @classmethod
    def restore(cls, state: Any, revocations: Revocations) -> Self:
        """Make the view from a snapshot, over the revocations of the same moment."""
        view = cls(revocations)
        for agent_id, follows in state:
            view._follows[agent_id] = {target: [(at, id_) for at, id_ in said] for target, said in follows}
        return view
