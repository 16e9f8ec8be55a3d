"""All views: hostile events never make them raise, and no order or repetition of events changes what they answer."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anporia_wire import Event
from anporia_wire.intents import SCHEMAS
from anporia_wire.views import BadSnapshot, Health, IntentQuery, Neighbors, OfferQuery, Views
from tests.wire.samples import NOW, integers, json_values, nasty, tags_of_strangers, unsigned

AGENTS = ["a", "b", "c", "d"]
IDS = [agent.rjust(64, "0") for agent in AGENTS]
TARGETS = [f"{number:064x}" for number in range(1, 7)]  # event ids that events may have and refer to


def shaped(kind: int, target: str, prev: str, agent: str, word: str, at: int) -> tuple[int, Any, list[tuple[str, str]]]:
    """Give kind, content and tags of an event of an intent that has the right shape, for the most part."""
    contents: dict[int, Any] = {
        1500: {"goal": "x", "success_criteria": [{"text": "x", "method": "y"}], "deadline_unix": at, "parent": target},
        1501: {"status": word, "step": "x"},
        1502: {"verdict": word, "method": "x", "reason": ""},
        1503: {"child": agent, "scope": [1501, "x"], "expires_at": at},
        1504: {"successor" if at % 2 else "predecessor": agent},
    }
    tags = {
        1500: [("e", target), ("p", agent), ("t", "x")],
        1501: [("e", target), ("prev", prev)],
        1502: [("e", target), ("p", agent), ("t", "x")],
    }
    return kind, contents[kind], tags.get(kind, [("p", agent)])


references = st.tuples(
    st.sampled_from(["e", "e", "p", "p", "prev", "pow"]), st.sampled_from([*TARGETS, *IDS, "12"])
).map(list)
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
# what has the shape of intents and delegations, about each other, by the right and the wrong agents
intents = st.builds(
    lambda id_, form, agent, at: Event(
        id_, agent, at, form[0], (("s", SCHEMAS[form[0]]), *form[2]), json.dumps(form[1]), "0" * 128
    ),
    st.sampled_from(TARGETS) | st.integers(0, 2**256 - 1).map("{:064x}".format),
    st.builds(
        shaped,
        st.sampled_from([1500, 1500, 1501, 1501, 1502, 1502, 1503, 1504]),
        st.sampled_from(TARGETS),
        st.sampled_from(TARGETS),
        st.sampled_from(IDS),
        st.sampled_from(["passed", "failed", "executing", "completed"]),
        st.integers(NOW - 50, NOW + 50),
    ),
    st.sampled_from(IDS),
    st.integers(NOW - 100, NOW + 20),
)
profiles = st.builds(
    lambda agent, parent, at, number: Event(
        f"{number:064x}", agent, at, 0, (), json.dumps({"parent": parent}), "0" * 128
    ),
    st.sampled_from(IDS),
    st.sampled_from(IDS),
    st.integers(NOW - 100, NOW),
    st.integers(2**64, 2**65),
)


def story() -> list[Event]:
    """Make two intents with all that may happen to them; what it comes to depends on which of it is known."""
    (a, b, c, d), (first, second) = IDS, TARGETS[:2]
    numbers = itertools.count(2**70)

    def told(agent: str, kind: int, content: object, *tags: tuple[str, str], id_: str = "", at: int = 0) -> Event:
        number = next(numbers)
        schema = (("s", SCHEMAS[kind]),) if kind in SCHEMAS else ()
        return Event(
            id_ or f"{number:064x}",
            agent,
            at or NOW - 80 + number % 40,
            kind,
            (*schema, *tags),
            json.dumps(content),
            "0" * 128,
        )

    def status(agent: str, word: str, prev: str) -> Event:
        return told(agent, 1501, {"status": word}, ("e", first), ("prev", prev))

    def verdict(agent: str, word: str, about: str = a) -> Event:
        return told(agent, 1502, {"verdict": word, "method": "m", "reason": ""}, ("e", first), ("p", about))

    goal = {"goal": "g", "success_criteria": [{"text": "t", "method": "m"}], "deadline_unix": NOW - 1}
    chain = [status(a, "executing", first)]
    chain += [status(a, word, chain[0].id) for word in ("executing", "completed", "failed")]
    verdicts = [verdict(agent, word) for agent in (a, b, b, c, d) for word in ("passed", "failed")]
    given = [
        told(c, 1503, {"child": a, "scope": scope, "expires_at": NOW - until}, ("p", a))
        for scope, until in (([1500], 0), ([1501, 1], 60), (["x"], 0))
    ]
    revoked = [(a, first), (b, first), (a, chain[2].id), (b, verdicts[2].id), (b, verdicts[5].id), (c, given[0].id)]
    return [
        told(a, 1500, goal, ("t", "x"), id_=first),
        told(b, 1500, {**goal, "parent": first}, ("e", first), id_=second),
        *chain,
        status(b, "failed", first),
        *verdicts,
        verdict(c, "passed", about=d),
        *given,
        *(told(agent, 9, {}, ("e", target), at=NOW - 55) for agent, target in revoked),
        *(told(a, 0, {"parent": parent}) for parent in (c, d)),
        told(a, 1504, {"successor": d}, ("p", d)),
        told(d, 1504, {"predecessor": a}, ("p", a)),
    ]


hostile_events = st.lists(st.sampled_from(story()), max_size=30, unique_by=lambda event: event.id) | st.lists(
    intents
    | profiles
    | st.builds(
        lambda id_, kind, content, tags, agent, at: Event(
            id_, agent, at, kind, tuple(map(tuple, tags)), content, "0" * 128
        ),
        st.sampled_from(TARGETS) | st.integers(0, 2**256 - 1).map("{:064x}".format),
        st.sampled_from([0, 1, 4, 5, 6, 6, 7, 8, 9, 9, 15, 50, 51, 52, 53, 53, 54, 55]) | integers,
        contents,
        tags_that_count | tags_of_strangers,
        st.sampled_from(IDS),
        st.integers(NOW - 90_000, NOW + 300) | st.sampled_from([NOW, NOW - 900]) | integers,
    ),
    max_size=25,
    unique_by=lambda event: event.id,
)


def everything(views: Views, health: Health, events: Mapping[str, Event]) -> dict[str, Any]:
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
        "intents": [views.intents.read(target, NOW, events, IDS[:2], 1) for target in TARGETS],
        "listed": [
            views.intents.find(wanted, NOW, 2, after)
            for wanted in (
                IntentQuery(),
                IntentQuery(author=IDS[0]),
                IntentQuery(parent=TARGETS[0], topic="x", status="executing"),
            )
            for after in (None, (NOW - 10, TARGETS[2]))
        ],
        "mentioned": [views.intents.mentioned(target, NOW, IDS) for target in TARGETS],
        "heads": [views.intents.head(target, NOW) for target in TARGETS],
        "delegations": [views.delegations.read(agent, NOW) for agent in IDS],
        "authority": [views.delegations.authority(event) for _, event in sorted(events.items())],
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
    by_id = {event.id: event for event in events}
    answer = everything(views, health, by_id)
    orjson.dumps(answer)
    shuffled = log + (chance.choices(log, k=5) if log else [])
    chance.shuffle(shuffled)
    again, health_again = folded(shuffled)
    assert everything(again, health_again, by_id) == answer
    # ... byte for byte, the order of keys included
    assert orjson.dumps(everything(again, health_again, by_id)) == orjson.dumps(answer)
    state = orjson.dumps(views.snapshot())
    assert orjson.dumps(again.snapshot()) == state
    restored = Views.restore(orjson.loads(state))
    assert orjson.dumps(everything(restored, health, by_id)) == orjson.dumps(answer)
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
    by_id = {event.id: event for event in [*before, *after]}
    assert everything(restored, health, by_id) == everything(views, health, by_id)
    assert orjson.dumps(restored.snapshot()) == orjson.dumps(views.snapshot())


def test_the_totals_agree_with_each_other() -> None:
    chance = random.Random(1)
    events = [
        unsigned(chance.choice([0, 1, 4]), "{}", [["t", chance.choice("xy")]], agent=chance.choice("abcd"), at=NOW - n)
        for n in range(200)
    ]
    answer = everything(*folded(list(enumerate(events, start=1))), {})
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
