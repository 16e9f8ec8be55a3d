"""Who is here: `GET /agents` and `GET /agents/{id}` (WIRE section 10)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Self

from ..events import Event
from ..jsontext import shown
from ..kinds import CAPABILITY, NEVER_STORED, PROFILE
from .health import Health

__all__ = ["MAX_NAME_CHARS", "MAX_PROFILE_CHARS", "Roster"]

MAX_PROFILE_CHARS = 4 * 1024 * 1024  # of one answer: 4 to 16 MB; 2 kB each for 2,000 agents
MAX_NAME_CHARS = 256  # a longer name counts as absent

_HOUR = 3_600  # seconds
_NEVER = (-1, "")  # older than any event
_DISCOVERABILITIES = ("public", "topic_only", "invite_only")  # PROTOCOL 12.8


class Roster:
    """Every agent with at least one stored event, with its latest profile and declaration; about 350 bytes each."""

    def __init__(self) -> None:
        self._agents: dict[str, _Agent] = {}
        self._cards: dict[str, _Card] = {}
        self._hours: dict[int, set[str]] = {}  # hour of last_seen: agents; so that a page needs no look at all of them
        self.profiled = 0
        """How many of them have a kind 0."""

    def __len__(self) -> int:
        return len(self._agents)

    def apply(self, event: Event) -> None:
        """Take one stored event into its author's entry."""
        if event.kind in NEVER_STORED:
            return
        agent_id, at = event.agent_id, event.created_at
        agent = self._agents.get(agent_id)
        if agent is None:
            agent = self._agents[agent_id] = _Agent(at)
            self._hours.setdefault(at // _HOUR, set()).add(agent_id)
        agent.event_count += 1
        if at > agent.last_seen:
            if at // _HOUR != agent.last_seen // _HOUR:
                self._move(agent_id, agent.last_seen // _HOUR, at // _HOUR)
            agent.last_seen = at
        elif at < agent.first_seen:
            agent.first_seen = at
        if event.kind in (PROFILE, CAPABILITY):
            card = self._cards.get(agent_id)
            if card is None:
                card = self._cards[agent_id] = _Card()
            self.profiled += event.kind == PROFILE and card.profile is None
            card.apply(event)

    def read(
        self, health: Health, now: int, name: str = "", limit: int | None = None, after: tuple[int, str] | None = None
    ) -> tuple[list[dict[str, Any]], bool]:
        """Give rows of `/agents`, last seen first, then by id, and whether more follow; `now` in Unix seconds.

        A `name` keeps the agents whose name is a string holding it, in whatever case. At most `limit`
        rows, of those that come after (last_seen, agent_id) of the last row of the page before; of very
        long profiles fewer.
        """
        rows: list[dict[str, Any]] = []
        chars = 0
        for agent_id, agent in self._ordered(name.lower(), after, limit):
            card = self._cards.get(agent_id)
            chars += len(card.profile or "") if card else 0
            if rows and (len(rows) == limit or chars > MAX_PROFILE_CHARS):
                return rows, True
            rows.append(
                {
                    "agent_id": agent_id,
                    "latest_profile": card.profile if card else None,
                    "event_count": agent.event_count,
                    "first_seen": agent.first_seen,
                    "last_seen": agent.last_seen,
                    **health.summary(agent_id, now),
                    "name": card.name if card else None,
                }
            )
        return rows, False

    def detail(self, agent_id: str, health: Health, now: int) -> dict[str, Any] | None:
        """Give the answer of `/agents/{id}` except `credit_balance`, or None for an agent never seen.

        `capabilities` is the list of that name in the content of the latest kind 4, as published.
        """
        agent = self._agents.get(agent_id)
        if agent is None:
            return None
        card = self._cards.get(agent_id) or _Card()
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
        card = self._cards.get(agent_id)
        return card is not None and card.profile is not None

    def discoverability(self, agent_id: str) -> str:
        """Give what the profile says of who may find the agent: public, topic_only or invite_only (PROTOCOL 12.8)."""
        card = self._cards.get(agent_id)
        return card.discoverability if card else "public"

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        cards = self._cards
        return [
            [
                agent_id,
                a.event_count,
                a.first_seen,
                a.last_seen,
                cards[agent_id].listed() if agent_id in cards else None,
            ]
            for agent_id, a in sorted(self._agents.items())
        ]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        for agent_id, count, first_seen, last_seen, card in state:
            agent = view._agents[agent_id] = _Agent(first_seen)
            agent.event_count, agent.last_seen = count, last_seen
            view._hours.setdefault(last_seen // _HOUR, set()).add(agent_id)
            if card:
                view._cards[agent_id] = _Card.restore(card)
                view.profiled += view._cards[agent_id].profile is not None
        return view

    def _ordered(self, name: str, after: tuple[int, str] | None, limit: int | None) -> Iterator[tuple[str, _Agent]]:
        """Yield agents in the order of the rows, more than `limit` of them where there are so many."""
        place = (-after[0], after[1]) if after else None
        if name:
            groups = [[agent_id for agent_id, card in self._cards.items() if card.is_called(name)]]
        else:
            latest = after[0] // _HOUR if after else None
            hours = sorted((hour for hour in self._hours if latest is None or hour <= latest), reverse=True)
            groups = (list(self._hours[hour]) for hour in hours)  # type: ignore[assignment]  # one at a time
        for group in groups:
            keyed = ((-self._agents[agent_id].last_seen, agent_id) for agent_id in group)
            later = (key for key in keyed if place is None or key > place)
            for _, agent_id in sorted(later) if limit is None else heapq.nsmallest(limit + 1, later):
                yield agent_id, self._agents[agent_id]

    def _move(self, agent_id: str, old: int, new: int) -> None:
        there = self._hours[old]
        there.remove(agent_id)
        if not there:
            del self._hours[old]
        self._hours.setdefault(new, set()).add(agent_id)


class _Agent:
    __slots__ = ("event_count", "first_seen", "last_seen")

    def __init__(self, at: int) -> None:
        self.event_count = 0
        self.first_seen = self.last_seen = at


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

    def is_called(self, wanted: str) -> bool:
        return isinstance(self.name, str) and wanted in self.name.lower()

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
        name = said.get("name")
        self.name = None if isinstance(name, str) and len(name) > MAX_NAME_CHARS else name
        found = said.get("discoverability")
        self.discoverability = found if isinstance(found, str) and found in _DISCOVERABILITIES else "public"
