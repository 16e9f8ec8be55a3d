"""What agents flagged (kind 7), and what is hidden because trusted agents did (WIRE section 9)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Self

from ..canonical import is_id
from ..events import Event
from ..kinds import FLAG

__all__ = ["HIDING_WEIGHT", "Moderation"]

_STEP = 10_000  # flags a part: 5 ms
HIDING_WEIGHT = 1.0  # sum of the flaggers' positive trust that hides an event (WIRE section 9)


class Moderation:
    """Which agent flagged which event, about 250 bytes a flag. Three flaggers hide by themselves: the store's rule."""

    def __init__(self) -> None:
        self._flagged: dict[str, set[str]] = {}  # agent: event ids

    def apply(self, event: Event) -> None:
        """Take one stored event; of a kind 7 every `e` tag counts, once an agent."""
        if event.kind == FLAG:
            targets = [target for target in event.tag_values("e") if is_id(target)]
            if targets:
                self._flagged.setdefault(event.agent_id, set()).update(targets)

    def read(self, trust: Mapping[str, float]) -> Iterator[set[str]]:
        """Give the ids that the flaggers' trust hides, in parts; `trust` gives weighted scores by agent id."""
        weights: dict[str, list[float]] = {}
        done = 0
        for agent_id, targets in list(self._flagged.items()):
            weight = trust.get(agent_id, 0.0)
            for target in tuple(targets) if weight > 0 else ():
                weights.setdefault(target, []).append(weight)
                done += 1
                if done % _STEP == 0:
                    yield set()
        part: set[str] = set()
        for number, (target, parts) in enumerate(weights.items(), start=1):
            if math.fsum(parts) >= HIDING_WEIGHT:
                part.add(target)
            if number % _STEP == 0:
                yield part
                part = set()
        yield part

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [[agent_id, sorted(targets)] for agent_id, targets in sorted(self._flagged.items())]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        view._flagged = {agent_id: set(targets) for agent_id, targets in state}
        return view
