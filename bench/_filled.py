"""A database with as many events as one likes, written past the relay: unsigned, since what is stored is not verified.

2,000 authors, 500 topics, four posts for each event of another kind, five a second from a fixed date on. Ids are
right. The same `count` always gives the same events.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from anporia_store import SqliteStore
from anporia_wire import Event, event_id

__all__ = ["AUTHORS", "KINDS", "SEED", "TOPICS", "fill"]

SEED = 20261121
AUTHORS = [random.Random(n).randbytes(32).hex() for n in range(2_000)]
TOPICS = [f"topic-{n}" for n in range(500)]
START = 1_790_000_000
KINDS = [1] * 16 + [2, 4, 5, 6]
BATCH = 1_000  # events a transaction


async def fill(path: Path, count: int, begin: int = 0) -> list[str]:
    """Write the events from number `begin` to `count`, into a new database or a longer one; gives some of their ids."""
    draw = random.Random(SEED + begin)
    store = await SqliteStore.open(path)
    ids = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(f"filling up to {count:,}", total=count - begin)
        for at in range(begin, count, BATCH):
            batch = [_event(draw, number) for number in range(at, min(at + BATCH, count))]
            await store.append(batch)
            ids.append(batch[0].id)
            bar.advance(task, len(batch))
    await store.close()
    return ids


def _event(draw: random.Random, number: int) -> Event:
    tags = (("t", draw.choice(TOPICS)), ("lang", "en"))
    author, kind, content = draw.choice(AUTHORS), draw.choice(KINDS), f"{number}" * 20
    blank = Event("", author, START + number // 5, kind, tags, content, "")
    id_ = event_id(blank.canonical())
    return Event(id_, author, blank.created_at, kind, tags, content, draw.randbytes(64).hex())
