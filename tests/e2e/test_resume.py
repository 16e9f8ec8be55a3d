"""Streams resumed at random while events come in and the relay is stopped and killed: each shows exactly the log."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest

from anporia_wire import Event
from tests.e2e.traffic import NOT_RATED, TOPICS, Publisher, Refused, frames, read_log, signed_events
from tests.relays import RunningRelay

AT_ONCE = 50  # subscribers of one wave
EVENTS_BEFORE, EVENTS_DURING = 300, 1_200  # in the log when a wave begins; sent while it runs
PATIENCE_S = 60.0

Row = dict[str, Any]


def _matches(row: Row, wanted: dict[str, str]) -> bool:
    """What the filter of a stream means, said once more without our code."""
    values = {name: [tag[1] for tag in row["tags"] if len(tag) > 1 and tag[0] == name] for name in ("t", "p")}
    return (
        ("kinds" not in wanted or str(row["kind"]) in wanted["kinds"].split(","))
        and ("authors" not in wanted or row["agent_id"] in wanted["authors"].split(","))
        and all(wanted[name] in values[name] for name in values if name in wanted)
    )


@dataclass
class Subscriber:
    """One reader, connecting again and again from the last id it got."""

    wanted: dict[str, str]
    last_id: str  # empty: whatever comes from now on
    rng: Random
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    connections: int = 0

    async def follow(self, relay: RunningRelay) -> None:
        while True:
            stay = self.rng.choice((0, 1, 3, 30, 300))
            try:
                self.connections += 1
                async for id_, data in frames(relay.url, urlencode(self.wanted), self.last_id):
                    if id_:
                        self.seen.append((id_, data))
                        self.last_id = id_
                    stay -= 1
                    if stay < 0:
                        break
            except OSError:
                pass  # the relay is being restarted
            except Refused as exc:
                assert "stopping" in str(exc), exc
            await asyncio.sleep(self.rng.random() * 0.2)


async def _ingest(relay: RunningRelay, events: list[Event], rng: Random) -> None:
    """Publish in batches while the relay is stopped and killed in their midst; ends when all are acknowledged."""
    restarts = {len(events) // 4: relay.kill9, len(events) // 2: relay.stop, len(events) * 3 // 4: relay.kill9}
    at = 0
    while at < len(events):
        size = rng.randrange(1, 40)
        end = [place for place in restarts if at <= place < at + size]
        batch = asyncio.create_task(asyncio.to_thread(_publish, relay.url, events[at : at + size]))
        for place in end:
            await asyncio.sleep(rng.random() * 0.02)
            await asyncio.to_thread(restarts.pop(place))
            await asyncio.to_thread(relay.start)
        if await batch:
            at += size  # else the relay died over it: once more, some may be stored already
        await asyncio.sleep(0.02)  # so that subscribers are live for a while too


def _publish(url: str, events: list[Event]) -> bool:
    try:
        with Publisher(url) as publisher:
            return all(answer.get("accepted") for answer in publisher.batch(events))
    except (OSError, http.client.HTTPException):
        return False


def _subscribers(count: int, log: list[Row], database: str, rng: Random) -> list[Subscriber]:
    some_authors = ",".join(sorted({row["agent_id"] for row in log})[:20])
    filters: tuple[dict[str, str], ...] = (
        {},
        {"t": TOPICS[0]},
        {"t": "調査", "kinds": "1,777"},
        {"kinds": "5"},
        {"authors": some_authors},
        {"p": next(tag[1] for row in reversed(log) for tag in row["tags"] if tag[0] == "p")},
    )
    starts = ["", f"{database}-0", f"{database}-{len(log)}"]
    starts += [f"{database}-{rng.randrange(len(log))}" for _ in range(7)]
    return [Subscriber(rng.choice(filters), rng.choice(starts), Random(rng.random())) for _ in range(count)]


async def _wave(relay: RunningRelay, count: int, rng: Random) -> list[Subscriber]:
    events = signed_events(EVENTS_BEFORE + EVENTS_DURING, rng)
    rng.shuffle(events)  # so that each author goes on
    with Publisher(relay.url) as publisher:
        database = publisher.get("/").json["database_id"]
        publisher.batch(events[:EVENTS_BEFORE])
    before = [json.loads(raw) for _, raw in read_log(relay.db)]
    subscribers = _subscribers(count, before, database, rng)
    started = {id(subscriber): subscriber.last_id for subscriber in subscribers}
    readers = [asyncio.create_task(subscriber.follow(relay)) for subscriber in subscribers]
    await _ingest(relay, events[EVENTS_BEFORE:], rng)
    log = read_log(relay.db)
    assert [seq for seq, _ in log] == list(range(1, len(log) + 1))
    rows = [(seq, json.loads(raw)) for seq, raw in log]

    def expected(subscriber: Subscriber) -> list[tuple[str, Row]]:
        start = started[id(subscriber)]
        if not start:  # from the first it got
            if not subscriber.seen:
                return []
            start = f"{database}-{int(subscriber.seen[0][0].partition('-')[2]) - 1}"
        after = int(start.partition("-")[2])
        return [(f"{database}-{seq}", row) for seq, row in rows[after:] if _matches(row, subscriber.wanted)]

    deadline = time.monotonic() + PATIENCE_S
    for subscriber, reader in zip(subscribers, readers, strict=True):
        due = expected(subscriber)
        while len(subscriber.seen) < len(due) and not reader.done() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    for reader in readers:
        reader.cancel()
    for outcome in await asyncio.gather(*readers, return_exceptions=True):
        if not isinstance(outcome, asyncio.CancelledError):
            raise outcome or AssertionError("a reader ended")
    for subscriber in subscribers:
        due = expected(subscriber)
        got = [(id_, json.loads(data)) for id_, data in subscriber.seen]
        about = f"{subscriber.wanted} from {started[id(subscriber)] or 'now'}, {subscriber.connections} connections"
        assert [id_ for id_, _ in got] == [id_ for id_, _ in due], about
        assert got == due, about
    return subscribers


async def test_a_resumed_stream_has_no_gap_no_duplicate_and_no_reorder(
    tmp_path: Path, counts: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = Random(14)
    cursors = counts(50, soak=1_000)
    done: list[Subscriber] = []
    while len(done) < cursors:
        # a log of its own for each wave: each reader reads half of it, so on one log a soak would be quadratic
        folder = tmp_path / str(len(done))
        folder.mkdir()
        with RunningRelay(folder, env=NOT_RATED) as relay:
            done += await _wave(relay, min(AT_ONCE, cursors - len(done)), rng)
    connections = sum(subscriber.connections for subscriber in done)
    received = sum(len(subscriber.seen) for subscriber in done)
    assert connections > 3 * cursors, "they hardly ever had to resume"
    if cursors > AT_ONCE:
        with capsys.disabled():
            print(f"\n{cursors:,} cursors: {connections:,} connections, {received:,} frames, each in its place")
