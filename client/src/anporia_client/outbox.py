"""Signed events on their way: a SQLite file that outlives crashes, until each relay has answered for each.

An event waits for every relay on its own. What a relay refuses for good is kept too, with the reason,
until somebody has looked at it: nothing is dropped in silence.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anporia_wire import Event

from .errors import OutboxError

__all__ = ["Outbox", "Undelivered"]

_BUSY_S = 10.0  # how long to wait for another process that writes
_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order they were signed in, which relays get them in
    id   TEXT NOT NULL UNIQUE,
    json BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS delivery (
    seq    INTEGER NOT NULL REFERENCES event ON DELETE CASCADE,
    relay  TEXT NOT NULL,
    code   TEXT,  -- NULL while it waits; else why the relay will not have it
    detail TEXT,
    PRIMARY KEY (relay, seq)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An event that a relay does not have.

    `code` is None while it waits, else why the relay refused it; `event` is None for one whose bytes are
    damaged, with the code `damaged`.
    """

    id: str
    event: Event | None
    relay: str
    code: str | None
    detail: str | None


class Outbox:
    """The outbox in a file. Threads and processes may share it. Raises `OutboxError`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        with self._errors():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.path.exists():
                # letters and drafts lie in it: for its owner's eyes only, from the first byte on
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(self.path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
            try:
                # FULL: what publish() has returned for must survive a power cut
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("PRAGMA foreign_keys=ON")
                self._db.executescript(_SCHEMA)
            except sqlite3.Error:
                self._db.close()
                raise

    def put(self, events: Sequence[Event], relays: Sequence[str]) -> None:
        """Keep events for relays, in this order; on disk when this returns.

        One that is there keeps its place, and waits anew for each of these relays, also for one that refused it.
        """
        with self._transaction() as db:
            for event in events:
                db.execute("INSERT OR IGNORE INTO event (id, json) VALUES (?, ?)", (event.id, event.to_json()))
                db.executemany(
                    "INSERT OR REPLACE INTO delivery (seq, relay) SELECT seq, ? FROM event WHERE id = ?",
                    [(url, event.id) for url in relays],
                )

    def waiting(self, relay: str, limit: int = 1) -> list[Event]:
        """Give the oldest events that wait for a relay."""
        sql = "SELECT id, json FROM delivery JOIN event USING (seq) WHERE relay = ? AND code IS NULL ORDER BY seq"
        found: list[Event] = []
        with self._errors(), self._lock:
            rows = self._db.execute(sql, (relay,))
            while len(found) < limit and (row := rows.fetchone()) is not None:
                event = _read(*row)
                if event is not None:  # a damaged one must not stand in the others' way for ever
                    found.append(event)
            rows.close()
        return found

    def undelivered(self) -> list[Undelivered]:
        """Give everything that waits or was refused, oldest first."""
        sql = "SELECT id, json, relay, code, detail FROM delivery JOIN event USING (seq) ORDER BY seq, relay"
        with self._errors(), self._lock:
            return [_undelivered(*row) for row in self._db.execute(sql)]

    def took(self, event_id: str, relay: str) -> None:
        """Note that a relay has an event; one that all have is forgotten."""
        self._settle("DELETE FROM delivery WHERE relay = ? AND seq = ?", (relay,), event_id)

    def refused(self, event_id: str, relay: str, code: str, detail: str) -> None:
        """Note that a relay will never have an event, and why."""
        sql = "UPDATE delivery SET code = ?, detail = ? WHERE relay = ? AND seq = ?"
        self._settle(sql, (code, detail, relay), event_id)

    def forget(self, event_id: str) -> bool:
        """Take an event out, delivered or not; says whether it was there."""
        with self._transaction() as db:
            return bool(db.execute("DELETE FROM event WHERE id = ?", (event_id,)).rowcount)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _settle(self, sql: str, values: tuple[str, ...], event_id: str) -> None:
        with self._transaction() as db:
            row = db.execute("SELECT seq FROM event WHERE id = ?", (event_id,)).fetchone()
            if row is None:
                return  # another process that shares the file was first
            db.execute(sql, (*values, row[0]))
            db.execute("DELETE FROM event WHERE seq = ? AND NOT EXISTS (SELECT 1 FROM delivery WHERE seq = ?)", row * 2)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors(), self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise OutboxError(f"outbox {self.path}: {getattr(exc, 'strerror', None) or exc}") from None


def _undelivered(id_: str, json: bytes, relay: str, code: str | None, detail: str | None) -> Undelivered:
    event = _read(id_, json)
    if event is None:
        return Undelivered(id_, None, relay, "damaged", "its bytes in the outbox are not what was written")
    return Undelivered(id_, event, relay, code, detail)


def _read(id_: str, json: bytes) -> Event | None:
    try:
        event = Event.from_stored(json)
    except (ValueError, KeyError, TypeError):
        return None
    return event if event.id == id_ else None
