"""Routes over intents and delegations: what follows from which events, and that the events stand beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anporia_relay.routes import intents as routes
from anporia_wire import Event, intents, pow
from tests.relay.served import NOW, Answer, Served, keys, sign

A, B, C = (keys(number).agent_id for number in (1, 2, 3))
CRITERIA = [{"text": "it runs", "method": "pytest"}]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        yield served


def get(relay: Served, path: str, status: int = 200) -> Any:
    answer = relay.get(path)
    assert answer.status == status, answer
    return answer.json()


def said(draft: intents.Draft, *, by: int = 1, at: int = NOW) -> Event:
    kind, content, tags = draft
    return Event.create(keys(by), kind, content, tags, created_at=at)


def declared(goal: str = "g", *, by: int = 1, at: int = NOW, **more: Any) -> Event:
    return said(intents.declare_draft(goal=goal, success_criteria=CRITERIA, **more), by=by, at=at)


def status(of: Event, word: str, *, by: int = 1, prev: str = "", at: int = NOW) -> Event:
    return said(intents.status_draft(of.id, status=word, prev=prev or of.id), by=by, at=at)


def verdict(of: Event, word: str, *, by: int, at: int = NOW) -> Event:
    return said(intents.verify_draft(of.id, of.agent_id, verdict=word, method="pytest"), by=by, at=at)


def revoke(of: Event, *, by: int = 1, at: int = NOW) -> Event:
    return sign("{}", 9, ["e", of.id], by=by, at=at)


def ids(relay: Served, query: str = "") -> list[str]:
    return [row["intent_id"] for row in get(relay, f"/intents{query}")["intents"]]


def following(answer: Answer) -> str | None:
    link = answer.headers.get("link")
    return link.partition(">")[0].removeprefix("<") if link else None


def test_one_intent(relay: Served) -> None:
    intent = declared(topics=["x"], deadline_unix=NOW - 1)
    first = status(intent, "executing", at=NOW - 1)
    events = [intent, first, status(intent, "completed", prev=first.id), verdict(intent, "passed", by=2)]
    relay.publish(*events, verdict(intent, "failed", by=3), status(intent, "failed", by=2))
    row = get(relay, f"/intents/{intent.id.upper()}")
    assert (row["status"], row["verified"], row["passes"], len(row["verdicts"])) == ("completed", None, None, 2)
    assert [one["status"] for one in row["statuses"]] == ["executing", "completed"]
    listed = row.pop("events")
    assert {event["id"] for event in listed} >= {event.id for event in events} and len(listed) == 5
    for event in listed:
        Event.from_mapping(event).check()
    trusting = get(relay, f"/intents/{intent.id}?verifiers={B.upper()},%20{C}&quorum=1")
    assert (trusting["verified"], trusting["passes"], trusting["quorum"]) == (True, 1, 1)
    assert get(relay, f"/intents/{intent.id}?verifiers={B},{C}&quorum=2")["verified"] is False
    (one,) = get(relay, "/intents")["intents"]
    assert one == {name: value for name, value in row.items() if name != "statuses"}
    assert get(relay, "/intents?events=true")["intents"] == [{**one, "events": listed}]


def test_withdrawn_before_it_came_and_in_every_list(relay: Served) -> None:
    intent, other = declared(), declared("other", at=NOW - 1)
    relay.publish(intent, other, early := revoke(intent, at=NOW - 5), revoke(intent, at=NOW - 2))
    row = get(relay, f"/intents/{intent.id}")
    assert row["status"] == "withdrawn"
    assert [event["id"] for event in row["events"]] == [early.id, intent.id], "the earliest revoke"
    assert ids(relay, "?status=withdrawn") == [intent.id] and ids(relay, "?status=declared") == [other.id]


def test_lists_by_all_that_can_be_asked(relay: Served) -> None:
    root = declared("root", topics=["a"], at=NOW - 9)
    part = declared("part", by=2, parent=root.id, assignee=C, topics=["b"])
    relay.publish(part, root)
    assert ids(relay) == [part.id, root.id]
    for query in (f"author={B.upper()}", f"assignee={C}", f"parent={root.id}", "topic=b", "author=&topic=b"):
        assert ids(relay, f"?{query}") == [part.id], query
    assert ids(relay, f"?author={C}") == [] and ids(relay, f"?author={B}&topic=a") == []


def test_pages(relay: Served) -> None:
    made = [declared(str(n), at=NOW - n // 3) for n in range(8)]
    relay.publish(*made)
    ordered = [one.id for one in sorted(made, key=lambda one: (-one.created_at, one.id))]
    path, walked = "/api/intents?limit=3&topic=&events=true", list[str]()
    pages = 0
    while path:
        answer = relay.get(path)
        walked += [row["intent_id"] for row in answer.json()["intents"]]
        path = following(answer) or ""
        pages += 1
        assert not path or (path.startswith("/api/intents?") and "events=true" in path)
    assert (walked, pages) == (ordered, 3)


def test_a_page_of_much_text_is_cut_and_goes_on(relay: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_READ_BYTES", 5_000)
    made = [declared("x" * 2_000, at=NOW - n) for n in range(5)]
    relay.publish(*made)
    first = relay.get("/intents")
    assert [row["intent_id"] for row in first.json()["intents"]] == [one.id for one in made[:3]]
    second = relay.get(following(first) or "")
    assert [row["intent_id"] for row in second.json()["intents"]] == [one.id for one in made[3:]]
    assert following(second) is None


def test_what_is_dated_in_the_future_comes_when_it_is_due(relay: Served) -> None:
    intent = declared(at=NOW + 100)
    relay.publish(intent)
    assert relay.get(f"/intents/{intent.id}").code == "intent_not_found" and ids(relay) == []
    relay.now += 100
    assert get(relay, f"/intents/{intent.id}")["status"] == "declared" and ids(relay) == [intent.id]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/intents/" + "ab" * 32, 404, "intent_not_found"),
        ("/intents/" + "z" * 64, 404, "intent_not_found"),
        ("/intents/ab", 400, "bad_event_id"),
        ("/intents?limit=0", 422, "invalid_filter"),
        ("/intents?limit=201", 422, "invalid_filter"),
        ("/intents?quorum=65", 422, "invalid_filter"),
        ("/intents?verifiers=x", 422, "invalid_filter"),
        ("/intents?verifiers=" + ",".join(f"{n:064x}" for n in range(65)), 422, "invalid_filter"),
        ("/intents?author=x", 422, "invalid_filter"),
        ("/intents?status=done", 422, "invalid_filter"),
        ("/intents?events=5", 422, "invalid_filter"),
        ("/intents?cursor=5", 400, "bad_cursor"),
        ("/intents?cursor=5-xyz", 400, "bad_cursor"),
        ("/intents/" + "ab" * 32 + "?quorum=0", 422, "invalid_filter"),
        ("/agents/ab/delegations", 400, "bad_agent_id"),
    ],
)
def test_refusals(relay: Served, path: str, status: int, code: str) -> None:
    answer = relay.get(path)
    assert (answer.status, answer.code) == (status, code)


def test_another_kind_of_event_is_no_intent(relay: Served) -> None:
    post, foreign = sign("hello"), sign("{}", 1500, ["s", "somebody.else.v1"])
    relay.publish(post, foreign)
    for event in (post, foreign):
        assert relay.get(f"/intents/{event.id}").code == "intent_not_found"


def test_the_door_refuses_a_broken_shape(relay: Served) -> None:
    broken = sign('{"goal":"g"}', 1500, ["s", intents.SCHEMAS[1500]])
    answer = relay.post("/events", broken.to_json())
    assert (answer.status, answer.code) == (400, "bad_shape")
    assert "success_criteria" in answer.json()["detail"]


def test_delegations_and_who_acted_within_them(relay: Served) -> None:
    profile = pow.mine(keys(2), 0, json.dumps({"name": "child", "parent": A}), [], created_at=NOW - 50)
    given = said(intents.delegation_draft(B, scope=[1500], expires_at=NOW + 50), at=NOW - 40)
    intent = declared(by=2, at=NOW - 30)
    taken = revoke(given, at=NOW - 20)
    late = declared("late", by=2, at=NOW - 10)
    relay.publish(profile, given, intent, taken, late)
    answer = get(relay, f"/agents/{A.upper()}/delegations")
    assert {name: answer[name] for name in ("agent_id", "parent", "successor", "received")} == {
        "agent_id": A, "parent": None, "successor": None, "received": [],
    }  # fmt: skip
    (row,) = answer["given"]
    assert (row["id"], row["accepted"], row["active"], row["revoked_at"]) == (given.id, True, False, NOW - 20)
    assert get(relay, f"/agents/{B}/delegations")["received"] == [row]
    found = get(relay, f"/intents/{intent.id}")
    assert found["authority"] == {"parent": A, "delegated": True, "reason": None, "delegation_id": given.id}
    assert {event["id"] for event in found["events"]} == {profile.id, given.id, intent.id, taken.id}
    assert get(relay, f"/intents/{late.id}")["authority"]["reason"] == "revoked"


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    intent = declared()
    with Served(tmp_path) as relay:
        relay.publish(intent, status(intent, "completed"), verdict(intent, "passed", by=2))
        before = get(relay, f"/intents/{intent.id}?verifiers={B}")
    with Served(tmp_path) as relay:
        assert get(relay, f"/intents/{intent.id}?verifiers={B}") == before
