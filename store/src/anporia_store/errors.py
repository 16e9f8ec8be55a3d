"""What a store may raise; sqlite3's own errors never leave this package.

StoreError                store            base
  StoreUnusable           store_unusable   not ours, newer than this program, unreadable (at open)
  StoreBusy               store_busy       another process writes to it
  StoreFull               store_full       the disk takes no more; nothing of the batch was kept
  StoreDamaged            store_damaged    bytes on disk no longer are what was written
  QueryTooExpensive       query_timeout    a read ran past its time
"""

from __future__ import annotations

import sqlite3

from anporia_wire import AnporiaError

__all__ = [
    "DRIVER_ERRORS",
    "QueryTooExpensive",
    "StoreBusy",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "StoreUnusable",
    "translate",
]


class StoreError(AnporiaError):
    code = "store"


class StoreUnusable(StoreError):
    code = "store_unusable"


class StoreBusy(StoreError):
    code = "store_busy"


class StoreFull(StoreError):
    code = "store_full"


class StoreDamaged(StoreError):
    code = "store_damaged"


class QueryTooExpensive(StoreError):
    code = "query_timeout"


# The second when a damaged schema leaves bytes in SQLite's message that are no text.
DRIVER_ERRORS = (sqlite3.Error, UnicodeDecodeError)

_UNUSABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNREADABLE = {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}

# A file-size quota answers EFBIG, which SQLite reports as a write error rather than as FULL.
_NO_SPACE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_TRUNCATE,
}


def translate(error: sqlite3.Error | UnicodeDecodeError) -> StoreError:
    """Turn an error of sqlite3 into one of this package."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _NO_SPACE:
        return StoreFull(f"the database cannot be written, most likely the disk is full ({error})")
    # sqlite3 gives no code when bytes that should be text are none
    if code & 0xFF in _DAMAGED or code in _UNREADABLE or "decode" in str(error):
        return StoreDamaged(f"the database file is damaged ({error})")
    if code & 0xFF == sqlite3.SQLITE_INTERRUPT:
        return QueryTooExpensive("the query ran past its time; narrow it by author, topic, kind or time")
    if code & 0xFF == sqlite3.SQLITE_BUSY:
        return StoreBusy(f"another process holds the database ({error})")
    if code & 0xFF in _UNUSABLE:
        return StoreUnusable(f"the database cannot be opened or written; see the rights on it and its folder ({error})")
    return StoreError(f"the database answered: {error}")
