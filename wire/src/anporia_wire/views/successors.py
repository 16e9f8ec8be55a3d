"""Which key follows on which: two kinds 1504, one of the old key and one of the new, that name each other."""

from __future__ import annotations

from bisect import insort
from typing import Any, Self

from ..events import Event
from ..intents import KEY_ROTATION, broken_rule, is_ours
from ..jsontext import shown

__all__ = ["MAX_NAMED", "Successors"]

MAX_NAMED = 32  # halves of one key and role, the earliest: a key hands over once, and later ones only repeat it

_Half = tuple[int, str, str]  # created_at, id, whom it names
_ROLES = ("successor", "predecessor")


class Successors:
    """Halves of handovers by their author. A handover is final: revoking a half changes nothing."""

    def __init__(self) -> None:
        self._halves: dict[str, dict[str, list[_Half]]] = {role: {} for role in _ROLES}

    def apply(self, event: Event) -> None:
        """Take one stored event."""
        if event.kind != KEY_ROTATION or not is_ours(event) or broken_rule(event) is not None:
            return
        fields = shown(event.content) or {}
        role = next(role for role in _ROLES if role in fields)
        said = self._halves[role].setdefault(event.agent_id, [])
        half = (event.created_at, event.id, str(fields[role]))
        if half not in said:
            insort(said, half)
            del said[MAX_NAMED:]

    def read(self, agent_id: str) -> str | None:
        """Give the agent that an agent's earliest confirmed announcement names, or None."""
        halves = self.halves(agent_id)
        return halves[0][1] if halves else None

    def halves(self, agent_id: str) -> list[tuple[str, str]]:
        """Give (event id, agent named) of the announcement that counts, then of its confirmation; or nothing."""
        for _, announced, new in self._halves["successor"].get(agent_id, ()):
            for _, confirmed, old in self._halves["predecessor"].get(new, ()):
                if old == agent_id:
                    return [(announced, new), (confirmed, old)]
        return []

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [sorted(self._halves[role].items()) for role in _ROLES]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        for role, halves in zip(_ROLES, state, strict=True):
            view._halves[role] = {agent: [(at, id_, named) for at, id_, named in said] for agent, said in halves}
        return view
