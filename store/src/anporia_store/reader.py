"""Reading the log: by id, in pages newest first, in stretches of the log's own order.

Each reading connection has a thread of its own; a row is held against its id before it is given to anybody.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import aiosqlite
import orjson

from anporia_wire import Event, Filter, id_of_serialised, is_id

from . import query as q
from . import search
from .cursor import Cursor, RankCursor
from .errors import DRIVER_ERRORS, StoreDamaged, StoreError, translate
from .store import Counted, Page, Replay, Stored
from .thread import within

__all__ = ["Reader", "must_ascend"]

REPLAY_WINDOW = 20_000  # rows looked at in one statement of a replay: some 20 ms, then others have a turn
QUERY_SECONDS = 2.0  # a read that runs longer is stopped; the slowest honest one measured takes 0.05 s
MAX_COUNT = 100_000  # rows counted: 20 to 150 ms, by the index
MAX_FLAGS = 1_000  # listed of one event
MAX_FOUND_WHOLE = 65_536  # rows; 8 MB
PAGE_BYTES = 8 * 1024 * 1024  # of events in one answer; 1,000 of usual size have 0.5 MB


class Reader:
    """The reading half of a store."""

    def __init__(self, path: Path, readers: list[aiosqlite.Connection]) -> None:
        self.path = path
        self.database_id = ""
        self.first_seq = 1
        self.last_seq = 0
        self.on_damage: Callable[[int], None] = lambda _seq: None  # called in the writer's thread too
        self._secret = b""
        self._found_whole: dict[int, int] = {}  # seq: hash of the bytes that were held against their id
        self._closing = False
        self._all_readers = readers
        self._readers: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        for reader in readers:
            self._readers.put_nowait(reader)
        self._reading = 0  # reads under way, those that wait for a reader too
        self._idle = asyncio.Event()
        self._idle.set()

    async def _load(self) -> None:
        rows = await self._fetch("SELECT CAST(name AS BLOB), CAST(value AS BLOB) FROM meta", ())
        meta = {row[0]: row[1] for row in rows}
        try:
            self.database_id = meta[b"database_id"].decode("ascii")
            self._secret = bytes(meta[b"tag_secret"])
        except (KeyError, AttributeError, TypeError, UnicodeDecodeError):
            raise StoreDamaged(f"{self.path} has lost its own id or secret; restore a backup") from None
        ((first, last),) = await self._fetch("SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM events", ())
        self.first_seq, self.last_seq = first, last

    async def _close_readers(self) -> None:
        # New reads are refused by now. Those that wait for a reader come first: whoever asks a queue that has just
        # been given something gets it before those who were woken for it, and they would wait for ever.
        await self._idle.wait()
        while self._all_readers:
            reader = await self._readers.get()
            self._all_readers.remove(reader)
            await reader.close()

    def tag_keys(self, event: Event) -> set[int]:
        """Give the integer keys under which this database finds the event by its tags."""
        secret, names = self._secret, q.INDEXED_TAGS
        return {_key_of_tag(secret, tag[0], tag[1]) for tag in event.tags if len(tag) > 1 and tag[0] in names}

    async def _fetch(self, sql: str, args: Mapping[str, object] | Sequence[object]) -> list[sqlite3.Row]:
        if self._closing:
            raise StoreError("the store is closed")
        self._reading += 1
        self._idle.clear()
        try:
            return await self._fetch_with(await self._readers.get(), sql, args)
        finally:
            self._reading -= 1
            if not self._reading:
                self._idle.set()

    async def _fetch_with(
        self, reader: aiosqlite.Connection, sql: str, args: Mapping[str, object] | Sequence[object]
    ) -> list[sqlite3.Row]:
        left = False

        def fetch(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            deadline = time.monotonic() + QUERY_SECONDS
            # The handler runs every 20,000 steps of SQLite's machine, about once a millisecond.
            connection.set_progress_handler(lambda: left or time.monotonic() > deadline, 20_000)
            return connection.execute(sql, args).fetchall()

        try:
            return await within(reader, fetch)
        except DRIVER_ERRORS as exc:
            raise translate(exc) from exc
        finally:
            # When the caller was cancelled its query goes on in the reader's thread: end it, for whoever is next.
            left = True
            self._readers.put_nowait(reader)

    async def get(self, event_id: str) -> Stored | None:
        """Read one event; see `Store.get`."""
        if not is_id(event_id):
            return None
        rows = await self._fetch(_BY_ID, (q.id_key(event_id), event_id.encode()))
        if not rows:
            return None
        seq, raw, mark = rows[0]
        self._must_be_whole(seq, raw)
        return Stored(seq, raw, mark)

    async def get_many(self, event_ids: Collection[str]) -> dict[str, Stored]:
        """Read several events; see `Store.get_many`."""
        wanted = {id_.encode(): id_ for id_ in event_ids if is_id(id_)}
        keys = [q.id_key(id_) for id_ in wanted.values()]
        rows = await self._fetch(_BY_IDS, (orjson.dumps(keys).decode(),)) if keys else []
        marks = {row[0]: row[3] for row in rows}
        return {
            wanted[raw[7:71]]: Stored(seq, raw, marks[seq])
            for seq, raw in await self._within_page_bytes(rows)
            if raw[7:71] in wanted and self.is_whole(seq, raw)
        }

    async def thread(self, event_id: str, limit: int) -> tuple[list[bytes], bool]:
        """Read a thread; see `Store.thread`."""
        own = await self.get(event_id)
        key = q.tag_key(self._secret, "e", event_id)
        text = q.shared_args(q.Query(Filter(), e=event_id))["e_text"]
        rows = await self._fetch(_THREAD, {"key": key, "text": text, "limit": limit + 1})
        found = await self._within_page_bytes(rows[:limit])
        events = self._whole(found)
        if own is not None and own.serialised not in events:
            events.append(own.serialised)
        keyed = [
            (event.created_at, event.id, raw) for event, raw in zip(map(Event.from_stored, events), events, strict=True)
        ]
        return [raw for _, _, raw in sorted(keyed)], len(found) == len(rows)

    async def count(self, query: q.Query) -> Counted:
        """Count events; see `Store.count`. Raises `QueryTooExpensive`."""
        if query.match is not None:
            statement: q.Statement | None = search.count_statement(query, MAX_COUNT + 1)
        else:
            statement = q.count_statement(query, await self._choose_path(query), self._secret, MAX_COUNT + 1)
        if statement is None:
            return Counted(0, exact=True)
        ((count,),) = await self._fetch(statement.sql, statement.args)
        return Counted(min(count, MAX_COUNT), exact=count <= MAX_COUNT)

    async def query(self, query: q.Query) -> Page:
        """Read a page; see `Store.query`. Raises `QueryTooExpensive`."""
        if query.match is not None:
            return await self._search(query)
        statement = q.list_statement(query, await self._choose_path(query), self._secret)
        if statement is None:
            return Page([], None)
        rows = await self._fetch(statement.sql, statement.args)
        events = await self._within_page_bytes(rows[: query.limit])
        more = len(events) < len(rows)
        return Page(self._whole(events), Cursor(*rows[len(events) - 1][3:]) if more else None)

    async def _search(self, query: q.Query) -> Page:
        if isinstance(query.after, RankCursor):
            offset, upto = query.after
            statement = search.rank_statement(query, upto, offset)
            rows = await self._fetch(statement.sql, statement.args)
            events = await self._within_page_bytes(rows[: query.limit])
            more = len(events) < len(rows)
            return Page(self._whole(events), RankCursor(offset + len(events), upto) if more else None)
        statement = search.time_statement(query)
        rows = await self._fetch(statement.sql, statement.args)
        if len(rows) > query.limit:  # the index knows no order within a second: take all of the last one
            statement = search.second_statement(query, rows[-1][3])
            rows = [*rows, *await self._fetch(statement.sql, statement.args)]
        ordered = sorted({row[0]: row for row in rows}.values(), key=lambda row: (-row[3], -row[4]))
        events = await self._within_page_bytes(ordered[: query.limit])
        more = len(events) < len(ordered)
        return Page(self._whole(events), Cursor(*ordered[len(events) - 1][3:]) if more else None)

    def _whole(self, events: list[tuple[int, bytes]]) -> list[bytes]:
        return [raw for seq, raw in events if self.is_whole(seq, raw)]

    async def _choose_path(self, query: q.Query) -> str:
        paths = q.paths(query)
        if len(paths) == 1:
            return paths[0]
        probe = q.probe_statement(query, self._secret)
        (counts,) = await self._fetch(probe.sql, probe.args)
        return min(zip(counts, range(len(paths)), paths, strict=True))[2]

    async def replay(self, after: int, filter_: Filter, limit: int) -> Replay:
        """Read a stretch of the log; see `Store.replay`. Raises `StoreDamaged` rather than leave a gap."""
        part = await self._stretch(after, filter_, limit, REPLAY_WINDOW)
        for seq, raw in part.rows:
            self._must_be_whole(seq, raw)
        return part

    async def salvage(self, after: int, filter_: Filter, limit: int) -> Replay:
        """Read a stretch of the log as `replay` does, leaving damaged and unreadable rows out."""
        window = max(1, min(REPLAY_WINDOW, self.last_seq - after))
        while True:
            try:
                part = await self._stretch(after, filter_, min(limit, window), window)
            except StoreDamaged:  # a page of the file: go on with ever less until it stands alone
                if window > 1:
                    window //= 2
                    continue
                self.on_damage(after + 1)
                return Replay([], after + 1)
            return Replay([(seq, raw) for seq, raw in part.rows if self.is_whole(seq, raw)], part.complete_to)

    async def _stretch(self, after: int, filter_: Filter, limit: int, window: int) -> Replay:
        up_to = min(after + window, self.last_seq)
        statement = q.replay_statement(after, up_to, filter_, limit)
        rows = await self._fetch(statement.sql, statement.args)
        must_ascend(after, rows)
        events = await self._within_page_bytes(rows)
        cut = len(rows) == limit or len(events) < len(rows)
        return Replay(events, events[-1][0] if cut else up_to)

    async def _within_page_bytes(self, rows: Sequence[sqlite3.Row]) -> list[tuple[int, bytes]]:
        """Give (seq, raw) of the first rows, up to `PAGE_BYTES` but at least one; reads the large ones."""
        total = count = 0
        for row in rows:
            total += row[2]
            if count and total > PAGE_BYTES:
                break
            count += 1
        missing = [row[0] for row in rows[:count] if row[1] is None]
        if not missing:
            return [row[:2] for row in rows[:count]]
        large = {row[0]: row[1] for row in await self._fetch(_BY_SEQ, (orjson.dumps(missing).decode(),))}
        return [(seq, large.get(seq, b"") if raw is None else raw) for seq, raw, *_ in rows[:count]]

    async def revocation(self, event_id: str) -> bytes | None:
        """Give the revoking event; see `Store.revocation`."""
        rows = await self._fetch(_REVOCATION, (q.id_key(event_id), event_id.encode(), event_id))
        return next((raw for seq, raw in rows if self.is_whole(seq, raw)), None)

    async def flags(self, event_id: str) -> list[bytes]:
        """Give the flags on an event; see `Store.flags`."""
        return self._whole(await self._within_page_bytes(await self._fetch(_FLAGS, (event_id,))))

    def is_whole(self, seq: int, raw: bytes) -> bool:
        """Say whether a row still hashes to its id; of one that did, whether its bytes are still the same."""
        fingerprint = hash(raw)  # 64 bits with a key of this process: a tenth of the cost, as good against damage
        if self._found_whole.get(seq) == fingerprint:
            return True
        if id_of_serialised(raw) is not None:
            if len(self._found_whole) >= MAX_FOUND_WHOLE:
                self._found_whole.clear()
            self._found_whole[seq] = fingerprint
            return True
        self.on_damage(seq)
        return False

    def _must_be_whole(self, seq: int, raw: bytes) -> None:
        if not self.is_whole(seq, raw):
            raise StoreDamaged(f"row {seq} no longer hashes to its id; `anporia-relay verify` names all such rows")


@lru_cache(maxsize=8_192)  # rooms and partners come again and again; so many of 64 characters take some 3 MB
def _kept_key(secret: bytes, name: str, value: str) -> int:
    return q.tag_key(secret, name, value)


def _key_of_tag(secret: bytes, name: str, value: str) -> int:
    return (_kept_key if len(value) <= 64 else q.tag_key)(secret, name, value)  # 64 hold an id


def must_ascend(after: int, rows: Sequence[sqlite3.Row]) -> None:
    """Hold the seq of rows, their first column, in order: SQLite trusts a damaged page's. Raises `StoreDamaged`."""
    if any(later[0] <= earlier for earlier, later in zip([after, *(row[0] for row in rows)], rows, strict=False)):
        raise StoreDamaged(f"the database file is damaged (rows after {after} are out of order)")


_BY_ID = f"""
    SELECT seq, {q.RAW.format("events")}, coalesce(CAST(mark AS INTEGER), 0)
    FROM events WHERE idkey = ? AND substr(raw, 8, 64) = ?
"""

_BY_IDS = f"""
    SELECT e.seq, {q.SMALL.format("e")}, coalesce(CAST(e.mark AS INTEGER), 0)
    FROM json_each(?) j CROSS JOIN events e ON e.idkey = j.value
"""

# The order of tasks: oldest first, then id ascending, which is idkey descending. What belongs to the task comes
# first into the limit, so that nobody buries it under replies.
_PART_OF_THREAD = """
    SELECT * FROM (SELECT k.seq AS seq, k.created_at AS created_at, k.idkey AS idkey, {rank} AS rank
        FROM tags k CROSS JOIN events e ON e.seq = k.seq
        WHERE k.tag = :key AND k.kind {kinds} BETWEEN 50 AND 55 AND instr(e.raw, :text) > 0
        ORDER BY k.created_at, k.idkey DESC LIMIT :limit)
"""
_THREAD = f"""
    SELECT r.seq, {q.SMALL.format("r")} FROM
        (SELECT * FROM ({_PART_OF_THREAD.format(rank=0, kinds="")}
                        UNION ALL {_PART_OF_THREAD.format(rank=1, kinds="NOT")})
         ORDER BY rank, created_at, idkey DESC LIMIT :limit) m
    CROSS JOIN events r ON r.seq = m.seq ORDER BY m.rank, m.created_at, m.idkey DESC
"""

_BY_SEQ = f"SELECT e.seq, {q.RAW.format('e')} FROM json_each(?) j CROSS JOIN events e ON e.seq = j.value"

_REVOCATION = f"""
    SELECT k.seq, {q.RAW.format("k")} FROM events e
    CROSS JOIN revocations r ON r.agent = CAST(substr(e.raw, 86, 64) AS TEXT)
    CROSS JOIN events k ON k.seq = r.seq
    WHERE e.idkey = ? AND substr(e.raw, 8, 64) = ? AND r.target = ? ORDER BY r.seq
"""

_FLAGS = f"""
    SELECT k.seq, {q.SMALL.format("k")} FROM flags f CROSS JOIN events k ON k.seq = f.seq
    WHERE f.target = ? ORDER BY k.created_at DESC, k.idkey DESC LIMIT {MAX_FLAGS}
"""
