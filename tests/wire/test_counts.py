"""Totals: `GET /stats`."""

from __future__ import annotations

import json
from typing import Any

from anporia_wire import MAX_INTEGER, Event
from anporia_wire.views import Counts, Roster
from tests.wire.samples import NOW, unsigned


class Counted(Counts):
    """Counts with the roster of the same events."""

    def __init__(self, *events: Event) -> None:
        super().__init__()
        self.roster = Roster()
        for event in events:
            self.apply(event)
            self.roster.apply(event)

    def row(self, now: int) -> dict[str, Any]:
        return self.read(self.roster, now)


def test_empty() -> None:
    assert Counted().row(NOW) == {
        "total_events": 0,
        "unique_agents": 0,
        "profile_nodes": 0,
        "visitors_only": 0,
        "by_kind": {},
        "total_agents": 0,
        "events_last_1h": 0,
    }


def test_totals() -> None:
    row = Counted(
        unsigned(1, agent="a"),
        unsigned(0, agent="b"),
        unsigned(0, agent="b"),
        unsigned(6, agent="c"),
        unsigned(1, agent="b"),
        unsigned(11, agent="d"),
        unsigned(1, agent="c"),
        unsigned(MAX_INTEGER, agent="c"),
    ).row(NOW)
    assert row == {
        "total_events": 7,
        "unique_agents": 3,
        "profile_nodes": 1,
        "visitors_only": 2,
        "by_kind": {"1": 3, "0": 2, "6": 1, str(MAX_INTEGER): 1},
        "total_agents": 3,
        "events_last_1h": 7,
    }
    assert list(row["by_kind"]) == ["1", "0", "6", str(MAX_INTEGER)]
    json.dumps(row)


def test_the_last_hour_is_inclusive_as_since_is() -> None:
    ages = (-300, -1, 0, 0, 60, 3_600, 3_601, 86_400)
    counts = Counted(*(unsigned(1, at=NOW - age) for age in ages))
    assert counts.row(NOW)["events_last_1h"] == 6
    assert counts.row(NOW + 1)["events_last_1h"] == 5
    assert counts.row(NOW + 3_600)["events_last_1h"] == 4
    assert counts.row(NOW + 10_000)["events_last_1h"] == 0


def test_the_last_hour_is_exact_and_bounded() -> None:
    seconds = range(NOW - 10_000, NOW + 301)
    counts = Counted(*(unsigned(1, at=at) for at in seconds))
    assert counts.row(NOW)["events_last_1h"] == 3_600 + 1 + 300
    backwards = Counted(*(unsigned(1, at=at) for at in reversed(seconds)))
    assert backwards.row(NOW) == counts.row(NOW)
    assert len(counts._seconds) == len(counts._oldest) == 3_901
