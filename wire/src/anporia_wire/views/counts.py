"""How many events, agents and kinds there are: `GET /stats` (WIRE section 10)."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Any, Self

from ..events import Event
from ..kinds import MAX_AHEAD, NEVER_STORED
from .roster import Roster

__all__ = ["Counts"]

MAX_KINDS = 1_000  # of one answer, the commonest
_HOUR = 3_600  # seconds, of `events_last_1h`
_KEPT_SECONDS = _HOUR + MAX_AHEAD + 1  # every second that may lie within the hour or ahead of the clock


class Counts:
    """Totals over all stored events."""

    def __init__(self) -> None:
        self.total = 0
        self._by_kind: Counter[int] = Counter()
        # The newest seconds that hold events, with their number of events; the heap finds the oldest.
        self._seconds: dict[int, int] = {}
        self._oldest: list[int] = []

    def apply(self, event: Event) -> None:
        """Count one stored event; beats are never stored and never counted."""
        if event.kind in NEVER_STORED:
            return
        self.total += 1
        self._by_kind[event.kind] += 1
        self._count_second(event.created_at)

    def read(self, roster: Roster, now: int) -> dict[str, Any]:
        """Give the row of `/stats`; `now` in Unix seconds. Who there is says the roster of the same events.

        `events_last_1h` counts `created_at` of at least now - 3,600, as `since` of `/events` does.
        """
        agents, profiles = len(roster), roster.profiled
        by_kind = heapq.nsmallest(MAX_KINDS, self._by_kind.items(), key=lambda item: (-item[1], item[0]))
        return {
            "total_events": self.total,
            "unique_agents": agents,
            "profile_nodes": profiles,
            "visitors_only": agents - profiles,
            "by_kind": {str(kind): number for kind, number in by_kind},
            "total_agents": agents,
            "events_last_1h": sum(number for second, number in self._seconds.items() if second >= now - _HOUR),
        }

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [self.total, sorted(self._by_kind.items()), sorted(self._seconds.items())]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        view.total, by_kind, seconds = state
        view._by_kind, view._seconds = Counter(dict(by_kind)), dict(seconds)
        view._oldest = sorted(view._seconds)
        return view

    def _count_second(self, second: int) -> None:
        if second in self._seconds:
            self._seconds[second] += 1
        elif len(self._seconds) < _KEPT_SECONDS:
            self._seconds[second] = 1
            heapq.heappush(self._oldest, second)
        elif second > self._oldest[0]:
            del self._seconds[heapq.heapreplace(self._oldest, second)]
            self._seconds[second] = 1
