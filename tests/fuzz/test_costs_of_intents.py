"""What intents and delegations cost whoever folds, asks and reads, when others mean ill: each was found here once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest

from anporia_wire import Event, intents
from anporia_wire.views import Views
from tests.relay.served import NOW, Served
from tests.store.samples import event

PAGE = 9 * 1024 * 1024  # what an answer may weigh: 8 MiB of events, and what stands around them
CRITERIA = [{"text": "x", "method": "m"}]
AUTHOR, PARENT = 1, 2


def agent(number: int) -> str:
    """An agent without a key: neither views nor the store ask for signatures."""
    return f"{number:064x}"


def said(draft: intents.Draft, by: int = AUTHOR, at: int = NOW, more: Sequence[tuple[str, ...]] = ()) -> Event:
    kind, content, tags = draft
    return event(kind, content, [*tags, *more], agent=agent(by), at=at)


def declared(goal: str = "g", at: int = NOW) -> Event:
    return said(intents.declare_draft(goal=goal, success_criteria=CRITERIA), at=at)


def status(number: int, more: Sequence[tuple[str, ...]] = (), by: int = AUTHOR) -> Event:
    draft = intents.status_draft(INTENT.id, status="executing", prev=INTENT.id, step=f"{number}")
    return said(draft, by, NOW - number, more)


def verdict(by: int, at: int = NOW) -> Event:
    return said(intents.verify_draft(INTENT.id, INTENT.agent_id, verdict="passed", method="m"), by, at)


def delegation(scope: Sequence[int | str], by: int = PARENT, at: int = NOW) -> Event:
    return said(intents.delegation_draft(agent(AUTHOR), scope=scope, expires_at=NOW + 9), by, at)


def folded(*log: Event) -> Views:
    views = Views()
    for seq, one in enumerate(log, start=1):
        views.apply(seq, one)
    return views


INTENT = declared()
PROFILE = event(0, json.dumps({"parent": agent(PARENT)}), agent=agent(AUTHOR), at=NOW)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as running:
        yield running


def store(relay: Served, *events: Event) -> None:
    relay.run(relay.relay.store.append(events))


@pytest.mark.parametrize("first", [True, False])
def test_the_thousandth_verdict_costs_what_the_first_did(first: bool) -> None:
    """All that was said of an intent was looked through for each verdict: 8,000 took two seconds."""
    log = [*(verdict(by) for by in range(3, 8_000)), *(status(1, by=by) for by in range(3, 2_000))]
    started = time.thread_time()
    views = folded(INTENT, *log) if first else folded(*log, INTENT)
    assert time.thread_time() - started < 0.75
    assert len(views.intents.mentioned(INTENT.id, NOW)) == 101


def test_judging_many_acts_by_many_delegations() -> None:
    """256 statuses by a child to whom its parent delegated 400 times, with the longest scopes: it took 1.3 seconds."""
    scopes = ([f"{number}-{n}".ljust(190, "c") for n in range(64)] for number in range(400))
    given = [delegation(scope, at=NOW - 1_000 - number) for number, scope in enumerate(scopes)]
    tags = ([("t", f"{number}.{n}".ljust(150, "c")) for n in range(28)] for number in range(256))
    log = [INTENT, *(status(number, more) for number, more in enumerate(tags))]
    views = folded(PROFILE, *given, event(9, "{}", [("e", given[0].id)], agent=agent(PARENT)), *log)
    started = time.thread_time()
    row = views.intents.read(INTENT.id, NOW, {one.id: one for one in log})
    assert time.thread_time() - started < 0.5
    assert row and [one["authority"]["reason"] for one in row["statuses"]] == ["out_of_scope"] * 256


def test_delegations_fill_no_more_than_a_page() -> None:
    """Strangers give them too: 1,000 of the longest scopes made an answer of 51 MB about anybody."""
    scope = [f"{n:02d}" + "\U0001f600" * 198 for n in range(64)]
    log = [delegation(scope, by=by) for by in range(3, 300)]
    answer = folded(PROFILE, *log, accepted := delegation([1_500], at=1)).delegations.read(agent(AUTHOR), NOW)
    assert len(orjson.dumps(answer)) < PAGE // 2
    assert answer["received"][0]["id"] == accepted.id and len(answer["received"]) > 50


def test_intents_and_their_evidence_fill_no_more_than_a_page(relay: Served) -> None:
    """What decides about authority stands beside every row, and was not counted."""
    wide = json.dumps({"parent": agent(PARENT), "x": "x" * 64_000})
    store(relay, event(0, wide, agent=agent(AUTHOR)), delegation([1_500], at=NOW - 500))
    store(relay, *(declared(f"{n}", NOW - n) for n in range(200)))
    got = relay.get("/intents?events=true&limit=200")
    assert got.status == 200 and len(got.body) < PAGE and "link" in got.headers


def test_nobody_crowds_out_what_others_say_of_an_intent(relay: Served) -> None:
    """When all does not fit into an answer, the reader's verifiers come first, then the author, then strangers."""
    wide = {"x": '"' * 30_000}
    names, to = ("e", INTENT.id, "root"), ("p", INTENT.agent_id)
    judged = json.dumps({"verdict": "passed", "method": "m", "reason": "", **wide})
    reported = json.dumps({"status": "executing", "step": "last", **wide})
    crowd = [event(1502, judged, [("s", intents.SCHEMAS[1502]), names, to], agent=agent(by)) for by in range(10, 50)]
    tags = [("s", intents.SCHEMAS[1501]), names, ("prev", INTENT.id)]
    own = [event(1501, reported, tags, agent=agent(AUTHOR), at=NOW - n) for n in range(90)]
    store(relay, *crowd, INTENT, *own, trusted := verdict(3, NOW - 5))
    got = relay.get(f"/intents/{INTENT.id}?verifiers={agent(3)}")
    row = got.json()
    assert len(got.body) < PAGE and {INTENT.id, trusted.id, own[0].id} < {event["id"] for event in row["events"]}
    assert ([one["id"] for one in row["verdicts"]], row["passes"], row["step"]) == ([trusted.id], 1, "last")


def test_the_earliest_of_a_thousand_revokes_is_the_evidence(relay: Served) -> None:
    """Only 1,000 were looked through, each time somebody asked."""
    revokes = [event(9, "{}", [("e", INTENT.id)], agent=agent(AUTHOR), at=NOW - n) for n in range(1_002)]
    store(relay, INTENT, *revokes)
    row = relay.get(f"/intents/{INTENT.id}").json()
    assert row["status"] == "withdrawn" and [one["id"] for one in row["events"]] == [revokes[-1].id, INTENT.id]
