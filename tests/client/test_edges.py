"""What only shows at the edges: a full outbox, a bad draft among good ones, a relay that is always second."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anporia_client import (
    Agent,
    AgentClosed,
    AsyncAgent,
    NoAnswer,
    NotARelay,
    ProxyTrouble,
    Request,
    Response,
    Unsupported,
)
from anporia_client.follow import Follower, Seen
from anporia_wire import Event, Filter
from tests.client.scripted import STREAM, AsyncScripted, Chunks, Honest, Scripted, frame, says
from tests.wire.samples import ALICE, BOB, NOW, signed

URL = "http://relay.test/api"


def followed(seen: Seen | None = None, **options: Any) -> Follower:
    return Follower(
        URL, Filter(), last_event_id=None, reconnect=True, patient=False, keep_invalid=False, seen=seen or Seen(),
        drop=lambda _error, _url: None, **options,
    )  # fmt: skip


def test_a_relay_that_is_always_second_has_a_place_all_the_same() -> None:
    one, two = signed(content="1"), signed(content="2")
    answers = {"http://a.test": Chunks(frame(one, "a-1"), frame(two, "a-2")), "http://b.test": None}
    slow = Chunks(frame(one, "b-7"), frame(two, "b-8"))

    def make(url: str, auth: object) -> Scripted:
        def answer(_: Request) -> Chunks:
            if url == "http://b.test":
                time.sleep(0.2)
                return slow
            return answers["http://a.test"]  # type: ignore[return-value]

        return Scripted(answer)

    agent = Agent(ALICE, relay_urls=["http://a.test", "http://b.test"], transport=make)
    assert [event["content"] for event in agent.stream(reconnect=False)] == ["1", "2"]
    assert agent.last_event_id == {"http://a.test": "a-2", "http://b.test": "b-8"}


def test_the_gap_begins_at_the_cut_however_many_tries_it_takes() -> None:
    follower = followed()
    head = Response(200, STREAM, b"")
    assert follower.opened(head, NOW) == []
    list(follower.feed(b": connected\n\n"))
    for later in (10, 600, 1_200):
        follower.ended(NoAnswer("cut"), NOW + later)
        gap = follower.opened(head, NOW + later + 1)
        assert {asked.since for asked in gap} == {NOW + 10 - 60 - 300}, "nothing was filled in yet"


def test_a_relay_that_greets_and_hangs_up_is_asked_ever_more_rarely() -> None:
    follower = followed()
    pauses = []
    for again in range(8):
        follower.opened(Response(200, STREAM, b""), NOW + again)
        list(follower.feed(b": connected\n\n"))
        pauses.append(follower.ended(None, NOW + again))
    assert pauses[-1] is not None and pauses[-1] > 4


def test_a_full_outbox_does_not_outlast_the_timeout(tmp_path: Path) -> None:
    def slow(request: Request) -> Response:
        time.sleep(0.05)
        return relay(request)

    relay = Honest()
    with Agent(ALICE, URL, timeout=0.4, outbox=tmp_path / "out", transport=Scripted(slow)) as agent:
        assert agent.outbox is not None
        agent.outbox.put([signed(content=str(n), at=int(time.time())) for n in range(100)], [URL])
        began = time.monotonic()
        answer = agent.post("last")
        assert answer["queued"] and time.monotonic() - began < 4
        report = agent.drain(timeout=0.3)
        assert 0 < report["sent"] < 60 and report["waiting"] > 0 and URL in report["problems"]


def test_a_bad_draft_takes_no_answers_with_it() -> None:
    drafts: list[Any] = [(1, "a"), (1, "x" * 70_000), (1, "b"), (1, "\ud800")]
    answers = Agent(ALICE, URL, transport=Scripted(Honest())).publish_many(drafts)
    assert [(one["accepted"], one.get("code")) for one in answers] == [
        (True, None), (False, "too_large"), (True, None), (False, "malformed"),
    ]  # fmt: skip


def test_an_outbox_that_fails_after_delivery_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_client.outbox._BUSY_S", 0.1)
    lock = sqlite3.connect(tmp_path / "out", check_same_thread=False)
    relay = Honest()

    def locked_meanwhile(request: Request) -> Response:
        if request.method == "POST":
            lock.execute("BEGIN IMMEDIATE")
        return relay(request)

    with Agent(ALICE, URL, outbox=tmp_path / "out", transport=Scripted(locked_meanwhile)) as agent:
        assert agent.post("once")["accepted"]
        lock.execute("ROLLBACK")
        lock.close()
        assert (
            agent.outbox is not None and len(agent.outbox.undelivered()) == 1
        )  # sent once more, which makes no second


def test_a_damaged_event_does_not_stand_in_the_others_way(tmp_path: Path) -> None:
    relay = Honest()
    with Agent(ALICE, URL, outbox=tmp_path / "out", transport=Scripted(relay)) as agent:
        assert agent.outbox is not None
        bad, good = signed(content="bad"), signed(content="good")
        agent.outbox.put([bad, good], [URL])
        with sqlite3.connect(tmp_path / "out") as db:
            db.execute("UPDATE event SET json = X'00' WHERE id = ?", (bad.id,))
        db.close()
        assert agent.post("new")["accepted"]
        assert [event.content for event in relay.events] == ["good", "new"]
        (left,) = agent.outbox.undelivered()
        assert (left.id, left.event, left.code) == (bad.id, None, "damaged")
        assert agent.outbox.forget(bad.id) and agent.outbox.undelivered() == []


def test_a_refused_event_that_is_sent_again_waits_anew(tmp_path: Path) -> None:
    verdicts = [Response(400, {"anporia-code": "bad_time"}, b'{"detail":"created_at too far in past (9s)"}')]
    relay = Honest()
    with Agent(
        ALICE, URL, outbox=tmp_path / "out", transport=Scripted(lambda r: verdicts.pop() if verdicts else relay(r))
    ) as agent:
        assert agent.outbox is not None
        event = signed(content="old")
        with pytest.raises(Exception, match="too far in past"):
            agent.send(event)
        (left,) = agent.outbox.undelivered()
        assert left.code == "bad_time"
        assert agent.send(event)["accepted"] and agent.outbox.undelivered() == []


def test_an_address_without_a_relay_refuses_no_event_for_good(tmp_path: Path) -> None:
    page = says(b"<h1>Not Found</h1>", 404, {"content-type": "text/html"})
    with Agent(ALICE, URL, outbox=tmp_path / "out", transport=Scripted(page)) as agent:
        assert agent.post("hi")["queued"]
        assert agent.outbox is not None and agent.outbox.undelivered()[0].code is None
    with pytest.raises(NotARelay, match="knows no relay's routes"):
        Agent(ALICE, URL, transport=Scripted(page)).post("hi")


def test_a_task_is_made_of_events_only() -> None:
    request = signed(50, json.dumps({"capability": "c"}), by=BOB)
    accept = signed(51, "{}", [("e", request.id, "root"), ("e", request.id, "accept")])
    other = signed(51, "{}", [("e", "0" * 64, "root")])
    plain = {name: value for name, value in request.to_dict().items() if name != "sig"} | {"content": '{"reward":1}'}
    view: dict[str, Any] = {
        "status": "open",
        "request": plain,
        "accepts": [accept.to_dict(), other.to_dict(), {"id": "x"}, 7],
        "results": 7,
        "winning_accept_id": other.id,
    }

    def asked(value: object) -> dict[str, Any]:
        return Agent(ALICE, URL, transport=Scripted(says(value))).get_task(request.id)

    task = asked(view)
    assert task["request"] is None and [one["id"] for one in task["accepts"]] == [accept.id]
    assert (task["results"], task["verifies"], task["winning_accept_id"]) == ([], [], None)
    assert asked(view | {"request": signed(50, "{}", by=BOB).to_dict()})["request"] is None, "of another task"
    true = asked(view | {"request": request.to_dict(), "winning_accept_id": accept.id})
    assert true["request"]["id"] == request.id and true["winning_accept_id"] == accept.id


def test_a_relay_that_was_not_there_for_a_moment_is_not_plain_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []

    def answer(request: Request) -> Response:
        if request.path == "/":
            return Response(200, {}, b'{"features":["count"]}') if there else Response(404, {}, b"")
        return Response(200, {}, b'{"count":1,"exact":true}')

    agent = Agent(ALICE, URL, transport=Scripted(answer))
    with pytest.raises(Unsupported):
        agent.count()
    there.append(True)
    monkeypatch.setattr("anporia_client.core._PLAIN_FOR_S", -1.0)
    assert agent.count()["count"] == 1


async def test_opening_a_stream_may_be_tried_again_after_it_was_cancelled() -> None:
    class Slow(AsyncScripted):
        async def open(self, request: Request, *, timeout: float, silence: float) -> Any:
            await asyncio.sleep(0.2)
            return await super().open(request, timeout=timeout, silence=silence)

    transport = Slow(lambda _: Chunks(frame(signed(content="hi"), "a-1")))
    events = AsyncAgent(ALICE, URL, transport=transport).stream(reconnect=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(events.opened(), 0.05)
    await events.opened()
    assert len(transport.relay.asked) == 1, "it is open now, and once"
    assert (await anext(events))["content"] == "hi"
    await events.aclose()


def test_a_closed_agent_is_not_tried_again() -> None:
    agent = Agent(ALICE, "http://127.0.0.1:9", timeout=5)
    agent.close()
    began = time.monotonic()
    calls: list[Callable[[], object]] = [lambda: agent.post("hi"), agent.get_stats, agent.stream]
    for call in calls:
        with pytest.raises(AgentClosed):
            call()
    assert time.monotonic() - began < 4


def test_a_password_of_odd_bytes_is_sent_or_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with Agent(ALICE, "http://127.0.0.1:9", auth=("bob", "geheim\udce9")) as agent:
        assert agent.agent_id == ALICE.agent_id  # bytes of the environment that are no UTF-8 go as they are
    with pytest.raises(ValueError, match="cannot be sent") as caught:
        Agent(ALICE, "http://127.0.0.1:9", auth=("bob", "geheim\ud800"))
    assert "geheim" not in repr(caught.value) and caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_socks_proxy_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setattr("anporia_client.http_transport.find_spec", lambda _: None)
    with pytest.raises(ProxyTrouble, match="socks"):
        Agent(ALICE, "https://relay.test")


def test_ids_are_ids() -> None:
    agent = Agent(ALICE, URL, transport=Scripted(Honest()))
    calls: list[Callable[[], object]] = [
        lambda: agent.reply("x", root_id="zz", parent_id="0" * 64, parent_agent_id=BOB.agent_id),
        lambda: agent.trust_vote(target_agent_id="bob", score=1),
        lambda: agent.revoke("1"),
        lambda: agent.flag("0" * 64, author="x", category="spam"),
        lambda: agent.cancel_task(task_id="7"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="64 hex"):
            call()


def test_events_of_one_second_come_in_the_order_of_relays() -> None:
    events = [signed(content=str(n)) for n in range(5)]
    listed = sorted(events, key=lambda event: event.id)
    found = Agent(ALICE, URL, transport=Scripted(says([event.to_dict() for event in listed]))).query()
    assert [Event.from_mapping(event) for event in found] == listed
