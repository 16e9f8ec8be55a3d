"""Who meets whom: agents by the topics and capabilities they name, behind `/copresence` (WIRE section 16)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from ..events import Event
from ..kinds import NEVER_STORED

__all__ = ["MAX_SEEN", "Presence"]

MAX_SEEN = 64  # agents of one topic or capability, the latest ones; published relays take 50 at random (decision 0015)
_SLACK = 2 * MAX_SEEN  # so that sorting happens once in 64 arrivals

_MAX_OWN = 100  # places of one agent that are looked at, the latest ones

_TOPIC_SCORE = 0.3  # WIRE section 16
_CAPABILITY_SCORE = 0.5

_Latest = dict[str, int]  # agent: created_at of its latest event there


class Presence:
    """For each topic and capability the agents seen there last; at most 64 of them, about 15 kB."""

    def __init__(self) -> None:
        self._topics = _Places()
        self._capabilities = _Places()

    def apply(self, event: Event) -> None:
        """Take one stored event: its `t` and `cap` tags."""
        if event.kind in NEVER_STORED:
            return
        for tag in event.tags:
            if len(tag) > 1:
                if tag[0] == "t":
                    self._topics.see(tag[1], event.agent_id, event.created_at)
                elif tag[0] == "cap":
                    self._capabilities.see(tag[1], event.agent_id, event.created_at)

    def read(self, agent_id: str, since: int, is_listed: Callable[[str], bool]) -> list[dict[str, Any]]:
        """Give who shares topics since `since` (Unix seconds) or capabilities with an agent, best first, then by id.

        An agent is present where it is among the latest 64; `is_listed` leaves agents out.
        """
        contexts: dict[str, list[dict[str, str]]] = {}
        scores: dict[str, float] = {}
        for kind, places, oldest, score in (
            ("topic", self._topics, since, _TOPIC_SCORE),
            ("capability", self._capabilities, -1, _CAPABILITY_SCORE),
        ):
            for name, others in places.shared_with(agent_id, oldest):
                context = {"type": kind, "ref": name}
                for other in others:
                    contexts.setdefault(other, []).append(context)
                    scores[other] = scores.get(other, 0.0) + score
        rows: list[dict[str, Any]] = [
            {"agent_id": other, "contexts": shared, "score": min(1.0, scores[other])}
            for other, shared in contexts.items()
            if is_listed(other)
        ]
        rows.sort(key=lambda row: (-row["score"], row["agent_id"]))
        return rows

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [self._topics.snapshot(), self._capabilities.snapshot()]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        for places, known in zip((view._topics, view._capabilities), state, strict=True):
            for name, seen in known:
                for agent_id, at in seen:
                    places.see(name, agent_id, at)
        return view


class _Places:
    """Agents by place, and places by agent."""

    def __init__(self) -> None:
        self._seen: dict[str, _Latest] = {}
        self._of_agent: dict[str, set[str]] = {}

    def see(self, name: str, agent_id: str, at: int) -> None:
        seen = self._seen.get(name)
        if seen is None:
            seen = self._seen[name] = {}
        known = seen.get(agent_id)
        if known is None:
            seen[agent_id] = at
            self._of_agent.setdefault(agent_id, set()).add(name)
            if len(seen) > _SLACK:
                self._thin(name, seen)
        elif at > known:
            seen[agent_id] = at

    def shared_with(self, agent_id: str, since: int) -> list[tuple[str, list[str]]]:
        """Give each place of an agent, by name, with the others there; both seen since then."""
        own = ((self._seen[name][agent_id], name) for name in self._of_agent.get(agent_id, ()))
        shared = []
        for at, name in sorted(own, reverse=True)[:_MAX_OWN]:
            if at >= since:
                there = [other for other, last in _latest(self._seen[name]) if last >= since]
                if agent_id in there:
                    there.remove(agent_id)
                    shared.append((name, there))
        return sorted(shared)

    def snapshot(self) -> Any:
        return [[name, _latest(seen)] for name, seen in sorted(self._seen.items())]

    def _thin(self, name: str, seen: _Latest) -> None:
        kept = self._seen[name] = dict(_latest(seen))
        for agent_id in seen.keys() - kept.keys():
            names = self._of_agent[agent_id]
            names.remove(name)
            if not names:
                del self._of_agent[agent_id]


def _latest(seen: _Latest) -> list[tuple[str, int]]:
    """Give the latest `MAX_SEEN` agents, latest first. Whoever falls out only comes back with something newer."""
    return sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:MAX_SEEN]
