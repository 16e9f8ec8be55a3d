"""Answers that never come: the relay is killed between request and answer, and each event is there once."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from anporia_client import Agent, AsyncAgent, OutcomeUnknown, RelayError, RelayUnreachable
from tests.client.faults.proxy import Fault, Proxy, within
from tests.e2e.traffic import NOT_RATED, read_log
from tests.relays import RunningRelay
from tests.wire.samples import ALICE

# of this test's agent too: it says more than sixty things a minute
UNLIMITED = NOT_RATED | {"ANPORIA_AGENT_RATE": "0"}
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def deadline(counts: Callable[..., int]) -> Iterator[None]:
    with within(counts(90, soak=900)):
        yield


class Killer:
    """A relay behind a proxy, killed whenever the proxy says so and started again a little later."""

    def __init__(self, relay: RunningRelay, proxy: Proxy, rng: Random, down_s: float) -> None:
        self.kills = 0
        self._relay = relay
        self._proxy = proxy
        self._rng = rng
        self._down_s = down_s
        self._starters: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()

    def kill(self) -> None:
        """Kill it somewhere between the request's last byte and its answer."""
        time.sleep(self._rng.random() * 0.004)
        self._relay.kill9()
        self.kills += 1
        starter = threading.Thread(target=self._start_again)
        starter.start()
        self._starters.put(starter)

    def _start_again(self) -> None:
        time.sleep(self._down_s)
        self._relay.start()
        self._proxy.target = self._relay.url

    def wait(self) -> None:
        """Wait until it runs again; the client may give up before the kill is even over."""
        self._starters.get(timeout=PATIENCE_S).join(PATIENCE_S)


def _stored(relay: RunningRelay) -> list[dict[str, Any]]:
    return [orjson.loads(raw) for _, raw in read_log(relay.db)]


def _each_once(relay: RunningRelay, contents: list[str]) -> None:
    stored = _stored(relay)
    assert Counter(event["content"] for event in stored) == Counter(contents)
    assert len({event["id"] for event in stored}) == len(stored)


# a short deadline ends in OutcomeUnknown, since a relay takes a second to start; a long one outlives it
@pytest.mark.parametrize("timeout", [0.3, 30.0], ids=["unknown", "resent"])
@pytest.mark.parametrize("kind", [Agent, AsyncAgent])
def test_a_relay_killed_between_request_and_answer(
    kind: Any, timeout: float, tmp_path: Path, counts: Callable[..., int]
) -> None:
    kills = counts(2, soak=50) if timeout > 1 else counts(5, soak=50)
    run = _killed_plainly if kind is Agent else _killed_awaiting
    with RunningRelay(tmp_path, env=UNLIMITED) as relay, Proxy(relay.url) as proxy:
        killer = Killer(relay, proxy, Random(1), 0.0 if timeout > 1 else 0.5)
        unknown = run(proxy, killer, kills, timeout)
        assert killer.kills == kills
        _each_once(relay, [f"number {number}" for number in range(kills)])
        assert (unknown == 0) if timeout > 1 else (0 < unknown <= kills)


def _killed_plainly(proxy: Proxy, killer: Killer, kills: int, timeout: float) -> int:
    unknown = 0
    with Agent(ALICE, proxy.url, timeout=timeout) as agent:
        for number in range(kills):
            proxy.script(Fault(then=killer.kill, lose=True))
            try:
                assert agent.post(f"number {number}")["accepted"]
                killer.wait()
            except OutcomeUnknown as exc:
                unknown += 1
                assert exc.event is not None and exc.event.content == f"number {number}" and exc.url == proxy.url
                killer.wait()
                with Agent(ALICE, proxy.url) as again:
                    answer = again.send(exc.event)
                assert answer["accepted"] and answer["id"] == exc.event.id
    return unknown


def _killed_awaiting(proxy: Proxy, killer: Killer, kills: int, timeout: float) -> int:
    async def run() -> int:
        unknown = 0
        async with AsyncAgent(ALICE, proxy.url, timeout=timeout) as agent:
            for number in range(kills):
                proxy.script(Fault(then=killer.kill, lose=True))
                try:
                    assert (await agent.post(f"number {number}"))["accepted"]
                    await asyncio.to_thread(killer.wait)
                except OutcomeUnknown as exc:
                    unknown += 1
                    assert exc.event is not None and exc.event.content == f"number {number}"
                    await asyncio.to_thread(killer.wait)
                    async with AsyncAgent(ALICE, proxy.url) as again:
                        assert (await again.send(exc.event))["accepted"]
        return unknown

    return asyncio.run(run())


LOSSES = (
    Fault(lose=True),
    Fault(cut=0),
    Fault(cut=1),
    Fault(cut=20),
    Fault(cut=180),
    Fault(refuse=True),
    Fault(delay=0.1),
    Fault(twice=True),
    Fault(twice=True, lose=True),
)


def _one(kind: Any, url: str, call: Callable[[Any], Any], **options: Any) -> Any:
    if kind is Agent:
        with Agent(ALICE, url, **options) as agent:
            return call(agent)

    async def run() -> Any:
        async with AsyncAgent(ALICE, url, **options) as agent:
            return await call(agent)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRelay]:
    with RunningRelay(tmp_path_factory.mktemp("relay"), env=UNLIMITED) as running:
        yield running


@pytest.mark.parametrize("kind", [Agent, AsyncAgent])
def test_lost_cut_repeated_and_late_answers(kind: Any, relay: RunningRelay, counts: Callable[..., int]) -> None:
    rng = Random(3)
    with Proxy(relay.url) as proxy:
        for round_ in range(counts(2, soak=40)):
            for fault in LOSSES if kind is Agent else LOSSES[::3]:
                proxy.script(fault, *[fault] * rng.randrange(counts(1, soak=3)))
                content = f"{kind.__name__} {round_} {fault}"
                assert _one(kind, proxy.url, methodcaller("post", content))["accepted"]
                assert [event["content"] for event in _stored(relay)].count(content) == 1


@pytest.mark.parametrize("kind", [Agent, AsyncAgent])
@pytest.mark.parametrize("fault", [Fault(lose=True), Fault(cut=100), Fault(twice=True), Fault(cut=1_000)])
def test_lost_answers_of_batches(kind: Any, fault: Fault, relay: RunningRelay) -> None:
    drafts = [(1, f"{kind.__name__} {fault} {number}") for number in range(150)]
    with Proxy(relay.url) as proxy:
        proxy.script(fault, None, fault)
        answers = _one(kind, proxy.url, lambda agent: agent.publish_many(drafts))
    assert all(one["accepted"] for one in answers)
    stored = Counter(event["content"] for event in _stored(relay))
    assert [stored[content] for _, content in drafts] == [1] * 150
    assert [one["event"]["content"] for one in answers] == [content for _, content in drafts]


@pytest.mark.parametrize("kind", [Agent, AsyncAgent])
def test_a_relay_that_hangs_leaves_the_outcome_unknown(kind: Any, relay: RunningRelay) -> None:
    with Proxy(relay.url) as proxy:
        proxy.decide = lambda _: Fault(hang=True)
        with pytest.raises(OutcomeUnknown) as caught:
            _one(kind, proxy.url, lambda agent: agent.post("into the void"), timeout=2.0)
        event = caught.value.event
        assert event is not None and proxy.seen >= 2, "it tried only once"
        proxy.decide = None
        assert _one(kind, proxy.url, lambda agent: agent.send(event))["accepted"]


@pytest.mark.parametrize("kind", [Agent, AsyncAgent])
def test_nothing_sent_is_no_unknown_outcome(kind: Any) -> None:
    with Proxy() as proxy:
        proxy.down()
        with pytest.raises(RelayUnreachable) as caught:
            _one(kind, proxy.url, lambda agent: agent.post("x"), timeout=2)
    assert caught.value.event is not None


@pytest.mark.parametrize("kind", [Agent, AsyncAgent])
def test_a_connection_that_never_comes_is_no_unknown_outcome(kind: Any) -> None:
    import socket

    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(4):  # its queue is full, further connections hang
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(full.getsockname())
            waiting.append(one)
        try:
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            with pytest.raises(RelayError) as caught:
                _one(kind, url, lambda agent: agent.post("x"), timeout=1)
        finally:
            for one in waiting:
                one.close()
    assert isinstance(caught.value, RelayUnreachable), repr(caught.value)


@pytest.mark.parametrize("kind", [Agent, AsyncAgent])
def test_reading_survives_a_connection_that_breaks(kind: Any, relay: RunningRelay) -> None:
    with Proxy(relay.url) as proxy:
        for fault in (Fault(cut=0), Fault(cut=50), Fault(refuse=True), Fault(lose=True)):
            proxy.script(fault, to=b"GET")
            assert isinstance(_one(kind, proxy.url, lambda agent: agent.query(limit=5)), list)
