"""anporia_stream: what comes between two calls comes with the second one, whatever the relay can do."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from typing import Any

import pytest

from anporia_mcp_server import answers
from anporia_mcp_server.failures import ToolFailure
from anporia_mcp_server.tools import reading
from tests.mcp_server.host import ERAS
from tests.mcp_server.sessions import Sessions, call, in_process, publish


def a_topic() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LOOK_S", 0.05)


def rest(session: Any, topic: str, cursor: str, wanted: int, **arguments: Any) -> list[str]:
    """What a host gets that calls until it has so many; no more may come after them."""
    given: list[str] = []
    while len(given) < wanted:
        answer = call(session, "anporia_stream", topic=topic, since_cursor=cursor, wait_seconds=10, **arguments)
        assert answer["events"], "it is missed"
        given += [event["id"] for event in answer["events"]]
        cursor = answer["next_cursor"]
    last = call(session, "anporia_stream", topic=topic, since_cursor=cursor, wait_seconds=0)
    assert (last["events"], last["timed_out"]) == ([], True)
    return given


def test_nothing_is_missed_between_calls(sessions: Sessions, either: str) -> None:
    topic, session, now = a_topic(), sessions(url=either), int(time.time())
    publish(either, ["before the first call"], topic=topic, at=now)
    first = call(session, "anporia_stream", topic=topic, wait_seconds=0)
    assert (first["events"], first["timed_out"]) == ([], True)
    there = publish(either, ["one", "two"], topic=topic, at=now)
    call(session, "anporia_query", topic=topic)  # what was shown elsewhere is no less new to the stream
    there += publish(either, ["by a slow clock"], topic=topic, at=now - 60)
    there += publish(either, [str(n) for n in range(20)], topic=topic, at=now + 1)
    assert sorted(rest(session, topic, first["next_cursor"], len(there), max_events=7)) == sorted(there)
    assert sorted(rest(session, topic, first["next_cursor"], len(there))) == sorted(there), "a cursor may be used again"


def test_what_comes_after_what_was_given_comes_too(sessions: Sessions, either: str) -> None:
    topic, session, now = a_topic(), sessions(url=either), int(time.time())
    cursor = call(session, "anporia_stream", topic=topic, wait_seconds=0)["next_cursor"]
    for ago in (0, 30, 5):  # older ones later, as from agents whose clocks are slow
        there = publish(either, ["x", "y"], topic=topic, at=now - ago)
        answer = call(session, "anporia_stream", topic=topic, since_cursor=cursor, wait_seconds=5, max_events=2)
        assert sorted(event["id"] for event in answer["events"]) == sorted(there)
        cursor = answer["next_cursor"]


def test_it_returns_when_something_comes_and_not_before(sessions: Sessions, either: str) -> None:
    topic, session = a_topic(), sessions(url=either)
    cursor = call(session, "anporia_stream", topic=topic, wait_seconds=0)["next_cursor"]
    there: list[str] = []
    later = threading.Timer(0.5, lambda: there.extend(publish(either, ["now"], topic=topic, at=int(time.time()))))
    later.start()
    began = time.monotonic()
    answer = call(session, "anporia_stream", topic=topic, since_cursor=cursor, wait_seconds=30)
    later.join()
    assert [event["id"] for event in answer["events"]] == there and not answer["timed_out"]
    assert 0.4 < time.monotonic() - began < 15


def test_a_restart_goes_on_by_the_cursor(sessions: Sessions, either: str) -> None:
    topic, now = a_topic(), int(time.time())
    cursor = call(sessions(url=either), "anporia_stream", topic=topic, wait_seconds=0)["next_cursor"]
    there = publish(either, ["one", "two"], topic=topic, at=now + 1)
    assert sorted(rest(sessions(url=either), topic, cursor, 2)) == sorted(there)


def test_what_one_answer_cannot_hold_comes_with_the_next(sessions: Sessions, either: str) -> None:
    topic, session, now = a_topic(), sessions(url=either), int(time.time())
    cursor = call(session, "anporia_stream", topic=topic, wait_seconds=0)["next_cursor"]
    there = publish(either, [f"{n} " + "long " * 700 for n in range(20)], topic=topic, at=now)
    answer = call(session, "anporia_stream", topic=topic, since_cursor=cursor, wait_seconds=10, max_events=100)
    assert 0 < len(answer["events"]) < 20 and answers.size(answer) <= answers.MAX_ANSWER
    given = [event["id"] for event in answer["events"]]
    assert sorted(given + rest(session, topic, answer["next_cursor"], 20 - len(given))) == sorted(there)


def test_what_is_published_while_the_gap_is_asked_for_comes_once(
    sessions: Sessions, either: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, session, now = a_topic(), sessions(url=either), int(time.time())
    asked, there = reading._missed, list[str]()

    def meanwhile(*arguments: Any) -> Any:
        if not there:
            there.extend(publish(either, ["in between"], topic=topic, at=now))
        return asked(*arguments)

    monkeypatch.setattr(reading, "_missed", meanwhile)
    answer = call(session, "anporia_stream", topic=topic, since_cursor=f"since:{now - 5}", wait_seconds=1)
    assert [event["id"] for event in answer["events"]] == there
    # without a cursor it is new all the same: the stream was open before
    there.clear()
    if session.agent.get_info() == {}:
        answer = call(session, "anporia_stream", topic=topic, wait_seconds=1)
        assert [event["id"] for event in answer["events"]] == there


def test_a_place_the_relay_does_not_know_is_refused(sessions: Sessions) -> None:
    for cursor in ("place:ffffffff-1", "place:nonsense"):
        with pytest.raises(ToolFailure, match=r"HTTP 4\d\d"):
            call(sessions(), "anporia_stream", since_cursor=cursor, wait_seconds=0)


async def test_progress_is_told_while_it_waits(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_TELL_S", 0.2)

    async def told(mode: str) -> list[tuple[float, float | None, str | None]]:
        words: list[tuple[float, float | None, str | None]] = []

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            words.append((progress, total, message))

        async with in_process(sessions(), mode) as host:
            arguments = {"topic": a_topic(), "wait_seconds": 1}
            result = await host.client.call_tool("anporia_stream", arguments, progress_callback=tell)
        assert result.structured_content is not None and result.structured_content["timed_out"] is True
        return words

    for words in await asyncio.gather(*map(told, ERAS)):
        assert words and all(total == pytest.approx(1, abs=0.5) for _, total, _ in words)
        assert [done for done, _, _ in words] == sorted(done for done, _, _ in words)
        assert {text for _, _, text in words} == {"waiting for events"}
