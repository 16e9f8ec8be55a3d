"""Appending, reading and the marks, on real files."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anporia_store import (
    FLAGGED,
    LOBBY,
    REVOKED,
    Appended,
    Committed,
    Query,
    QueryTooExpensive,
    SqliteStore,
    Store,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    audit,
    checkpoint,
    commit,
    reader,
)
from anporia_store import query as q
from anporia_store.transaction import Draft
from anporia_wire import Event, Filter
from tests.store.samples import AGENTS, empty, event, newest_first, some, writing
from tests.wire.samples import NOW, signed

A, B, C = AGENTS


def test_is_a_store() -> None:
    _: type[Store] = SqliteStore  # mypy compares the signatures


async def everything(store: SqliteStore) -> list[bytes]:
    rows: list[bytes] = []
    after = 0
    while after < store.last_seq:
        part = await store.replay(after, Filter(), 1_000)
        rows += [raw for _, raw in part.rows]
        after = part.complete_to
    return rows


@asynccontextmanager
async def commits(store: SqliteStore) -> AsyncIterator[list[str]]:
    """Note each COMMIT that SQLite runs."""
    seen: list[str] = []
    await store._writer.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    yield seen
    await store._writer.set_trace_callback(lambda _sql: None)


class Gate:
    """Holds the writer before its next transaction, as a slow disk does."""

    def __init__(self, store: SqliteStore) -> None:
        self.open, self.batches = asyncio.Event(), list[list[str]]()
        transact = writing(store)._transact

        async def wait(drafts: list[Draft]) -> tuple[dict[str, int], list[Committed], int]:
            self.batches.append([draft.event.id for draft in drafts])
            await asyncio.wait_for(self.open.wait(), 20)
            return await transact(drafts)

        writing(store)._transact = wait  # type: ignore[method-assign]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# -- append


async def test_appends_that_wait_together_share_a_transaction(store: SqliteStore) -> None:
    log = some(500)
    async with commits(store) as seen:
        answers = await asyncio.gather(*(store.append([e]) for e in log))
    assert [a for (a,) in answers] == [Appended(seq, True) for seq in range(1, 501)]
    assert len(seen) <= 2
    assert await everything(store) == [e.to_json() for e in log]


async def test_one_after_another_is_one_transaction_each(store: SqliteStore) -> None:
    async with commits(store) as seen:
        for e in some(5):
            await store.append([e])
    assert len(seen) == 5


async def test_a_batch_is_never_split(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "MAX_BATCH", 10)
    log = some(100)
    gate = Gate(store)
    sizes = [1, 4, 4, 2, 30, 1, 10, 11]
    tasks, at = [], 0
    for size in sizes:
        tasks.append(asyncio.create_task(store.append(log[at : at + size])))
        at += size
    await settle()
    assert store.queued == sum(sizes) - 9
    gate.open.set()
    answers = await asyncio.gather(*tasks)
    assert [a.seq for each in answers for a in each] == list(range(1, at + 1))
    assert [len(batch) for batch in gate.batches] == [9, 2, 30, 1, 10, 11]
    assert store.queued == 0


async def test_a_batch_larger_than_a_transaction_should_be(store: SqliteStore) -> None:
    log = some(commit.MAX_BATCH + 500)
    async with commits(store) as seen:
        answers = await store.append(log)
    assert len(seen) == 1
    assert answers == [Appended(seq, True) for seq in range(1, len(log) + 1)]


async def test_nothing_to_append(store: SqliteStore) -> None:
    async with commits(store) as seen:
        assert await store.append([]) == []
    assert not seen


async def test_duplicates(store: SqliteStore) -> None:
    one, two, three = some(3)
    assert await store.append([one, two, one]) == [Appended(1, True), Appended(2, True), Appended(1, False)]
    assert await store.append([two, three]) == [Appended(2, False), Appended(3, True)]
    async with commits(store) as seen:
        assert await store.append([three, one]) == [Appended(3, False), Appended(1, False)]
    assert not seen
    assert await everything(store) == [one.to_json(), two.to_json(), three.to_json()]


async def test_a_duplicate_waits_for_the_commit_of_the_first(store: SqliteStore) -> None:
    (one,) = some(1)
    gate = Gate(store)
    first = asyncio.create_task(store.append([one]))
    await settle()
    again = asyncio.create_task(store.append([one]))
    await settle()
    assert not first.done() and not again.done()
    assert await store.author_and_kind(one.id) == (one.agent_id, one.kind)
    gate.open.set()
    assert await first == [Appended(1, True)]
    assert await again == [Appended(1, False)]
    assert await store.author_and_kind(one.id) == (one.agent_id, one.kind)
    assert not writing(store)._in_flight


async def test_another_signature_is_no_other_event(store: SqliteStore) -> None:
    one = event()
    other = Event(one.id, one.agent_id, one.created_at, one.kind, one.tags, one.content, "1" * 128)
    assert await store.append([one, other]) == [Appended(1, True), Appended(1, False)]
    assert await store.append([other]) == [Appended(1, False)]
    assert await everything(store) == [one.to_json()]


async def test_listeners_hear_of_commits_in_order_before_the_sender(store: SqliteStore) -> None:
    heard: list[Committed] = []
    store.on_commit = heard.extend
    transactions: list[int] = []
    store.on_transaction = lambda events, seconds: transactions.append(events if seconds > 0 else -1)
    log = some(200)

    async def send(e: Event) -> None:
        (answer,) = await store.append([e])
        assert heard[answer.seq - 1].event.id == e.id
        assert store.last_seq >= answer.seq

    await asyncio.gather(*(send(e) for e in [*log, *log[::3]]))
    await send(log[0])
    assert [item.seq for item in heard] == list(range(1, 201))
    assert [item.serialised for item in heard] == [item.event.to_json() for item in heard] == await everything(store)
    assert sum(transactions) >= 200 and min(transactions) > 0


async def test_a_listener_that_fails_stops_nothing(store: SqliteStore) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("not today")

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    store.on_commit = store.on_transaction = fail
    one, two = some(2)
    assert await asyncio.wait_for(store.append([one]), 5) == [Appended(1, True)]
    assert await asyncio.wait_for(store.append([two]), 5) == [Appended(2, True)]
    assert {str(context["exception"]) for context in told} == {"not today"}
    assert store.writable


async def test_a_sender_that_leaves_takes_nothing_along(store: SqliteStore) -> None:
    one, two, three = some(3)
    gate = Gate(store)
    tasks = [asyncio.create_task(store.append([e])) for e in (one, two)]
    await settle()
    waiting = asyncio.create_task(store.append([three]))
    await settle()
    tasks[0].cancel()
    waiting.cancel()
    await settle()
    gate.open.set()
    assert await tasks[1] == [Appended(2, True)]
    assert await store.append([three, one]) == [Appended(3, False), Appended(1, False)]
    assert await everything(store) == [e.to_json() for e in (one, two, three)]
    assert not writing(store)._in_flight


async def test_an_event_that_cannot_be_written_fails_alone(store: SqliteStore) -> None:
    broken = Event("a" * 64, A, 1, 1, (), "\ud800", "0" * 128)  # nothing that Event.parse gives
    with pytest.raises(StoreError):
        await store.append([broken])
    assert store.writable  # it says nothing about the disk
    assert await store.append(some(1)) == [Appended(1, True)]
    assert not writing(store)._in_flight


async def test_closing_commits_what_waits(path: Path) -> None:
    store = await SqliteStore.open(path)
    log = some(50)
    gate = Gate(store)
    tasks = [asyncio.create_task(store.append([e])) for e in log]
    await settle()
    closing_ = asyncio.create_task(store.close())
    await settle()
    with pytest.raises(StoreError):
        await store.append(some(1, seed=1))
    with pytest.raises(StoreError):
        await store.query(Query(Filter()))
    gate.open.set()
    await closing_
    assert [a.seq for (a,) in await asyncio.gather(*tasks)] == list(range(1, 51))
    with pytest.raises(StoreError):
        await store.append(some(1, seed=1))
    await store.close()  # once more does no harm
    again = await SqliteStore.open(path)
    assert await everything(again) == [e.to_json() for e in log]
    assert again.last_seq == 50
    assert await again.append(some(1, seed=2)) == [Appended(51, True)]
    await again.close()


async def test_closing_lets_reads_end(path: Path) -> None:
    store = await SqliteStore.open(path, readers=1)
    await store.append(some(100))
    reads = [asyncio.create_task(store.query(Query(Filter()))) for _ in range(5)]
    await settle()
    await store.close()
    assert {len((await read).rows) for read in reads} == {100}


async def test_closing_does_not_take_a_reader_from_those_who_wait_for_it(path: Path) -> None:
    store = await SqliteStore.open(path, readers=1)
    await store.append(some(3))
    reader = await store._readers.get()
    waiting = asyncio.create_task(store.query(Query(Filter())))
    await settle()
    store._closing = True
    store._readers.put_nowait(reader)  # `waiting` is woken, and has not run yet
    async with asyncio.timeout(30):
        await store._close_readers()
        assert len((await waiting).rows) == 3
        await store.close()


async def test_a_writer_that_was_cancelled_refuses(path: Path) -> None:
    """As asyncio.run does with every task that is left when the program is interrupted."""
    store = await SqliteStore.open(path)
    one, two, three = some(3)
    await store.append([one])
    Gate(store)
    tasks = [asyncio.create_task(store.append([e])) for e in (two,)]
    await settle()
    tasks.append(asyncio.create_task(store.append([three])))
    await settle()
    assert not writing(store)._task.done()
    writing(store)._task.cancel()
    for task in tasks:
        with pytest.raises(StoreError):
            await asyncio.wait_for(task, 5)
    with pytest.raises(StoreError):
        await asyncio.wait_for(store.append([three]), 5)
    await asyncio.wait_for(store.close(), 5)
    again = await SqliteStore.open(path)
    assert await everything(again) == [one.to_json()]
    await again.close()


async def test_a_store_for_reading_takes_nothing(store: SqliteStore) -> None:
    await store.append(some(3))
    reading = await SqliteStore.open(store.path, write=False)  # beside a relay that runs
    assert len((await reading.query(Query(Filter()))).rows) == 3
    assert reading.database_id == store.database_id
    with pytest.raises(StoreError):
        await reading.append(some(1, seed=1))
    await reading.close()


async def test_what_is_in_flight_is_forgotten(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "MAX_BATCH", 3)
    log = some(40)
    draw = random.Random(1)
    tasks = [asyncio.create_task(store.append(draw.choices(log, k=draw.randrange(6)))) for _ in range(100)]
    await settle()
    for task in draw.sample(tasks, 30):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not writing(store)._in_flight
    rows = await everything(store)
    assert len(rows) == len(set(rows)) == store.last_seq


async def test_a_thousand_events_leave_the_loop_its_turns(store: SqliteStore) -> None:
    log = some(5_000)
    waits: list[float] = []

    async def look() -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0)
            waits.append(time.perf_counter() - started)

    looking = asyncio.create_task(look())
    await asyncio.gather(*(store.append(log[at : at + 1_000]) for at in range(0, 5_000, 1_000)))
    looking.cancel()
    assert max(waits) < 1.0  # 10 to 20 ms on the slowest machine tried


async def test_the_write_ahead_log_stays_small(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is moved into the database as it grows, while the writer never rests and readers come and go."""
    monkeypatch.setattr(checkpoint, "LOG_BYTES", 4_000_000)
    log = some(3_000)
    writing = asyncio.gather(*(store.append(log[at : at + 100]) for at in range(0, 3_000, 100)))
    while not writing.done():
        await store.query(Query(Filter(), 10))
    await writing
    assert store.path.with_name(store.path.name + "-wal").stat().st_size < 12_000_000  # 36 MB without


async def test_a_checkpoint_that_fails_is_tried_again(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoint, "LOG_BYTES", 200_000)
    fetch, failures = aiosqlite.Connection.execute_fetchall, [sqlite3.OperationalError("disk I/O error")] * 2

    async def sometimes(self: aiosqlite.Connection, sql: str, *args: Any) -> Any:
        if "wal_checkpoint" in sql and failures:
            raise failures.pop()
        return await fetch(self, sql, *args)

    monkeypatch.setattr(aiosqlite.Connection, "execute_fetchall", sometimes)
    log = some(500)
    for at in range(0, 500, 20):
        await store.append(log[at : at + 20])
    assert not failures
    assert "could not be moved" in caplog.text
    assert await everything(store) == [e.to_json() for e in log]


# -- reading


async def test_get(store: SqliteStore) -> None:
    one, lobby = event(), event(tags=[("t", "lobby")])
    await store.append([one, lobby])
    found = await store.get(one.id)
    assert found and (found.seq, found.serialised, found.mark) == (1, one.to_json(), 0)
    found = await store.get(lobby.id)
    assert found and found.mark == LOBBY
    for unknown in ("0" * 64, one.id.upper(), one.id[:16] + "0" * 48, one.id[:-1], "", "é" * 64, "\0"):
        assert await store.get(unknown) is None
        assert await store.author_and_kind(unknown) is None


async def test_replay_in_windows(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "REPLAY_WINDOW", 7)
    log = some(50)
    await store.append(log)
    for filter_ in (Filter(), Filter(t="all"), Filter(t="only 33"), Filter(t="nowhere"), Filter(kinds=frozenset({1}))):
        for limit in (1, 3, 7, 100):
            rows, after = list[tuple[int, bytes]](), 0
            while after < store.last_seq:
                part = await store.replay(after, filter_, limit)
                assert len(part.rows) <= limit
                assert after < part.complete_to <= after + 7
                assert all(after < seq <= part.complete_to for seq, _ in part.rows)
                rows += part.rows
                after = part.complete_to
            assert rows == [(seq, e.to_json()) for seq, e in enumerate(log, 1) if filter_.matches(e)]
    part = await store.replay(50, Filter(), 10)
    assert (part.rows, part.complete_to) == ([], 50)


async def test_large_events_make_short_pages(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PAGE_BYTES", 100_000)
    log = [event(1, "x" * (60_000 if n % 3 else 10), [("t", f"{n}")], at=NOW + n) for n in range(30)]
    await store.append(log)
    expected = newest_first(log)
    rows: list[bytes] = []
    query = Query(Filter(), 20)
    while True:
        page = await store.query(query)
        assert page.rows and sum(map(len, page.rows)) <= 100_000
        rows += page.rows
        if page.next is None:
            break
        query = Query(Filter(), 20, page.next)
    assert rows == expected
    monkeypatch.setattr(reader, "PAGE_BYTES", 10)  # one goes through at any rate
    assert (await store.query(Query(Filter(), 20))).rows == expected[:1]
    assert await everything(store) == [e.to_json() for e in log]
    assert (await store.salvage(1, Filter(), 5)).complete_to == 2


FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def test_a_query_that_takes_too_long_is_stopped(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.append(some(10))
    monkeypatch.setattr(reader, "QUERY_SECONDS", 0.05)
    for _ in range(5):
        with pytest.raises(QueryTooExpensive):
            await asyncio.wait_for(store._fetch(FOREVER, ()), 10)
    monkeypatch.setattr(reader, "QUERY_SECONDS", 60)
    for _ in range(5):  # each reader is as it was
        assert len((await store.query(Query(Filter()))).rows) == 10


async def test_a_reader_whose_caller_left_serves_the_next(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.append(some(10))
    monkeypatch.setattr(reader, "QUERY_SECONDS", 1_000)
    for pause in (0, 0, 0.001, 0.02):
        reads = [asyncio.create_task(store._fetch(FOREVER, ())) for _ in range(4)]  # two run, two wait
        await asyncio.sleep(pause)
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        async with asyncio.timeout(10):
            pages = await asyncio.gather(*(store.query(Query(Filter())) for _ in range(6)))
        assert {len(page.rows) for page in pages} == {10}
        assert store._readers.qsize() == 2


async def test_waiting_for_a_reader_does_not_count(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many reads in line behind two readers, each within its own time."""
    await store.append(some(10))
    monkeypatch.setattr(reader, "QUERY_SECONDS", 0.3)
    busy = [asyncio.create_task(store._fetch(FOREVER, ())) for _ in range(4)]
    await settle()
    assert len((await store.query(Query(Filter()))).rows) == 10
    assert {type(error) for error in await asyncio.gather(*busy, return_exceptions=True)} == {QueryTooExpensive}


# -- marks


def model(log: Sequence[Event]) -> dict[str, int]:
    """The rules of WIRE section 9, spelled out."""
    marks = {}
    for e in log:
        revoked = any(r.kind == 9 and r.agent_id == e.agent_id and e.id in r.tag_values("e") for r in log)
        flaggers = {f.agent_id for f in log if f.kind == 7 and e.id in f.tag_values("e")}
        hidden = e.kind != 7 and len(flaggers) >= 3
        lobby = "lobby" in e.tag_values("t")
        marks[e.id] = REVOKED * revoked | FLAGGED * hidden | LOBBY * lobby
    return marks


async def marks_of(store: SqliteStore) -> dict[str, int]:
    rows = await store._fetch("SELECT CAST(substr(raw, 8, 64) AS TEXT), mark FROM events", ())
    return {row[0]: row[1] for row in rows}


statements = st.lists(
    st.tuples(
        st.sampled_from([1, 7, 7, 7, 9, 9]),
        st.sampled_from([*AGENTS, "5" * 64]),
        st.lists(st.integers(0, 11), max_size=3),  # which earlier events its `e` tags name
        st.sampled_from(["", "", "", "upper", "lobby", "other tag"]),
    ),
    min_size=3,
    max_size=12,
)


def told(statements: Sequence[tuple[int, str, list[int], str]]) -> list[Event]:
    log: list[Event] = []
    for number, (kind, agent, targets, how) in enumerate(statements):
        names = [log[at % len(log)].id for at in targets] if log else ["nothing"]
        if how == "upper":
            names = [name.upper() for name in names]
        tags = [("x" if how == "other tag" else "e", name) for name in names]
        log.append(event(kind, f"{number}", [*tags, ("t", "lobby")] if how == "lobby" else tags, agent=agent))
    return log


def test_marks_follow_from_the_events_in_any_order(path: Path) -> None:
    with asyncio.Runner() as runner:
        store = runner.run(SqliteStore.open(path))

        async def check_order(log: Sequence[Event], sizes: Iterator[int]) -> None:
            await empty(store)
            at = 0
            while at < len(log):
                size = next(sizes)
                await store.append(log[at : at + size])
                at += size
            assert await marks_of(store) == model(log)

        @settings(max_examples=60)
        @given(statements, st.randoms(use_true_random=False))
        def check(said: list[tuple[int, str, list[int], str]], draw: random.Random) -> None:
            log = told(said)
            for _ in range(3):
                runner.run(check_order(log, itertools.repeat(len(log))))
                runner.run(check_order(log, iter(lambda: draw.randint(1, 4), None)))
                draw.shuffle(log)

        try:
            check()
        finally:
            runner.run(store.close())


async def test_every_order_of_a_small_log(store: SqliteStore) -> None:
    target = event(1, "target", agent=A)
    revoke = event(9, "", [("e", target.id)], agent=A)
    flags = [event(7, "", [("e", target.id)], agent=agent) for agent in AGENTS]
    for order in itertools.permutations([target, revoke, *flags]):
        await empty(store)
        for e in order:
            await store.append([e])
        assert (await marks_of(store))[target.id] == REVOKED | FLAGGED


async def test_who_may_revoke_and_hide(store: SqliteStore) -> None:
    mine, twin, other = event(1, "1", agent=A), event(1, "2", agent=A), event(1, "3", agent=B)
    flag = event(7, "", [("e", other.id)], agent=C)
    revoke_all = event(9, "why", [("e", mine.id), ("e", twin.id), ("e", other.id)], agent=A)
    revoke_of_revoke = event(9, "", [("e", revoke_all.id)], agent=A)
    upper = event(9, "", [("e", other.id.upper())], agent=B)
    flags_of_flag = [event(7, f"{agent}", [("e", flag.id)], agent=agent) for agent in (*AGENTS, "5" * 64)]
    two = [event(7, f"{n}", [("e", other.id)], agent=A) for n in range(5)]
    await store.append([mine, twin, other, flag, revoke_all, revoke_of_revoke, upper, *flags_of_flag, *two])
    marks = await marks_of(store)
    assert marks[mine.id] == marks[twin.id] == REVOKED
    assert marks[revoke_all.id] == REVOKED  # a revoked revocation still revokes
    assert marks[other.id] == 0  # a foreign revoke, one in capitals, two distinct flaggers
    assert marks[flag.id] == 0  # kind 7 is never hidden
    assert await store.revocation(mine.id) == revoke_all.to_json()
    assert await store.revocation(other.id) is None
    assert await store.revocation(upper.id) is None
    assert await store.flags(other.id) == newest_first([flag, *two])
    await store.append([event(7, "third", [("e", other.id)], agent=B)])
    assert (await marks_of(store))[other.id] == FLAGGED
    assert not [f async for f in audit(store) if "signature" not in f.problem]
    shown = await store.query(Query(Filter(kinds=frozenset({1}))))
    assert shown.rows == []
    assert len((await store.query(Query(Filter(kinds=frozenset({1})), hide=0))).rows) == 3


async def test_the_first_revocation_is_given(store: SqliteStore) -> None:
    target = event(agent=A)
    revokes = [event(9, f"{n}", [("e", target.id), ("e", target.id)], agent=A, at=NOW - n) for n in range(3)]
    foreign = event(9, "", [("e", target.id)], agent=B)
    await store.append([foreign, *revokes, target])
    assert await store.revocation(target.id) == revokes[0].to_json()


# -- a full disk


async def test_a_full_disk(store: SqliteStore, counts: Callable[..., int]) -> None:
    kept: list[Event] = []
    log = iter(some(counts(2_000)))
    for _ in range(3):
        ((pages,),) = await store._writer.execute_fetchall("PRAGMA page_count")
        await store._writer.execute(f"PRAGMA max_page_count = {pages + 20}")
        while store.writable:
            batch = [e for e, _ in zip(log, range(20), strict=False)]
            assert batch
            try:
                answers = await store.append(batch)
            except StoreFull:
                continue
            assert all(a.new for a in answers)
            kept += batch
        assert store.last_seq == len(kept)
        assert await everything(store) == [e.to_json() for e in kept]  # reads go on
        assert await store.append([kept[0]]) == [Appended(1, False)]
        assert not store.writable  # a known event needs no disk
        with pytest.raises(StoreFull):
            await store.append(some(50, seed=99))
        assert not writing(store)._in_flight
        await store._writer.execute("PRAGMA max_page_count = 1000000")
        more = [e for e, _ in zip(log, range(20), strict=False)]
        assert [a.seq for a in await store.append(more)] == list(range(len(kept) + 1, len(kept) + 21))
        assert store.writable
        kept += more
    assert not [f async for f in audit(store) if "signature" not in f.problem]


QUOTA = """
import asyncio, json, resource, sys
from anporia_store import Query, SqliteStore, StoreFull
from anporia_wire import Filter
from tests.store.samples import some

async def main(path):
    store = await SqliteStore.open(path)
    log, kept, refused = some(6_000), 0, 0
    await store.append(log[:1_000])
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
    for at in range(1_000, 4_000, 100):
        try:
            await store.append(log[at:at + 100])
        except StoreFull:
            refused += 1
    full = store.writable, store.last_seq, len((await store.query(Query(Filter(), 1_000))).rows)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.append(log[4_000:])
    last = store.last_seq
    await store.close()
    again = await SqliteStore.open(path)
    print(json.dumps([refused, *full, store.writable, last, again.last_seq]))
    await again.close()

asyncio.run(main(sys.argv[1]))
"""


def test_a_quota_on_the_file(path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", QUOTA, str(path)], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    refused, writable, full_seq, shown, writable_again, last, reopened = json.loads(done.stdout)
    assert refused > 5
    assert (writable, writable_again) == (False, True)
    assert shown == 1_000
    assert full_seq == 1_000 + 100 * (30 - refused)
    assert last == reopened == full_seq + 2_000


# -- damage


def change(path: Path, sql: str, *args: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql, args)


async def test_a_damaged_row_is_not_served(store: SqliteStore) -> None:
    heard: list[int] = []
    store.on_damage = heard.append
    log = [event(1, f"the content {n}", at=NOW + n) for n in range(5)]
    await store.append(log)
    change(store.path, "UPDATE events SET raw = CAST(replace(raw, 'content 2', 'content X') AS BLOB) WHERE seq = 3")
    whole = [e for e in log if e is not log[2]]
    assert (await store.query(Query(Filter()))).rows == newest_first(whole)
    assert heard == [3]
    with pytest.raises(StoreDamaged):
        await store.get(log[2].id)
    with pytest.raises(StoreDamaged):
        await store.replay(0, Filter(), 10)
    assert [seq for seq, _ in (await store.replay(3, Filter(), 10)).rows] == [4, 5]
    part = await store.salvage(0, Filter(), 10)
    assert ([seq for seq, _ in part.rows], part.complete_to) == ([1, 2, 4, 5], 5)
    page = await store.query(Query(Filter(), 3))  # a short page, yet with a next one
    assert page.rows == newest_first(whole)[:2]
    assert page.next and (await store.query(Query(Filter(), 3, page.next))).rows == newest_first(whole)[2:]


@pytest.mark.parametrize(
    "value",
    ["CAST('text' AS TEXT)", "5", "x''", "x'ff'", "zeroblob(9000)", "CAST(x'ff00fe' AS TEXT)", "substr(raw, 1, 200)"],
)
async def test_a_row_that_holds_something_else(store: SqliteStore, value: str) -> None:
    log = [event(1, f"{n}", at=NOW + n) for n in range(3)]
    await store.append(log)
    change(store.path, f"UPDATE events SET raw = {value} WHERE seq = 2")
    for read in (store.query(Query(Filter())), store.salvage(0, Filter(), 10), store.get(log[1].id)):
        try:
            found = await read
        except StoreError:
            continue
        if found is not None:
            rows = found.rows if hasattr(found, "rows") else [found.serialised]
            rows = [row if isinstance(row, bytes) else row[1] for row in rows]
            assert set(rows) <= {log[0].to_json(), log[2].to_json()}
    found_first = [f.seq async for f in audit(store) if "signature" not in f.problem]
    assert found_first[:1] == [2]
    # the event comes once more, and with it the others of its batch
    await store.append([log[1], event(1, "next")])
    assert log[1].to_json() in (await store.query(Query(Filter()))).rows


async def test_appending_it_again_mends_a_damaged_row(store: SqliteStore) -> None:
    """What is acknowledged as known must be there."""
    target = event(1, "the content", [("t", "x"), ("t", "lobby")], agent=A)
    log = [target, event(9, "", [("e", target.id)], agent=A), event(1, "other")]
    await store.append(log)
    heard: list[Sequence[Committed]] = []
    store.on_commit = heard.append
    flip = "UPDATE events SET raw = CAST(replace(raw, ?, ?) AS BLOB), kind = 4 WHERE seq = ?"
    change(store.path, flip, "the content", "any content", 1)
    change(store.path, flip, '"e"', '"f"', 2)
    change(store.path, "DELETE FROM tags WHERE seq = 1")
    assert await store.append([*log, event(1, "new")]) == [
        Appended(1, False),
        Appended(2, False),
        Appended(3, False),
        Appended(4, True),
    ]
    assert [item.seq for batch in heard for item in batch] == [4]
    found = await store.get(target.id)
    assert found and (found.serialised, found.mark) == (target.to_json(), REVOKED | LOBBY)
    assert (await store.query(Query(Filter(t="x"), hide=0))).rows == [target.to_json()]
    assert not [f async for f in audit(store) if "signature" not in f.problem]


# -- backup


async def test_a_backup_while_writing(store: SqliteStore, tmp_path: Path) -> None:
    log = some(6_000)
    await store.append(log[:3_000])
    steps: list[tuple[int, int]] = []
    target = tmp_path / "copy.db"

    async def write() -> int:
        at = 3_000
        while at < 6_000 and not copying.done():
            await store.append(log[at : at + 20])
            at += 20
        return at

    copying = asyncio.create_task(store.backup(target, lambda left, total: steps.append((left, total))))
    written = await write()
    await asyncio.wait_for(copying, 30)
    assert written > 3_000  # the writer did not wait for it
    assert steps and steps[-1][0] == 0
    copy = await SqliteStore.open(target)
    rows = await everything(copy)
    assert 3_000 <= len(rows) == copy.last_seq
    assert rows == [e.to_json() for e in log[: len(rows)]]
    assert copy.database_id == store.database_id
    assert not [f async for f in audit(copy) if "signature" not in f.problem]
    assert (await copy.query(Query(Filter(t="only 33")))).rows == [log[33].to_json()]
    await copy.append(some(1, seed=5))
    await copy.close()


async def test_a_backup_does_not_begin_anew_at_each_commit(store: SqliteStore, tmp_path: Path) -> None:
    """SQLite starts a copy over when its source changes, so a busy relay's would never end."""
    await store.append([event(1, "x" * 60_000 + f"{n}") for n in range(150)])
    steps: list[int] = []
    begun, appended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def progress(left: int, _total: int) -> None:
        steps.append(left)
        if len(steps) == 1:
            loop.call_soon_threadsafe(begun.set)
            assert appended.wait(20)

    copying = asyncio.create_task(store.backup(tmp_path / "copy.db", progress))
    await asyncio.wait_for(begun.wait(), 20)
    await store.append(some(20))
    appended.set()
    await copying
    assert len(steps) == len(set(steps)) > 2
    assert steps == sorted(steps, reverse=True)
    copy = await SqliteStore.open(tmp_path / "copy.db", write=False)
    assert copy.last_seq == 150
    await copy.close()


async def test_a_backup_that_goes_wrong(store: SqliteStore, tmp_path: Path) -> None:
    await store.append(some(100))
    with pytest.raises(StoreError):
        await store.backup(tmp_path / "nowhere" / "copy.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError):
        await store.backup(tmp_path / "folder")
    copying = asyncio.create_task(store.backup(tmp_path / "copy.db"))
    await asyncio.sleep(0.001)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert await store.append(some(1, seed=1)) == [Appended(101, True)]


# -- opening


async def test_what_a_store_remembers(path: Path) -> None:
    store = await SqliteStore.open(path)
    assert (store.first_seq, store.last_seq) == (1, 0)
    assert len(store.database_id) == 8 and int(store.database_id, 16) >= 0
    name, secret = store.database_id, store._secret
    await store.append(some(3))
    await store.close()
    again = await SqliteStore.open(path)
    assert (again.database_id, again._secret, again.first_seq, again.last_seq) == (name, secret, 1, 3)
    other = await SqliteStore.open(path.with_name("other.db"))
    assert other.database_id != name and other._secret != secret
    await other.close()
    with pytest.raises(StoreBusy):
        await SqliteStore.open(path)
    await again.close()


async def test_real_signatures_pass_through(store: SqliteStore) -> None:
    e = signed(1, 'quote " and \u2028', [["t", "\0"], [], ["t"]])
    await store.append([e])
    (raw,) = (await store.query(Query(Filter(t="\0")))).rows
    Event.parse(raw).check()
    assert raw == e.to_json()
    assert threading.active_count() < 50
    assert q.paths(Query(Filter(t="\0"))) == ["t"]
