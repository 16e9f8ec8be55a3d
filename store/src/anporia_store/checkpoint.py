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

# Some 5,000 events. A larger log saves little more, and the next start after a crash reads all of it.
LOG_BYTES = 64 * 1024 * 1024
ROW_BYTES = 12 * 1024  # of pages that an event's row and its places in the indexes touch (2.8 pages measured)
REST_PAGES = 500  # of 4 KiB: as many as the writer may wait for, some 3 ms and a sync
MOST_PASSES = 5  # each is shorter than the one before by as much as the disk is faster than the writer


class Checkpoints:
    """Checkpoints one database when its log has grown; `writing` is held while the writer must wait."""

    def __init__(self, writer: aiosqlite.Connection, own: aiosqlite.Connection, writing: asyncio.Lock) -> None:
        self._writer = writer
        self._own = own
        self._writing = writing
        self._grown = 0  # bytes since the last checkpoint, as good as they can be told from outside
        self._failed = False  # which is said once
        self._task: asyncio.Task[None] | None = None

    def notice(self, rows: int, size: int) -> None:
        """Hear of a transaction of so many rows with so many bytes, and begin when it is time."""
        self._grown += rows * ROW_BYTES + size
        if self._grown >= LOG_BYTES and self._task is None:
            self._grown = 0
            self._task = asyncio.create_task(self._run(), name="store-checkpoint")

    async def close(self) -> None:
        """Let a checkpoint that is under way end, and the connection go."""
        if self._task:
            await asyncio.wait([self._task])
        await self._own.close()

    async def _run(self) -> None:
        try:
            for _ in range(MOST_PASSES):
                if await _pass(self._own) <= REST_PAGES:
                    break
            async with self._writing:  # with nothing left the next transaction begins the log anew, in the same file
                await _pass(self._writer)
            self._failed = False
        except DRIVER_ERRORS as exc:  # a full disk, say: nothing is lost, it all stays in the log until the next time
            if not self._failed:
                log.warning("the write-ahead log could not be moved into the database", extra={"problem": str(exc)})
            self._failed = True
        finally:
            self._task = None


async def _pass(connection: aiosqlite.Connection) -> int:
    """Copy what can be copied now; gives how many pages are left."""
    ((_, pages, copied),) = await connection.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
    return int(pages) - int(copied)
