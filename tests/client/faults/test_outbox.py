"""The outbox through offline hours, crashes, limits, old events, shared files and broken disks: all there, once."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

import orjson
import pytest

from anporia_client import Agent, AnporiaError, AsyncAgent, Event, OutboxError, RelayError
from tests.client.faults.proxy import Fault, Proxy, within
from tests.e2e.traffic import NOT_RATED, read_log
from tests.relays import RunningRelay
from tests.wire.samples import ALICE

UNLIMITED = NOT_RATED | {"ANPORIA_AGENT_RATE": "0"}
KINDS: pytest.MarkDecorator = pytest.mark.parametrize("kind", [Agent, AsyncAgent])


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    with within(120):
        yield


def contents(relay: RunningRelay) -> list[str]:
    """What the relay has, in its order."""
    return [orjson.loads(raw)["content"] for _, raw in read_log(relay.db)]


def done(kind: Any, url: str, outbox: Path, *calls: Callable[[Any], Any], **more: Any) -> list[Any]:
    """Make the calls one after the other; gives their answers."""
    options: dict[str, Any] = {"timeout": 2.0, "outbox": outbox, **more}
    options |= {} if "relay_urls" in options else {"relay_url": url}
    if kind is Agent:
        with Agent(ALICE, **options) as agent:
            return [call(agent) for call in calls]

    async def run() -> list[Any]:
        async with AsyncAgent(ALICE, **options) as agent:
            return [await call(agent) for call in calls]

    return asyncio.run(run())


def posts(*texts: str) -> list[Callable[[Any], Any]]:
    return [methodcaller("post", text) for text in texts]


@KINDS
def test_offline_hours(kind: Any, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    with RunningRelay(tmp_path, env=UNLIMITED) as relay, Proxy(relay.url) as proxy:
        proxy.down()
        for text in ("a", "b", "c"):
            (said,) = done(kind, proxy.url, outbox, *posts(text))
            assert (said["accepted"], said["queued"], said["code"]) == (False, True, "unreachable")
        many = [(1, text) for text in "de"]
        (said,) = done(kind, proxy.url, outbox, lambda agent: agent.publish_many(many, timeout=2))
        assert [one["accepted"] for one in said] == [False, False]
        (left,) = done(kind, proxy.url, outbox, lambda agent: agent.drain(timeout=1))
        assert (left["sent"], left["waiting"]) == (0, 5)
        proxy.up()
        (said,) = done(kind, proxy.url, outbox, *posts("f"))
        assert said["accepted"] is True and "queued" not in said
        assert contents(relay) == list("abcdef")
        (left,) = done(kind, proxy.url, outbox, lambda agent: agent.drain())
        assert left == {"sent": 0, "waiting": 0, "problems": {}, "undelivered": []}
        assert contents(relay) == list("abcdef")


@KINDS
def test_lost_answers_with_an_outbox(kind: Any, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    with RunningRelay(tmp_path, env=UNLIMITED) as relay, Proxy(relay.url) as proxy:
        proxy.decide = lambda head: Fault(lose=True) if head.startswith(b"POST") else None
        queued = done(kind, proxy.url, outbox, *posts("a", "b"), timeout=0.5)
        assert [(one["accepted"], one["queued"], one["code"]) for one in queued] == [
            (False, True, "outcome_unknown")
        ] * 2
        proxy.decide = None
        (left,) = done(kind, proxy.url, outbox, lambda agent: agent.drain())
        assert left["waiting"] == 0
        assert contents(relay) == ["a", "b"]


_KILLED = """
import os, signal, sys
from anporia_client import Agent, Keypair
agent = Agent(Keypair(bytes([1]) * 32), sys.argv[1], timeout=1, outbox=sys.argv[2])
for number in range(int(sys.argv[3])):
    assert agent.post(f"{sys.argv[4]} {number}")["queued"]
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_right_after_it_was_queued(tmp_path: Path, counts: Callable[..., int]) -> None:
    outbox = tmp_path / "outbox"
    rounds = counts(3, soak=40)
    with RunningRelay(tmp_path, env=UNLIMITED) as relay, Proxy(relay.url) as proxy:
        proxy.down()
        for round_ in range(rounds):
            command = [sys.executable, "-c", _KILLED, proxy.url, str(outbox), "3", str(round_)]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert ended.returncode == -9, ended.stderr
        proxy.up()
        (left,) = done(Agent, proxy.url, outbox, lambda agent: agent.drain())
        assert (left["sent"], left["waiting"]) == (3 * rounds, 0)
        assert contents(relay) == [f"{round_} {number}" for round_ in range(rounds) for number in range(3)]


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_its_file_is_the_owners(tmp_path: Path) -> None:
    outbox = tmp_path / "new" / "outbox"
    with Proxy() as proxy:
        proxy.down()
        done(Agent, proxy.url, outbox, *posts("secret"))
        assert outbox.parent.stat().st_mode & 0o077 == 0
        with Agent(ALICE, proxy.url, outbox=outbox, timeout=1) as agent:
            agent.post("x")
            for file in outbox.parent.iterdir():
                assert file.stat().st_mode & 0o077 == 0, file


@KINDS
def test_a_limit_is_obeyed(kind: Any, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    env = NOT_RATED | {"ANPORIA_AGENT_RATE": "3"}
    with RunningRelay(tmp_path, env=env) as relay, Proxy(relay.url) as proxy:
        said = done(kind, proxy.url, outbox, *posts("a", "b", "c", "d", "e"), timeout=1)
        assert [one["accepted"] for one in said] == [True, True, True, False, False]
        assert {one["code"] for one in said[3:]} == {"rate_agent"}
        asked = proxy.seen
        (left,) = done(kind, proxy.url, outbox, lambda agent: agent.drain(timeout=1))
        assert left["waiting"] == 2 and left["sent"] == 0
        assert proxy.seen - asked <= 2, "it hammers a relay that named a time"
        assert contents(relay) == ["a", "b", "c"]


@KINDS
def test_what_is_too_old_is_reported_and_not_dropped(kind: Any, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    now = int(time.time())
    old = Event.create(ALICE, 1, "old", created_at=now - 7 * 86_400 - 60)
    other = Event.create(ALICE, 1, "old too", created_at=now - 30 * 86_400)
    with RunningRelay(tmp_path, env=UNLIMITED) as relay, Proxy(relay.url) as proxy:
        proxy.down()
        for event in (old, other):
            (said,) = done(kind, proxy.url, outbox, methodcaller("send", event))
            assert said["queued"]
        proxy.up()
        (said,) = done(kind, proxy.url, outbox, *posts("new"))
        assert said["accepted"]
        (left,) = done(kind, proxy.url, outbox, lambda agent: agent.drain())
        assert [(one.event, one.code) for one in left["undelivered"]] == [(old, "bad_time"), (other, "bad_time")]
        assert left["waiting"] == 0 and all(one.detail for one in left["undelivered"])
        # to whom it happens in a call of his own, it is an error
        third = Event.create(ALICE, 1, "third", created_at=now - 8 * 86_400)
        with pytest.raises(RelayError) as caught:
            done(kind, proxy.url, outbox, lambda agent: agent.send(third))
        assert caught.value.code == "bad_time" and caught.value.event is not None
        assert contents(relay) == ["new"]
        with Agent(ALICE, proxy.url, outbox=outbox) as agent:
            assert agent.outbox is not None and agent.outbox.forget(old.id) and not agent.outbox.forget(old.id)
            assert len(agent.outbox.undelivered()) == 2


_SHARED = """
import sys, time
from anporia_client import Agent, Keypair
with Agent(Keypair(bytes([1]) * 32), sys.argv[1], timeout=30, outbox=sys.argv[2]) as agent:
    for number in range(15):
        assert agent.post(f"{sys.argv[3]} {number}")["accepted"], number
"""


def test_two_processes_share_one_outbox(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    with RunningRelay(tmp_path, env=UNLIMITED) as relay, Proxy(relay.url) as proxy:
        proxy.down()
        done(Agent, proxy.url, outbox, *posts("first", "second"))
        proxy.up()
        started = [
            subprocess.Popen([sys.executable, "-c", _SHARED, proxy.url, str(outbox), name], stderr=subprocess.PIPE)
            for name in "ab"
        ]
        for one in started:
            _, said = one.communicate(timeout=90)
            assert one.returncode == 0, said.decode()
        there = contents(relay)
        assert Counter(there) == Counter(
            ["first", "second", *(f"{name} {number}" for name in "ab" for number in range(15))]
        )
        assert there[:2] == ["first", "second"]
        for name in "ab":  # each process's own events in its order
            assert [text for text in there if text.startswith(f"{name} ")] == [
                f"{name} {number}" for number in range(15)
            ]
        (left,) = done(Agent, proxy.url, outbox, lambda agent: agent.drain())
        assert left["undelivered"] == []


def test_threads_share_one_agent(tmp_path: Path) -> None:
    with RunningRelay(tmp_path, env=UNLIMITED) as relay, Agent(ALICE, relay.url, outbox=tmp_path / "outbox") as agent:
        failed: list[BaseException] = []

        def work(name: str) -> None:
            try:
                for number in range(10):
                    assert agent.post(f"{name} {number}")["accepted"]
            except BaseException as exc:
                failed.append(exc)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failed == []
        assert Counter(contents(relay)) == Counter(f"{name} {number}" for name in "abcd" for number in range(10))


@KINDS
def test_one_of_several_relays_is_down(kind: Any, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with (
        RunningRelay(folders[0], env=UNLIMITED) as one,
        RunningRelay(folders[1], env=UNLIMITED) as two,
        Proxy(one.url) as first,
        Proxy(two.url) as second,
    ):
        urls = [first.url, second.url]
        second.down()
        said = done(kind, "", outbox, *posts("a", "b"), relay_urls=urls)
        assert all(one_["accepted"] and one_["relays"][second.url]["code"] == "unreachable" for one_ in said)
        first.down()
        (queued,) = done(kind, "", outbox, *posts("c"), relay_urls=urls)
        assert queued["queued"]
        first.up()
        second.up()
        second.script(Fault(lose=True), Fault(cut=20))
        (left,) = done(kind, "", outbox, lambda agent: agent.drain(), relay_urls=urls, timeout=10)
        assert left["undelivered"] == []
        assert contents(one) == contents(two) == ["a", "b", "c"]


# ---------------------------------------------------------------------------------------------- broken files


def _offline(outbox: Path, call: Callable[[Any], Any]) -> Any:
    with Proxy() as proxy:
        proxy.down()
        return done(Agent, proxy.url, outbox, call, timeout=0.5)[0]


def _is_typed(error: AnporiaError, outbox: Path) -> None:
    assert isinstance(error, OutboxError) and error.code == "outbox"
    assert str(outbox) in str(error) and str(error).isprintable()


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    outbox.write_bytes(b"this is no database at all, but it is quite long" * 100)
    with pytest.raises(OutboxError) as caught:
        _offline(outbox, lambda agent: agent.post("x"))
    _is_typed(caught.value, outbox)
    assert outbox.read_bytes().startswith(b"this is no database"), "it was overwritten"


def test_a_folder_or_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for outbox in (tmp_path, tmp_path / "file" / "outbox", tmp_path / ("x" * 300)):
        with pytest.raises(OutboxError) as caught:
            _offline(outbox, lambda agent: agent.post("x"))
        _is_typed(caught.value, outbox)


def test_pages_that_were_damaged(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    for text in "abc":
        assert _offline(outbox, methodcaller("post", text + "x" * 2_000))["queued"]
    data = bytearray(outbox.read_bytes())
    for at in range(4_096, len(data)):
        data[at] = (data[at] * 7 + 13) % 256
    outbox.write_bytes(bytes(data))
    with pytest.raises(OutboxError) as caught:
        _offline(outbox, lambda agent: agent.post("x"))
    _is_typed(caught.value, outbox)


def test_a_row_that_was_damaged(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    assert _offline(outbox, lambda agent: agent.post("x"))["queued"]
    db = sqlite3.connect(outbox)
    db.execute("UPDATE event SET json = ?", (b"garbage",))
    db.commit()
    db.close()
    report = _offline(outbox, lambda agent: agent.drain())
    assert [one.code for one in report["undelivered"]] == ["damaged"] and report["problems"] == {}


@pytest.mark.skipif(os.name != "posix", reason="modes and limits")
def test_a_full_disk_and_a_file_that_may_only_be_read(tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    assert _offline(outbox, lambda agent: agent.post("kept"))["queued"]
    code = f"""
import resource, sys
from anporia_client import Agent, Keypair, OutboxError
agent = Agent(Keypair(bytes([1]) * 32), "http://127.0.0.1:9", timeout=0.5, outbox={str(outbox)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536,) * 2)
queued = 0
try:
    for number in range(100):
        queued += agent.post(f"{{number}}" + "x" * 10_000)["queued"]
except OutboxError as exc:
    print(queued, exc.code, exc)
else:
    print("no error")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    count, word, *_ = ended.stdout.split()
    assert word == "outbox", ended.stdout + ended.stderr
    with Agent(ALICE, "http://127.0.0.1:9", outbox=outbox) as agent:
        assert agent.outbox is not None
        assert len(agent.outbox.undelivered()) == 1 + int(count), "what was said to be queued is not"
    code = f"""
import os, sqlite3, sys
import anporia_client.outbox
from anporia_client import Agent, AnporiaError, Keypair, OutboxError
try:  # what it imports late must be there before the rights go
    Agent(Keypair(bytes([1]) * 32), "http://127.0.0.1:9", timeout=0.5).post("x")
except AnporiaError:
    pass
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
try:
    Agent(Keypair(bytes([1]) * 32), "http://127.0.0.1:9", timeout=0.5, outbox={str(outbox)!r}).post("x")
except OutboxError as exc:
    print(exc.code)
"""
    temporary = Path(tempfile.gettempdir())
    for folder in (*tmp_path.parents, tmp_path):  # pytest's own are closed to the user that it becomes
        if folder != temporary and folder.is_relative_to(temporary):
            folder.chmod(0o755)
    for file in tmp_path.iterdir():
        file.chmod(0o444)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == "outbox", ended.stdout + ended.stderr


def test_a_file_that_another_program_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_client.outbox._BUSY_S", 0.5)
    outbox = tmp_path / "outbox"
    assert _offline(outbox, lambda agent: agent.post("x"))["queued"]
    db = sqlite3.connect(outbox, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(OutboxError) as caught:
            _offline(outbox, lambda agent: agent.post("y"))
    finally:
        db.execute("ROLLBACK")
        db.close()
    _is_typed(caught.value, outbox)
    assert _offline(outbox, lambda agent: agent.post("z"))["queued"]
