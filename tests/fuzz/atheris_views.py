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
    from anporia_store.words import TOKENIZER, indexed, match_expression
    from anporia_wire import AnporiaError, Event
    from anporia_wire.kinds import check_credit, check_shape
    from tests.fuzz import folding, poison

MAX_EVENTS = 8

index = sqlite3.connect(":memory:")
index.execute(f"CREATE VIRTUAL TABLE posts USING fts5 (body, content='', tokenize='{TOKENIZER}')")


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
    log = folding.events(poison.Choices(data), MAX_EVENTS)
    folding.try_views(log)
    for event in log:
        try_rules(event)
        try_search(event, data[-64:].decode("utf-8", "replace"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
