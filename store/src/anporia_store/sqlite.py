"""The log on SQLite: one writer with group commit and synchronous=FULL, separate readers.

An append waits for the transaction that carries it; while one transaction is on its way to disk the
next batch gathers, so the cost of a sync is shared by all that wait (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiosqlite
import orjson

from anporia_wire import Event, Filter, id_of_serialised, kinds

from . import query as q
from .errors import StoreDamaged, StoreError, translate
from .files import Lock, open_reader, open_writer
from .store import Appended, Committed, Page, Replay, Stored

__all__ = ["SqliteStore"]

MAX_BATCH = 1_000  # rows a transaction: beyond it the time to commit grows faster than the gain
REPLAY_WINDOW = 20_000  # rows looked at in one statement of a replay: some 20 ms, then others have a turn
QUERY_SECONDS = 2.0  # a read that runs longer is stopped; the slowest honest one measured takes 0.05 s
FLAGS_TO_HIDE = 3  # distinct agents (WIRE section 9)


@dataclass(slots=True)
class _Submission:
    events: Sequence[Event]
    done: asyncio.Future[list[Appended]]


class SqliteStore:
    """The `Store` on one SQLite file in WAL mode; make it with `SqliteStore.open`."""

    def __init__(
        self, path: Path, lock: Lock | None, writer: aiosqlite.Connection, readers: list[aiosqlite.Connection]
    ) -> None:
        self.path = path
        self.database_id = ""
        self.first_seq = 1
        self.last_seq = 0
        self.writable = True  # False from a failed transaction until the next good one
        self.on_commit: Callable[[Sequence[Committed]], None] = lambda _committed: None
        self.on_transaction: Callable[[int, float], None] = lambda _events, _seconds: None
        self.on_damage: Callable[[int], None] = lambda _seq: None
        self._secret = b""
        self._lock = lock
        self._writer = writer
        self._readers: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._all_readers = readers
        for reader in readers:
            self._readers.put_nowait(reader)
        self._waiting: list[_Submission] = []
        self._in_flight: dict[str, Event] = {}
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path | str, *, readers: int = 2, write: bool = True) -> SqliteStore:
        """Open or (when writing) create the database; migrations run here.

        `write=False` leaves the file to a relay that may be running. Raises `StoreUnusable` for a file
        that is not ours or newer than this program, `StoreBusy` when another process writes to it,
        `StoreDamaged`, `StoreFull`.
        """
        path = Path(path)
        lock = Lock.take(path) if write else None
        connections: list[aiosqlite.Connection] = []
        try:
            writer = await (open_writer(path) if write else open_reader(path))
            connections.append(writer)
            for _ in range(readers):
                connections.append(await open_reader(path))
            store = cls(path, lock, writer, connections[1:])
            await store._load()
        except BaseException as exc:
            for connection in connections:
                await connection.close()
            if lock:
                lock.release()
            if isinstance(exc, sqlite3.Error):
                raise translate(exc) from exc
            raise
        if write:
            store._task = asyncio.create_task(store._write_forever(), name="store-writer")
        return store

    async def _load(self) -> None:
        meta = {
            name: bytes(value) for name, value in await self._writer.execute_fetchall("SELECT name, value FROM meta")
        }
        self.database_id = meta["database_id"].decode()
        self._secret = meta["tag_secret"]
        ((first, last),) = await self._writer.execute_fetchall(
            "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM events"
        )
        self.first_seq, self.last_seq = first, last

    async def close(self) -> None:
        """Commit what is queued, then close the files."""
        self._closing = True
        self._wake.set()
        if self._task:
            await self._task
        for reader in self._all_readers:
            await reader.close()
        await self._writer.close()
        if self._lock:
            self._lock.release()

    @property
    def queued(self) -> int:
        """How many events wait for a transaction."""
        return sum(len(submission.events) for submission in self._waiting)

    # -- writing ---------------------------------------------------------------------------------

    async def append(self, events: Sequence[Event]) -> list[Appended]:
        """Keep events, in order; see `Store.append`. Known ids are answered with their first place."""
        if self._closing or self._task is None:
            raise StoreError("the store is closed for writing")
        submission = _Submission(tuple(events), asyncio.get_running_loop().create_future())
        self._waiting.append(submission)
        for event in submission.events:
            self._in_flight[event.id] = event
        self._wake.set()
        return await submission.done

    async def _write_forever(self) -> None:
        while not (self._closing and not self._waiting):
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._write_batch(self._take())

    def _take(self) -> list[_Submission]:
        """Take submissions up to `MAX_BATCH` events; one larger than that goes alone, never split."""
        taken, size = 0, 0
        for submission in self._waiting:
            size += len(submission.events)
            if taken and size > MAX_BATCH:
                break
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch

    async def _write_batch(self, batch: list[_Submission]) -> None:
        unique = {event.id: event for submission in batch for event in submission.events}
        started = time.perf_counter()
        try:
            known, committed = await self._transact(list(unique.values()))
        except BaseException as exc:
            with contextlib.suppress(sqlite3.Error):  # after FULL, SQLite has often rolled back by itself
                await self._writer.rollback()
            self.writable = False
            failure = translate(exc) if isinstance(exc, sqlite3.Error) else StoreError(f"{type(exc).__name__}: {exc}")
            for submission in batch:
                if not submission.done.done():
                    submission.done.set_exception(failure)
            if not isinstance(exc, Exception):
                raise
            return
        finally:
            still = {event.id for submission in self._waiting for event in submission.events}
            for event_id in unique.keys() - still:
                self._in_flight.pop(event_id, None)
        self.writable = True
        self.on_transaction(len(unique), time.perf_counter() - started)
        if committed:
            self.last_seq = committed[-1].seq
            self.on_commit(committed)
        fresh = {item.event.id: item.seq for item in committed}
        for submission in batch:
            if submission.done.done():  # its caller went away; the events are kept all the same
                continue
            answers = []
            for event in submission.events:
                seq = fresh.pop(event.id, None)
                answers.append(Appended(seq, True) if seq else Appended(known[event.id], False))
                known.setdefault(event.id, answers[-1].seq)
            submission.done.set_result(answers)

    async def _transact(self, events: list[Event]) -> tuple[dict[str, int], list[Committed]]:
        """Write one batch; gives the seq of ids that were there already, and what is new."""
        known, touched = await self._already_stored(events)
        committed, rows, tags = [], [], []
        revocations: list[tuple[str, str, int]] = []
        flags: list[tuple[str, str, int]] = []
        seq = self.last_seq
        for event in events:
            if event.id in known:
                continue
            seq += 1
            serialised = event.to_json()
            idkey = q.id_key(event.id)
            mark = q.LOBBY if kinds.LOBBY in event.tag_values("t") else 0
            committed.append(Committed(seq, event, serialised))
            rows.append((seq, serialised, idkey, q.author_key(event.agent_id), event.created_at, event.kind, mark))
            tags += [(key, event.created_at, idkey, seq, event.kind) for key in self.tag_keys(event)]
            if event.kind in (kinds.FLAG, kinds.REVOKE):
                says = [(value, event.agent_id, seq) for value in set(event.tag_values("e"))]
                (flags if event.kind == kinds.FLAG else revocations).extend(says)
                touched.update(target for target, _, _ in says)
        if not rows:
            return known, []
        write = self._writer.executemany
        await write("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        if tags:
            await write("INSERT OR IGNORE INTO tags VALUES (?, ?, ?, ?, ?)", tags)
        if revocations:
            await write("INSERT INTO revocations VALUES (?, ?, ?)", revocations)
        if flags:
            await write("INSERT INTO flags VALUES (?, ?, ?)", flags)
        targets = [t for t in touched if len(t) == 64 and t.isascii() and _is_hex(t)]
        if targets:
            await write(_REMARK, [{"id": t, "idkey": q.id_key(t), "raw_id": t.encode()} for t in targets])
        await self._writer.commit()
        return known, committed

    def tag_keys(self, event: Event) -> set[int]:
        """Give the integer keys under which this database finds the event by its tags."""
        pairs = {(tag[0], tag[1]) for tag in event.tags if len(tag) > 1 and tag[0] in q.INDEXED_TAGS}
        return {q.tag_key(self._secret, name, value) for name, value in pairs}

    async def _already_stored(self, events: list[Event]) -> tuple[dict[str, int], set[str]]:
        """Find which ids are stored, and which are awaited by a kind 9 or 7 that came before them."""
        ids = {event.id for event in events}
        found = await self._writer.execute_fetchall(
            _KNOWN_OR_AWAITED,
            {"keys": orjson.dumps([q.id_key(id_) for id_ in ids]).decode(), "ids": orjson.dumps(list(ids)).decode()},
        )
        known = {text: seq for seq, text in found if seq and text in ids}
        return known, {text for seq, text in found if not seq}

    # -- reading ---------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncIterator[aiosqlite.Connection]:
        reader = await self._readers.get()
        deadline = time.monotonic() + QUERY_SECONDS
        try:
            # The handler runs every 20,000 steps of SQLite's machine, about once a millisecond.
            await reader.set_progress_handler(lambda: time.monotonic() > deadline, 20_000)
            yield reader
        except sqlite3.Error as exc:
            raise translate(exc) from exc
        finally:
            self._readers.put_nowait(reader)

    async def _fetch(self, sql: str, args: Mapping[str, object] | Sequence[object]) -> list[sqlite3.Row]:
        async with self._reader() as reader:
            return list(await reader.execute_fetchall(sql, args))

    async def get(self, event_id: str) -> Stored | None:
        """Read one event; see `Store.get`."""
        if not _is_hex(event_id):
            return None
        rows = await self._fetch(_BY_ID, (q.id_key(event_id), event_id.encode()))
        if not rows:
            return None
        seq, raw, mark = rows[0]
        self._must_be_whole(seq, raw)
        return Stored(seq, raw, mark)

    async def author_and_kind(self, event_id: str) -> tuple[str, int] | None:
        """Say who wrote an event; see `Store.author_and_kind`."""
        event = self._in_flight.get(event_id)
        if event is None:
            stored = await self.get(event_id)
            if stored is None:
                return None
            event = Event.parse(stored.serialised)
        return event.agent_id, event.kind

    async def query(self, query: q.Query) -> Page:
        """Read a page; see `Store.query`. Raises `QueryTooExpensive`."""
        path = await self._choose_path(query.filter)
        statement = q.list_statement(query, path, self._secret)
        if statement is None:
            return Page([], None)
        rows = await self._fetch(statement.sql, statement.args)
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        whole = [bytes(raw) for seq, raw, _, _ in rows if self._is_whole(seq, raw)]
        return Page(whole, q.Cursor(rows[-1][2], rows[-1][3]) if more else None)

    async def _choose_path(self, filter_: Filter) -> str:
        paths = q.paths(filter_)
        if len(paths) == 1:
            return paths[0]
        probe = q.probe_statement(filter_, self._secret)
        (counts,) = await self._fetch(probe.sql, probe.args)
        return min(zip(counts, range(len(paths)), paths, strict=True))[2]

    async def replay(self, after: int, filter_: Filter, limit: int) -> Replay:
        """Read a stretch of the log; see `Store.replay`. Raises `StoreDamaged` rather than leave a gap."""
        part = await self._stretch(after, filter_, limit)
        for seq, raw in part.rows:
            self._must_be_whole(seq, raw)
        return part

    async def salvage(self, after: int, filter_: Filter, limit: int) -> Replay:
        """Read a stretch of the log as `replay` does, leaving damaged rows out."""
        part = await self._stretch(after, filter_, limit)
        return Replay([(seq, raw) for seq, raw in part.rows if self._is_whole(seq, raw)], part.complete_to)

    async def _stretch(self, after: int, filter_: Filter, limit: int) -> Replay:
        up_to = min(after + REPLAY_WINDOW, self.last_seq)
        statement = q.replay_statement(after, up_to, filter_, limit)
        found = await self._fetch(statement.sql, statement.args)
        return Replay([(seq, raw) for seq, raw in found], found[-1][0] if len(found) == limit else up_to)

    async def revocation(self, event_id: str) -> bytes | None:
        """Give the revoking event; see `Store.revocation`."""
        rows = await self._fetch(_REVOCATION, (q.id_key(event_id), event_id.encode(), event_id))
        return next((raw for seq, raw in rows if self._is_whole(seq, raw)), None)

    async def flags(self, event_id: str) -> list[bytes]:
        """Give the flags on an event; see `Store.flags`."""
        return [raw for seq, raw in await self._fetch(_FLAGS, (event_id,)) if self._is_whole(seq, raw)]

    async def backup(self, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the whole database to a new file while writing goes on; `progress(pages left, pages)`."""
        async with aiosqlite.connect(target) as copy:
            try:
                # 1,000 pages (4 MB) a step, so that a writer waits for no more than that.
                report = (lambda _status, left, total: progress(left, total)) if progress else None
                await self._writer.backup(copy, pages=1_000, progress=report)
            except sqlite3.Error as exc:
                raise translate(exc) from exc

    def _is_whole(self, seq: int, raw: bytes) -> bool:
        if id_of_serialised(raw) is not None:
            return True
        self.on_damage(seq)
        return False

    def _must_be_whole(self, seq: int, raw: bytes) -> None:
        if not self._is_whole(seq, raw):
            raise StoreDamaged(f"row {seq} no longer hashes to its id; `anporia-relay verify` names all such rows")


def _is_hex(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


_BY_ID = "SELECT seq, raw, mark FROM events WHERE idkey = ? AND substr(raw, 8, 64) = ?"

_KNOWN_OR_AWAITED = """
    SELECT e.seq, CAST(substr(e.raw, 8, 64) AS TEXT) FROM json_each(:keys) j CROSS JOIN events e ON e.idkey = j.value
    UNION ALL SELECT DISTINCT 0, target FROM json_each(:ids) j CROSS JOIN revocations r ON r.target = j.value
    UNION ALL SELECT DISTINCT 0, target FROM json_each(:ids) j CROSS JOIN flags f ON f.target = j.value
"""

# The mark is a pure function of the stored events, so the order in which they came does not matter.
# Kind 7 is never hidden (WIRE section 9).
_REMARK = f"""
    UPDATE events SET mark = (mark & {q.LOBBY})
        | CASE WHEN EXISTS (SELECT 1 FROM revocations r
                            WHERE r.target = :id AND r.agent = CAST(substr(events.raw, 86, 64) AS TEXT))
               THEN {q.REVOKED} ELSE 0 END
        | CASE WHEN kind <> 7 AND (SELECT count(DISTINCT agent) FROM flags WHERE target = :id) >= {FLAGS_TO_HIDE}
               THEN {q.HIDDEN} ELSE 0 END
    WHERE idkey = :idkey AND substr(raw, 8, 64) = :raw_id
"""

_REVOCATION = """
    SELECT k.seq, k.raw FROM events e
    CROSS JOIN revocations r ON r.agent = CAST(substr(e.raw, 86, 64) AS TEXT)
    CROSS JOIN events k ON k.seq = r.seq
    WHERE e.idkey = ? AND substr(e.raw, 8, 64) = ? AND r.target = ? ORDER BY r.seq
"""

_FLAGS = """
    SELECT k.seq, k.raw FROM flags f CROSS JOIN events k ON k.seq = f.seq
    WHERE f.target = ? ORDER BY k.created_at DESC, k.idkey DESC
"""
