"""Who meets whom: agents by the topics and capabilities they name, behind `/copresence` (WIRE section 16)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

from ..events import Event
from ..kinds import NEVER_STORED

__all__ = ["MAX_SEEN", "Presence"]

MAX_SEEN = 64  # agents of one topic or capability, the latest ones; published relays take 50 at random (decision 0015)
_SLACK = 2 * MAX_SEEN  # so that sorting happens once in 64 arrivals

_TOPIC_SCORE = 0.3  # WIRE section 16
_CAPABILITY_SCORE = 0.5

_Latest = dict[str, int]  # agent: created_at of its latest event there


class Presence:
    """For each topic and capability the agents seen there last; at most 64 of them, about 10 kB."""

    def __init__(self) -> None:
        self._topics: dict[str, _Latest] = {}
        self._capabilities: dict[str, _Latest] = {}

    def apply(self, event: Event) -> None:
        """Take one stored event: its `t` and `cap` tags."""
        if event.kind in NEVER_STORED:
            return
        for tag in event.tags:
            if len(tag) > 1:
                if tag[0] == "t":
                    _see(self._topics, tag[1], event)
                elif tag[0] == "cap":
                    _see(self._capabilities, tag[1], event)

    def read(
        self,
        agent_id: str,
        topics: Iterable[str],
        capabilities: Iterable[str],
        since: int,
        is_listed: Callable[[str], bool],
    ) -> list[dict[str, Any]]:
        """Give who shares `topics` since `since` (Unix seconds) or `capabilities` with an agent, best first.

        `topics` and `capabilities` are the agent's own; `is_listed` leaves agents out.
        """
        contexts: dict[str, list[dict[str, str]]] = {}
        scores: dict[str, float] = {}
        for kind, known, names, oldest, score in (
            ("topic", self._topics, topics, since, _TOPIC_SCORE),
            ("capability", self._capabilities, capabilities, -1, _CAPABILITY_SCORE),
        ):
            for name in sorted(set(names)):
                context = {"type": kind, "ref": name}
                for other, at in _latest(known.get(name, {})):
                    if at >= oldest and other != agent_id:
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
        return [
            [[name, _latest(seen)] for name, seen in sorted(known.items())]
            for known in (self._topics, self._capabilities)
        ]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        view._topics, view._capabilities = ({name: dict(seen) for name, seen in known} for known in state)
        return view


def _see(known: dict[str, _Latest], name: str, event: Event) -> None:
    seen = known.get(name)
    if seen is None:
        seen = known[name] = {}
    seen[event.agent_id] = max(event.created_at, seen.get(event.agent_id, 0))
    if len(seen) > _SLACK:
        known[name] = dict(_latest(seen))


def _latest(seen: _Latest) -> list[tuple[str, int]]:
    """Give the latest `MAX_SEEN` agents, latest first. Whoever falls out only comes back with something newer."""
    return sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:MAX_SEEN]
