"""Moving logs: import with every check but the date, export, and what happened by reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

from anporia_store import SqliteStore, StoreDamaged
from anporia_wire import BadSignature, Event, Filter, InvalidEvent, kinds, pow, verify_many

__all__ = ["ImportReport", "export_events", "import_events"]

_CHUNK = 500  # lines verified and committed together: 20 ms of signatures, one transaction
_EXAMPLES = 5  # refused lines named on the screen; all are counted

# An event is at most 512 KiB canonical; escaped as \\uXXXX each byte may take six.
MAX_LINE = 4 * 1024 * 1024


@dataclass(slots=True)
class ImportReport:
    """What an import did. `refused`: count by code; `examples`: (line number, code, text)."""

    lines: int = 0
    kept: int = 0
    duplicate: int = 0
    unproven: int = 0
    not_stored: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[int, str, str]] = field(default_factory=list)


async def import_events(
    store: SqliteStore,
    lines: Iterable[bytes],
    *,
    require_pow: bool = False,
    progress: Callable[[int], None] = lambda _bytes: None,
) -> ImportReport:
    """Keep each line that is an intrinsically valid event (decision 0002); dates are not judged.

    What is stored already is recognised before its signature is checked, so running the same import
    again goes on where an interrupted one stopped.
    """
    report = ImportReport()
    numbered = enumerate(lines, start=1)
    while chunk := list(islice(numbered, _CHUNK)):
        fresh: list[tuple[int, Event]] = []
        for number, line in chunk:
            progress(len(line))
            if not line.strip():
                continue
            report.lines += 1
            try:
                event = _intrinsic(line)
                if require_pow:
                    pow.check(event)
            except InvalidEvent as exc:
                _refuse(report, number, exc)
                continue
            if event.kind in kinds.NEVER_STORED:
                report.not_stored += 1
            elif await _is_stored(store, event):
                report.duplicate += 1
            else:
                fresh.append((number, event))
        signed = [event.signed() for _, event in fresh]
        genuine = await asyncio.to_thread(verify_many, signed)
        good = []
        for (number, event), true in zip(fresh, genuine, strict=True):
            if true:
                good.append(event)
            else:
                _refuse(report, number, BadSignature("bad signature"))
        for event, appended in zip(good, await store.append(good) if good else (), strict=True):
            report.kept += appended.new
            report.duplicate += not appended.new
            report.unproven += appended.new and not pow.proven(event)
    return report


async def export_events(
    store: SqliteStore, out: IO[bytes], progress: Callable[[int], None] = lambda _seq: None
) -> tuple[int, int]:
    """Write every whole event as a JSON line, in log order; gives (written, damaged or missing)."""
    written, after = 0, store.first_seq - 1
    due = store.last_seq - after  # seq has no gaps, so a row that a damaged page hides is noticed too
    while after < store.last_seq:
        part = await store.salvage(after, Filter(), 1_000)
        out.writelines(raw + b"\n" for _, raw in part.rows)
        written += len(part.rows)
        after = part.complete_to
        progress(after)
    return written, due - written


def read_lines(source: IO[bytes]) -> Iterator[bytes]:
    """Yield lines, a too long one cut short: it will be refused, the next line is read as usual."""
    while line := source.readline(MAX_LINE):
        yield line
        while len(line) == MAX_LINE and not line.endswith(b"\n"):
            line = source.readline(MAX_LINE)


def _intrinsic(line: bytes) -> Event:
    event = Event.parse(line)
    event.check_sizes()
    event.check_id()
    return event


async def _is_stored(store: SqliteStore, event: Event) -> bool:
    try:
        stored = await store.get(event.id)
    except StoreDamaged:
        return False  # appending mends its row, if only the row is damaged
    return stored is not None and stored.serialised == event.to_json()


def _refuse(report: ImportReport, number: int, error: InvalidEvent) -> None:
    report.refused[error.code] += 1
    if len(report.examples) < _EXAMPLES:
        report.examples.append((number, error.code, str(error)[:200]))
