"""The database file: making, checking and locking it. No queries on events here."""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import aiosqlite

from .errors import DRIVER_ERRORS, StoreBusy, StoreDamaged, StoreUnusable, translate

__all__ = ["APPLICATION_ID", "Lock", "connect", "open_checkpointer", "open_reader", "open_writer"]

APPLICATION_ID = 0x414E504F  # "ANPO" in SQLite's header field for it: says whose file this is

_ONE_PAGE = 65_536  # the largest there is; what a creation that broke off leaves is no larger

_BUSY_SECONDS = 5.0  # how long to wait for another connection's lock; commits take milliseconds


class Lock:
    """One writing process a database: an advisory lock on a file beside it, freed when the process dies."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    @classmethod
    def take(cls, path: Path) -> Lock:
        """Take the lock or raise `StoreBusy`; `StoreUnusable` when the folder cannot be written."""
        import fcntl  # POSIX only, as the relay is; readers never come here

        try:
            file = open(path.with_name(path.name + ".lock"), "ab")  # noqa: SIM115  # held until release
        except OSError as exc:
            raise StoreUnusable(f"cannot write beside {path}: {exc.strerror}") from exc
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise StoreBusy(f"{path} is in use by another process; stop that relay or import first") from None
        return cls(file)

    def release(self) -> None:
        """Let go; the empty lock file stays, since removing it would race with the next holder."""
        self._file.close()


async def connect(database: Path | str, *, uri: bool = False) -> aiosqlite.Connection:
    """Open any file. Raises `StoreUnusable`."""
    connection = aiosqlite.connect(database, timeout=_BUSY_SECONDS, uri=uri)
    # A program that forgot to close its store, or could not, must still end: what it was promised is on disk.
    thread: Any = connection._thread
    thread.daemon = True
    try:
        return await connection
    except sqlite3.Error as exc:
        thread.join(_BUSY_SECONDS)  # it has a last word for this loop, which may be closed next
        raise StoreUnusable(f"cannot open {database}: {exc}") from exc


async def open_writer(path: Path) -> aiosqlite.Connection:
    """Open for writing; a new or empty file becomes a database of ours, an older one is migrated."""
    if path.is_file() and 0 < path.stat().st_size < 512:  # SQLite would take it for empty and overwrite it
        raise StoreUnusable(f"{path} is not an SQLite database")
    connection = await connect(path)
    async with _closed_on_failure(connection):
        version = await _our_version(connection, path, empty_is_ours=True)
        ((mode,),) = await connection.execute_fetchall("PRAGMA journal_mode = WAL")
        if mode != "wal":  # some network file systems: readers and writer would block each other
            raise StoreUnusable(f"{path} cannot use a write-ahead log there; put it on a local disk")
        await connection.execute("PRAGMA synchronous = FULL")  # an acknowledgement is a promise (decision 0004)
        await connection.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoint.py does it
        await connection.execute("PRAGMA cache_size = -65536")  # 64 MiB: the inner pages of indexes at 10M events
        await _migrate(connection, version)
        await _check_schema(connection, path)
    return connection


async def open_checkpointer(path: Path) -> aiosqlite.Connection:
    """Open a database that was just opened for writing, to move its log into it."""
    connection = await connect(path)
    async with _closed_on_failure(connection):
        await connection.execute("PRAGMA synchronous = FULL")
        await connection.execute("PRAGMA busy_timeout = 0")  # it never waits for a reader: the writer waits for it
    return connection


async def open_reader(path: Path) -> aiosqlite.Connection:
    """Open an existing database of ours for reading only."""
    if not path.exists():
        raise StoreUnusable(f"{path} does not exist")
    connection = await connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    async with _closed_on_failure(connection):
        version, newest = await _our_version(connection, path, empty_is_ours=False), len(_migrations())
        if version < newest:
            raise StoreUnusable(f"{path} has an older schema ({version} of {newest}); start a relay on it once")
        await _check_schema(connection, path)
        await connection.execute("PRAGMA cache_size = -16384")  # 16 MiB; the operating system caches the rest
    return connection


@asynccontextmanager
async def _closed_on_failure(connection: aiosqlite.Connection) -> AsyncIterator[None]:
    """Close a connection that cannot be opened after all, and translate what the driver said."""
    try:
        yield
    except BaseException as exc:
        await connection.close()
        if isinstance(exc, DRIVER_ERRORS):
            raise translate(exc) from exc
        raise


async def _our_version(connection: aiosqlite.Connection, path: Path, *, empty_is_ours: bool) -> int:
    """Give the schema version (0 for an empty file); raise for a file that is not ours or is newer."""
    try:
        ((application,),) = await connection.execute_fetchall("PRAGMA application_id")
        ((version,),) = await connection.execute_fetchall("PRAGMA user_version")
        ((tables,),) = await connection.execute_fetchall("SELECT count(*) FROM sqlite_master")
    except DRIVER_ERRORS as exc:
        if getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
            raise StoreUnusable(f"{path} is not an SQLite database") from exc
        raise
    if not tables:
        if empty_is_ours and path.stat().st_size <= _ONE_PAGE:
            return 0
        if application == APPLICATION_ID:
            raise StoreDamaged(f"{path} has lost its tables; restore a backup")  # and it is not made anew over them
    if application != APPLICATION_ID:
        raise StoreUnusable(f"{path} is a database of another program")
    newest = len(_migrations())
    if version > newest:
        raise StoreUnusable(f"{path} was written by a newer version (schema {version}, this one knows {newest})")
    return int(version)


async def _check_schema(connection: aiosqlite.Connection, path: Path) -> None:
    """Compare the stored definitions: one flipped bit in `PRIMARY KEY` makes a full log look empty."""
    fresh = sqlite3.connect(":memory:")
    try:
        for script in _migrations():
            fresh.executescript(script)
        expected = set(fresh.execute(_DEFINITIONS))
    finally:
        fresh.close()
    if not expected <= set(await connection.execute_fetchall(_DEFINITIONS)):  # more do no harm, as ANALYZE makes
        raise StoreDamaged(f"{path} no longer has the tables that were made in it; restore a backup")


_DEFINITIONS = "SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_master"


async def _migrate(connection: aiosqlite.Connection, version: int) -> None:
    for number, script in enumerate(_migrations(), start=1):
        if number <= version:
            continue
        first = ""
        if number == 1:  # names the database for ever, and the secret that nobody outside can hash tags with
            first = (
                f"INSERT INTO meta VALUES ('database_id', CAST('{secrets.token_hex(4)}' AS BLOB));"
                f"INSERT INTO meta VALUES ('tag_secret', x'{secrets.token_hex(16)}');"
                f"PRAGMA application_id = {APPLICATION_ID};"
            )
        await connection.executescript(f"BEGIN; {script} {first} PRAGMA user_version = {number}; COMMIT;")


def _migrations() -> list[str]:
    text = files("anporia_store").joinpath("schema.sql").read_text("utf-8")
    return re.split(r"^-- migration \d+:.*$", text, flags=re.MULTILINE)[1:]
