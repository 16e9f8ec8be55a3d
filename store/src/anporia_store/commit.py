"""Group commit: while one transaction is on its way to disk, the next batch gathers behind it.

An append waits for the transaction that carries it, so the cost of a sync is shared by all that wait
(docs/performance.md). There is one writer; the order of its commits is the order of the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiosqlite

from anporia_wire import Event

from .checkpoint import Checkpoints
from .errors import DRIVER_ERRORS, StoreError, translate
from .store import Appended, Committed
from .thread import within
from .transaction import PAGES_A_MARK, REMARK, Draft, Transaction, targets_of

if TYPE_CHECKING:
    from .sqlite import SqliteStore

__all__ = ["GroupCommit"]

MAX_BATCH = 1_000  # rows a transaction: beyond it the time to commit grows faster than the gain
MAX_MARKED = 500  # rows a transaction of marks: 5 ms, for which publishing waits


@dataclass(slots=True)
class _Submission:
    drafts: Sequence[Draft]
    done: asyncio.Future[list[Appended]]


@dataclass(slots=True)
class _Written:
    """A batch on disk, of which nobody was told yet."""

    batch: list[_Submission]
    known: dict[str, int]
    committed: list[Committed]
    events: int
    seconds: float


class GroupCommit:
    """The writing half of a store: moves its `last_seq` and `writable`, calls its listeners."""

    def __init__(
        self, store: SqliteStore, connection: aiosqlite.Connection, checkpointing: aiosqlite.Connection
    ) -> None:
        self._store = store
        self._connection = connection
        self._waiting: list[_Submission] = []
        self._in_flight: dict[str, tuple[_Submission, Event]] = {}  # by event id; the newest submission of it
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()  # one transaction at a time on the one connection
        self._checkpoints = Checkpoints(checkpointing, self._writing)
        self._closing = False
        self._last = store.last_seq  # on disk; the store's own is what its listeners were told
        self._task = asyncio.create_task(self._write_forever(), name="store-writer")

    async def close(self) -> None:
        """Commit what is queued."""
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._task])  # whatever ended it, those who waited for it have been told
        await self._checkpoints.close()

    @property
    def queued(self) -> int:
        """How many events wait for a transaction."""
        return sum(len(submission.drafts) for submission in self._waiting)

    def on_the_way(self, event_id: str) -> Event | None:
        """Give an event that is queued or being committed."""
        _, event = self._in_flight.get(event_id, (None, None))
        return event

    async def append(self, events: Sequence[Event]) -> list[Appended]:
        """Keep events, in order; see `Store.append`. Known ids are answered with their first place."""
        if self._closing:
            raise StoreError("the store is closed for writing")
        try:
            drafts = [Draft.of(event, self._store.tag_keys(event)) for event in events]
        except Exception as exc:  # nothing that `Event.parse` gives
            raise StoreError(f"{type(exc).__name__}: {exc}") from exc
        submission = _Submission(drafts, asyncio.get_running_loop().create_future())
        self._waiting.append(submission)
        for draft in drafts:
            self._in_flight[draft.event.id] = (submission, draft.event)
        self._wake.set()
        return await submission.done

    async def _write_forever(self) -> None:
        try:
            while not (self._closing and not self._waiting):
                if not self._waiting:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                async with self._writing:
                    written = await self._write_batch(self._take())
                if written:  # told of in the next turn, when the thread has the next batch already
                    asyncio.get_running_loop().call_soon(self._acknowledge, written)
        finally:  # also when cancelled: nobody may wait for a writer that is gone
            self._closing = True
            self._refuse(self._waiting, StoreError("the store was closed before the event was kept"))
            self._waiting = []

    def _take(self) -> list[_Submission]:
        """Take submissions up to `MAX_BATCH` events; one larger than that goes alone, never split."""
        taken, size = 0, 0
        for submission in self._waiting:
            size += len(submission.drafts)
            if taken and size > MAX_BATCH:
                break
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch

    async def _write_batch(self, batch: list[_Submission]) -> _Written | None:
        unique: dict[str, Draft] = {}
        for submission in batch:
            for draft in submission.drafts:
                unique.setdefault(draft.event.id, draft)  # of two signatures over one id the first is kept
        started = time.perf_counter()
        try:
            known, committed, pages = await self._transact(list(unique.values()))
            self._checkpoints.notice(pages)
        except BaseException as exc:
            with contextlib.suppress(sqlite3.Error):  # after FULL, SQLite has often rolled back by itself
                await self._connection.rollback()
            if isinstance(exc, DRIVER_ERRORS):
                self._store.writable = False
                self._refuse(batch, translate(exc))
            else:
                self._refuse(batch, StoreError(f"{type(exc).__name__}: {exc}"))
            if not isinstance(exc, Exception):
                raise
            return None
        if committed:
            self._last = committed[-1].seq
        return _Written(batch, known, committed, len(unique), time.perf_counter() - started)

    def _acknowledge(self, written: _Written) -> None:
        """Tell the listeners of what was committed, then those who wait for it."""
        self._settle(written.batch)
        known, committed = written.known, written.committed
        if committed:  # known events alone prove nothing about the disk
            self._store.writable = True
            self._store.last_seq = committed[-1].seq
            self._tell(self._store.on_commit, committed)
        self._tell(self._store.on_transaction, written.events, written.seconds)
        fresh = {item.event.id: item.seq for item in committed}
        for submission in written.batch:
            if submission.done.done():  # its caller went away; the events are kept all the same
                continue
            answers = []
            for draft in submission.drafts:
                seq = fresh.pop(draft.event.id, None)
                answers.append(Appended(seq, True) if seq else Appended(known[draft.event.id], False))
                known.setdefault(draft.event.id, answers[-1].seq)
            submission.done.set_result(answers)

    def _refuse(self, batch: list[_Submission], failure: StoreError) -> None:
        self._settle(batch)
        for submission in batch:
            if not submission.done.done():
                submission.done.set_exception(failure)

    def _settle(self, batch: list[_Submission]) -> None:
        """Take a batch's events out of the flight, except those that wait once more in a later one."""
        for submission in batch:
            for draft in submission.drafts:
                id_ = draft.event.id
                if id_ in self._in_flight and self._in_flight[id_][0] is submission:
                    del self._in_flight[id_]

    def _tell(self, listener: Callable[..., None], *what: object) -> None:
        """Call a listener; its error is reported, but must keep neither acknowledgements nor the writer back."""
        try:
            listener(*what)
        except Exception as exc:
            context = {"message": f"a listener of the store failed: {listener!r}", "exception": exc}
            asyncio.get_running_loop().call_exception_handler(context)

    async def _transact(self, drafts: list[Draft]) -> tuple[dict[str, int], list[Committed], int]:
        """Write one batch; gives the seq of ids that were there, what is new, and some how many pages it took."""
        return await within(self._connection, Transaction(drafts, self._last, self._store.is_whole))

    async def distrust(self, targets: Set[str]) -> int:
        """Hide exactly these events on account of trust; see `Store.distrust`."""
        async with self._writing:
            rows = await self._connection.execute_fetchall("SELECT CAST(target AS TEXT) FROM distrusted")
        known = {row[0] for row in rows}
        changes = [(target, True) for target in sorted(targets - known)]
        changes += [(target, False) for target in sorted(known - targets)]
        for at in range(0, len(changes), MAX_MARKED):
            async with self._writing:  # publishing goes on in between
                await self._mark_distrusted(changes[at : at + MAX_MARKED])
        return len(changes)

    async def _mark_distrusted(self, changes: list[tuple[str, bool]]) -> None:
        write = self._connection.executemany
        try:
            await write("INSERT INTO distrusted VALUES (?)", [(target,) for target, hidden in changes if hidden])
            await write(
                "DELETE FROM distrusted WHERE target = ?", [(target,) for target, hidden in changes if not hidden]
            )
            await write(REMARK, targets_of(target for target, _ in changes))
            await self._connection.commit()
            self._checkpoints.notice(len(changes) * PAGES_A_MARK)
        except BaseException as exc:
            with contextlib.suppress(sqlite3.Error):
                await self._connection.rollback()
            raise (translate(exc) if isinstance(exc, DRIVER_ERRORS) else exc) from exc
