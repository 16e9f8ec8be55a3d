"""All views: hostile events never make them raise, and no order of events changes what they answer."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from anporia_wire import Event
from anporia_wire.views import Capabilities, Counts, Health, Rooms, Roster
from tests.wire.samples import NOW, integers, json_values, nasty, tags_of_strangers, unsigned

AGENTS = ["a", "b", "c"]

tags_that_count = st.lists(
    st.tuples(st.sampled_from(["t", "cap", "p"]), st.sampled_from(["x", "y", "lobby", ""])).map(list), max_size=4
)
contents = (
    nasty
    | json_values.map(json.dumps)
    | st.dictionaries(st.sampled_from(["name", "latency_ms", "capabilities"]), json_values).map(json.dumps)
)
hostile_events = st.lists(
    st.builds(
        unsigned,
        st.sampled_from([0, 0, 1, 4, 4, 6, 11, 11]) | integers,
        contents,
        tags_that_count | tags_of_strangers,
        agent=st.sampled_from(AGENTS),
        at=st.integers(NOW - 90_000, NOW + 300) | st.sampled_from([NOW, NOW - 900]) | integers,
    ),
    max_size=25,
)


def everything(events: list[Event]) -> dict[str, Any]:
    counts, roster, rooms, capabilities, health = Counts(), Roster(), Rooms(), Capabilities(), Health()
    for event in events:
        for view in (counts, roster, rooms, capabilities, health):
            view.apply(event)
    ids = [agent.rjust(64, "0") for agent in AGENTS]
    return {
        "stats": counts.read(NOW),
        "agents": roster.read(health, NOW),
        "called x": roster.read(health, NOW, "x"),
        "details": [roster.detail(agent, health, NOW) for agent in ids],
        "rooms": rooms.read(),
        "capabilities": capabilities.read(),
        "health": [health.read(agent, NOW) for agent in [*ids, "unknown"]],
    }


@given(hostile_events, st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_hostile_events_in_any_order(events: list[Event], chance: random.Random) -> None:
    answer = everything(events)
    orjson.dumps(answer)
    chance.shuffle(events)
    again = everything(events)
    assert again == answer
    assert list(again["stats"]["by_kind"]) == list(answer["stats"]["by_kind"])


def test_the_totals_agree_with_each_other() -> None:
    chance = random.Random(1)
    events = [
        unsigned(chance.choice([0, 1, 4]), "{}", [["t", chance.choice("xy")]], agent=chance.choice("abcd"), at=NOW - n)
        for n in range(200)
    ]
    answer = everything(events)
    assert answer["stats"]["total_events"] == 200 == sum(answer["stats"]["by_kind"].values())
    assert sum(row["event_count"] for row in answer["agents"]) == 200
    assert answer["stats"]["profile_nodes"] == sum(row["latest_profile"] is not None for row in answer["agents"])
    assert sum(row["messages"] for row in answer["rooms"]) == 200
