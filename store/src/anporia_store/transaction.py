"""One transaction of the log: called in the writing connection's own thread, so that the loop waits for it once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import orjson

from anporia_wire import Event, is_id, kinds

from . import query as q
from .checkpoint import PAGE
from .store import Committed

__all__ = ["MARKS", "PAGES_A_MARK", "REMARK", "Draft", "Transaction", "targets_of"]

_ROWS_AT_ONCE = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)  # few sizes: the driver keeps all these statements prepared

# What an event's places in the indexes touch (2.8 measured, of which one is a tag's), and a change of its mark: the row
# and the three indexes that hold the mark.
PAGES_A_ROW, PAGES_A_MARK = 2, 4

FLAGS_TO_HIDE = 3  # distinct agents (WIRE section 9)


class Draft(NamedTuple):
    """An event, and the columns of its rows without `seq`."""

    event: Event
    row: tuple[int, int, int, int, int, bytes]
    tags: list[tuple[int, int, int]]

    @classmethod
    def of(cls, event: Event, tag_keys: Iterable[int]) -> Draft:
        """Work out what an event's rows hold, but for its place."""
        idkey = q.id_key(event.id)
        mark = q.LOBBY if kinds.in_lobby(event) else 0
        row = (idkey, q.author_key(event.agent_id), event.created_at, event.kind, mark, event.to_json())
        return cls(event, row, [(key, event.created_at, idkey) for key in tag_keys])


class Transaction:
    """Writes new events, and what kinds 9 and 7 say of others; `last` is the seq of the log's newest event."""

    def __init__(self, drafts: Sequence[Draft], last: int, is_whole: Callable[[int, bytes], bool]) -> None:
        self._drafts = drafts
        self._last = last
        self._is_whole = is_whole

    def __call__(self, connection: sqlite3.Connection) -> tuple[dict[str, int], list[Committed], int]:
        """Write; gives the seq of ids that were there already, what is new, and some how many pages it took."""
        known, damaged, touched = self._already_stored(connection)
        committed: list[Committed] = []
        rows: list[object] = []  # flat, as they are bound
        tags: list[object] = []
        revocations: list[tuple[str, str, int]] = []
        flags: list[tuple[str, str, int]] = []
        last = self._last
        for event, row, keys in self._drafts:
            if event.id in damaged:  # an acknowledgement says that the event is here whole: mend its row
                seq = known[event.id]
                touched.add(event.id)
            elif event.id in known:
                continue
            else:
                seq = last = last + 1
                committed.append(Committed(seq, event, row[-1]))
            rows += (seq, *row)
            for key in keys:
                tags += (*key, seq, event.kind)
            if event.kind in (kinds.FLAG, kinds.REVOKE):
                # Upper-case ids are accepted and mean nothing, as in published relays (WIRE section 9).
                says = [(value, event.agent_id, seq) for value in set(event.tag_values("e")) if is_id(value)]
                (flags if event.kind == kinds.FLAG else revocations).extend(says)
                touched.update(target for target, _, _ in says)
        if not rows:
            return known, [], 0
        write = connection.executemany
        if damaged:
            write("DELETE FROM events WHERE seq = ?", [(known[id_],) for id_ in damaged])
        _insert(connection, "INSERT OR FAIL INTO events VALUES ", rows, 7)
        _insert(connection, "INSERT OR IGNORE INTO tags VALUES ", tags, 5)
        if revocations:
            write("INSERT OR IGNORE INTO revocations VALUES (?, ?, ?)", revocations)
        if flags:
            write("INSERT OR IGNORE INTO flags VALUES (?, ?, ?)", flags)
        if touched:
            write(REMARK, targets_of(touched))
        connection.commit()
        size = sum(len(item.serialised) for item in committed)
        pages = PAGES_A_ROW * len(committed) + len(tags) // 5 + PAGES_A_MARK * len(touched) + size // PAGE
        return known, committed, pages

    def _already_stored(self, connection: sqlite3.Connection) -> tuple[dict[str, int], set[str], set[str]]:
        """Find which ids are stored, which of them no longer whole, and which a kind 9 or 7 awaits."""
        ids = {draft.event.id.encode(): draft.event.id for draft in self._drafts}
        found = connection.execute(
            _KNOWN_OR_AWAITED,
            {
                "keys": orjson.dumps([draft.row[0] for draft in self._drafts]).decode(),
                "ids": orjson.dumps(list(ids.values())).decode(),
            },
        )
        known, damaged, awaited = {}, set(), set()
        for seq, id_, raw in found:
            if not seq:
                awaited.add(id_)
            elif id_ in ids:
                known[ids[id_]] = seq
                if not self._is_whole(seq, raw):
                    damaged.add(ids[id_])
        return known, damaged, awaited


def _insert(connection: sqlite3.Connection, into: str, values: Sequence[object], columns: int) -> None:
    """Insert rows, given as one flat list of values, by as few statements as will do.

    The driver gives up Python's lock for each step of a statement and has to win it back from the event loop after it:
    a statement a row would mean that hundreds of times in a transaction. Nothing here can break a constraint halfway;
    OR FAIL and OR IGNORE say so, else SQLite would keep a journal for undoing a part of the statement.
    """
    one = f"({', '.join('?' * columns)})"
    at, left = 0, len(values) // columns
    while left:
        some = next(size for size in _ROWS_AT_ONCE if size <= left)
        connection.execute(into + ", ".join([one] * some), values[at : at + some * columns])
        at += some * columns
        left -= some


def targets_of(targets: Iterable[str]) -> list[dict[str, object]]:
    """Give what `REMARK` binds for each target."""
    return [{"id": target, "idkey": q.id_key(target), "raw_id": target.encode()} for target in targets]


_KNOWN_OR_AWAITED = f"""
    SELECT e.seq, CAST(substr(e.raw, 8, 64) AS BLOB), {q.RAW.format("e")}
        FROM json_each(:keys) j CROSS JOIN events e ON e.idkey = j.value
    UNION ALL SELECT 0, j.value, NULL FROM json_each(:ids) j
        WHERE EXISTS (SELECT 1 FROM revocations WHERE target = j.value)
        OR EXISTS (SELECT 1 FROM flags WHERE target = j.value)
        OR EXISTS (SELECT 1 FROM distrusted WHERE target = j.value)
"""

# The mark is a pure function of the tables, so the order in which events came does not matter.
# Kind 7 is never hidden (WIRE section 9).
MARKS = f"""
    CASE WHEN EXISTS (SELECT 1 FROM revocations r
                      WHERE r.target = {{id}} AND r.agent = CAST(substr(events.raw, 86, 64) AS TEXT))
         THEN {q.REVOKED} ELSE 0 END
    | CASE WHEN kind <> 7 AND (SELECT count(DISTINCT agent) FROM flags WHERE target = {{id}}) >= {FLAGS_TO_HIDE}
           THEN {q.FLAGGED} ELSE 0 END
    | CASE WHEN kind <> 7 AND EXISTS (SELECT 1 FROM distrusted WHERE target = {{id}}) THEN {q.DISTRUSTED} ELSE 0 END
"""
REMARK = f"""
    UPDATE events SET mark = (mark & {q.LOBBY}) | {MARKS.format(id=":id")}
    WHERE idkey = :idkey AND substr(raw, 8, 64) = :raw_id
"""
