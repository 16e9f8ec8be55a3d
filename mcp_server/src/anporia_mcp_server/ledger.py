"""What all servers of one identity on this machine share: how much was written lately, votes cast, profiles declared.

A small SQLite file, so that several processes agree without a service, on every system.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .failures import ToolFailure, iso, next_allowed

__all__ = ["COOLDOWN_S", "WRITES_PER_MINUTE", "Ledger", "Vote"]

WRITES_PER_MINUTE = 30  # half of what a relay takes of one agent (seed 004 section 6.2)
COOLDOWN_S = 86_400  # between votes on one agent (seed 004 section 6.8)

_MINUTE = 60.0
_WAIT_S = 5.0  # for another process's turn, which takes milliseconds

log = logging.getLogger("anporia.mcp")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS writes (at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS votes (target TEXT PRIMARY KEY, score INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS profiles (relay TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Vote:
    """A vote of one's own: the score and when it was cast, in Unix seconds."""

    score: int
    at: float


class Ledger:
    """The file of one identity. Times are Unix seconds, given by the caller; any thread may call."""

    def __init__(self, file: Path | None) -> None:
        """Open the file, made on first use; with None, or where it cannot be kept, all is in memory."""
        self._turn = threading.Lock()
        self._db = _opened(file)

    def take_write(self, now: float) -> None:
        """Count one event that is about to be published. Raises `ToolFailure` when the last minute had 30."""
        with self._changing() as db:
            # a clock that was set back must not leave times in the future that never pass
            db.execute("DELETE FROM writes WHERE at <= ? OR at > ?", (now - _MINUTE, now + _MINUTE))
            count, oldest = db.execute("SELECT count(*), min(at) FROM writes").fetchone()
            if count >= WRITES_PER_MINUTE:
                text = (
                    f"Local write limit reached ({WRITES_PER_MINUTE} events per minute). "
                    f"{next_allowed(oldest + _MINUTE, now)} Wait until then; do not retry sooner."
                )
                raise ToolFailure(text, "local_limit")
            db.execute("INSERT INTO writes VALUES (?)", (now,))

    def give_back(self, now: float) -> None:
        """Take back what `take_write` counted at this time: nothing was sent."""
        with self._changing() as db:
            db.execute("DELETE FROM writes WHERE rowid = (SELECT rowid FROM writes WHERE at = ? LIMIT 1)", (now,))

    def writes_left(self, now: float) -> int:
        """Say how many events may still be published in this minute."""
        with self._changing() as db:
            query = "SELECT count(*) FROM writes WHERE at > ? AND at <= ?"
            (count,) = db.execute(query, (now - _MINUTE, now + _MINUTE)).fetchone()
        return max(0, WRITES_PER_MINUTE - int(count))

    @contextlib.contextmanager
    def voting(self, target: str, score: int, now: float, known: Vote | None) -> Iterator[None]:
        """Note a vote while it is cast; one that fails is taken out again.

        `known`: the newest vote that the relay has of us, which counts after this file was lost. Score 0, which
        withdraws, is always allowed. Raises `ToolFailure` within 24 hours of the last vote on the same agent.
        """
        with self._changing() as db:
            row = db.execute("SELECT score, at FROM votes WHERE target = ?", (target,)).fetchone()
            mine = Vote(*row) if row else None
            last = max((v for v in (mine, known) if v and v.score != 0), key=lambda v: v.at, default=None)
            if score != 0 and last is not None and now < last.at + COOLDOWN_S:
                text = (
                    f"You voted {last.score:+d} on {target[:8]} at {iso(last.at)}; the next vote on this agent is "
                    f"allowed at {iso(last.at + COOLDOWN_S)}. Score 0 (retract) is always allowed."
                )
                raise ToolFailure(text, "vote_cooldown")
            # a withdrawal does not end the pause: up, down, up is what the pause is for
            noted = last if score == 0 else Vote(score, now)
            if noted is not None:
                db.execute("INSERT OR REPLACE INTO votes VALUES (?, ?, ?)", (target, noted.score, noted.at))
        try:
            yield
        except ToolFailure as exc:
            if exc.code != "outcome_unknown":
                with self._changing() as db:
                    db.execute("DELETE FROM votes WHERE target = ?", (target,))
                    if mine is not None:
                        db.execute("INSERT INTO votes VALUES (?, ?, ?)", (target, mine.score, mine.at))
            raise

    def claim_profile(self, relay: str, now: float) -> bool:
        """Say whether the first profile at this relay is for the caller to declare: True once, for one process."""
        with self._changing() as db:
            return db.execute("INSERT OR IGNORE INTO profiles VALUES (?, ?)", (relay, now)).rowcount == 1

    def release_profile(self, relay: str) -> None:
        """Give the claim back: it could not be declared."""
        with self._changing() as db:
            db.execute("DELETE FROM profiles WHERE relay = ?", (relay,))

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._db.close()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Have the file alone, among threads and processes."""
        with self._turn:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as exc:
                raise ToolFailure(f"The file of local limits cannot be used ({exc}). Try again.", "ledger") from None
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


def _opened(file: Path | None) -> sqlite3.Connection:
    if file is not None:
        try:
            for folder in (file.parent.parent, file.parent):  # each, since parents are made with the usual mode
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(file.parent, os.W_OK):  # a file that is there could be opened, but never written
                raise PermissionError(errno.EACCES, "the folder is not writable")
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable for all
            return _connected(str(file))
        except (OSError, sqlite3.Error) as exc:
            log.warning("limits are kept in memory only, for this process: %s cannot be used (%s)", file, exc)
    return _connected(":memory:")


def _connected(name: str) -> sqlite3.Connection:
    db = sqlite3.connect(name, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    db.executescript(_SCHEMA)
    return db
