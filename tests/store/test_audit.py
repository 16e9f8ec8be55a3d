"""The audit names what is wrong, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from anporia_store import Finding, SqliteStore, audit
from anporia_store import audit as _function
from anporia_wire import Event
from tests.wire.samples import ALICE, BOB, CAROL, NOW, signed

assert _function is audit  # the function, not its module

LOG = [
    signed(1, f"content {n}", [["t", "x"], ["t", f"{n}"], ["p", ALICE.agent_id], ["other", "y"]], by=by, at=NOW + n)
    for n, by in enumerate([ALICE, BOB, CAROL] * 4)
]
LOG += [
    signed(1, "hello", [["t", "lobby"]]),
    signed(9, "", [["e", LOG[0].id]], by=ALICE),
    *(signed(7, "", [["e", LOG[1].id]], by=by) for by in (ALICE, BOB, CAROL)),
]


async def findings(store: SqliteStore) -> list[tuple[int, str]]:
    return [(f.seq, f.problem) async for f in audit(store)]


def change(store: SqliteStore, sql: str, *args: object) -> None:
    with closing(sqlite3.connect(store.path)) as connection, connection:
        assert connection.execute(sql, args).rowcount == 1, "the test itself changed nothing"


async def test_a_sound_store(store: SqliteStore) -> None:
    assert await findings(store) == []
    await store.append(LOG)
    done: list[int] = []
    assert [f async for f in audit(store, done.append)] == []
    assert done == [len(LOG)]


async def test_a_large_one_in_chunks(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_store.audit._CHUNK", 4, raising=False)
    await store.append(LOG)
    assert await findings(store) == []


FLIP = "UPDATE events SET raw = CAST(replace(raw, ?, ?) AS BLOB) WHERE seq = ?"


@pytest.mark.parametrize(
    ("sql", "args", "seq", "problem"),
    [
        (FLIP, ("content 2", "content X", 3), 3, "no longer hash"),
        (FLIP, (f'"{LOG[2].id}"', f'"{"0" * 64}"', 3), 3, "no longer hash"),
        (FLIP, ('"content":', '"content" :', 3), 3, "not the stored form"),
        (FLIP, ("{", "(", 3), 3, "not JSON"),
        (FLIP, (LOG[2].sig, LOG[3].sig, 3), 3, "bad signature"),
        ("UPDATE events SET raw = CAST(raw || ' ' AS BLOB) WHERE seq = 3", (), 3, "not the stored form"),
        ("UPDATE events SET raw = 5 WHERE seq = 3", (), 3, "event"),
        ("UPDATE events SET raw = CAST(x'fffe' AS TEXT) WHERE seq = 3", (), 3, "event"),
        ("UPDATE events SET kind = 2 WHERE seq = 3", (), 3, "columns differ"),
        ("UPDATE events SET author = 2 WHERE seq = 3", (), 3, "columns differ"),
        ("UPDATE events SET created_at = 2 WHERE seq = 3", (), 3, "columns differ"),
        ("UPDATE events SET idkey = 2 WHERE seq = 3", (), 3, "columns differ"),
        ("UPDATE events SET mark = 1 WHERE seq = 3", (), 3, "its mark"),
        ("UPDATE events SET mark = 0 WHERE seq = 1", (), 1, "its mark"),
        ("UPDATE events SET mark = 0 WHERE seq = 2", (), 2, "its mark"),
        ("UPDATE events SET mark = 0 WHERE seq = 13", (), 13, "its mark"),
        ("UPDATE events SET mark = 6 WHERE seq = 13", (), 13, "its mark"),
        ("DELETE FROM revocations", (), 1, "its mark"),
        (
            "DELETE FROM tags WHERE seq = 3 AND tag = (SELECT min(tag) FROM tags WHERE seq = 3)",
            (),
            3,
            "tag row is miss",
        ),
        ("UPDATE tags SET created_at = 1 WHERE seq = 13", (), 13, "tag row is missing"),
        ("INSERT INTO tags VALUES (1, 2, 3, 4, 5)", (), 0, "1 tag rows belong to no sound event"),
    ],
)
async def test_what_is_wrong_is_named(
    store: SqliteStore, sql: str, args: tuple[object, ...], seq: int, problem: str
) -> None:
    await store.append(LOG)
    change(store, sql, *args)
    found = await findings(store)
    assert found[0][0] == seq
    assert problem in found[0][1]
    assert {number for number, _ in found} <= {seq, 0}
    if seq == 3 and "raw" not in sql:
        assert LOG[2].id in found[0][1]


async def test_all_is_named_in_order(store: SqliteStore) -> None:
    await store.append(LOG)
    for seq in (11, 3, 7):
        change(store, FLIP, "content", "contenT", seq)
    change(store, FLIP, LOG[4].sig, LOG[3].sig, 5)
    found = await findings(store)
    assert [seq for seq, _ in found] == [3, 5, 7, 11, 0]


async def test_while_a_relay_appends(store: SqliteStore) -> None:
    await store.append(LOG[:6])
    stop = asyncio.Event()
    later = [signed(1, f"later {n}", [["t", "x"]]) for n in range(100)]

    async def write() -> int:
        sent = 0
        while not stop.is_set() and sent < len(later):
            await store.append(later[sent : sent + 1])
            sent += 1
        return sent

    writing = asyncio.create_task(write())
    for _ in range(5):
        assert await findings(store) == []
    stop.set()
    assert await writing > 0


def test_a_finding_is_a_value() -> None:
    assert Finding(1, "x") == Finding(1, "x")
    assert isinstance(LOG[0], Event)
