"""Fuzzing guided by coverage: bytes become events for the views and questions for the search index.

    python -m tests.fuzz.atheris_views [folder with a corpus] [-runs=N] [-max_total_time=SECONDS]

Needs atheris (requirements-dev.txt). What breaks is written to a file `crash-...`, and runs again when that is given.
"""

from __future__ import annotations

import importlib
import sqlite3
import sys
from typing import Any

atheris: Any = importlib.import_module("atheris")  # it says nothing of its types, and is not made for every platform

# instrumented as they are imported, so before anything else imports them
with atheris.instrument_imports(include=["anporia_wire", "anporia_store.words"]):
    import orjson

    from anporia_store.words import TOKENIZER, indexed, match_expression
    from anporia_wire import AnporiaError, Event
    from anporia_wire.kinds import check_credit, check_shape
    from anporia_wire.views import Health, Views
    from tests.fuzz import poison
    from tests.relay.served import NOW

EVENTS = [f"{number:064x}" for number in range(1, 9)]  # ids that need not be hashes: so events may name themselves
AGENTS = [f"{number:064x}" for number in range(0xA0, 0xA5)]
IDS = [*EVENTS, *AGENTS]
MAX_EVENTS = 8

index = sqlite3.connect(":memory:")
index.execute(f"CREATE VIRTUAL TABLE posts USING fts5 (body, content='', tokenize='{TOKENIZER}')")


def events(choose: poison.Choices) -> list[Event]:
    """Give some events of five agents, who know of each other."""
    found: list[Event] = []
    while not choose.ended and len(found) < MAX_EVENTS:
        kind, agent, at = choose.pick(poison.KINDS), choose.pick(AGENTS), poison.created_at(choose)
        tags = tuple(map(tuple, poison.tags(choose, IDS)))
        content = poison.content(choose, kind, IDS)
        found.append(Event(EVENTS[len(found)], agent, at, kind, tags, content, "0" * 128))
    return found


def try_views(log: list[Event]) -> None:
    """Fold them forwards and backwards, read all, write the state and read it again."""
    views, backwards, health = Views(), Views(), Health()
    for seq, event in enumerate(log, start=1):
        views.apply(seq, event)
        health.apply(Event(event.id, event.agent_id, event.created_at, 11, event.tags, event.content, event.sig))
    for seq, event in reversed(list(enumerate(log, start=1))):
        backwards.apply(seq, event)
    state = orjson.dumps(views.snapshot())
    answers = poison.read_all(views, IDS)
    assert orjson.dumps(backwards.snapshot()) == state and poison.read_all(backwards, IDS) == answers
    restored = Views.restore(orjson.loads(state))
    assert orjson.dumps(restored.snapshot()) == state and poison.read_all(restored, IDS) == answers
    orjson.dumps([views.roster.read(health, NOW, "a"), [views.roster.detail(agent, health, NOW) for agent in AGENTS]])
    orjson.dumps([health.read(agent, NOW) for agent in AGENTS])


def try_rules(event: Event) -> None:
    """A rule takes an event or names what is wrong with it."""
    for rule in (check_shape, check_credit):
        try:
            rule(event)
        except AnporiaError:
            pass


def try_search(event: Event, question: str) -> None:
    """Any event can be indexed, and any question put or refused."""
    index.execute("INSERT INTO posts (body) VALUES (?)", (indexed(event)[:10_000],))
    try:
        match = match_expression(question)
    except AnporiaError:
        pass
    else:
        index.execute("SELECT rowid FROM posts WHERE posts MATCH ? LIMIT 1", (match,)).fetchall()
    index.rollback()


def try_one(data: bytes) -> None:
    """What atheris calls: all bytes choose events, the last 64 are a question too."""
    log = events(poison.Choices(data))
    try_views(log)
    for event in log:
        try_rules(event)
        try_search(event, data[-64:].decode("utf-8", "replace"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
