"""Who meets whom: agents by the topics and capabilities they name, behind `/copresence` (WIRE section 16)."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import islice
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

    def read(
        self, agent_id: str, since: int, is_listed: Callable[[str], bool], limit: int = MAX_SEEN
    ) -> list[dict[str, Any]]:
        """Give at most `limit` agents that share topics since `since` (Unix seconds) or capabilities with one.

        Best first, then by id. An agent is present where it is among the latest 64; `is_listed` leaves agents out.
        """
        topics = self._topics.shared_with(agent_id, since)
        capabilities = self._capabilities.shared_with(agent_id, -1)
        in_topics = Counter(other for _, others in topics for other in others)
        in_capabilities = Counter(other for _, others in capabilities for other in others)
        scores = ((-_score(in_topics[other], in_capabilities[other]), other) for other in in_topics | in_capabilities)
        best = islice(((score, other) for score, other in sorted(scores) if is_listed(other)), limit)
        places = [
            *(({"type": "topic", "ref": name}, others) for name, others in topics),
            *(({"type": "capability", "ref": name}, others) for name, others in capabilities),
        ]
        return [
            {"agent_id": other, "contexts": [place for place, others in places if other in others], "score": -score}
            for score, other in best
        ]

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
        self._latest: dict[str, list[tuple[str, int]]] = {}  # sorted for a reader; dropped when somebody comes

    def see(self, name: str, agent_id: str, at: int) -> None:
        seen = self._seen.get(name)
        if seen is None:
            seen = self._seen[name] = {}
        elif name in self._latest:
            del self._latest[name]
        known = seen.get(agent_id)
        if known is None:
            seen[agent_id] = at
            self._of_agent.setdefault(agent_id, set()).add(name)
            if len(seen) > _SLACK:
                self._thin(name, seen)
        elif at > known:
            seen[agent_id] = at

    def shared_with(self, agent_id: str, since: int) -> list[tuple[str, set[str]]]:
        """Give each place of an agent, by name, with the others there; both seen since then."""
        own = ((self._seen[name][agent_id], name) for name in self._of_agent.get(agent_id, ()))
        shared = []
        for at, name in heapq.nlargest(_MAX_OWN, own):
            if at >= since:
                latest = self._latest.get(name)
                if latest is None:
                    latest = self._latest[name] = _latest(self._seen[name])
                there = {other for other, last in latest if last >= since}
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


def _score(topics: int, capabilities: int) -> float:
    # added one by one, as published relays do: the last bit of three times 0.3 is theirs as well
    score = 0.0
    for _ in range(min(topics, 4)):
        score += _TOPIC_SCORE
    for _ in range(min(capabilities, 2)):
        score += _CAPABILITY_SCORE
    return min(1.0, score)


def _latest(seen: _Latest) -> list[tuple[str, int]]:
    """Give the latest `MAX_SEEN` agents, latest first. Whoever falls out only comes back with something newer."""
    return sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:MAX_SEEN]
