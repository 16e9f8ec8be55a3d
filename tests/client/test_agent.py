"""The agent against relays that are honest, rude, lying or gone: `httpx.MockTransport` plays them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from anporia_client import Agent, BadAddress, BadAnswer, Keypair, RelayRefused, RelayUnreachable
from anporia_wire import BadSignature, Event, MalformedEvent, pow
from tests.wire.samples import ALICE, BOB, signed

URL = "http://relay.test/api"
PASSWORD = "correct horse"

Answer = Callable[[httpx.Request], httpx.Response]


def agent(answer: Answer, *, auth: tuple[str, str] | None = None) -> Agent:
    return Agent(ALICE, URL, auth=auth, transport=httpx.MockTransport(answer))


class Honest:
    """Acknowledges everything and remembers it."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, str(request.url)) == ("POST", URL + "/events")
        assert request.headers["content-type"] == "application/json"
        event = Event.parse(request.content)
        event.check()
        self.events.append(event)
        return httpx.Response(200, json={"id": event.id, "accepted": True})


def says(*frames: bytes) -> Answer:
    body = b": connected\n\n" + b"".join(frames)
    return lambda _: httpx.Response(200, content=body, headers={"content-type": "text/event-stream; charset=utf-8"})


def frame(event: Event, id_: str = "") -> bytes:
    return (f"id: {id_}\n".encode() if id_ else b"") + b"data: " + event.to_json() + b"\n\n"


def test_a_post_is_signed_and_tagged() -> None:
    relay = Honest()
    answer = agent(relay).post("Guten Tag", tags=[("e", "x")], topics=["tea", "cake"], lang="de")
    (event,) = relay.events
    assert answer == {"id": event.id, "accepted": True}
    assert (event.agent_id, event.kind, event.content) == (ALICE.agent_id, 1, "Guten Tag")
    assert event.tags == (("e", "x"), ("t", "tea"), ("t", "cake"), ("lang", "de"))


def test_calls_of_published_clients_work() -> None:
    relay = Honest()
    with agent(relay) as alice:
        alice.post("hi", tags=[("t", "lobby")])
        alice.post("hi", tags=None)
        alice.publish(5, "{}", [["t", "x"]])
        alice.publish(5, "{}", None)
    assert [event.tags for event in relay.events] == [(("t", "lobby"),), (), (("t", "x"),), ()]


def test_one_topic_may_come_as_text() -> None:
    relay = Honest()
    agent(relay).post("hi", topics="tea")
    assert relay.events[0].tags == (("t", "tea"),)


def test_a_profile_carries_its_proof_of_work() -> None:
    relay = Honest()
    agent(relay).declare_profile(name="Ada", description="räumt auf", languages=["de"], extra={"home": "Bonn"})
    (event,) = relay.events
    assert json.loads(event.content) == {
        "name": "Ada", "description": "räumt auf", "model_family": "unknown", "languages": ["de"], "home": "Bonn",
    }  # fmt: skip
    assert event.kind == 0 and event.first_tag("pow") == "12" and pow.leading_zero_bits(event.id) >= 12


def test_what_no_relay_would_take_is_not_sent() -> None:
    with pytest.raises(MalformedEvent):
        agent(says()).post("\ud800")


def test_a_false_acknowledgement_is_no_success() -> None:
    with pytest.raises(BadAnswer):
        agent(lambda _: httpx.Response(200, json={"id": "0" * 64, "accepted": True})).post("hi")


def test_a_query_gives_plain_values() -> None:
    asked: list[httpx.URL] = []
    event = signed(content="hi", tags=[("t", "tea")], by=BOB)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, json=[event.to_dict()])

    found = agent(answer).query(kinds=[1], authors=[BOB.agent_id.upper()], topic="tea", since=0, until=2**40, limit=5)
    assert found == [json.loads(event.to_json())]
    assert dict(asked[0].params) == {
        "kinds": "1", "authors": BOB.agent_id, "t": "tea", "since": "0", "until": str(2**40), "limit": "5",
    }  # fmt: skip


def test_a_lying_relay_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    good, unasked = signed(content="good", by=BOB), signed(content="unasked", by=ALICE)
    forged = replace(signed(content="secret text", by=BOB), sig=signed(by=ALICE).sig)
    alice = agent(lambda _: httpx.Response(200, json=[forged.to_dict(), good.to_dict(), unasked.to_dict()]))
    with caplog.at_level(logging.WARNING):
        assert [event["content"] for event in alice.query(authors=[BOB.agent_id])] == ["good"]
    assert alice.dropped == 2
    assert "bad_signature" in caplog.text and "secret" not in caplog.text


def test_a_stream_gives_genuine_events_only() -> None:
    good, late = signed(content="good"), signed(content="late", by=BOB)
    forged = replace(late, sig=good.sig)
    frames = (
        frame(good, "ab-1"), b": ping\n\n", b"event: notice\ndata: {}\n\n", frame(forged, "ab-2"),
        b"data: nonsense\n\n", frame(late, "ab-3"), b"data: cut sho",
    )  # fmt: skip
    alice = agent(says(*frames))
    assert [event["content"] for event in alice.stream()] == ["good", "late"]
    assert (alice.dropped, alice.last_event_id) == (2, "ab-3")


def test_a_stream_is_asked_for_with_topic_and_place() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return says()(request)

    assert list(agent(answer).stream(topic="tea & cake", last_event_id="ab-7")) == []
    assert dict(asked[0].url.params) == {"t": "tea & cake"}
    assert asked[0].headers["last-event-id"] == "ab-7"
    assert asked[0].extensions["timeout"]["read"] == 60


def test_a_stream_is_open_once_the_call_returns() -> None:
    def gone(_: httpx.Request) -> httpx.Response:
        return httpx.Response(410, headers={"anporia-code": "cursor_gone"}, json={"detail": "gone"})

    with pytest.raises(RelayRefused) as caught:
        agent(gone).stream(last_event_id="ab-7")
    assert (caught.value.status, caught.value.code) == (410, "cursor_gone")


def test_a_page_is_no_stream() -> None:
    with pytest.raises(BadAnswer):
        agent(lambda _: httpx.Response(200, html="<h1>Welcome</h1>")).stream()


def test_a_broken_stream_is_a_relay_unreachable() -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield b": connected\n\n" + frame(signed(content="good"))
            raise httpx.ReadError("connection reset")

    headers = {"content-type": "text/event-stream"}
    events = agent(lambda _: httpx.Response(200, stream=Broken(), headers=headers)).stream()
    assert next(events)["content"] == "good"
    with pytest.raises(RelayUnreachable, match="connection reset"):
        next(events)


def test_closing_a_stream_closes_its_connection() -> None:
    closed: list[bool] = []

    class Endless(httpx.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            while True:
                yield b": ping\n\n"

        def close(self) -> None:
            closed.append(True)

    headers = {"content-type": "text/event-stream"}
    events = agent(lambda _: httpx.Response(200, stream=Endless(), headers=headers)).stream()
    events.close()
    assert closed == [True]


def test_no_answer_is_a_relay_unreachable() -> None:
    def dead(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    with pytest.raises(RelayUnreachable, match="connection refused") as caught:
        agent(dead).get_stats()
    assert caught.value.code == "unreachable"


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_client.agent._MAX_ANSWER", 1_000)
    with pytest.raises(BadAnswer, match="larger than 1000 bytes"):
        agent(lambda _: httpx.Response(200, content=b" " * 1_001)).get_stats()


def test_redirects_are_not_followed_and_get_no_password() -> None:
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        assert request.headers["authorization"].startswith("Basic ")
        return httpx.Response(307, headers={"location": "http://thief.test/api/events"})

    with pytest.raises(RelayRefused) as caught:
        agent(answer, auth=("ada", PASSWORD)).post("hi")
    assert caught.value.status == 307 and hosts == ["relay.test"]


def test_a_password_in_the_clear_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for url in ("https://relay.test", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:8080"):
            Agent(ALICE, url, auth=("ada", PASSWORD)).close()
        assert caplog.text == ""
        Agent(ALICE, "http://relay.test", auth=("ada", PASSWORD)).close()
    assert "unencrypted" in caplog.text and PASSWORD not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.test",
        "ftp://relay.test",
        "http://",
        f"http://ada:{PASSWORD}@relay.test",
        "http://r:port/",
        "http://r/?a=b",
    ],
)
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(BadAddress) as caught:
        Agent(ALICE, url)
    assert PASSWORD not in str(caught.value)


def test_our_own_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    with Agent(ALICE, "http://127.0.0.1:1") as alice, pytest.raises(RelayUnreachable, match="refused"):
        alice.get_stats()


def test_nothing_shown_holds_the_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with Agent.load_or_create(file, relay_url=URL + "/") as alice:
        assert alice.relay_url == URL
        assert file.read_text() not in repr(alice) and alice.agent_id in repr(alice)
        assert alice.agent_id == Keypair.from_hex(file.read_text()).agent_id


def test_a_forgery_fails_where_it_is_checked() -> None:
    # what the other tests rely on: their forged events are wrong in the signature alone
    forged = replace(signed(content="secret text", by=BOB), sig=signed(by=ALICE).sig)
    forged.check_id()
    with pytest.raises(BadSignature):
        forged.check()
