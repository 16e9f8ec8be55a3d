"""Who is here: `GET /agents` and `GET /agents/{id}` (WIRE section 10)."""

from __future__ import annotations

from typing import Any

from ..events import Event
from ..jsontext import shown
from ..kinds import CAPABILITY, NEVER_STORED, PROFILE
from .health import Health

__all__ = ["Roster"]

_NEVER = (-1, "")  # older than any event


class Roster:
    """Every agent with at least one stored event, with its latest profile and declaration."""

    def __init__(self) -> None:
        self._agents: dict[str, _Agent] = {}

    def __len__(self) -> int:
        return len(self._agents)

    def apply(self, event: Event) -> None:
        """Take one stored event into its author's entry."""
        if event.kind in NEVER_STORED:
            return
        agent = self._agents.get(event.agent_id)
        if agent is None:
            agent = self._agents[event.agent_id] = _Agent(event.created_at)
        agent.apply(event)

    def read(self, health: Health, now: int, name: str = "") -> list[dict[str, Any]]:
        """Give the rows of `/agents`, last seen first, then by id; `now` in Unix seconds.

        A `name` keeps the agents whose name is a string holding it, in whatever case.
        """
        wanted = name.lower()
        chosen = [item for item in self._agents.items() if not wanted or item[1].is_called(wanted)]
        chosen.sort(key=lambda item: (-item[1].last_seen, item[0]))
        return [
            {
                "agent_id": agent_id,
                "latest_profile": agent.profile,
                "event_count": agent.event_count,
                "first_seen": agent.first_seen,
                "last_seen": agent.last_seen,
                **health.summary(agent_id, now),
                "name": agent.name,
            }
            for agent_id, agent in chosen
        ]

    def detail(self, agent_id: str, health: Health, now: int) -> dict[str, Any] | None:
        """Give the answer of `/agents/{id}` except `credit_balance`, or None for an agent never seen.

        `capabilities` is the list of that name in the content of the latest kind 4, as published.
        """
        agent = self._agents.get(agent_id)
        if agent is None:
            return None
        declared = (shown(agent.declaration or "") or {}).get("capabilities")
        return {
            "agent_id": agent_id,
            "event_count": agent.event_count,
            "first_seen": agent.first_seen,
            "last_seen": agent.last_seen,
            "name": agent.name,
            "profile": shown(agent.profile or ""),
            "capabilities": declared if isinstance(declared, list) else [],
            **health.summary(agent_id, now),
        }


class _Agent:
    __slots__ = (
        "_declared",
        "_profiled",
        "declaration",
        "event_count",
        "first_seen",
        "last_seen",
        "name",
        "profile",
    )

    def __init__(self, at: int) -> None:
        self.event_count = 0
        self.first_seen = self.last_seen = at
        self.profile: str | None = None
        self.declaration: str | None = None
        self.name: Any = None
        self._profiled = self._declared = _NEVER

    def apply(self, event: Event) -> None:
        self.event_count += 1
        self.first_seen = min(self.first_seen, event.created_at)
        self.last_seen = max(self.last_seen, event.created_at)
        at = (event.created_at, event.id)
        if event.kind == PROFILE and at > self._profiled:
            self._profiled, self.profile = at, event.content
            self.name = (shown(event.content) or {}).get("name")
        elif event.kind == CAPABILITY and at > self._declared:
            self._declared, self.declaration = at, event.content

    def is_called(self, wanted: str) -> bool:
        return isinstance(self.name, str) and wanted in self.name.lower()
