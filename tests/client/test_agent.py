"""The agent against relays that are honest, rude, lying or gone, played by scripts at the transport."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from anporia_client import (
    Agent,
    AsyncAgent,
    BadAnswer,
    Keypair,
    NoAnswer,
    NotARelay,
    OutcomeUnknown,
    RelayRefused,
    RelayTimeout,
    RelayUnreachable,
    Request,
    Response,
    Unsupported,
    join,
)
from anporia_wire import BadSignature, Event, MalformedEvent, pow
from tests.client.scripted import Answer, AsyncScripted, Chunks, Honest, Scripted, frame, says, streams
from tests.wire.samples import ALICE, BOB, signed

URL = "http://relay.test/api"


def agent(answer: Answer) -> Agent:
    return Agent(ALICE, URL, transport=Scripted(answer))


def test_a_post_is_signed_and_tagged() -> None:
    relay = Honest()
    answer = agent(relay).post("Guten Tag", tags=[("e", "x")], topics=["tea", "cake"], lang="de")
    (event,) = relay.events
    assert answer == {"id": event.id, "accepted": True, "event": json.loads(event.to_json())}
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
    agent(relay).reply("hi", root_id="0" * 64, parent_id="1" * 64, parent_agent_id=BOB.agent_id, topics="tea")
    assert relay.events[0].tags == (("t", "tea"),)
    assert relay.events[1].tags == (
        ("e", "0" * 64, "root"), ("e", "1" * 64, "reply"), ("p", BOB.agent_id), ("t", "tea"),
    )  # fmt: skip


def test_a_profile_carries_its_proof_of_work() -> None:
    relay = Honest()
    agent(relay).declare_profile(name="Ada", description="räumt auf", languages=["de"], extra={"home": "Bonn"})
    (event,) = relay.events
    assert json.loads(event.content) == {
        "name": "Ada", "description": "räumt auf", "model_family": "unknown", "languages": ["de"], "home": "Bonn",
    }  # fmt: skip
    assert event.kind == 0 and event.first_tag("pow") == "12" and pow.leading_zero_bits(event.id) >= 12


def test_what_no_relay_would_take_is_not_sent() -> None:
    relay = Scripted(Honest())
    alice = Agent(ALICE, URL, transport=relay)
    with pytest.raises(MalformedEvent):
        alice.post("\ud800")
    with pytest.raises(ValueError, match="64 hex"):
        alice.send_dm("Bob", "hi")
    with pytest.raises(ValueError, match="verdict"):
        alice.verify_task(task_id="0" * 64, verdict="perfect", score=1)
    with pytest.raises(ValueError, match="JSON"):
        alice.submit_result(task_id="0" * 64, output=float("nan"), runtime_ms=1)
    assert relay.asked == []


def test_a_false_acknowledgement_is_no_success() -> None:
    with pytest.raises(OutcomeUnknown, match="says nothing of it") as caught:
        agent(says({"id": "0" * 64, "accepted": True})).post("hi")
    assert caught.value.event is not None and caught.value.event.content == "hi" and caught.value.url == URL


def test_an_answer_that_was_lost_is_asked_for_again() -> None:
    relay, lost = Honest(), [NoAnswer("cut", URL), RelayTimeout("late", URL)]

    def forgetful(request: Request) -> Response:
        answer = relay(request)
        if lost:
            raise lost.pop()
        return answer

    transport = Scripted(forgetful)
    assert Agent(ALICE, URL, transport=transport).post("hi")["accepted"]
    assert len(relay.events) == 3 and len(set(relay.events)) == 1
    # the first try leaves time for another
    assert transport.timeouts[0] == pytest.approx(10, abs=0.5) and all(
        0 < timeout < 15 for timeout in transport.timeouts
    )


def test_a_relay_that_was_never_reached_is_not_waited_for() -> None:
    calls: list[Request] = []

    def down(request: Request) -> Response:
        calls.append(request)
        raise RelayUnreachable("connection refused", URL)

    with pytest.raises(RelayUnreachable) as caught:
        agent(down).post("hi")
    assert len(calls) == 1 and caught.value.event is not None and "Nothing was sent" in str(caught.value)


def test_a_query_gives_plain_values() -> None:
    event = signed(content="hi", tags=[("t", "tea")], by=BOB)
    transport = Scripted(says([event.to_dict()]))
    alice = Agent(ALICE, URL, transport=transport)
    found = alice.query(kinds=[1], authors=[BOB.agent_id.upper()], topic="tea", since=0, until=2**40, limit=5)
    assert found == [json.loads(event.to_json())]
    assert transport.asked[0].params == {
        "kinds": "1", "authors": BOB.agent_id, "t": "tea", "since": "0", "until": str(2**40), "limit": "5",
    }  # fmt: skip
    with pytest.raises(ValueError, match="1 to 1000"):
        alice.query(limit=0)
    with pytest.raises(TypeError, match="topics"):
        alice.query(topics="tea")  # type: ignore[call-arg]


def test_a_plain_relay_says_what_it_cannot_do() -> None:
    alice = agent(lambda request: Response(404 if request.path == "/" else 200, {}, b"[]"))
    assert alice.query() == [] and alice.get_info() == {}
    for ask in (lambda: alice.search("tea"), alice.count, lambda: alice.page(cursor="x"), lambda: alice.query(as_of=1)):
        with pytest.raises(Unsupported, match="plain ANP2 relay"):
            ask()


def test_a_lying_relay_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    good, unasked = signed(content="good", by=BOB), signed(content="unasked", by=ALICE)
    forged = replace(signed(content="secret text", by=BOB), sig=signed(by=ALICE).sig)
    alice = agent(says([forged.to_dict(), good.to_dict(), unasked.to_dict()]))
    with caplog.at_level(logging.WARNING):
        assert [event["content"] for event in alice.query(authors=[BOB.agent_id])] == ["good"]
    assert alice.dropped == 2
    assert "bad_signature" in caplog.text and "secret" not in caplog.text
    marked = alice.query(authors=[BOB.agent_id], keep_invalid=True)
    assert [event.get("invalid") for event in marked] == ["bad_signature", None, "bad_answer"]


def test_one_event_is_the_one_asked_for() -> None:
    event, other = signed(content="this"), signed(content="that")
    assert agent(says(event.to_dict())).get_event(event.id.upper())["content"] == "this"
    lies: list[object] = [other.to_dict(), {**event.to_dict(), "content": "altered"}, [], {}]
    for lie in lies:
        with pytest.raises(BadAnswer):
            agent(says(lie)).get_event(event.id)


def test_letters_open_for_both_ends() -> None:
    relay = Honest()
    agent(relay).send_dm(BOB.agent_id, "Grüße")
    (event,) = relay.events
    assert event.kind == 3 and "Grüße" not in event.content

    def answer(request: Request) -> Response:
        mine = request.params.get("authors") == ALICE.agent_id or request.params.get("p") == BOB.agent_id
        return Response(200, {}, json.dumps([event.to_dict()] if mine else []).encode())

    for keypair in (ALICE, BOB):
        (letter,) = Agent(keypair, URL, transport=Scripted(answer)).read_dms()
        assert (letter["sender"], letter["recipient"], letter["text"]) == (ALICE.agent_id, BOB.agent_id, "Grüße")
    assert Agent(ALICE, URL, transport=Scripted(answer)).read_dms(peer="0" * 64) == []


def test_a_stream_gives_genuine_events_only() -> None:
    good, late = signed(content="good"), signed(content="late", by=BOB)
    forged = replace(late, sig=good.sig)
    frames = (
        frame(good, "ab-1"), b": ping\n\n", b"event: notice\ndata: {}\n\n", frame(forged, "ab-2"),
        b"data: nonsense\n\n", frame(late, "ab-3"), b"data: cut sho",
    )  # fmt: skip
    alice = agent(streams(*frames))
    assert [event["content"] for event in alice.stream(reconnect=False)] == ["good", "late"]
    assert (alice.dropped, alice.last_event_id) == (2, "ab-3")
    marked = [event.get("invalid") for event in alice.stream(reconnect=False, keep_invalid=True)]
    assert marked == [None, "bad_signature", "malformed", None]


def test_a_stream_is_asked_for_with_conditions_and_place() -> None:
    transport = Scripted(streams())
    alice = Agent(ALICE, URL, transport=transport)
    stream = alice.stream(topic="tea & cake", kinds=[1, 2], last_event_id="ab-7", reconnect=False)
    assert list(stream) == []
    assert transport.asked[0].params == {"t": "tea & cake", "kinds": "1,2"}
    assert transport.asked[0].headers["last-event-id"] == "ab-7"
    assert transport.silences == [60]  # four pings


def test_a_stream_is_open_once_the_call_returns() -> None:
    gone = says({"detail": "gone"}, 410, {"anporia-code": "cursor_gone"})
    with pytest.raises(RelayRefused) as caught:
        agent(gone).stream(last_event_id="ab-7")
    assert (caught.value.status, caught.value.code) == (410, "cursor_gone")


def test_a_page_is_no_stream() -> None:
    with pytest.raises(NotARelay):
        agent(says(b"<h1>Welcome</h1>", headers={"content-type": "text/html"})).stream()


def test_a_stream_that_breaks_off_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_client.follow.backoff", lambda attempt: 0.0)
    one, two, three = (signed(content=text) for text in ("one", "two", "three"))
    script: list[Response | Chunks] = [
        Chunks(frame(one, "ab-1"), error=NoAnswer("reset", URL)),
        Response(503, {}, b""),
        Chunks(frame(two, "ab-2"), frame(one, "ab-1"), frame(three, "ab-3")),
        Response(400, {"anporia-code": "bad_cursor"}, b'{"detail":"of another database"}'),
    ]
    transport = Scripted(lambda _: script.pop(0))
    alice = Agent(ALICE, URL, transport=transport)
    heard = alice.stream()
    assert [next(heard)["content"] for _ in range(3)] == ["one", "two", "three"]
    with pytest.raises(RelayRefused, match="another database"):
        next(heard)
    assert [request.headers.get("last-event-id") for request in transport.asked] == [None, "ab-1", "ab-1", "ab-3"]


def test_without_places_the_gap_is_queried_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("anporia_client.follow.backoff", lambda attempt: 0.0)
    one, missed, two = signed(content="one"), signed(content="missed"), signed(content="two")
    script = [Chunks(frame(one)), Chunks(frame(missed), frame(two))]

    def answer(request: Request) -> Response | Chunks:
        if request.path == "/stream":
            return script.pop(0)
        listed = [] if request.params.get("t") == "lobby" else [missed.to_dict(), one.to_dict()]
        return Response(200, {}, json.dumps(listed).encode())

    transport = Scripted(answer)
    heard = Agent(ALICE, URL, transport=transport).stream()
    assert [next(heard)["content"] for _ in range(3)] == ["one", "missed", "two"]
    assert "cannot resume" in caplog.text
    asked = [request.params for request in transport.asked if request.path == "/events"]
    assert {params["since"] for params in asked} == {str(one.created_at - 300)}
    assert {params.get("t") for params in asked} == {None, "lobby"}


def test_a_broken_stream_without_reconnect_says_so() -> None:
    events = agent(streams(frame(signed(content="good")), error=NoAnswer("connection reset", URL))).stream(
        reconnect=False
    )
    assert next(events)["content"] == "good"
    with pytest.raises(NoAnswer, match="connection reset"):
        next(events)


def test_closing_a_stream_closes_its_connection() -> None:
    endless = Chunks(endless=b": ping\n\n")
    events = agent(lambda _: endless).stream()
    events.close()
    assert endless.closed


async def test_an_async_agent_does_the_same() -> None:
    relay, one, two = Honest(), signed(content="one"), signed(content="two")
    async with AsyncAgent(ALICE, URL, transport=AsyncScripted(relay)) as alice:
        answer = await alice.post("hi", topics="tea")
        assert answer["event"]["tags"] == [["t", "tea"]] and len(relay.events) == 1
    transport = AsyncScripted(streams(frame(one, "ab-1"), frame(two, "ab-2")))
    bob = AsyncAgent(BOB, URL, transport=transport)
    events = bob.stream(reconnect=False)
    await events.opened()
    assert [event["content"] async for event in events] == ["one", "two"] and bob.last_event_id == "ab-2"
    await bob.close()
    assert transport.relay.closed
    with pytest.raises(NotARelay):
        await AsyncAgent(BOB, URL, transport=AsyncScripted(says(b"<html>"))).query()


def test_a_subclass_may_have_a_verb_of_its_own() -> None:
    class Polite(Agent):
        def post(self, content: str, **more: object) -> dict[str, object]:
            return super().post(content + ", please")

    relay = Honest()
    Polite(ALICE, URL, transport=Scripted(relay)).post("tea")
    assert relay.events[0].content == "tea, please"


def test_joining_twice_declares_once(tmp_path: Path) -> None:
    taken: list[Event] = []

    def answer(request: Request) -> Response:
        if request.method == "POST":
            taken.append(Event.parse(request.body or b""))
            return Response(200, {}, json.dumps({"id": taken[-1].id, "accepted": True}).encode())
        kinds = request.params["kinds"]
        return Response(200, {}, json.dumps([e.to_dict() for e in taken if str(e.kind) == kinds][-1:]).encode())

    for _ in range(2):
        with join(
            name="Tea Bot",
            capabilities=["tea.brew"],
            key_path=tmp_path / "k",
            relay_url=URL,
            transport=Scripted(answer),
        ) as bot:
            assert bot.has_recent_event(0) and not bot.has_recent_event(6)
    assert [event.kind for event in taken] == [0, 4]
    assert taken[1].tags == (("cap", "tea.brew"),)


def test_passwords_are_for_one_relay_each(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def seen(url: str | None = None, **options: object) -> tuple[str, str] | None:
        transport = Scripted(Honest())
        Agent(ALICE, url, transport=transport, **options)  # type: ignore[arg-type]
        return transport.auth

    assert seen(URL, auth=("ada", "secret")) == ("ada", "secret") and seen(URL) is None
    monkeypatch.setenv("ANPORIA_BASIC_AUTH", "ada:secret")
    assert seen(URL) == ("ada", "secret")
    monkeypatch.setenv("ANPORIA_RELAY_URL", "https://home.test/api")
    assert seen() == ("ada", "secret") and seen("https://home.test:443/other") == ("ada", "secret")
    assert seen(URL) is None and "not used" in caplog.text and "secret" not in caplog.text
    with pytest.raises(ValueError, match="auths"):
        Agent(ALICE, relay_urls=[URL, "http://other.test"], auth=("ada", "secret"))
    with pytest.raises(ValueError, match="auths"):
        Agent(ALICE, relay_urls=[URL], auths={"http://other.test": ("ada", "secret")})
    with pytest.raises(ValueError, match="once"):
        Agent(ALICE, relay_urls=[URL, URL + "/"])
    with pytest.raises(ValueError, match="quorum"):
        Agent(ALICE, URL, quorum=2)


def test_nothing_shown_holds_the_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with Agent.load_or_create(file, relay_url=URL + "/") as alice:
        assert alice.relay_url == URL
        assert file.read_text().strip() not in repr(alice) and alice.agent_id in repr(alice)
        assert alice.agent_id == Keypair.from_hex(file.read_text()).agent_id
        assert alice.private_hex == file.read_text().strip()
        assert Agent(alice.private_hex, URL).agent_id == alice.agent_id


def test_a_forgery_fails_where_it_is_checked() -> None:
    # what the other tests rely on: their forged events are wrong in the signature alone
    forged = replace(signed(content="secret text", by=BOB), sig=signed(by=ALICE).sig)
    forged.check_id()
    with pytest.raises(BadSignature):
        forged.check()
