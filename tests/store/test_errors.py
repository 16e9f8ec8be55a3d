"""Each error of sqlite3 becomes one of ours."""

from __future__ import annotations

import sqlite3

import pytest

from anporia_store import QueryTooExpensive, StoreBusy, StoreDamaged, StoreError, StoreFull, StoreUnusable
from anporia_store.errors import translate
from anporia_wire import AnporiaError


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_IOERR_WRITE, StoreFull),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreFull),
        (sqlite3.SQLITE_IOERR_SHMSIZE, StoreFull),
        (sqlite3.SQLITE_CORRUPT, StoreDamaged),
        (sqlite3.SQLITE_CORRUPT_INDEX, StoreDamaged),
        (sqlite3.SQLITE_NOTADB, StoreDamaged),
        (sqlite3.SQLITE_IOERR_SHORT_READ, StoreDamaged),
        (sqlite3.SQLITE_INTERRUPT, QueryTooExpensive),
        (sqlite3.SQLITE_BUSY, StoreBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreBusy),
        (sqlite3.SQLITE_CANTOPEN, StoreUnusable),
        (sqlite3.SQLITE_READONLY_DIRECTORY, StoreUnusable),
        (sqlite3.SQLITE_IOERR_LOCK, StoreError),
        (sqlite3.SQLITE_ERROR, StoreError),
        (None, StoreError),
    ],
)
def test_codes(code: int | None, error: type[StoreError]) -> None:
    given = sqlite3.OperationalError("what SQLite said")
    if code is not None:
        given.sqlite_errorcode = code
    translated = translate(given)
    assert type(translated) is error
    assert isinstance(translated, AnporiaError)
    if error is not QueryTooExpensive:
        assert "what SQLite said" in str(translated)


def test_bytes_that_are_no_text() -> None:
    assert type(translate(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))) is StoreDamaged
    assert type(translate(sqlite3.OperationalError("Could not decode to UTF-8 column"))) is StoreDamaged
