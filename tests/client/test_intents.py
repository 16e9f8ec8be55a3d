"""Intents at relays that lie, lag, or know nothing of them: only verified events count."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from anporia_client import Agent, Event, Keypair, RelayRefused, Request, Response, evidence
from anporia_client.core import Clock
from anporia_client.intents import MAX_VERIFIERS
from anporia_wire import Filter, InvalidEvent, intents, kinds
from tests.client.scripted import Answer, Scripted

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
