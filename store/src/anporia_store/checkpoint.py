"""Moving the write-ahead log into the database file, beside the writer instead of in its way.

SQLite does it within a commit, every 1,000 pages: that commit waits for two syncs and for the pages of all before it,
and a page that many transactions touch is copied again and again. Here a connection of its own copies while the writer
goes on, and the writer stops only for the few pages that came meanwhile.
"""

from __future__ import annotations

import asyncio
import logging

import aiosqlite

from .errors import DRIVER_ERRORS

__all__ = ["Checkpoints"]

log = logging.getLogger("anporia.store")

LOG_BYTES = 64 * 1024 * 1024  # some 5,000 events; a larger log saves little more, and is read after a crash
PAGE = 4_096  # SQLite's own default
REST_PAGES = 500  # as many as the writer may wait for, some 3 ms and a sync
MOST_PASSES = 5  # each is shorter than the one before by as much as the disk is faster than the writer
AGAIN_BYTES = 4 * 1024 * 1024  # written until it is tried again, when somebody was reading in the log


class Checkpoints:
    """Checkpoints one database when its log has grown; `writing` is held while the writer must wait."""

    def __init__(self, connection: aiosqlite.Connection, writing: asyncio.Lock) -> None:
        self._connection = connection
        self._writing = writing
        self._grown = 0  # bytes since the log began, as good as they can be told from outside
        self._failed = False  # which is said once
        self._task: asyncio.Task[None] | None = None

    def notice(self, pages: int) -> None:
        """Hear of a transaction that wrote some so many pages, and begin when it is time."""
        self._grown += pages * PAGE
        if self._grown >= LOG_BYTES and self._task is None:
            self._grown = 0
            self._task = asyncio.create_task(self._run(), name="store-checkpoint")

    async def close(self) -> None:
        """Let a checkpoint that is under way end, and the connection go."""
        if self._task:
            await asyncio.wait([self._task])
        await self._connection.close()

    async def _run(self) -> None:
        try:
            if not await self._checkpoint():
                self._grown = LOG_BYTES - AGAIN_BYTES
            self._failed = False
        except DRIVER_ERRORS as exc:  # a full disk, say: nothing is lost, it all stays in the log until the next time
            if not self._failed:
                log.warning("the write-ahead log could not be moved into the database", extra={"problem": str(exc)})
            self._failed = True
        finally:
            self._task = None

    async def _checkpoint(self) -> bool:
        """Copy pages until few are left, then these with the writer stopped; says whether the log begins anew."""
        copied = -1
        for _ in range(MOST_PASSES):
            before = copied
            _, pages, copied = await self._pass("PASSIVE")
            if pages - copied <= REST_PAGES:
                break
            if copied == before:  # a reader, such as a backup, holds on to what comes next
                return False
        async with self._writing:
            busy, _, _ = await self._pass("RESTART")
        return not busy

    async def _pass(self, mode: str) -> tuple[int, int, int]:
        """Give whether it had to leave off, and how many pages the log has and how many of them are copied."""
        ((busy, pages, copied),) = await self._connection.execute_fetchall(f"PRAGMA wal_checkpoint({mode})")
        return busy, pages, copied
