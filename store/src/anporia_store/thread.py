"""Running a whole piece of work in the thread of an aiosqlite connection.

Each call on such a connection goes to its thread and back, some 60 us; a transaction of five statements would wait five
times. aiosqlite has no public way to hand over a function; what is used here is held by a contract test.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import aiosqlite

__all__ = ["within"]

T = TypeVar("T")


async def within(connection: aiosqlite.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Call `work` with the driver's own connection, in its thread; gives or raises what it does."""
    result: T = await connection._execute(lambda: work(connection._conn))  # type: ignore[no-untyped-call]
    return result
