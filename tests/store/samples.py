"""Stores to try things on, and events that hash to their id; signatures are real only where one is looked at."""

from __future__ import annotations

import random
from collections.abc import Sequence

from anporia_store import SqliteStore
from anporia_store.commit import GroupCommit
from anporia_wire import Event
from anporia_wire.canonical import event_id
from tests.wire.samples import NOW

AGENTS = [letter * 64 for letter in "0af"]  # the first and the last have the smallest and the largest key


def event(
    kind: int = 1, content: str = "", tags: Sequence[Sequence[str]] = (), *, agent: str = AGENTS[1], at: int = NOW
) -> Event:
    blank = Event("0" * 64, agent, at, kind, tuple(tuple(tag) for tag in tags), content, "0" * 128)
    return Event(event_id(blank.canonical()), agent, at, kind, blank.tags, content, blank.sig)


def newest_first(events: Sequence[Event]) -> list[bytes]:
    return [e.to_json() for e in sorted(events, key=lambda e: (-e.created_at, e.id))]


def some(count: int, *, seconds: int = 5, seed: int = 0) -> list[Event]:
    """Different events, many in the same second, of three agents, four kinds and topics of every rarity."""
    draw = random.Random(seed)
    return [
        event(
            draw.randrange(4),
            f"{seed} {number}",
            [("t", "all"), ("t", f"one of ten {number % 10}"), ("p", draw.choice(AGENTS)), ("t", f"only {number}")],
            agent=draw.choice(AGENTS),
            at=NOW + draw.randrange(seconds),
        )
        for number in range(count)
    ]


def writing(store: SqliteStore) -> GroupCommit:
    """Give the writing half of a store that is open for writing."""
    assert store._commits
    return store._commits


async def empty(store: SqliteStore) -> None:
    """Forget all events: much faster than another file."""
    for table in ("events", "tags", "revocations", "flags", "distrusted"):
        await store._writer.execute(f"DELETE FROM {table}")
    await store._writer.commit()
    store.last_seq = writing(store)._last = 0
