"""Holding a whole database against itself: every id, signature, column and tag row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import orjson

from anporia_wire import Event, InvalidEvent, RuleBroken, kinds, verify_many

from . import query as q
from .errors import DRIVER_ERRORS, StoreDamaged, StoreError, translate
from .reader import must_ascend
from .sqlite import SqliteStore
from .transaction import MARKS

__all__ = ["Finding", "audit"]

_CHUNK = 500  # events verified at once: 5 to 20 ms of one core without the GIL, then the bar moves


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `seq` of the row (0: the file as a whole) and what."""

    seq: int
    problem: str


async def audit(store: SqliteStore, progress: Callable[[int], None] = lambda _done: None) -> AsyncIterator[Finding]:
    """Re-hash and re-verify every row and compare its index entries; yields what is wrong, in seq order.

    `progress` hears the number of rows done. Needs 40 to 75 us a row, most of it Ed25519.
    """
    last = store.last_seq  # a relay may be appending meanwhile
    done, after, tag_rows, size = 0, store.first_seq - 1, 0, _CHUNK
    while after < last:
        try:
            rows = await store._fetch(_ROWS, (after, last, size))
            must_ascend(after, rows)
        except StoreDamaged as exc:  # a page of the file: go on with ever less until it stands alone
            if size > 1:
                size //= 2
                continue
            yield Finding(after + 1, f"cannot be read: {exc}")
            after += 1
            continue
        except StoreError as exc:
            yield Finding(after + 1, f"cannot be read from here on: {exc}")
            return
        if not rows:
            break
        size = min(_CHUNK, size * 2)
        findings: list[Finding] = []
        whole: list[tuple[int, Event]] = []
        for seq, raw, *columns in rows:
            try:
                whole.append((seq, _examine(raw, columns)))
            except InvalidEvent as exc:
                wrong = "its bytes no longer hash to its id" if exc.code == "bad_id" else str(exc)
                findings.append(Finding(seq, f"event {raw[7:71].decode('ascii', 'replace')}: {wrong}"))
        answers = verify_many([event.signed() for _, event in whole])
        expected = [
            (key, event.created_at, q.id_key(event.id), seq) for seq, event in whole for key in store.tag_keys(event)
        ]
        tag_rows += len(expected)
        try:
            found = await store._fetch(_LACKING_TAGS, {"expected": orjson.dumps(expected).decode()})
        except StoreError as exc:
            findings.append(Finding(0, f"tag rows of events {after + 1} to {rows[-1][0]} cannot be read: {exc}"))
            found = []
        lacking = {row[0] for row in found}
        for (seq, event), good in zip(whole, answers, strict=True):
            if not good:
                findings.append(Finding(seq, f"event {event.id}: bad signature"))
            if seq in lacking:
                findings.append(Finding(seq, f"event {event.id}: a tag row is missing, so that tag does not find it"))
        for finding in sorted(findings, key=lambda finding: finding.seq):
            yield finding
        after, done = rows[-1][0], done + len(rows)
        progress(done)
    for finding in await _whole_file(store, last, tag_rows):
        yield finding


def _examine(raw: bytes, columns: list[int]) -> Event:
    event = Event.parse(raw)
    event.check_sizes()
    event.check_id()
    if event.to_json() != raw:
        raise RuleBroken("not_stored_form", "its bytes are not the stored form of the event")
    *keys, mark, marks = columns
    if keys != [q.id_key(event.id), q.author_key(event.agent_id), event.created_at, event.kind]:
        raise RuleBroken("columns_differ", "its index columns differ from the event")
    if mark != marks | (q.LOBBY if kinds.in_lobby(event) else 0):
        raise RuleBroken("mark_differs", "its mark (revoked, hidden, lobby) differs from what the log says")
    return event


async def _whole_file(store: SqliteStore, last: int, tag_rows: int) -> list[Finding]:
    try:
        ((count,),) = await store._writer.execute_fetchall("SELECT count(*) FROM tags WHERE seq <= ?", (last,))
        lines = [line for (line,) in await store._writer.execute_fetchall("PRAGMA integrity_check(20)") if line != "ok"]
    except DRIVER_ERRORS as exc:
        return [Finding(0, str(translate(exc)))]
    findings = [Finding(0, f"SQLite says: {line}") for line in lines]
    if count > tag_rows:
        findings.append(Finding(0, f"{count - tag_rows} tag rows belong to no sound event"))
    return findings


_ID = "CAST(substr(raw, 8, 64) AS TEXT)"
_ROWS = f"""
    SELECT seq, {q.RAW.format("events")}, idkey, author, created_at, kind, mark, {MARKS.format(id=_ID)}
    FROM events NOT INDEXED WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?
"""

_LACKING_TAGS = """
    SELECT DISTINCT json_extract(value, '$[3]') FROM json_each(:expected) WHERE NOT EXISTS (  -- ->> needs SQLite 3.38
        SELECT 1 FROM tags t WHERE t.tag = json_extract(value, '$[0]') AND t.created_at = json_extract(value, '$[1]')
        AND t.idkey = json_extract(value, '$[2]') AND t.seq = json_extract(value, '$[3]'))
"""
