"""Tasks and credit: all scenarios of the vectors, in any order, and what no event may do to a ledger."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from anporia_wire import Event
from anporia_wire.views import TREASURY, Credit, Tasks
from tests.wire.published import vectors
from tests.wire.samples import NOW, json_values, unsigned

VECTORS = vectors("tasks")
each_case = pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])


def folded(events: list[Event]) -> tuple[Tasks, Credit]:
    tasks, credit = Tasks(), Credit()
    for event in events:
        tasks.apply(event)
        credit.apply(event)
    return tasks, credit


@each_case
def test_vectors(case: dict[str, Any]) -> None:
    events = [Event.from_mapping(event) for event in case["events"]]
    for attempt in range(6):
        random.Random(attempt).shuffle(events)
        tasks, credit = folded(events * 2)
        for wanted in case["tasks"]:
            thread = tasks.read(wanted["task_id"])
            assert thread is not None
            assert thread.status(case["now"]) == wanted["status"]
            assert (thread.accept[1] if thread.accept else None) == wanted["winning_accept_id"]
            consensus = thread.consensus()
            assert consensus == (pytest.approx(wanted["consensus"]) if wanted["consensus"] else None)
        actors = {name: actor["agent_id"] for name, actor in VECTORS["actors"].items()} | {"treasury": TREASURY}
        for name, wanted in case["credit"].items():
            row = credit.read(actors[name], case["now"])
            assert {key: row[key] for key in wanted} == wanted, name


@each_case
def test_all_balances_together_are_zero(case: dict[str, Any]) -> None:
    _, credit = folded([Event.from_mapping(event) for event in case["events"]])
    assert sum(account.balance for account in credit._accounts.values()) == 0


def request(reward: object, constraints: object = None, *, agent: str = "a") -> Event:
    return unsigned(50, json.dumps({"reward": reward, "constraints": constraints}), agent=agent)


PAID = {"payment_method": "anp2_credit", "amount": 10}


@given(json_values, json_values, json_values)
@settings(max_examples=300)
def test_hostile_rewards_and_deadlines_concern_their_own_task_only(amount: Any, due: Any, verdict: Any) -> None:
    odd = request({"payment_method": "anp2_credit", "amount": amount}, {"deadline_unix": due})
    good = request(PAID, agent="b")
    said = unsigned(53, json.dumps({"task_id": odd.id, "verdict": verdict}), [["e", odd.id]], agent="c")
    done = unsigned(52, json.dumps({"task_id": odd.id}), [["e", odd.id]], agent="d")
    tasks, credit = folded([odd, good, said, done])
    agents = [name.rjust(64, "0") for name in "abcd"] + [TREASURY]
    rows = [credit.read(agent, NOW) for agent in agents]
    orjson.dumps(rows)
    assert rows[1]["locked"] == 10
    assert sum(row["balance"] for row in rows) == 0
    thread = tasks.read(odd.id)
    assert thread and thread.status(NOW)
    orjson.dumps(thread.consensus())


@pytest.mark.parametrize("amount", [-1, "x", None, [], {}, 2**53, 10**30, "9" * 5_000, "", "1e3"])
def test_an_amount_that_cannot_be_read_moves_nothing(amount: object) -> None:
    _, credit = folded([request({"payment_method": "anp2_credit", "amount": amount})])
    assert credit.read("a".rjust(64, "0"), NOW)["locked"] == 0


def test_a_task_paid_by_mocked_money_says_so() -> None:
    plain, mocked = request(PAID), request({"payment_method": "mocked"})
    paid = unsigned(54, '{"disposition":"release","payment_method":"mocked"}', [["e", plain.id]])
    tasks, _ = folded([plain, mocked])
    assert [t.mocked for t in (tasks.read(plain.id), tasks.read(mocked.id)) if t] == [False, True]
    tasks.apply(paid)
    thread = tasks.read(plain.id)
    assert thread and thread.mocked and thread.status(NOW) == "paid"


def test_locks_end_with_their_deadline() -> None:
    _, credit = folded([request(PAID, {"deadline_unix": NOW})])
    agent = "a".rjust(64, "0")
    assert credit.read(agent, NOW)["locked"] == 10
    assert credit.read(agent, NOW + 1) == {
        "agent_id": agent,
        "balance": 0,
        "locked": 0,
        "available": 0,
        "verified_provider_tasks": 0,
    }


def test_only_requests_are_tasks() -> None:
    tasks, _ = folded([unsigned(51, "", [["e", "1" * 64]])])
    assert tasks.read("1" * 64) is None
    assert tasks.read("2" * 64) is None
