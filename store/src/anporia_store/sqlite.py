"""The `Store` on one SQLite file in WAL mode: reading and group commit put together, and its life."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence, Set
from pathlib import Path

import aiosqlite

from anporia_wire import Event

from .commit import GroupCommit
from .errors import DRIVER_ERRORS, StoreError, translate
from .files import Lock, connect, open_checkpointer, open_reader, open_writer
from .index import SearchIndex
from .reader import Reader
from .store import Appended, Committed

__all__ = ["SqliteStore"]

log = logging.getLogger("anporia.store")


class SqliteStore(Reader):
    """An event log on disk; make it with `SqliteStore.open`. One process writes, others may read beside it."""

    def __init__(self, path: Path, writer: aiosqlite.Connection, readers: list[aiosqlite.Connection]) -> None:
        super().__init__(path, readers)
        self.writable = True  # False from a failed transaction until the next good one
        self.on_commit: Callable[[Sequence[Committed]], None] = lambda _committed: None
        self.on_transaction: Callable[[int, float], None] = lambda _events, _seconds: None
        self.index: SearchIndex | None = None
        self._lock: Lock | None = None
        self._writer = writer  # of a store that is open for reading only: a reader without a time limit
        self._commits: GroupCommit | None = None

    @classmethod
    async def open(cls, path: Path | str, *, readers: int = 2, write: bool = True, search: bool = False) -> SqliteStore:
        """Open or (when writing) create the database; migrations run here.

        `write=False` leaves the file to a relay that may be running; `search` opens the index of words
        beside it, which then waits for `index.follow`. Raises `StoreUnusable` for a file
        that is not ours or newer than this program, `StoreBusy` when another process writes to it,
        `StoreDamaged`, `StoreFull`.
        """
        path = Path(path)
        lock = Lock.take(path) if write else None
        connections: list[aiosqlite.Connection] = []
        try:
            connections.append(await (open_writer(path) if write else open_reader(path)))
            if write:
                connections.append(checkpointer := await open_checkpointer(path))
            for _ in range(readers):
                connections.append(await open_reader(path))
            store = cls(path, connections[0], connections[-readers:])
            await store._load()
        except BaseException as exc:
            for connection in connections:
                await connection.close()
            if lock:
                lock.release()
            if isinstance(exc, DRIVER_ERRORS):
                raise translate(exc) from exc
            raise
        if write:
            store._lock = lock
            store._commits = GroupCommit(store, store._writer, checkpointer)
        if search:
            try:
                await store._open_index()
            except StoreError as exc:  # it is not needed for anything else
                log.warning("full-text search is off until the next start", extra={"problem": str(exc)})
            except BaseException:
                await store.close()
                raise
        return store

    async def _open_index(self) -> None:
        index = await SearchIndex.open(self)
        try:
            for reader in self._all_readers:
                await reader.execute("ATTACH ? AS search", (f"{index.path.absolute().as_uri()}?mode=ro",))
        except DRIVER_ERRORS as exc:
            await index.close()
            raise translate(exc) from exc
        self.index = index

    async def close(self) -> None:
        """Commit what is queued, then close the files."""
        self._closing = True
        if self._commits:
            await self._commits.close()
        await self._close_readers()
        try:
            if self.index:
                await self.index.close()
            await self._writer.close()
        finally:
            if self._lock:
                self._lock.release()

    @property
    def queued(self) -> int:
        """How many events wait for a transaction."""
        return self._commits.queued if self._commits else 0

    async def append(self, events: Sequence[Event]) -> list[Appended]:
        """Keep events, in order; see `Store.append`. Known ids are answered with their first place."""
        if self._commits is None:
            raise StoreError("the store is open for reading only")
        return await self._commits.append(events)

    async def author_and_kind(self, event_id: str) -> tuple[str, int] | None:
        """Say who wrote an event; see `Store.author_and_kind`."""
        event = self._commits.on_the_way(event_id) if self._commits else None
        if event is None:
            stored = await self.get(event_id)
            if stored is None:
                return None
            event = Event.from_stored(stored.serialised)
        return event.agent_id, event.kind

    async def distrust(self, targets: Set[str]) -> int:
        """Hide exactly these events; see `Store.distrust`."""
        if self._commits is None:
            raise StoreError("the store is open for reading only")
        return await self._commits.distrust(targets)

    async def backup(self, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the whole database to a new file while writing goes on; `progress(pages left, pages)`.

        `progress` is called in another thread. The copy is the log as it was at the start.
        """
        cancelled = False

        def report(_status: int, left: int, total: int) -> None:
            if cancelled:
                raise sqlite3.OperationalError("the backup was cancelled")
            if progress:
                progress(left, total)

        # On a connection of its own: neither the writer nor a reader waits for it.
        async with contextlib.AsyncExitStack() as stack:
            copy = await connect(target)
            stack.push_async_callback(copy.close)
            source = await open_reader(self.path)
            stack.push_async_callback(source.close)  # before `copy`, and after the step that is under way
            try:
                # In an open transaction the steps see one state; without, each commit would start them anew.
                await source.execute("BEGIN")
                await source.execute_fetchall("SELECT count(*) FROM meta")
                await source.backup(copy, pages=1_000, progress=report)
            except DRIVER_ERRORS as exc:
                raise translate(exc) from exc
            finally:
                cancelled = True
