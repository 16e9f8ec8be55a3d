"""Full-text search: an SQLite FTS5 index in a file of its own beside the log, filled behind it.

The index is derived and never acknowledged: losing it costs a rebuild, nothing else. What is asked of it
stands in `search.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiosqlite

from anporia_wire import Event, Filter

from .errors import DRIVER_ERRORS, StoreDamaged, StoreError, translate
from .files import connect
from .search import row_number
from .words import SEARCHED, TOKENIZER, indexed

if TYPE_CHECKING:
    from .sqlite import SqliteStore

__all__ = ["SearchIndex"]

log = logging.getLogger("anporia.store")

_FORMAT = f"1 {TOKENIZER}"  # another one means: index anew
_STEP = 200  # events a step: 5 ms of the event loop
_LONG = 4_096  # bytes of an event after which others have a turn: the longest takes 10 ms
_REST = 9  # times as long as the step took: a tenth of one core while others want to publish
_RETRY_SECONDS = 5.0
_IDLE_SECONDS = 1.0  # without a commit; then the index may take half of a core


class SearchIndex:
    """The writing side; readers attach the file as `search`."""

    def __init__(self, path: Path, connection: aiosqlite.Connection, seq: int) -> None:
        self.path = path
        self.seq = seq
        """All events of the log up to this one can be found."""
        self.broken = False
        """Damaged: nothing is found until it was made anew, at the next start."""
        self._connection = connection
        self._news = asyncio.Event()
        self._last_commit = 0.0

    @classmethod
    async def open(cls, store: SqliteStore) -> SearchIndex:
        """Open the index of a log, or begin a new one when there is none that fits it. Raises `StoreError`."""
        path = store.path.with_name(store.path.name + ".search")
        for attempt in range(2):
            connection = await connect(path)
            try:
                await connection.execute("PRAGMA journal_mode = WAL")
                await connection.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is indexed again
                seq = await _fitting(connection, store)
                if seq is None and not attempt:
                    await connection.close()
                    _remove(path)
                    continue
                if seq is None:
                    await connection.executescript(_SCHEMA)
                    await connection.execute("INSERT INTO state VALUES (?, ?, 0, '')", (_FORMAT, store.database_id))
                    await connection.commit()
                return cls(path, connection, seq or 0)
            except DRIVER_ERRORS as exc:
                await connection.close()
                failure = translate(exc)
                if attempt or not isinstance(failure, StoreDamaged):  # a lock or a full disk has harmed nothing
                    raise failure from exc
                log.warning("the search index is made anew", extra={"file": path.name, "problem": str(exc)})
                _remove(path)
            except BaseException:
                await connection.close()
                raise
        raise AssertionError("the second attempt returns or raises")

    def notify(self) -> None:
        """Say that the log has grown."""
        self._last_commit = time.monotonic()
        self._news.set()

    async def follow(self, store: SqliteStore) -> None:
        """Index what is in the log and what will come, until cancelled; slowly while events are published."""
        failing = False
        while True:
            if self.seq >= store.last_seq:
                self._news.clear()
                await self._news.wait()
            started = time.monotonic()
            try:
                await self.step(store)
                failing = False
            except StoreDamaged:
                await self.give_up()
                return
            except StoreError as exc:  # a full disk, most likely; the log itself may well go on
                if not failing:
                    log.warning("the search index cannot follow for now", extra={"problem": str(exc)})
                failing = True
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            took = time.monotonic() - started
            idle = started - self._last_commit > _IDLE_SECONDS
            if self.seq < store.last_seq:
                await asyncio.sleep(took if idle else took * _REST)

    async def step(self, store: SqliteStore) -> None:
        """Index the next events of the log. Raises `StoreError`."""
        part = await store.salvage(self.seq, Filter(kinds=SEARCHED), _STEP)
        rows = []
        for seq, raw in part.rows:
            event = Event.from_stored(raw)
            rows.append((row_number(event.created_at, seq), indexed(event)))
            if len(raw) > _LONG:
                await asyncio.sleep(0)
        last = await store.salvage(part.complete_to - 1, Filter(), 1)
        mark = last.rows[0][1][7:71].decode() if last.rows else ""
        try:
            await self._connection.executemany("INSERT INTO posts (rowid, body) VALUES (?, ?)", rows)
            await self._connection.execute("UPDATE state SET seq = ?, event = ?", (part.complete_to, mark))
            await self._connection.commit()
        except DRIVER_ERRORS as exc:
            with contextlib.suppress(sqlite3.Error):
                await self._connection.rollback()
            raise translate(exc) from exc
        self.seq = part.complete_to

    async def give_up(self) -> None:
        """Leave a damaged index alone, and see to it that the next start makes another."""
        if not self.broken:
            self.broken = True
            log.error("the search index is damaged; it is made anew at the next start", extra={"file": self.path.name})
            with contextlib.suppress(OSError):
                _remove(self.path)  # those who have it open keep it

    async def close(self) -> None:
        """Release the file."""
        await self._connection.close()


async def _fitting(connection: aiosqlite.Connection, store: SqliteStore) -> int | None:
    """Give up to where the index holds this very log, or None."""
    tables = [row[0] for row in await connection.execute_fetchall("SELECT name FROM sqlite_master ORDER BY name")]
    if "state" not in tables:
        return None
    for form, database, seq, event in await connection.execute_fetchall("SELECT * FROM state"):
        if form == _FORMAT and database == store.database_id and 0 < seq <= store.last_seq:
            part = await store.salvage(seq - 1, Filter(), 1)  # a restored backup may have gone on otherwise
            if part.rows and part.rows[0][1][7:71].decode() == event:
                return int(seq)
    return None


def _remove(path: Path) -> None:
    for rest in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + rest).unlink(missing_ok=True)


_SCHEMA = f"""
    CREATE TABLE state (format TEXT, database TEXT, seq INTEGER, event TEXT);
    CREATE VIRTUAL TABLE posts USING fts5 (body, content='', tokenize='{TOKENIZER}');
"""
