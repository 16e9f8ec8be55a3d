"""Intents at relays that lie, lag, or know nothing of them: only verified events count."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from anporia_client import Agent, AsyncAgent, Event, Keypair, QuorumMissed, RelayRefused, Request, Response, evidence
from anporia_client import intents as verbs
from anporia_client.core import Clock
from anporia_client.intents import MAX_VERIFIERS
from anporia_wire import Filter, InvalidEvent, intents, kinds
from tests.client.scripted import Answer, AsyncScripted, Scripted

NOW = 1_790_000_000
ADA, BEN, CID = (Keypair(bytes([number]) * 32) for number in (1, 2, 3))
CRITERIA = [{"text": "t", "method": "m"}]
INFO = {"name": "x", "features": ["intents"], "limits": {}}


def agent(*answers: Answer, by: Keypair = CID) -> Agent:
    relays = {f"http://relay{number}.test": answer for number, answer in enumerate(answers)}

    def transport(url: str, auth: tuple[str, str] | None) -> Scripted:
        return Scripted(relays[url])(url, auth)

    made = Agent(by, relay_urls=list(relays), transport=transport)
    made.core.clock = Clock(wall=lambda: NOW)
    return made


def said(draft: intents.Draft, by: Keypair = ADA, at: int = NOW - 50) -> Event:
    kind, content, tags = draft
    return Event.create(by, kind, content, tags, created_at=at)


def declared(goal: str = "g", by: Keypair = ADA, at: int = NOW - 60, **more: Any) -> Event:
    return said(intents.declare_draft(goal=goal, success_criteria=CRITERIA, **more), by, at)


INTENT = declared()
DONE = said(intents.status_draft(INTENT.id, status="completed", prev=INTENT.id))
PASSED = said(intents.verify_draft(INTENT.id, ADA.agent_id, verdict="passed", method="m"), BEN)


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, {"content-type": "application/json", **(headers or {})}, json.dumps(value).encode())


def knowing(*events: Any, row: Any = None) -> Answer:
    """A relay with the feature, which says of an intent what it likes."""

    def answer(request: Request) -> Response:
        if request.path == "/":
            return as_json(INFO)
        assert request.path.startswith("/intents"), request
        listed = [event.to_dict() if isinstance(event, Event) else event for event in events]
        one = {"events": listed, **(row or {})}
        return as_json({"intents": [one, 5, None]} if request.path == "/intents" else one)

    return answer


def plain(*events: Event, hears: Callable[[Request], None] = lambda _: None) -> Answer:
    """A plain ANP2 relay, which passes over `p`."""

    def answer(request: Request) -> Response:
        hears(request)
        if request.path == "/":
            return as_json({"detail": "Not Found"}, 404)
        if request.path.startswith("/events/"):
            found = [event.to_dict() for event in events if request.path.endswith(event.id)]
            return as_json(found[0]) if found else as_json({"detail": "event not found"}, 404)
        filter_ = Filter.parse({name: text for name, text in request.params.items() if name != "p"})
        rows = sorted(filter(filter_.matches, events), key=lambda event: (-event.created_at, event.id))
        return as_json([event.to_dict() for event in rows[: int(request.params["limit"])]])

    return answer


@pytest.mark.parametrize("relay", [knowing, plain])
def test_what_follows_from_the_events(relay: Callable[..., Answer]) -> None:
    with agent(relay(INTENT, DONE, PASSED)) as reader:
        row = reader.get_intent(INTENT.id, verifiers=BEN.agent_id)
        assert (row["status"], row["verified"], row["passes"]) == ("completed", True, 1)
        assert {event["id"] for event in row["events"]} == {INTENT.id, DONE.id, PASSED.id}
        assert reader.get_intent(INTENT.id)["verified"] is None
        assert [one["intent_id"] for one in reader.list_intents()] == [INTENT.id]
        assert reader.dropped == 0


def test_the_relays_word_is_nothing() -> None:
    with agent(knowing(INTENT, row={"status": "completed", "verified": True, "passes": 9})) as reader:
        row = reader.get_intent(INTENT.id, verifiers=[BEN.agent_id])
        assert (row["status"], row["verified"], row["passes"]) == ("declared", False, 0)
        (listed,) = reader.list_intents(verifiers=[BEN.agent_id])
        assert (listed["status"], listed["verified"]) == ("declared", False)
        assert reader.list_intents(status="completed") == []


def test_forged_events_and_rubbish_among_them_count_not() -> None:
    forged = {**DONE.to_dict(), "sig": "0" * 128}
    of_another = said(intents.status_draft(INTENT.id, status="failed", prev=INTENT.id), BEN)
    rubbish: list[Any] = [
        5,
        None,
        "x",
        [],
        {},
        {"sig": "x"},
        {"kind": 1501, "sig": 1, "id": 5},
        {**PASSED.to_dict(), "id": "0"},
    ]
    with agent(knowing(INTENT, forged, of_another, *rubbish)) as reader:
        row = reader.get_intent(INTENT.id, verifiers=[BEN.agent_id])
        assert (row["status"], row["verdicts"]) == ("declared", [])
        assert reader.dropped == 2
    for events in (5, None, {"a": 1}):
        with agent(knowing(row={"events": events})) as reader:
            with pytest.raises(ValueError, match="no intent"):
                reader.get_intent(INTENT.id)
            assert reader.list_intents() == []


def test_what_several_relays_have_is_put_together() -> None:
    with agent(knowing(INTENT, DONE), plain(INTENT, PASSED)) as reader:
        row = reader.get_intent(INTENT.id, verifiers=[BEN.agent_id])
        assert row["verified"] is True and len(row["events"]) == 3
        assert reader.list_intents(verifiers=[BEN.agent_id])[0]["verified"] is True


def test_an_intent_that_is_not_due_at_the_relay_is_found_among_its_events() -> None:
    listed = plain(INTENT, DONE)

    def answer(request: Request) -> Response:
        if request.path == "/":
            return as_json(INFO)
        if request.path.startswith("/intents"):
            return as_json({"detail": "intent not found"}, 404, {"anporia-code": "intent_not_found"})
        given = listed(request)
        assert isinstance(given, Response)
        return given

    with agent(answer) as reader:
        assert reader.get_intent(INTENT.id)["status"] == "completed"
        with pytest.raises(RelayRefused) as none:
            reader.get_intent("ab" * 32)
        assert none.value.status == 404


def test_a_list_goes_on_over_pages() -> None:
    made = [declared(str(n), at=NOW - n) for n in range(5)]
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        if request.path == "/":
            return as_json(INFO)
        at = int(request.params.get("cursor", "0"))
        more = {"link": f'</intents?cursor={at + 2}>; rel="next"'} if at < 4 else {}
        return as_json({"intents": [{"events": [one.to_dict()]} for one in made[at : at + 2]]}, headers=more)

    with agent(answer) as reader:
        rows = reader.list_intents(author=ADA.agent_id.upper(), verifiers=[BEN.agent_id], limit=5)
        assert [row["goal"] for row in rows] == list("01234")
        assert len(reader.list_intents(limit=3)) == 3
    assert asked[1].params == {"author": ADA.agent_id, "verifiers": BEN.agent_id, "events": "true", "limit": "5"}
    assert [request.params.get("limit") for request in asked[1:]] == ["5", "3", "1", "3", "1"]


def test_at_a_plain_relay_others_schemas_do_not_fill_the_list() -> None:
    foreign = [Event.create(BEN, 1500, "{}", [("s", "other.v1")], created_at=NOW - n) for n in range(30)]
    mine = [declared(str(n), at=NOW - 100 - n, parent="ab" * 32 if n == 4 else None) for n in range(5)]
    asked: list[Request] = []
    with agent(plain(*foreign, *mine, DONE, hears=asked.append)) as reader:
        assert [row["goal"] for row in reader.list_intents(limit=2)] == ["0", "1"]
        assert [row["goal"] for row in reader.list_intents(parent="AB" * 32)] == ["4"]
        assert reader.list_intents(assignee=BEN.agent_id) == []
        assert reader.list_intents(topic="x") == []
    assert all(len(request.params.get("authors", "")) < 4_000 for request in asked)


def test_a_crowd_does_not_keep_a_reader_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_MOST_AGENTS", 5)
    monkeypatch.setattr(evidence, "_AUTHORS", 2)
    draft = intents.verify_draft(INTENT.id, ADA.agent_id, verdict="failed", method="m")
    crowd = [said(draft, Keypair(bytes([9, n]) * 16), NOW - 10) for n in range(30)]
    givers = [
        said(intents.delegation_draft(ADA.agent_id, scope=[1], expires_at=NOW), Keypair(bytes([8, n]) * 16))
        for n in range(30)
    ]
    asked: list[Request] = []
    with agent(plain(INTENT, DONE, PASSED, *crowd, *givers, hears=asked.append)) as reader:
        row = reader.get_intent(INTENT.id, verifiers=[BEN.agent_id])
        assert (row["verified"], len(row["verdicts"])) == (True, 5)
        assert len(reader.get_delegations(ADA.agent_id)["received"]) == 5
    assert len(asked) < 60


def test_authority_at_a_plain_relay() -> None:
    profile = Event.create(BEN, 0, json.dumps({"parent": ADA.agent_id}), [], created_at=NOW - 90)
    given = said(intents.delegation_draft(BEN.agent_id, scope=[1], expires_at=NOW), at=NOW - 80)
    post = Event.create(BEN, 1, "x", [], created_at=NOW - 10)
    with agent(plain(profile, given)) as reader:
        covered = {"parent": ADA.agent_id, "delegated": True, "reason": None, "delegation_id": given.id}
        assert reader.check_authority(post.to_dict()) == covered
        assert reader.check_authority(INTENT.to_dict()) is None
        with pytest.raises(InvalidEvent):
            reader.check_authority({**post.to_dict(), "kind": 2})
        with pytest.raises(InvalidEvent):
            reader.check_authority({})
        found = reader.get_delegations(BEN.agent_id)
        assert found["parent"] == ADA.agent_id and found["received"] == reader.get_delegations(ADA.agent_id)["given"]
        assert reader.get_delegations()["given"] == []


def test_a_successor_is_shown() -> None:
    def half(role: str, named: Keypair, by: Keypair) -> Event:
        tags = [("s", intents.SCHEMAS[kinds.KEY_ROTATION]), ("p", named.agent_id)]
        return Event.create(by, kinds.KEY_ROTATION, json.dumps({role: named.agent_id}), tags, created_at=NOW)

    halves = [half("successor", BEN, ADA), half("predecessor", ADA, BEN)]
    with agent(plain(*halves)) as reader:
        assert reader.get_delegations(ADA.agent_id)["successor"] == BEN.agent_id
    with agent(plain(halves[0])) as reader:
        assert reader.get_delegations(ADA.agent_id)["successor"] is None


# --------------------------------------------------------------------------------------- one's own chain of statuses


class Keeping:
    """A plain relay that keeps what it is sent, and shows none of what it hides; slow, so that calls overlap."""

    def __init__(self, *events: Event) -> None:
        self.events = list(events)
        self.hidden: set[str] = set()
        self.slow = 0.0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        time.sleep(self.slow)
        if request.method == "POST":
            event = Event.parse(request.body or b"")
            event.check()
            with self._lock:
                self.events.append(event)
            return as_json({"id": event.id, "accepted": True})
        answer = plain(*(event for event in list(self.events) if event.id not in self.hidden))(request)
        assert isinstance(answer, Response)
        return answer

    def row(self, now: int = NOW + 300) -> dict[str, Any]:
        with agent(self, by=Keypair(b"\x09" * 32)) as reader:
            reader.core.clock = Clock(wall=lambda: now)
            return reader.get_intent(INTENT.id, verifiers=BEN.agent_id)


def test_a_relay_that_hides_a_status_makes_nobody_fork() -> None:
    relay = Keeping(INTENT)
    with agent(relay, by=ADA) as ada:
        for number in range(4):
            answer = ada.update_intent(INTENT.id, status="executing", step=f"{number}")
            relay.hidden.add(answer["id"])
        ada.update_intent(INTENT.id, status="completed")
        relay.hidden = {event.id for event in relay.events[1:]}
        with pytest.raises(ValueError, match="finished"):
            ada.update_intent(INTENT.id, status="failed")
    relay.hidden = set()
    row = relay.row()
    assert (row["status"], row["conflict"], len(row["statuses"])) == ("completed", False, 5)


def test_statuses_of_one_second_are_dated_one_after_the_other() -> None:
    relay = Keeping(INTENT)
    with agent(relay, by=ADA) as ada:
        for number in range(6):
            ada.update_intent(INTENT.id, status="executing", step=f"{number}")
            assert relay.row()["step"] == f"{number}"
        ada.update_intent(INTENT.id, status="failed")
    assert [event.created_at - NOW for event in relay.events[1:]] == [0, 1, 2, 3, 4, 5, 5]
    row = relay.row()
    assert [one["step"] for one in row["statuses"]] == [*"012345", None] and row["conflict"] is False
    # another process of the same agent finds what is dated ahead
    with agent(Keeping(*relay.events[:3]), by=ADA) as again:
        assert dict(again.update_intent(INTENT.id, status="executing")["event"])["tags"][2] == [
            "prev",
            relay.events[2].id,
        ]


def test_dates_do_not_run_further_ahead_than_relays_take() -> None:
    ahead = said(intents.status_draft(INTENT.id, status="executing", prev=INTENT.id), at=NOW + 290)
    relay = Keeping(INTENT, ahead)
    with agent(relay, by=ADA) as ada:
        ada.update_intent(INTENT.id, status="executing")
    assert NOW < relay.events[-1].created_at <= NOW + 300 and relay.row()["conflict"] is False


def test_verdicts_of_one_second_are_dated_one_after_the_other() -> None:
    relay = Keeping(INTENT, DONE)
    with agent(relay, by=BEN) as ben:
        for verdict in ("failed", "passed", "failed", "passed"):
            relay.hidden.add(ben.verify_intent(INTENT.id, verdict=verdict, method="m")["id"])
    relay.hidden = set()
    assert [event.created_at - NOW for event in relay.events[2:]] == [0, 1, 2, 3]
    assert relay.row()["verified"] is True


def test_calls_of_one_agent_take_turns() -> None:
    relay = Keeping(INTENT)
    relay.slow = 0.002
    with agent(relay, by=ADA) as ada, ThreadPoolExecutor(8) as pool:
        steps = [pool.submit(ada.update_intent, INTENT.id, status="executing", step=f"{n}") for n in range(8)]
        assert all(step.result()["accepted"] for step in steps)
    row = relay.row()
    assert (row["conflict"], len(row["statuses"])) == (False, 8)


async def test_calls_of_one_agent_take_turns_on_an_event_loop() -> None:
    relay = Keeping(INTENT)

    class Yielding(AsyncScripted):
        async def send(self, request: Request, *, timeout: float) -> Response:
            await asyncio.sleep(0)
            return await super().send(request, timeout=timeout)

    ada = AsyncAgent(ADA, relay_urls=["http://relay0.test"], transport=Yielding(relay))
    ada.core.clock = Clock(wall=lambda: NOW)
    await asyncio.gather(*(ada.update_intent(INTENT.id, status="executing", step=f"{n}") for n in range(8)))
    with pytest.raises(ValueError, match="status"):
        await ada.update_intent(INTENT.id, status="done")
    await ada.update_intent(INTENT.id, status="completed")
    with pytest.raises(ValueError, match="finished"):
        await ada.update_intent(INTENT.id, status="failed")
    await ada.close()
    row = await asyncio.to_thread(relay.row)
    assert (row["status"], row["conflict"], len(row["statuses"])) == ("completed", False, 9)


def test_what_one_relay_took_is_remembered_though_too_few_did() -> None:
    taking, refusing = Keeping(INTENT), Keeping(INTENT)

    def refuse(request: Request) -> Response:
        return as_json({"detail": "no"}, 400) if request.method == "POST" else refusing(request)

    with agent(taking, refuse, by=ADA) as ada:
        ada.core.quorum = 2
        with pytest.raises(QuorumMissed):
            ada.update_intent(INTENT.id, status="executing")
        taking.hidden.add(taking.events[-1].id)
        with pytest.raises(QuorumMissed):
            ada.update_intent(INTENT.id, status="executing")
    taking.hidden = set()
    assert taking.row()["conflict"] is False and len(taking.row()["statuses"]) == 2
    with agent(refuse, by=ADA) as ada:
        with pytest.raises(RelayRefused):
            ada.update_intent(INTENT.id, status="executing")
        assert not ada.core._said, "what no relay has is followed by nothing"


def test_memory_of_ones_own_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "_MOST_SAID", 2)
    made = [declared(f"{n}") for n in range(4)]
    with agent(Keeping(*made), by=ADA) as ada:
        for at in (0, 1, 0, 2):
            ada.update_intent(made[at].id, status="executing")
        assert list(ada.core._said) == [made[0].id, made[2].id]


# ---------------------------------------------------------------------------------------------- what rows follow from


def profile(by: Keypair, at: int, parent: Keypair = ADA, name: str = "x") -> Event:
    return Event.create(by, 0, json.dumps({"name": name, "parent": parent.agent_id}), [], created_at=at)


def pages(sent: list[int], *events: Event) -> Answer:
    """A relay with cursors and without intents; counts the profiles it sent."""

    def answer(request: Request) -> Response:
        if request.path == "/":
            return as_json({**INFO, "features": ["cursor", "include-hidden"]})
        names = ("kinds", "authors", "p")
        filter_ = Filter.parse({name: request.params[name] for name in names if name in request.params})
        rows = sorted(filter(filter_.matches, events), key=lambda event: (-event.created_at, event.id))
        start = int(request.params.get("cursor", "0"))
        page = rows[start : (end := start + int(request.params["limit"]))]
        sent.append(sum(event.kind == 0 for event in page))
        more = {"link": f'</events?cursor={end}>; rel="next"'} if end < len(rows) else {}
        return as_json([event.to_dict() for event in page], headers=more)

    return answer


@pytest.mark.parametrize("cursors", [True, False])
def test_of_many_profiles_the_newest_is_asked_for(cursors: bool) -> None:
    """All were walked through: 6,000 of one agent took 0.8 seconds."""
    many = [profile(BEN, NOW - 900 - n) for n in range(400)]
    same_second = [profile(BEN, NOW - 800, parent, f"{n}") for n in range(6) for parent in (ADA, CID)]
    newest = max(same_second, key=lambda event: event.id)
    parent = json.loads(newest.content)["parent"]
    old = profile(CID, NOW - 2_000)
    sent: list[int] = []
    events = [*many, *same_second, old]

    def counted(request: Request) -> Response:
        answer = plain(*events)(request)
        assert isinstance(answer, Response)
        sent.append(answer.body.count(b'"kind": 0,'))
        return answer

    relay = pages(sent, *events) if cursors else counted
    acts = [Event.create(by, 1, "x", [], created_at=NOW).to_dict() for by in (BEN, CID, ADA)]
    with agent(relay) as reader:
        found = reader.check_authorities(acts)
        assert [one and one["parent"] for one in found] == [parent, ADA.agent_id, None]
        assert 0 < sum(sent) < 80
        one = reader.check_authority(acts[0])
        assert one and one["parent"] == parent
        assert reader.get_delegations(BEN.agent_id)["parent"] == parent


def test_a_second_full_of_profiles_is_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST", 8)
    events = [profile(BEN, NOW - 800, name=f"{n}") for n in range(30)]
    last = profile(BEN, NOW - 800, CID, "last")
    while last.id < max(event.id for event in events):
        last = profile(BEN, NOW - 800, CID, last.id)
    with agent(pages([], *events, last)) as reader:
        found = reader.check_authority(Event.create(BEN, 1, "x", [], created_at=NOW).to_dict())
        assert found and found["parent"] == CID.agent_id


def test_the_evidence_of_a_row_holds_what_took_something_back() -> None:
    """That kinds 9 were missing among it was noticed by no test."""
    child, given = profile(ADA, NOW - 90, BEN), intents.delegation_draft(ADA.agent_id, scope=[1500], expires_at=NOW)
    delegation = said(given, BEN, NOW - 80)
    taken, withdrawn = (
        Event.create(by, 9, "{}", [("e", of.id)], created_at=NOW - 20) for by, of in ((BEN, delegation), (ADA, INTENT))
    )
    astray = [Event.create(CID, 9, "{}", [("e", INTENT.id)], created_at=NOW - 20)]
    astray += [Event.create(ADA, 9, "{}", [("e", of.id)], created_at=NOW - 19) for of in (delegation, DONE)]
    behind = {child.id, delegation.id, taken.id, withdrawn.id, INTENT.id, DONE.id, PASSED.id}
    for relay in (knowing, plain):
        with agent(relay(INTENT, DONE, PASSED, child, delegation, taken, withdrawn, *astray)) as reader:
            row = reader.get_intent(INTENT.id, verifiers=[BEN.agent_id])
            assert row["status"] == "withdrawn" and {event["id"] for event in row["events"]} == behind
            dates = [(event["created_at"], event["id"]) for event in row["events"]]
            assert dates == sorted(dates)


def test_wrong_arguments_are_refused_before_anything_is_sent() -> None:
    def never(request: Request) -> Response:
        raise AssertionError(request)

    with agent(never) as me:
        good: dict[str, Any] = {"goal": "g", "success_criteria": CRITERIA}
        wrongs: list[dict[str, Any]] = [
            {"goal": ""}, {"success_criteria": []}, {"steps": [{}]}, {"deadline_unix": -1}, {"parent": "x"},
            {"assignee": "x"}, {"topics": ["t"] * 17},
        ]  # fmt: skip
        for wrong in wrongs:
            with pytest.raises(ValueError):
                me.declare_intent(**{**good, **wrong})
        for call in (
            lambda: me.list_intents(limit=0), lambda: me.list_intents(limit=201), lambda: me.list_intents(status="x"),
            lambda: me.list_intents(author="x"), lambda: me.get_intent("x"), lambda: me.get_intent("ab" * 32, quorum=0),
            lambda: me.get_intent("ab" * 32, verifiers=["x"]),
            lambda: me.list_intents(verifiers=[f"{n:064x}" for n in range(MAX_VERIFIERS + 1)]),
            lambda: me.delegate("x", scope=[1], expires_at=5), lambda: me.delegate("ab" * 32, scope=[], expires_at=5),
            lambda: me.update_intent("x", status="failed"), lambda: me.withdraw_intent("x"),
            lambda: me.verify_intent("x", verdict="passed", method="m"), lambda: me.get_delegations("x"),
        ):  # fmt: skip
            with pytest.raises(ValueError):
                call()
