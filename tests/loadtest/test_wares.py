"""What is signed ahead, held against a real relay: each misdeed meets its refusal, each task its states."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from anporia_loadtest.chains import VARIANTS, Chain, make_chain
from anporia_loadtest.deeds import FORGERIES, MISDEEDS, Deed, Flood, make_flood
from anporia_loadtest.posts import PER_AUTHOR, Authors
from anporia_loadtest.signer import Ware
from anporia_loadtest.stock import Stock
from anporia_loadtest.target import Target
from anporia_wire import Event, RuleBroken, kinds, pow
from tests.relays import RunningRelay


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("relay")
    with RunningRelay(folder, env={"ANPORIA_RATE_EXEMPT": "127.0.0.0/8"}) as running:
        yield Target.parse(running.url)


def send(relay: Target, deed: Deed) -> tuple[int, str]:
    connection = http.client.HTTPConnection(relay.host, relay.port, timeout=10)
    try:
        connection.request(deed.method, deed.path, b" " * deed.pad + deed.body or None, {"Content-Type": deed.type})
        response = connection.getresponse()
        return response.status, response.headers.get("Anporia-Code", "")
    finally:
        connection.close()


def test_every_misdeed_meets_the_refusal_it_expects(relay: Target) -> None:
    for name, make in {**FORGERIES, **MISDEEDS}.items():
        deed = make(name)
        assert Deed.from_json(deed.to_json()) == deed
        assert send(relay, deed) == (deed.status, deed.code), name


def test_every_task_shows_the_states_and_credit_that_it_expects(relay: Target) -> None:
    choose = random.Random(1)
    chains: dict[str, Chain] = {}
    while len(chains) < len(VARIANTS):
        chain = make_chain(choose)
        assert Chain.from_json(chain.to_json()) == chain
        chains[chain.variant] = chain
    for chain in chains.values():
        for step in chain.steps:
            assert send(relay, Deed("", "POST", "/events", step.event, 200, "")) == (200, "")
            assert relay.get(f"/task/{chain.task_id}").json()["status"] == step.status, chain.variant
            for agent_id, credit in step.credits.items():
                assert relay.get(f"/agents/{agent_id}/credit").json() == credit.shown(agent_id), chain.variant


def test_what_is_signed_ages_well_while_it_waits() -> None:
    now, waited = int(time.time()), int(time.time()) + 604_800  # for as long as the longest run
    for name in ("from the future", "from long ago"):
        event = Event.from_mapping(json.loads(MISDEEDS[name](name).body))
        for sent in (now, waited):
            with pytest.raises(RuleBroken):
                kinds.check_time(event, sent)
    choose = random.Random(3)
    for chain in (make_chain(choose) for _ in range(60)):
        for step in chain.steps:
            event = Event.from_mapping(json.loads(step.event))
            said = json.loads(event.content)
            if event.kind == kinds.TASK_REQUEST:
                assert (said["constraints"]["deadline_unix"] < waited) is (chain.variant == "late")
            assert said.get("eta_unix", waited + 1) > waited


def test_no_author_can_pass_its_budget_and_all_events_are_whole() -> None:
    authors = Authors(random.Random(2))
    events = [authors.next() for _ in range(3 * PER_AUTHOR * 8)]
    for event in events:
        event.check()
        kinds.check_shape(event)
        pow.check(event)
    assert max(Counter(event.agent_id for event in events).values()) <= PER_AUTHOR < 60
    assert len({event.id for event in events}) == len(events)
    assert {event.kind for event in events} == {0, 1, 2, 4, 5, 6}


def test_a_flood_is_of_one_agent_and_more_than_it_may() -> None:
    flood = make_flood(60)
    assert len(flood.events) == len(set(flood.ids)) > 60
    assert Flood.from_json(flood.to_json()) == flood


def test_a_stock_is_filled_ahead_and_refilled() -> None:
    kept = {Ware.POST: 20, Ware.ONCE: 2, Ware.CHAIN: 1, Ware.DEED: 10, Ware.FLOOD: 1}
    stock = Stock("seed", 60, kept)
    try:
        posts = [stock.take(Ware.POST) for _ in range(100)]
        assert len(set(posts)) == 100
        for ware in Ware:
            assert stock.take(ware).startswith((b"{", b"["))
    finally:
        stock.close()
