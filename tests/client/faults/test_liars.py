"""Every lie that an HTTP server can tell, told to both kinds of agent: typed errors, in time, and nothing believed."""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import pytest

from anporia_client import (
    Agent,
    AsyncAgent,
    BadAnswer,
    ClockSkew,
    RateLimited,
    RelayError,
    RelayFailing,
    RelayRefused,
    Unauthorized,
    errors,
)
from tests.client.faults.liar import (
    LIES,
    STREAM_LIES,
    Asked,
    Liar,
    Lie,
    answer,
    bomb,
    fixed,
    forgeries,
    frame,
    stream_head,
)
from tests.client.faults.proxy import within
from tests.wire.samples import ALICE, BOB, signed

PASSWORD = "correct horse battery"
AUTH = ("founder", PASSWORD)
SECRETS = (PASSWORD, base64.b64encode(f"founder:{PASSWORD}".encode()).decode(), ALICE.seed.hex())
TIMEOUT_S = 1.0
HUNG_S = 12.0  # ten times what a call may take, and a bit

# every call that an agent makes, by what it expects to get
CALLS: dict[str, Callable[[Any], Any]] = {
    "query": lambda agent: agent.query(),
    "post": lambda agent: agent.post("hello"),
    "publish_many": lambda agent: agent.publish_many([(1, "a"), (1, "b")], timeout=TIMEOUT_S),
    "get_stats": lambda agent: agent.get_stats(),
    "get_event": lambda agent: agent.get_event("ab" * 32),
}


@dataclass
class Outcome:
    """What became of one call; `error` may be anything, `hung` says that it did not come back."""

    url: str
    value: Any = None
    error: BaseException | None = None
    hung: bool = True


Outcomes = dict[tuple[str, str, str], Outcome]


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    with within(120):
        yield


@pytest.fixture(scope="module")
def outcomes() -> Iterator[Outcomes]:
    """Tell every lie to every call at once, so that the slow ones cost their time only once."""
    found: Outcomes = {}
    liars = {name: Liar(lie) for name, lie in LIES.items()}
    try:
        for one in liars.values():
            one.__enter__()
        _ask_plainly(liars, found)
        asyncio.run(_ask_awaiting(liars, found))
        yield found
    finally:
        for one in liars.values():
            one.__exit__(None, None, None)


def _ask_plainly(liars: dict[str, Liar], found: Outcomes) -> None:
    def work(outcome: Outcome, call: Callable[[Any], Any]) -> None:
        try:
            with Agent(ALICE, outcome.url, timeout=TIMEOUT_S, auth=AUTH) as agent:
                outcome.value = call(agent)
        except BaseException as exc:
            outcome.error = exc
        outcome.hung = False

    threads = []
    for name, one in liars.items():
        for call in CALLS:
            outcome = found["sync", name, call] = Outcome(one.url)
            threads.append(threading.Thread(target=work, args=(outcome, CALLS[call]), daemon=True))
    for at, thread in enumerate(threads):
        thread.start()
        if at % 20 == 19:
            time.sleep(0.2)  # agents are busy when they are made
    until = time.monotonic() + HUNG_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


async def _ask_awaiting(liars: dict[str, Liar], found: Outcomes) -> None:
    async def work(outcome: Outcome, call: Callable[[Any], Any]) -> None:
        try:
            async with AsyncAgent(ALICE, outcome.url, timeout=TIMEOUT_S, auth=AUTH) as agent:
                outcome.value = await call(agent)
        except asyncio.CancelledError:
            return
        except BaseException as exc:
            outcome.error = exc
        outcome.hung = False

    tasks = []
    for name, one in liars.items():
        for call in CALLS:
            outcome = found["async", name, call] = Outcome(one.url)
            tasks.append(asyncio.create_task(work(outcome, CALLS[call])))
        await asyncio.sleep(0.05)
    _, left = await asyncio.wait(tasks, timeout=HUNG_S)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.mark.parametrize("name", list(LIES))
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_lie_ends_in_a_typed_error(kind: str, name: str, outcomes: Outcomes) -> None:
    for call in CALLS:
        outcome = outcomes[kind, name, call]
        assert not outcome.hung, f"{call} hangs"
        if outcome.error is None:
            _is_harmless(call, name, outcome.value)
        else:
            _is_typed(outcome.error, outcome.url)


def _is_harmless(call: str, name: str, value: Any) -> None:
    """Hold what a call gave against what it may give when nothing true was said."""
    match call:
        case "query":
            assert value == [] and name == "list of rubbish"
        case "publish_many":
            assert [one["accepted"] for one in value] == [False, False]
            assert all(one["code"] and one["event"]["sig"] for one in value)
        case "get_stats":
            assert isinstance(value, dict)
        case _:
            pytest.fail(f"{call} believed a lie: {value}")


def _is_typed(error: BaseException, url: str) -> None:
    assert isinstance(error, RelayError), repr(error)
    assert type(error).__module__ == errors.__name__
    assert re.fullmatch("[a-z][a-z0-9_]*", error.code)
    assert error.url == url
    assert error.detail and error.detail.isprintable() and len(error.detail) <= 600
    assert str(error).isprintable() and url in str(error)
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    assert not any(secret in told for secret in SECRETS)


def test_the_calls_that_publish_carry_their_event(outcomes: Outcomes) -> None:
    for (_, name, call), outcome in outcomes.items():
        if call == "post" and isinstance(outcome.error, RelayError):
            event = outcome.error.event
            assert event is not None and event.content == "hello", name


def test_each_lie_has_the_error_it_deserves(outcomes: Outcomes) -> None:
    expected: dict[str, tuple[str, ...]] = {
        "nothing": ("no_answer",),
        "cut in the body": ("no_answer",),
        "silence": ("timeout",),
        "dripping body": ("timeout",),
        "web page": ("not_a_relay",),
        "deep lists": ("not_a_relay",),
        "401": ("unauthorized",),
        "403 page": ("unauthorized",),
        "403": ("http_403",),
        "404": ("http_404",),
        "413": ("http_413",),
        "429": ("http_429",),
        "500": ("internal",),
        "502 page": ("http_502",),
        "503": ("stopping",),
        "504 page": ("http_504",),
        "302 elsewhere": ("http_302",),
        "huge headers": ("bad_answer",),
        "not HTTP": ("bad_answer",),
        "odd gzip": ("bad_answer",),
        "code of control characters": ("http_400",),
    }
    for kind in ("sync", "async"):
        got = {name: getattr(outcomes[kind, name, "query"].error, "code", None) for name in expected}
        assert got == {name: codes[0] for name, codes in expected.items()}, kind
        # sent, and nobody knows: an answer that never came, or one of a gateway that gave up
        for name in ("nothing", "cut in the head", "cut in the body", "silence", "dripping body", "502 page"):
            assert getattr(outcomes[kind, name, "post"].error, "code", None) == "outcome_unknown", (kind, name)


def test_every_error_says_what_to_do_next(outcomes: Outcomes) -> None:
    silent = {
        type(o.error).__name__ for o in outcomes.values() if isinstance(o.error, RelayError) and not o.error.advice
    }
    assert not silent


# ---------------------------------------------------------------------------------------------- what is believed


def _asked(agent: Any, call: Callable[[Any], Any]) -> Any:
    """Carry a call out, whichever kind of agent it is."""
    if isinstance(agent, Agent):
        with agent:
            return call(agent)

    async def awaited() -> Any:
        async with agent:
            return await call(agent)

    return asyncio.run(awaited())


KINDS: pytest.MarkDecorator = pytest.mark.parametrize("kind", [Agent, AsyncAgent])


@KINDS
def test_nothing_unverified_is_listed(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    good = signed(content="genuine", by=BOB, at=int(time.time()))
    lies = forgeries()
    with Liar(fixed([*lies.values(), good.to_dict()])) as liar:
        agent = kind(ALICE, liar.url, timeout=TIMEOUT_S)
        assert [event["content"] for event in _asked(agent, lambda agent: agent.query())] == ["genuine"]
        assert agent.dropped == len(lies)
        assert "altered" not in caplog.text
        marked = _asked(kind(ALICE, liar.url), lambda agent: agent.query(keep_invalid=True))
        assert [("invalid" in event) for event in marked] == [True] * len(lies) + [False]
        calls: list[Callable[[Any], Any]] = [
            lambda a: a.get_rooms(),
            lambda a: a.get_agents(),
            lambda a: a.get_credit(),
        ]
        for call in calls:
            with pytest.raises(BadAnswer):
                _asked(kind(ALICE, liar.url), call)


@KINDS
def test_nothing_unverified_stands_in_a_view(kind: Any) -> None:
    good = signed(content="genuine", by=BOB, at=int(time.time()))
    view = {
        "events": [*forgeries().values(), good.to_dict(), good.to_dict()],
        "latest": forgeries()["tampered content"],
        "deeper": [{"event": forgeries()["another's signature"], "why": "x"}, {"event": good.to_dict()}],
        "count": 3,
    }
    with Liar(fixed(view)) as liar:
        found = _asked(kind(ALICE, liar.url), lambda agent: agent.get_home())
    shown = repr(found)
    assert "altered" not in shown and "of another" not in shown
    # what lacks a signature is no event and is shown as any other object; nothing may take it for one
    assert {event["id"] for event in found["events"] if "sig" in event} == {good.id}
    assert (
        found["latest"] is None and found["deeper"][0]["event"] is None and found["deeper"][1]["event"]["id"] == good.id
    )


@KINDS
@pytest.mark.parametrize("name", list(forgeries()))
def test_one_event_is_the_one_asked_for(kind: Any, name: str) -> None:
    for event in (forgeries()[name], signed(content="another", at=1).to_dict()):
        with Liar(fixed(event)) as liar, pytest.raises(RelayError) as caught:
            _asked(kind(ALICE, liar.url), lambda agent: agent.get_event("ab" * 32))
        _is_typed(caught.value, liar.url)


@KINDS
def test_events_that_were_not_asked_for_are_left_out(kind: Any) -> None:
    now = int(time.time())
    listed = [
        signed(by=BOB, tags=[("t", "tea")], at=now),
        signed(by=ALICE, tags=[("t", "tea")], at=now),
        signed(by=BOB, tags=[("t", "cake")], at=now),
        signed(kind=5, by=BOB, tags=[("t", "tea")], at=now),
        signed(by=BOB, tags=[("t", "tea")], at=now - 10_000),
    ]
    with Liar(fixed([event.to_dict() for event in listed])) as liar:
        wanted = {"authors": [BOB.agent_id], "topic": "tea", "kinds": [1], "since": now - 100}
        found = _asked(kind(ALICE, liar.url), lambda agent: agent.query(**wanted))
    assert [event["id"] for event in found] == [listed[0].id]


@KINDS
def test_more_than_was_asked_for_is_left_out(kind: Any) -> None:
    listed = [signed(content=str(n), at=int(time.time())).to_dict() for n in range(10)]
    with Liar(fixed(listed)) as liar:
        assert len(_asked(kind(ALICE, liar.url), lambda agent: agent.query(limit=3))) == 3


@KINDS
def test_an_event_is_listed_once(kind: Any) -> None:
    event = signed(content="again", at=int(time.time())).to_dict()
    with Liar(fixed([event] * 5)) as liar:
        assert len(_asked(kind(ALICE, liar.url), lambda agent: agent.query())) == 1


def _walk(agent: Any, **options: Any) -> list[Any]:
    if isinstance(agent, Agent):
        with agent:
            return list(agent.events(**options))

    async def awaited() -> list[Any]:
        async with agent:
            return [event async for event in agent.events(**options)]

    return asyncio.run(awaited())


@KINDS
@pytest.mark.parametrize("body", [[], [signed(content="again", at=5).to_dict()], [{}]], ids=["none", "one", "rubbish"])
def test_a_walk_that_leads_nowhere_ends(kind: Any, body: Any) -> None:
    most = 200

    def lie(_: Asked) -> Iterator[bytes]:
        # the last one, so that this test ends, whatever the client does
        return answer(body, headers={"link": '</events?cursor=x>; rel="next"'} if len(liar.asked) < most else {})

    with Liar(lie) as liar:
        try:
            _walk(kind(ALICE, liar.url, timeout=5))
        except RelayError as exc:
            _is_typed(exc, liar.url)
        assert len(liar.asked) < most


@KINDS
def test_what_is_invalid_may_hold_anything(kind: Any) -> None:
    rubbish = [{"id": ["x"], "created_at": "now"}, {"id": {}, "created_at": 2**70}, {"id": None, "created_at": True}]
    with Liar(fixed(rubbish)) as liar:
        assert len(_walk(kind(ALICE, liar.url), keep_invalid=True)) == 3


INFOS: dict[str, Any] = {
    "limits a list": {"features": ["batch"], "limits": [1]},
    "limits null": {"features": ["batch"], "limits": None},
    "limits of rubbish": {"features": ["batch"], "limits": {"max_batch_events": "many"}},
    "limits huge": {"features": ["batch"], "limits": {"max_batch_events": 2**60}},
    "limits negative": {"features": ["batch"], "limits": {"max_batch_events": -1}},
    "limits true": {"features": ["batch"], "limits": {"max_batch_events": True}},
    "features of rubbish": {"features": [None, [], {}], "limits": {}},
}


@KINDS
@pytest.mark.parametrize("name", list(INFOS))
def test_an_info_document_may_hold_anything(kind: Any, name: str) -> None:
    def lie(asked: Asked) -> Iterator[bytes]:
        if asked.path == "/":
            return answer(INFOS[name])
        if asked.path == "/events/batch":
            lines = [b'{"id":"' + line[7:71] + b'"}' for line in asked.body.splitlines()]
            return answer(b"\n".join(lines))
        return answer({"id": asked.event.id, "accepted": True})

    with Liar(lie) as liar:
        agent = kind(ALICE, liar.url, timeout=TIMEOUT_S)
        answers = _asked(agent, lambda agent: agent.publish_many([(1, "a"), (1, "b")], timeout=TIMEOUT_S))
    assert len(answers) == 2


LINES: dict[str, bytes] = {
    "none": b"",
    "too few": b'{"status":200}',
    "too many": b'{"status":200}\n' * 3,
    "rubbish": b"x\ny",
    "no status": b"{}\n{}",
    "others' ids": b'{"status":200,"accepted":true,"id":"x"}\n{"status":200,"accepted":true,"id":"y"}',
    "deep": (b"[" * 100_000 + b"\n") * 2,
    "statuses of rubbish": b'{"status":true}\n{"status":-1,"code":7,"detail":{},"retry_at":"x"}',
    "limited for ever": b'{"status":429,"retry_at":9223372036854775807}\n{"status":429,"retry_at":-5}',
}


@KINDS
@pytest.mark.parametrize("name", list(LINES))
def test_a_batch_is_acknowledged_line_by_line(kind: Any, name: str) -> None:
    def lie(asked: Asked) -> Iterator[bytes]:
        return answer({"features": ["batch"], "limits": {}} if asked.path == "/" else LINES[name])

    with Liar(lie) as liar:
        agent = kind(ALICE, liar.url, timeout=TIMEOUT_S)
        answers = _asked(agent, lambda agent: agent.publish_many([(1, "a"), (1, "b")], timeout=TIMEOUT_S))
    assert [one["accepted"] for one in answers] == [False, False]
    assert all(one["code"] and one["detail"].isprintable() for one in answers)


@pytest.mark.parametrize("when", ["line", "header"])
def test_a_wait_without_end_is_no_foreign_error(when: str) -> None:
    def lie(asked: Asked) -> Iterator[bytes]:
        if asked.path == "/":
            return answer({"features": ["batch"], "limits": {}})
        if when == "line":
            return answer(b'{"status":429,"retry_at":9223372036854775807}')
        return answer({}, "429 Too Many Requests", {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"})

    with Liar(lie) as liar, Agent(ALICE, liar.url, timeout=TIMEOUT_S) as agent, within(10):
        (answer_,) = agent.publish_many([(1, "a")], timeout=1)
        assert (answer_["accepted"], answer_["code"]) == (False, "http_429")


# ---------------------------------------------------------------------------------------------- refusals in detail


@KINDS
@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("1", 0, 3),
        ("3600", 3_590, 3_610),
        ("-5", None, None),
        ("", None, None),
        ("soon", None, None),
        ("9" * 400, None, None),
    ],
)
def test_a_limit_says_until_when(kind: Any, header: str, low: int | None, high: int | None) -> None:
    lie = fixed({"detail": "slow"}, "429 Too Many Requests", {"retry-after": header, "anporia-code": "rate_agent"})
    with Liar(lie) as liar, pytest.raises(RateLimited) as caught:
        _asked(kind(ALICE, liar.url, timeout=0.5), lambda agent: agent.post("x"))
    at = caught.value.retry_at
    assert caught.value.code == "rate_agent" and caught.value.advice
    if low is None or high is None:
        assert at is None
    else:
        assert at is not None and low <= at - time.time() <= high


@KINDS
def test_a_limit_is_obeyed(kind: Any) -> None:
    times: list[float] = []

    def lie(asked: Asked) -> Iterator[bytes]:
        times.append(time.monotonic())
        if len(times) == 1:
            return answer({}, "429 Too Many Requests", {"retry-after": "2"})
        return answer({"id": asked.event.id, "accepted": True})

    with Liar(lie) as liar:
        assert _asked(kind(ALICE, liar.url, timeout=20), lambda agent: agent.post("x"))["accepted"]
    # whole seconds: up to one of the two may have passed already
    assert len(times) == 2 and times[1] - times[0] >= 0.9


@KINDS
@pytest.mark.parametrize("skew", [-4_000, 4_000])
@pytest.mark.parametrize("code", ["bad_time", ""])
def test_a_wrong_clock_is_recognised(kind: Any, skew: int, code: str) -> None:
    headers = {"date": formatdate(time.time() - skew, usegmt=True), "anporia-code": code}
    with (
        Liar(fixed({"detail": "created_at too far off"}, "400 Bad Request", headers)) as liar,
        pytest.raises(ClockSkew) as caught,
    ):
        _asked(kind(ALICE, liar.url, timeout=TIMEOUT_S), lambda agent: agent.post("x"))
    _is_typed(caught.value, liar.url)
    assert abs(caught.value.skew - skew) < 30 and caught.value.code == "clock_skew"
    assert str(abs(caught.value.skew)) in str(caught.value)


@KINDS
def test_a_wrong_clock_is_recognised_in_a_batch(kind: Any) -> None:
    def lie(asked: Asked) -> Iterator[bytes]:
        headers = {"date": formatdate(time.time() - 4_000, usegmt=True)}
        if asked.path == "/":
            return answer({"features": ["batch"], "limits": {}})
        return answer(b'{"id":null,"status":400,"code":"bad_time","detail":"too far"}', headers=headers)

    with Liar(lie) as liar:
        (one,) = _asked(kind(ALICE, liar.url), lambda agent: agent.publish_many([(1, "a")], timeout=TIMEOUT_S))
    assert one["code"] == "clock_skew"


@KINDS
def test_a_small_difference_of_clocks_is_none(kind: Any) -> None:
    headers = {"date": formatdate(time.time() - 250, usegmt=True), "anporia-code": "bad_time"}
    with Liar(fixed({"detail": "too old"}, "400 Bad Request", headers)) as liar, pytest.raises(RelayRefused) as caught:
        _asked(kind(ALICE, liar.url, timeout=TIMEOUT_S), lambda agent: agent.post("x"))
    assert caught.value.code == "bad_time" and not isinstance(caught.value, ClockSkew)


@KINDS
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_password_does_not_follow_a_redirect(kind: Any, status: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Liar(fixed([])) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        with Liar(fixed(b"", status, {"location": f"{elsewhere}/events"})) as liar:
            for call in ("query", "post", "get_stats"):
                with pytest.raises(RelayRefused) as caught:
                    _asked(kind(ALICE, liar.url, auth=AUTH, timeout=TIMEOUT_S), CALLS[call])
                _is_typed(caught.value, liar.url)
                assert "redirect" in caught.value.advice
            assert all("authorization" in asked.headers for asked in liar.asked)
        assert other.asked == []
    assert not any(secret in caplog.text for secret in SECRETS)


@KINDS
def test_a_refused_password_is_not_repeated(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def lie(asked: Asked) -> Iterator[bytes]:
        return answer(
            {"detail": "who are you?"}, "401 Unauthorized", {"www-authenticate": 'Digest realm="x", nonce="y"'}
        )

    with Liar(lie) as liar, pytest.raises(Unauthorized) as caught:
        _asked(kind(ALICE, liar.url, auth=AUTH), lambda agent: agent.post("x"))
    _is_typed(caught.value, liar.url)
    assert not any(secret in caplog.text for secret in SECRETS)
    assert len(liar.asked) == 1


@KINDS
def test_a_failing_relay_may_name_a_time(kind: Any) -> None:
    lie = fixed({"detail": "full"}, "503 Service Unavailable", {"retry-after": "3600", "anporia-code": "store_busy"})
    with Liar(lie) as liar, pytest.raises(RelayFailing) as caught:
        _asked(kind(ALICE, liar.url, timeout=5), lambda agent: agent.post("x"))
    assert len(liar.asked) == 1 and caught.value.code == "store_busy"


# ---------------------------------------------------------------------------------------------- streams


def _stream(agent: Any, most: int = 50, **options: Any) -> list[Any]:
    """Read a stream to its end; gives the events."""
    if isinstance(agent, Agent):
        with agent:
            return list(itertools.islice(agent.stream(**options), most))

    async def awaited() -> list[Any]:
        found: list[Any] = []
        async with agent:
            events = agent.stream(**options)
            try:
                async for event in events:
                    found.append(event)
                    if len(found) == most:
                        break
            finally:
                await events.aclose()
        return found

    return asyncio.run(awaited())


@KINDS
@pytest.mark.parametrize("name", list(STREAM_LIES))
def test_a_lying_stream_gives_nothing(kind: Any, name: str) -> None:
    with Liar(STREAM_LIES[name]) as liar, within(20):
        agent = kind(ALICE, liar.url, timeout=TIMEOUT_S)
        try:
            assert _stream(agent, reconnect=False) == []
        except RelayError as exc:
            _is_typed(exc, liar.url)
        if name == "forgeries":
            assert agent.dropped == len(forgeries())


@KINDS
def test_a_stream_that_repeats_itself_and_goes_backwards(kind: Any) -> None:
    now = int(time.time())
    events = [signed(content=str(number), at=now) for number in range(6)]
    order = [3, 3, 3, 2, 1, 3, 5, 0, 4, 5]

    def lie(_: Asked) -> Iterator[bytes]:
        yield stream_head()
        for number in order:
            yield frame(events[number], f"aaaaaaaa-{number + 1}")

    with Liar(lie) as liar:
        found = _stream(kind(ALICE, liar.url), most=6)
        assert [int(event["content"]) for event in found] == [3, 2, 1, 5, 0, 4]
        assert _stream(kind(ALICE, liar.url), reconnect=False) == found


@KINDS
@pytest.mark.parametrize("place", [b"\xc3\xa9-1", b"a\x01b", b"\xff\xfe", b"a\x7f", b" x ", b"x" * 200_000])
def test_a_place_that_no_header_carries(kind: Any, place: bytes) -> None:
    first, second = signed(content="1", at=int(time.time())), signed(content="2", at=int(time.time()))
    told: list[int] = []

    def lie(asked: Asked) -> Iterator[bytes]:
        if not asked.path.startswith("/stream"):
            yield from answer([])
            return
        told.append(1)
        yield stream_head() + (frame(first, place) if len(told) == 1 else frame(second, b"aaaaaaaa-2"))

    with Liar(lie) as liar, within(3):
        agent = kind(ALICE, liar.url, timeout=TIMEOUT_S)
        try:
            assert [event["content"] for event in _stream(agent, most=2)] == ["1", "2"]
        except RelayError as exc:
            _is_typed(exc, liar.url)


@KINDS
@pytest.mark.parametrize("silence", ["no head", "head only", "dripping head"])
def test_opening_a_stream_takes_no_longer_than_the_timeout(kind: Any, silence: str) -> None:
    lies: dict[str, Lie] = {
        "no head": LIES["silence"],
        "head only": lambda asked: _after(stream_head().removesuffix(b": connected\n\n"), asked),
        "dripping head": LIES["dripping head"],
    }
    outcome: list[BaseException | None] = []

    def work(url: str) -> None:
        try:
            _stream(kind(ALICE, url, timeout=0.5), reconnect=False)
            outcome.append(None)
        except BaseException as exc:
            outcome.append(exc)

    with Liar(lies[silence]) as liar:
        thread = threading.Thread(target=work, args=(liar.url,), daemon=True)
        thread.start()
        thread.join(3)
        hung = thread.is_alive()
    thread.join(10)
    assert not hung
    assert isinstance(outcome[0], RelayError), outcome


def _after(head: bytes, asked: Asked) -> Iterator[bytes]:
    yield head
    yield from LIES["silence"](asked)


# ---------------------------------------------------------------------------------------------- too much

_ENDLESS_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n["


def _flood(_: Asked) -> Iterator[bytes]:
    yield _ENDLESS_JSON
    while True:
        yield b" " * 1_048_576


def _many_items(_: Asked) -> Iterator[bytes]:
    """Sixty megabytes of empty objects, which take 64 bytes each when they are read."""
    yield _ENDLESS_JSON
    for _piece in range(200):
        yield b"{}," * 100_000
    yield b"{}]"


_GZIP = {"content-encoding": "gzip"}
BOMBS: dict[str, Callable[[], Lie]] = {
    "flood": lambda: _flood,
    "gzip": lambda: fixed(bomb(1, 400), headers=_GZIP),
    "gzip in a refusal": lambda: fixed(bomb(1, 400), "500 Internal Server Error", _GZIP),
    "gzip twice": lambda: fixed(bomb(2, 900), headers={"content-encoding": "gzip, gzip"}),
    "many items": lambda: _many_items,
}

_READ = """
import resource, sys
from anporia_client import Agent, AnporiaError
resource.setrlimit(resource.RLIMIT_AS, (900 * 2**20,) * 2)
try:
    Agent("01" * 32, sys.argv[1], timeout=5).query(limit=10)
except AnporiaError as exc:
    print(exc.code)
except BaseException as exc:
    print("foreign", type(exc).__name__)
"""


@pytest.mark.parametrize("name", list(BOMBS))
def test_a_bomb_does_not_fill_the_memory(name: str) -> None:
    with Liar(BOMBS[name]()) as liar:
        done = subprocess.run([sys.executable, "-c", _READ, liar.url], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() in ("bad_answer", "not_a_relay", "timeout", "internal", "http_500"), (
        done.stdout + done.stderr
    )
