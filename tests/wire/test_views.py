"""All views: hostile events never make them raise, and no order or repetition of events changes what they answer."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anporia_wire import Event
from anporia_wire.views import BadSnapshot, Health, Neighbors, OfferQuery, Views
from tests.wire.samples import NOW, integers, json_values, nasty, tags_of_strangers, unsigned

AGENTS = ["a", "b", "c", "d"]
IDS = [agent.rjust(64, "0") for agent in AGENTS]
TARGETS = [f"{number:064x}" for number in range(1, 7)]  # event ids that events may have and refer to

references = st.tuples(st.sampled_from(["e", "e", "p", "p", "pow"]), st.sampled_from([*TARGETS, *IDS, "12"])).map(list)
tags_that_count = st.lists(
    st.tuples(st.sampled_from(["t", "cap", "cap_wanted"]), st.sampled_from(["x", "y", "lobby", ""])).map(list)
    | references,
    max_size=4,
)
FIELDS = [
    *("name", "discoverability", "latency_ms", "capabilities", "score", "ttl_sec", "task_id", "verdict"),
    *("disposition", "reward", "constraints", "payment_method", "derived_from", "category"),
]
values = (
    json_values
    | st.sampled_from([*TARGETS, "passed", "failed", "disputed", "release", "refund", "mocked", "invite_only"])
    | st.sampled_from([0.5, 1, -1, 0, 60])
    | st.fixed_dictionaries({"payment_method": st.just("anp2_credit"), "amount": st.integers(0, 100) | json_values})
    | st.fixed_dictionaries({"deadline_unix": st.integers(NOW - 5, NOW + 5) | json_values})
)
contents = nasty | values.map(json.dumps) | st.dictionaries(st.sampled_from(FIELDS), values).map(json.dumps)
hostile_events = st.lists(
    st.builds(
        lambda id_, kind, content, tags, agent, at: Event(
            id_, agent, at, kind, tuple(map(tuple, tags)), content, "0" * 128
        ),
        st.sampled_from(TARGETS) | st.integers(0, 2**256 - 1).map("{:064x}".format),
        st.sampled_from([0, 1, 4, 5, 6, 6, 7, 8, 9, 15, 50, 51, 52, 53, 53, 54, 55]) | integers,
        contents,
        tags_that_count | tags_of_strangers,
        st.sampled_from(IDS),
        st.integers(NOW - 90_000, NOW + 300) | st.sampled_from([NOW, NOW - 900]) | integers,
    ),
    max_size=25,
    unique_by=lambda event: event.id,
)


def everything(views: Views, health: Health) -> dict[str, Any]:
    """Read all that any route reads."""
    for _ in views.trust.refresh(NOW):
        pass
    while not views.neighbors.settle(1_000_000):
        pass
    threads = {task: views.tasks.read(task) for task in TARGETS}
    return {
        "stats": views.counts.read(views.roster, NOW),
        "agents": views.roster.read(health, NOW)[0],
        "called x": views.roster.read(health, NOW, "x")[0],
        "details": [views.roster.detail(agent, health, NOW) for agent in IDS],
        "findable": [views.roster.discoverability(agent) for agent in IDS],
        "rooms": views.rooms.read(),
        "capabilities": views.capabilities.read(),
        "offers": views.capabilities.search(OfferQuery(), lambda agent: views.trust.scores.weighted.get(agent, 0.0)),
        "health": [health.read(agent, NOW) for agent in [*IDS, "unknown"]],
        "trust": [views.trust.read(agent) for agent in [*IDS, *TARGETS]],
        "graph": views.trust.graph(),
        "hidden": sorted(set[str]().union(*views.moderation.read(views.trust.scores.weighted))),
        "beacons": views.beacons.read(NOW),
        "sought": [sorted(views.beacons.topics(agent, NOW)) for agent in IDS],
        "follows": [views.subscriptions.read(agent) for agent in IDS],
        "tasks": {k: (v.status(NOW), v.consensus(), v.mocked) for k, v in threads.items() if v},
        "credit": [views.credit.read(agent, NOW) for agent in IDS],
        "presence": [views.presence.read(agent, NOW - 604_800, lambda _agent: True) for agent in IDS],
        "neighbors": [views.neighbors.read(agent, NOW, 5, lambda _agent: True) for agent in IDS],
        "topics": [views.neighbors.topics(agent) for agent in IDS],
        "texts": [views.neighbors.newest(agent, NOW - 86_400) for agent in IDS],
    }


def folded(events: list[tuple[int, Event]]) -> tuple[Views, Health]:
    views, health = Views(), Health()
    for seq, event in events:
        views.apply(seq, event)
    for event in dict(events).values():
        health.apply(event)
    return views, health


@given(hostile_events, st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_hostile_events_in_any_order_and_repeated(events: list[Event], chance: random.Random) -> None:
    log = list(enumerate(events, start=1))
    views, health = folded(log)
    answer = everything(views, health)
    orjson.dumps(answer)
    shuffled = log + (chance.choices(log, k=5) if log else [])
    chance.shuffle(shuffled)
    again, health_again = folded(shuffled)
    assert everything(again, health_again) == answer
    # ... byte for byte, the order of keys included
    assert orjson.dumps(everything(again, health_again)) == orjson.dumps(answer)
    state = orjson.dumps(views.snapshot())
    assert orjson.dumps(again.snapshot()) == state
    restored = Views.restore(orjson.loads(state))
    assert orjson.dumps(everything(restored, health)) == orjson.dumps(answer)
    assert orjson.dumps(restored.snapshot()) == state


@given(hostile_events, hostile_events)
@settings(max_examples=100)
def test_a_restored_state_goes_on_like_the_one_it_was_taken_of(before: list[Event], after: list[Event]) -> None:
    log = list(enumerate([*before, *after], start=1))
    views, health = folded(log[: len(before)])
    restored = Views.restore(orjson.loads(orjson.dumps(views.snapshot())))
    for seq, event in log[len(before) :]:
        views.apply(seq, event)
        restored.apply(seq, event)
    assert everything(restored, health) == everything(views, health)
    assert orjson.dumps(restored.snapshot()) == orjson.dumps(views.snapshot())


def test_the_totals_agree_with_each_other() -> None:
    chance = random.Random(1)
    events = [
        unsigned(chance.choice([0, 1, 4]), "{}", [["t", chance.choice("xy")]], agent=chance.choice("abcd"), at=NOW - n)
        for n in range(200)
    ]
    answer = everything(*folded(list(enumerate(events, start=1))))
    assert answer["stats"]["total_events"] == 200 == sum(answer["stats"]["by_kind"].values())
    assert sum(row["event_count"] for row in answer["agents"]) == 200
    assert answer["stats"]["profile_nodes"] == sum(row["latest_profile"] is not None for row in answer["agents"])
    assert sum(row["messages"] for row in answer["rooms"]) == 200


def test_a_gap_is_remembered_and_has_no_snapshot() -> None:
    views = Views()
    views.apply(3, unsigned(1))
    assert views.seq == 0
    with pytest.raises(ValueError, match="missing"):
        views.snapshot()
    views.apply(1, unsigned(1))
    views.apply(2, unsigned(1))
    assert views.seq == views.counts.total == 3
    views.snapshot()


@pytest.mark.parametrize("state", [None, [], {}, {"code": "0"}, 5])
def test_a_state_of_other_code_is_refused(state: object) -> None:
    with pytest.raises(BadSnapshot):
        Views.restore(state)


@pytest.mark.parametrize("name", [name for name in Views().snapshot() if name != "code"])
@pytest.mark.parametrize("value", [5, [[5]], [[1, 2], 3], {"a": 1}, None])
def test_a_damaged_state_is_refused_or_at_least_readable(name: str, value: object) -> None:
    state = {**Views().snapshot(), name: value}
    try:
        Views.restore(state)
    except BadSnapshot:
        pass


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=60), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_which_texts_are_kept_does_not_depend_on_their_order(
    written: list[tuple[str, int]], chance: random.Random
) -> None:
    events = [unsigned(1, f"word{at}", agent=agent, at=at) for agent, at in written]

    def kept(events: list[Event]) -> Any:
        view = Neighbors(max_texts=20)
        for event in events:
            view.apply(event)
        assert view._count == sum(map(len, view._texts.values())) <= 20
        return view.snapshot()

    first = kept(events)
    chance.shuffle(events)
    assert kept(events) == first
