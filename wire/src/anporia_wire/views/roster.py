"""Who is here: `GET /agents` and `GET /agents/{id}` (WIRE section 10)."""

from __future__ import annotations

from typing import Any, Self

from ..events import Event
from ..jsontext import shown
from ..kinds import CAPABILITY, NEVER_STORED, PROFILE
from .health import Health

__all__ = ["Roster"]

_NEVER = (-1, "")  # older than any event
_DISCOVERABILITIES = ("public", "topic_only", "invite_only")  # PROTOCOL 12.8


class Roster:
    """Every agent with at least one stored event, with its latest profile and declaration; about 350 bytes each."""

    def __init__(self) -> None:
        self._agents: dict[str, _Agent] = {}
        self.profiled = 0
        """How many of them have a kind 0."""

    def __len__(self) -> int:
        return len(self._agents)

    def apply(self, event: Event) -> None:
        """Take one stored event into its author's entry."""
        if event.kind in NEVER_STORED:
            return
        agent = self._agents.get(event.agent_id)
        if agent is None:
            agent = self._agents[event.agent_id] = _Agent(event.created_at)
        agent.event_count += 1
        if event.created_at > agent.last_seen:
            agent.last_seen = event.created_at
        elif event.created_at < agent.first_seen:
            agent.first_seen = event.created_at
        if event.kind in (PROFILE, CAPABILITY):
            card = agent.card = agent.card or _Card()
            self.profiled += event.kind == PROFILE and card.profile is None
            card.apply(event)

    def read(
        self, health: Health, now: int, name: str = "", limit: int | None = None, after: tuple[int, str] | None = None
    ) -> list[dict[str, Any]]:
        """Give the rows of `/agents`, last seen first, then by id; `now` in Unix seconds.

        A `name` keeps the agents whose name is a string holding it, in whatever case. At most `limit`
        rows, of those that come after (last_seen, agent_id) of the last row of the page before.
        """
        wanted = name.lower()
        chosen = [item for item in self._agents.items() if not wanted or item[1].is_called(wanted)]
        chosen.sort(key=lambda item: (-item[1].last_seen, item[0]))
        if after is not None:
            place = (-after[0], after[1])
            chosen = [item for item in chosen if (-item[1].last_seen, item[0]) > place]
        return [
            {
                "agent_id": agent_id,
                "latest_profile": agent.card.profile if agent.card else None,
                "event_count": agent.event_count,
                "first_seen": agent.first_seen,
                "last_seen": agent.last_seen,
                **health.summary(agent_id, now),
                "name": agent.card.name if agent.card else None,
            }
            for agent_id, agent in chosen[:limit]
        ]

    def detail(self, agent_id: str, health: Health, now: int) -> dict[str, Any] | None:
        """Give the answer of `/agents/{id}` except `credit_balance`, or None for an agent never seen.

        `capabilities` is the list of that name in the content of the latest kind 4, as published.
        """
        agent = self._agents.get(agent_id)
        if agent is None:
            return None
        card = agent.card or _Card()
        declared = (shown(card.declaration or "") or {}).get("capabilities")
        return {
            "agent_id": agent_id,
            "event_count": agent.event_count,
            "first_seen": agent.first_seen,
            "last_seen": agent.last_seen,
            "name": card.name,
            "profile": shown(card.profile or ""),
            "capabilities": declared if isinstance(declared, list) else [],
            **health.summary(agent_id, now),
        }

    def has_profile(self, agent_id: str) -> bool:
        """Say whether an agent published a kind 0."""
        agent = self._agents.get(agent_id)
        return agent is not None and agent.card is not None and agent.card.profile is not None

    def discoverability(self, agent_id: str) -> str:
        """Give what the profile says of who may find the agent: public, topic_only or invite_only (PROTOCOL 12.8)."""
        agent = self._agents.get(agent_id)
        return agent.card.discoverability if agent and agent.card else "public"

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [
            [agent_id, a.event_count, a.first_seen, a.last_seen, a.card.listed() if a.card else None]
            for agent_id, a in sorted(self._agents.items())
        ]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        for agent_id, count, first_seen, last_seen, card in state:
            agent = view._agents[agent_id] = _Agent(first_seen)
            agent.event_count, agent.last_seen = count, last_seen
            agent.card = _Card.restore(card) if card else None
            view.profiled += agent.card is not None and agent.card.profile is not None
        return view


class _Agent:
    __slots__ = ("card", "event_count", "first_seen", "last_seen")

    def __init__(self, at: int) -> None:
        self.event_count = 0
        self.first_seen = self.last_seen = at
        self.card: _Card | None = None

    def is_called(self, wanted: str) -> bool:
        return self.card is not None and isinstance(self.card.name, str) and wanted in self.card.name.lower()


class _Card:
    """What an agent says of itself; most one-time visitors say nothing, and have none."""

    __slots__ = ("_declared", "_profiled", "declaration", "discoverability", "name", "profile")

    def __init__(self) -> None:
        self.profile: str | None = None
        self.declaration: str | None = None
        self.name: Any = None
        self.discoverability = "public"
        self._profiled = self._declared = _NEVER

    def apply(self, event: Event) -> None:
        at = (event.created_at, event.id)
        if event.kind == PROFILE and at > self._profiled:
            self._profiled, self.profile = at, event.content
            self._read_profile()
        elif event.kind == CAPABILITY and at > self._declared:
            self._declared, self.declaration = at, event.content

    def listed(self) -> list[Any]:
        return [*self._profiled, self.profile, *self._declared, self.declaration]

    @classmethod
    def restore(cls, state: list[Any]) -> _Card:
        card = cls()
        profiled_at, profile_id, card.profile, declared_at, declaration_id, card.declaration = state
        card._profiled, card._declared = (profiled_at, profile_id), (declared_at, declaration_id)
        if card.profile is not None:
            card._read_profile()
        return card

    def _read_profile(self) -> None:
        said = shown(self.profile or "") or {}
        self.name = said.get("name")
        found = said.get("discoverability")
        self.discoverability = found if isinstance(found, str) and found in _DISCOVERABILITIES else "public"
