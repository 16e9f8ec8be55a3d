"""A full disk, for real: publishing is refused with a reason, reading goes on, and space ends it by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random

import orjson
import pytest

from anporia_wire import Event
from tests.e2e.traffic import NOT_RATED, Publisher, frames, read_log, signed_events
from tests.relays import RELAY, RunningRelay

DISK = 3 * 1024 * 1024  # holds a few hundred events
STREAM_S = 20.0


class Disk:
    """A folder on a disk of its own that can be filled to the last byte and emptied again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, _pid: int) -> None:
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    def free(self, _pid: int) -> None:
        self._ballast.unlink()

    def wrap(self, command: list[str]) -> list[str]:
        """Give a command that finds this disk of `DISK` bytes."""
        return command


class Quota(Disk):
    """No disk, but a limit on the size of files, which a process meets as the same failing writes."""

    def fill(self, pid: int) -> None:
        self._limit(pid, (self.folder / "relay.db-wal").stat().st_size)

    def free(self, pid: int) -> None:
        if pid:  # a process of its own has its own limit
            self._limit(pid, resource.RLIM_INFINITY)

    def wrap(self, command: list[str]) -> list[str]:
        return ["sh", "-c", f'ulimit -f {DISK // 512 // 2}; exec "$@"', "sh", *command]

    def _limit(self, pid: int, size: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _can_mount() -> bool:
    trial = ["unshare", "-m", "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    try:
        return os.geteuid() == 0 and subprocess.run(trial, capture_output=True).returncode == 0
    except OSError:
        return False


# macOS has neither; the limits there are those of whoever starts the relay
WAYS = [*(["disk"] if _can_mount() else []), *(["quota"] if sys.platform == "linux" else [])]


@pytest.fixture(params=WAYS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "quota":
        yield Quota(tmp_path)
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", tmp_path], check=True)
    try:
        yield Disk(tmp_path)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.fixture
def fresh() -> Callable[[int], list[Event]]:
    rng = Random(507)
    return lambda count: signed_events(count, rng)


async def _ids(stream: AsyncIterator[tuple[str, bytes]], count: int) -> list[str]:
    """Read on until so many events have come; gives their ids."""
    found: list[str] = []
    async with asyncio.timeout(STREAM_S):
        async for id_, data in stream:
            if id_:
                found.append(orjson.loads(data)["id"])
            if len(found) == count:
                return found
    raise AssertionError(f"the stream ended after {len(found)} of {count} events")


def _publish_until_refused(publisher: Publisher, events: list[Event]) -> tuple[list[str], Event]:
    taken: list[str] = []
    for event in events:
        answer = publisher.post(event)
        if answer.status != 200:
            assert (answer.status, answer.code) == (507, "store_full")
            assert "disk is full" in answer.json["detail"]
            return taken, event
        taken.append(event.id)
    raise AssertionError(f"{len(taken)} events went onto a full disk")


async def test_publishing_is_refused_and_goes_on_by_itself(disk: Disk, fresh: Callable[[int], list[Event]]) -> None:
    with RunningRelay(disk.folder, env=NOT_RATED) as relay, Publisher(relay.url) as publisher:
        live = frames(relay.url)
        assert await anext(live) == ("", b": connected")
        kept = [answer["id"] for answer in publisher.batch(fresh(100)) if answer["accepted"]]
        disk.fill(relay.pid)
        more, refused = _publish_until_refused(publisher, fresh(200))
        kept += more
        assert len(kept) >= 100

        for answer in publisher.batch(fresh(3)):
            assert (answer["status"], answer["code"]) == (507, "store_full")
            assert "disk is full" in answer["detail"]
        assert publisher.get("/health").json["status"] == "read-only"
        assert publisher.get("/stats").status == 200
        assert len(publisher.get("/events?t=news&limit=1000").json) > 10
        for id_ in kept:
            assert publisher.get(f"/events/{id_}").json["id"] == id_
        assert await _ids(live, len(kept)) == kept
        database = publisher.get("/").json["database_id"]
        assert await _ids(frames(relay.url, "", f"{database}-0"), len(kept)) == kept

        # what is stored already needs no space, and says nothing about whether there is some
        again = next(event for event in fresh(1))
        known = publisher.get(f"/events/{kept[0]}")
        assert publisher.post(Event.parse(known.body)).status == 200
        assert publisher.get("/health").json["status"] == "read-only"

        relay.wait_for(re.compile("publishing is refused"))
        disk.free(relay.pid)
        assert publisher.post(refused).status == 200
        assert publisher.post(again).status == 200
        assert publisher.get("/health").json["status"] == "ok"
        kept += [refused.id, again.id]
        assert await _ids(live, 2) == kept[-2:]
        await live.aclose()  # type: ignore[attr-defined]  # a generator
        relay.wait_for(re.compile("can be written again"))
    log = read_log(relay.db)
    assert [orjson.loads(raw)["id"] for _, raw in log] == kept
    assert [seq for seq, _ in log] == list(range(1, len(kept) + 1))


def test_a_relay_killed_on_a_full_disk_comes_back(disk: Disk, fresh: Callable[[int], list[Event]]) -> None:
    with RunningRelay(disk.folder, env=NOT_RATED) as relay:
        with Publisher(relay.url) as publisher:
            kept = [answer["id"] for answer in publisher.batch(fresh(100)) if answer["accepted"]]
            disk.fill(relay.pid)
            kept += _publish_until_refused(publisher, fresh(200))[0]
        relay.kill9()
        relay.start()
        disk.fill(relay.pid)
        with Publisher(relay.url) as publisher:
            more, refused = _publish_until_refused(publisher, fresh(200))
            kept += more
            assert publisher.get("/health").json["events"] == len(kept)
            disk.free(relay.pid)
            assert publisher.post(refused).status == 200
    assert [orjson.loads(raw)["id"] for _, raw in read_log(relay.db)] == [*kept, refused.id]


def test_an_import_says_in_one_line_that_the_disk_is_full(disk: Disk, fresh: Callable[[int], list[Event]]) -> None:
    events = fresh(6_000)
    lines = b"".join(event.to_json() + b"\n" for event in events)
    db = disk.folder / "relay.db"
    command = [str(RELAY), "--db", str(db), "import", "-"]
    done = subprocess.run(disk.wrap(command), input=lines, capture_output=True)
    assert done.returncode == 2, done
    assert b"disk is full" in done.stderr and done.stderr.count(b"\n") == 1, done.stderr
    assert done.stdout == b""
    kept = [orjson.loads(raw)["id"] for _, raw in read_log(db)]
    assert kept == [event.id for event in events[: len(kept)]]
    assert kept, "nothing at all was kept"


def test_an_export_to_a_full_disk_leaves_nothing_that_looks_whole(
    disk: Disk, tmp_path_factory: pytest.TempPathFactory, fresh: Callable[[int], list[Event]]
) -> None:
    db = tmp_path_factory.mktemp("database") / "relay.db"
    lines = b"".join(event.to_json() + b"\n" for event in fresh(6_000))
    subprocess.run([RELAY, "--db", db, "import", "-"], input=lines, capture_output=True, check=True)
    target = disk.folder / "events.jsonl"
    for words in (["export", "-o", str(target)], ["backup", str(target)]):
        done = subprocess.run(disk.wrap([str(RELAY), "--db", str(db), *words]), capture_output=True, text=True)
        assert done.returncode == 2, done
        assert done.stderr.count("\n") == 1, done.stderr
        assert "events.jsonl" in done.stderr or "disk is full" in done.stderr
        assert list(disk.folder.glob("events.jsonl*")) == [], "a full disk needs no half copies"
