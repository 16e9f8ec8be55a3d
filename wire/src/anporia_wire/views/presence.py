"""Who meets whom: agents by the topics and capabilities they name, behind `/copresence` (WIRE section 16)."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any, Self

from ..events import Event
from ..kinds import NEVER_STORED

__all__ = ["MAX_SEEN", "Presence"]

MAX_SEEN = 64  # agents of one topic or capability, the latest ones; published relays take 50 at random (decision 0015)

_MAX_CONTEXTS = 50  # named of each neighbour
_MAX_OWN = 100  # places of one agent that are looked at, the latest ones

_TOPIC_SCORE = 0.3  # WIRE section 16
_CAPABILITY_SCORE = 0.5


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
        of_score: dict[float, list[str]] = {}
        for other in in_topics.keys() | in_capabilities.keys():
            score = _SCORES[min(in_topics[other], _MOST_TOPICS), min(in_capabilities[other], _MOST_CAPABILITIES)]
            of_score.setdefault(score, []).append(other)
        ordered = ((score, other) for score in sorted(of_score, reverse=True) for other in sorted(of_score[score]))
        best = islice(((score, other) for score, other in ordered if is_listed(other)), limit)
        places = [
            *(({"type": "topic", "ref": name}, others) for name, others in topics),
            *(({"type": "capability", "ref": name}, others) for name, others in capabilities),
        ]
        return [
            {
                "agent_id": other,
                "contexts": [place for place, others in places if other in others][:_MAX_CONTEXTS],
                "score": score,
            }
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
    """Agents by place, and places by agent: exactly the latest ones, so that it does not matter who came first."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[int, str]]] = {}  # place: (-created_at, agent), latest first, then by id
        self._of_agent: dict[str, dict[str, int]] = {}  # agent: place: created_at

    def see(self, name: str, agent_id: str, at: int) -> None:
        seen = self._seen.get(name)
        if seen is None:
            seen = self._seen[name] = []
        key = (-at, agent_id)
        own = self._of_agent.get(agent_id)
        known = own.get(name) if own is not None else None
        if known is not None:
            if at <= known:
                return
            del seen[bisect_left(seen, (-known, agent_id))]
        elif len(seen) == MAX_SEEN:
            if key > seen[-1]:
                return
            self._leave(name, seen.pop()[1])
            own = self._of_agent.get(agent_id)
        insort(seen, key)
        if own is None:
            own = self._of_agent[agent_id] = {}
        own[name] = at

    def shared_with(self, agent_id: str, since: int) -> list[tuple[str, set[str]]]:
        """Give each place of an agent, by name, with the others there; both seen since then."""
        own = ((at, name) for name, at in self._of_agent.get(agent_id, {}).items() if at >= since)
        return sorted(
            (name, {other for last, other in self._seen[name] if -last >= since and other != agent_id})
            for _, name in heapq.nlargest(_MAX_OWN, own)
        )

    def snapshot(self) -> Any:
        return [[name, [[agent_id, -at] for at, agent_id in seen]] for name, seen in sorted(self._seen.items())]

    def _leave(self, name: str, agent_id: str) -> None:
        own = self._of_agent[agent_id]
        del own[name]
        if not own:
            del self._of_agent[agent_id]


def _score(topics: int, capabilities: int) -> float:
    # added one by one, as published relays do: the last bit of three times 0.3 is theirs as well
    return min(1.0, sum([_TOPIC_SCORE] * topics + [_CAPABILITY_SCORE] * capabilities))


# beyond these the score is 1.0 at any rate
_MOST_TOPICS, _MOST_CAPABILITIES = 4, 2
_SCORES = {(t, c): _score(t, c) for t in range(_MOST_TOPICS + 1) for c in range(_MOST_CAPABILITIES + 1)}
