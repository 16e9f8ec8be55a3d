"""Streams cut at any byte, by the network and by relays that die, while events come in: each is read once, in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from anporia_client import Agent, AsyncAgent, Event, RelayError
from tests.client.faults.liar import Asked, Liar, fixed, stream_head
from tests.client.faults.proxy import Fault, Proxy, within
from tests.e2e.traffic import NOT_RATED, Publisher, read_log
from tests.interop.test_published_servers import PublishedRelay
from tests.relays import RunningRelay
from tests.wire.samples import ALICE, BOB

UNLIMITED = NOT_RATED | {"ANPORIA_AGENT_RATE": "0"}
KINDS: pytest.MarkDecorator = pytest.mark.parametrize("kind", [Agent, AsyncAgent])
PATIENCE_S = 60.0
LAST = "that is all"


@pytest.fixture(autouse=True)
def deadline(counts: Callable[..., int]) -> Iterator[None]:
    with within(counts(100, soak=1_800)):
        yield


def read(kind: Any, urls: list[str], opened: Callable[[], None], wanted: int) -> tuple[list[dict[str, Any]], Any]:
    """Follow until `wanted` closing words came; gives all that came, and the place. `opened`: called once it is."""
    found: list[dict[str, Any]] = []
    where: dict[str, Any] = {"relay_urls": urls} if len(urls) > 1 else {"relay_url": urls[0]}

    def enough(event: dict[str, Any]) -> bool:
        found.append(event)
        return sum(1 for one in found if one["content"].startswith(LAST)) == wanted

    if kind is Agent:
        with Agent(ALICE, **where, timeout=20) as agent:
            events = agent.stream()
            opened()
            for event in events:
                if enough(event):
                    break
            events.close()
        return found, agent.last_event_id

    async def run() -> Any:
        async with AsyncAgent(ALICE, **where, timeout=20) as agent:
            events = agent.stream()
            await events.opened()
            opened()
            async for event in events:
                if enough(event):
                    break
            await events.aclose()
        return agent.last_event_id

    return found, asyncio.run(run())


class Writer:
    """Publishes to a relay in a thread of its own until told to stop, then the closing word."""

    def __init__(self, agents: list[Agent], between: float, mark: str = "") -> None:
        self.sent: list[str] = []
        self.failed: list[BaseException] = []
        self._agents = agents
        self._between = between
        self._mark = mark
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self.failed, self.failed

    def _work(self) -> None:
        try:
            number = 0
            while not self._stop.is_set():
                self._say(f"{self._mark}{number} \u2028 {'x' * (number % 7) * 300}")
                number += 1
                time.sleep(self._between)
            self._say(LAST + self._mark)
        except BaseException as exc:
            self.failed.append(exc)

    def _say(self, text: str) -> None:
        for agent in self._agents:
            until = time.monotonic() + PATIENCE_S
            event: Event | None = None
            while True:
                try:
                    answer = agent.post(text) if event is None else agent.send(event)
                    self.sent.append(answer["id"])
                    break
                except RelayError as exc:
                    if time.monotonic() > until:
                        raise
                    event = exc.event
                    time.sleep(0.05)


def _log(relay: RunningRelay) -> list[str]:
    return [orjson.loads(raw)["id"] for _, raw in read_log(relay.db)]


@KINDS
def test_cut_at_any_byte(kind: Any, tmp_path: Path, counts: Callable[..., int]) -> None:
    """By the proxy at random offsets, and now and then by a relay that is killed and starts again."""
    cuts, rng = counts(10, soak=100), Random(7)
    with RunningRelay(tmp_path, env=UNLIMITED) as relay, Proxy(relay.url) as reading, Proxy(relay.url) as writing:
        streams = [0]

        def decide(head: bytes) -> Fault | None:
            if not head.startswith(b"GET /stream"):
                return None
            streams[0] += 1
            # the first passes the greeting, so that the reader is subscribed
            return Fault(cut=rng.randrange(200 if streams[0] == 1 else 0, 4_000)) if streams[0] <= cuts else None

        reading.decide = decide
        with Agent(BOB, writing.url, timeout=20) as publisher:
            writer = Writer([publisher], 0.005)

            def trouble() -> None:
                killed = 0
                until = time.monotonic() + counts(PATIENCE_S, soak=1_200)
                while streams[0] <= cuts and time.monotonic() < until:
                    time.sleep(0.05)
                    if streams[0] >= (killed + 1) * 5 and streams[0] <= cuts:
                        killed += 1
                        relay.kill9()
                        reading.cut()
                        writing.cut()
                        relay.start()
                        reading.target = writing.target = relay.url
                time.sleep(0.2)
                writer.finish()

            troubled = threading.Thread(target=trouble)

            def opened() -> None:
                writer.start()
                troubled.start()

            found, place = read(kind, [reading.url], opened, 1)
            troubled.join(PATIENCE_S)
        log = _log(relay)
        assert [event["id"] for event in found] == log, "missed, twice or out of order"
        assert len(set(log)) == len(log) and set(writer.sent) <= set(log)
        assert streams[0] > cuts
        assert place is not None and place.endswith(f"-{len(log)}")


@KINDS
def test_cut_on_a_plain_relay(
    kind: Any, tmp_path: Path, counts: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    cuts, rng = counts(4, soak=100), Random(8)
    with PublishedRelay(tmp_path / "plain", unlimited=True) as url, Proxy(url) as proxy:
        streams = [0]

        def decide(head: bytes) -> Fault | None:
            if not head.startswith(b"GET /stream"):
                return None
            streams[0] += 1
            return Fault(cut=rng.randrange(300 if streams[0] == 1 else 0, 3_000)) if streams[0] <= cuts else None

        proxy.decide = decide
        with Agent(BOB, url, timeout=20) as publisher:
            writer = Writer([publisher], 0.02)

            def trouble() -> None:
                until = time.monotonic() + counts(PATIENCE_S, soak=600)
                while streams[0] <= cuts and time.monotonic() < until:
                    time.sleep(0.05)
                time.sleep(0.5)
                writer.finish()

            troubled = threading.Thread(target=trouble)

            def opened() -> None:
                writer.start()
                troubled.start()

            with caplog.at_level(logging.INFO, "anporia.client"):
                found, place = read(kind, [proxy.url], opened, 1)
            troubled.join(PATIENCE_S)
        ids = [event["id"] for event in found]
        assert len(set(ids)) == len(ids), "an event came twice"
        assert set(ids) == set(writer.sent), "an event was missed"
        assert streams[0] > cuts and place is None
        assert "cannot resume" in caplog.text


@KINDS
def test_several_relays_give_each_event_once(kind: Any, tmp_path: Path, counts: Callable[..., int]) -> None:
    cuts, rng = counts(6, soak=100), Random(9)
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with (
        RunningRelay(folders[0], env=UNLIMITED) as one,
        RunningRelay(folders[1], env=UNLIMITED) as two,
        Proxy(one.url) as first,
        Proxy(two.url) as second,
    ):
        streams = {first: 0, second: 0}

        def deciding(proxy: Proxy) -> Callable[[bytes], Fault | None]:
            def decide(head: bytes) -> Fault | None:
                if not head.startswith(b"GET /stream"):
                    return None
                streams[proxy] += 1
                return Fault(cut=rng.randrange(300, 4_000)) if streams[proxy] <= cuts else None

            return decide

        for proxy in (first, second):
            proxy.decide = deciding(proxy)
        with Agent(BOB, relay_urls=[one.url, two.url], timeout=20, quorum=2) as both, Agent(BOB, two.url) as alone:
            writers = [Writer([both], 0.01, "both "), Writer([alone], 0.01, "one ")]

            def trouble() -> None:
                until = time.monotonic() + counts(PATIENCE_S, soak=600)
                while min(streams.values()) <= cuts and time.monotonic() < until:
                    time.sleep(0.05)
                for writer in writers:
                    writer.finish()

            troubled = threading.Thread(target=trouble)

            def opened() -> None:
                # one relay is open; the other must be too before anything is said
                until = time.monotonic() + PATIENCE_S
                while not all(streams.values()) and time.monotonic() < until:
                    time.sleep(0.02)
                time.sleep(0.3)
                for writer in writers:
                    writer.start()
                troubled.start()

            found, places = read(kind, [first.url, second.url], opened, 2)
            troubled.join(PATIENCE_S)
        ids = [event["id"] for event in found]
        assert len(set(ids)) == len(ids), "an event came twice"
        assert set(ids) == set(_log(one)) | set(_log(two)), "an event was missed"
        assert set(places) <= {first.url, second.url}


# ---------------------------------------------------------------------------------------------- how streams end


def _quiet(_asked: Asked) -> Iterator[bytes]:
    yield stream_head()
    for _ in range(300):
        time.sleep(0.1)
        yield b""


def _settled(before: set[threading.Thread]) -> list[threading.Thread]:
    """Wait for what was begun since to end; gives what does not."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        left = [one for one in set(threading.enumerate()) - before if one.name not in ("liar", "proxy")]
        if not left:
            break
        time.sleep(0.02)
    gc.collect()
    return left


@pytest.mark.parametrize("relays", [1, 2])
def test_closing_a_stream_leaves_nothing(relays: int) -> None:
    before = set(threading.enumerate())
    with Liar(_quiet) as one, Liar(_quiet) as other, within(20):
        urls = [one.url, other.url][:relays]
        with Agent(ALICE, relay_urls=urls, timeout=5) as agent:
            events = agent.stream()
            events.close()
        assert _settled(before) == []


@pytest.mark.parametrize("relays", [1, 2])
@pytest.mark.parametrize("how", ["stream", "agent"])
def test_closing_from_another_thread_ends_it(how: str, relays: int) -> None:
    before = set(threading.enumerate())
    outcome: list[BaseException | None] = []
    with Liar(_quiet) as one, Liar(_quiet) as other, within(40):
        agent = Agent(ALICE, relay_urls=[one.url, other.url][:relays], timeout=5)
        events = agent.stream()

        def work() -> None:
            try:
                for _ in events:
                    pass
                outcome.append(None)
            except BaseException as exc:
                outcome.append(exc)

        thread = threading.Thread(target=work, daemon=True, name="reader")
        thread.start()
        time.sleep(0.2)
        problem: BaseException | None = None
        try:
            (events if how == "stream" else agent).close()
        except BaseException as exc:
            problem = exc
        thread.join(2)
        hung = thread.is_alive()
        one.lie = other.lie = fixed({}, "401 Unauthorized")  # what still asks gives up
        one.cut()
        other.cut()
        thread.join(1)
    agent.close()
    assert problem is None, repr(problem)
    assert not hung, "the reader goes on waiting"
    left = _settled(before)
    assert outcome[0] is None or isinstance(outcome[0], RelayError), outcome
    assert left == []


@pytest.mark.parametrize("relays", [1, 2])
async def test_cancelling_a_task_ends_its_stream(relays: int) -> None:
    before = set(threading.enumerate())
    with Liar(_quiet) as one, Liar(_quiet) as other:
        async with AsyncAgent(ALICE, relay_urls=[one.url, other.url][:relays], timeout=5) as agent:

            async def follow() -> None:
                async for _ in agent.stream():
                    pass

            task = asyncio.create_task(follow())
            await asyncio.sleep(0.3)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=10)
            assert done and task.cancelled()
            # the cancelled task's traceback holds the stream: who waits with a timeout may go on reading it
            del task, done
            gc.collect()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.wait(tasks, timeout=5) if tasks else None
            assert not [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        gc.collect()
        assert [one for one in set(threading.enumerate()) - before if one.name != "liar"] == []


async def test_waiting_for_an_event_with_a_timeout_loses_none(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay:
        async with AsyncAgent(ALICE, relay.url) as agent:
            events = agent.stream(topic="slow")
            for number in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.05)
                await agent.post(str(number), topics="slow")
                assert (await asyncio.wait_for(anext(events), 10))["content"] == str(number)


async def test_closing_an_async_stream_while_it_is_read() -> None:
    with Liar(_quiet) as one:
        async with AsyncAgent(ALICE, one.url, timeout=5) as agent:
            events = agent.stream()
            await events.opened()
            reader = asyncio.create_task(anext(events))
            await asyncio.sleep(0.1)
            problem: BaseException | None = None
            try:
                await events.aclose()
            except BaseException as exc:
                problem = exc
            done, _ = await asyncio.wait([reader], timeout=1)
            if not done:
                reader.cancel()
                await asyncio.wait([reader])
            assert problem is None, repr(problem)
            assert done, "the reader goes on waiting"
            assert isinstance(reader.exception(), (StopAsyncIteration, RelayError))


@KINDS
def test_a_relay_that_is_gone_for_a_while(kind: Any, tmp_path: Path) -> None:
    with RunningRelay(tmp_path, env=UNLIMITED) as relay, Proxy(relay.url) as proxy:

        def opened() -> None:
            threading.Thread(target=away, daemon=True).start()

        def away() -> None:
            with Agent(BOB, relay.url) as agent:
                agent.post("before")
                proxy.down()
                agent.post("meanwhile")
                time.sleep(1.0)
                proxy.up()
                agent.post(LAST)

        found, _ = read(kind, [proxy.url], opened, 1)
        assert [event["content"] for event in found] == ["before", "meanwhile", LAST]
        with Publisher(relay.url) as check:
            assert check.get("/health").status == 200
