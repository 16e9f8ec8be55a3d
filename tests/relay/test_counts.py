"""A change that makes publishing, streaming or reading dearer is seen here, on any machine and without a clock.

`bench/counts.py` counts what a relay does, and this table says how much that may be: some 10 % above what it is, and
what must not grow at all, exactly. Less is always fine. A figure too high is either a mistake, or the price of
something: then raise the bound here, and say in the commit what is bought for it.

    ./dev bench counts                     prints all figures as they are now
    ./dev bench counts --dearest singles   names what is called most
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anporia_wire import kernels
from bench._events import posts, signed_events
from bench._servers import our_relay
from bench.counts import SCENARIOS, NotPossibleError, system_calls

# scenario -> figure -> the most that it may be, and what that guards
BOUNDS: dict[str, dict[str, tuple[float, str]]] = {
    "singles": {
        "POST: Python calls an event": (118, "the short way: each call is some 50 ns, for every event"),
        "POST: C calls an event": (118, "the short way"),
        "POST: tasks an event": (1 / 64, "events that arrive together are judged in one task"),
        "POST: signatures an event": (1, "an event is verified once"),
        "POST: verifier batches an event": (2 / 64, "one batch for each thread: a batch is a thread hop"),
        "POST: transactions an event": (1 / 64, "events that arrive together share a commit, and its sync"),
        "POST: thread hops a transaction": (1, "a transaction is one call in the writer's thread"),
        "POST: statements a transaction": (5, "64 rows go in by one statement a table"),
        "POST: serialised an event": (1, "the bytes are made once, for the row and for the streams"),
        "POST: JSON read an event": (1, "the body is parsed once"),
        "POST: SHA-256 an event": (1, "the id is computed once"),
        "POST: checkpoint passes": (0, "checkpoints come by the size of the log only"),
        "POST, new header: Python calls an event": (192, "the parser's way, for headers not seen before"),
        "POST, new header: C calls an event": (218, "the parser's way"),
        "POST, new header: tasks an event": (65 / 64, "the request's own, and one for all that come together"),
        "POST alone: Python calls an event": (222, "what a lone event waits for"),
        "POST alone: C calls an event": (183, "what a lone event waits for"),
        "POST alone: tasks an event": (1, "a task is a turn of the loop"),
        "POST alone: signatures an event": (1, "an event is verified once"),
        "POST alone: verifier batches an event": (1, "a lone signature is verified on the spot"),
        "POST alone: transactions an event": (1, "nothing is written besides"),
        "POST alone: thread hops a transaction": (1, "a lone event waits for one thread, once"),
        "POST alone: statements a transaction": (5, "what is known, begin, the event, its tags, commit"),
        "POST alone: serialised an event": (1, "the bytes are made once"),
        "POST alone: JSON read an event": (1, "the body is parsed once"),
        "POST alone: SHA-256 an event": (1, "the id is computed once"),
        "POST alone: checkpoint passes": (0, "checkpoints come by the size of the log only"),
    },
    "batch": {
        "batch of 500: Python calls an event": (88, "what an event costs besides its request"),
        "batch of 500: C calls an event": (103, "the same"),
        "batch of 500: tasks an event": (1 / 500, "the request's own task does it all"),
        "batch of 500: signatures an event": (1, "an event is verified once"),
        "batch of 500: verifier batches an event": (8 / 500, "batches of 64: full, so that hops are few"),
        "batch of 500: transactions an event": (1 / 500, "a batch is one transaction"),
        "batch of 500: thread hops a transaction": (1, "a transaction is one call in the writer's thread"),
        "batch of 500: statements a transaction": (17, "as few statements as will do"),
        "batch of 500: serialised an event": (1, "the bytes are made once"),
        "batch of 500: JSON read an event": (1, "each line is parsed once"),
        "batch of 500: SHA-256 an event": (1, "the id is computed once"),
        "batch of 500: checkpoint passes": (0, "checkpoints come by the size of the log only"),
        "1 events: statements a transaction": (5, "no statement that one event has no need of"),
        "31 events: statements a transaction": (15, "statements grow with the logarithm of the rows"),
        "999 events: statements a transaction": (22, "not with the rows: for each the driver yields Python's lock"),
        "1,000 events: statements a transaction": (22, "the same"),
    },
    "waiting": {
        "384 events while the writer is busy: commits": (2, "all that wait share the next transaction"),
        "384 events while the writer is busy: thread hops": (3, "one a transaction; one is the test's own"),
        "a checkpoint of a short log: passes": (2, "one beside the writer, one in its way"),
    },
    "refused": {
        "forged: signatures an event": (1, "a forged signature is looked at once"),
        "forged: Python calls an event": (87, "refusals are cheaper than events"),
        "forged: C calls an event": (80, "the same"),
        "forged: thread hops a burst": (0, "the store hears nothing of it"),
        "wrong id: signatures an event": (0, "a wrong id is refused before its signature"),
        "wrong id: Python calls an event": (68, "refusals are cheaper than events"),
        "wrong id: C calls an event": (63, "the same"),
        "wrong id: thread hops a burst": (0, "the store hears nothing of it"),
        "malformed: signatures an event": (0, "what is no event is refused before its signature"),
        "malformed: Python calls an event": (54, "refusals are cheaper than events"),
        "malformed: C calls an event": (43, "the same"),
        "malformed: thread hops a burst": (0, "the store hears nothing of it"),
        "too early: signatures an event": (0, "cheap rules come before the signature"),
        "too early: Python calls an event": (63, "refusals are cheaper than events"),
        "too early: C calls an event": (58, "the same"),
        "too early: thread hops a burst": (0, "the store hears nothing of it"),
        "duplicate: signatures an event": (1, "a duplicate is verified at most once"),
        "duplicate: Python calls an event": (104, "a duplicate is cheaper than an event"),
        "duplicate: C calls an event": (109, "the same"),
        "duplicate: thread hops a burst": (1, "what is known is looked up for all at once"),
        "over budget: signatures an event": (0, "what has no budget left is refused before its signature"),
        "over budget: Python calls an event": (81, "refusals are cheaper than events"),
        "over budget: C calls an event": (74, "the same"),
        "over budget: thread hops a burst": (0, "the store hears nothing of it"),
    },
    "streams": {
        "100 streams, one event: socket writes": (100, "one a stream"),
        "100 streams, one event: encoded": (1, "all streams share the bytes"),
        "100 streams, one event: matches": (1, "one look-up, however many filters"),
        "100 streams, one event: calls a stream": (19, "from the hub's queue to the socket, C calls included"),
        "100 streams, one event: tasks": (1, "the event's own: none for a stream"),
        "100 streams, a commit of 64: socket writes": (100, "one a stream, with all 64 in it"),
        "100 streams, a commit of 64: encoded": (64, "once an event"),
        "100 streams, a commit of 64: matches": (64, "once an event"),
        "100 streams, a commit of 64: serialised": (64, "the streams get the stored bytes"),
        "2,000 streams of others instead of 10: calls more an event": (0.5, "who wants other events costs nothing"),
    },
    "reads": {
        "page of 50, not read before: rows hashed": (50, "each row once"),
        "page of 50, not read before: Python calls": (366, "5 for each row, the request's own besides"),
        "page of 50, not read before: C calls": (1_190, "17 for each row, the request's own besides"),
        "page of 50: rows held against damage": (50, "each row once"),
        "page of 50: rows hashed": (0, "of rows found whole before, the bytes are compared"),
        "page of 50: statements": (1, "one statement a page"),
        "page of 50: thread hops": (1, "one trip to a reader's thread"),
        "page of 50: Python calls": (256, "1 for each row, the request's own besides"),
        "page of 50: C calls": (368, "2 for each row, the request's own besides"),
        "page of 50: steps of SQLite": (2_900, "rows come straight from one index"),
        "page of 50: tasks": (1, "the request's own"),
        "page of 50: calls, 20,000 events / 1,000": (1.02, "a page does not grow with the log"),
        "page 1,000 / page 1: steps of SQLite": (1.2, "a page does not pass over those before it; some for the cursor"),
        "page 1,000 / page 1: calls": (1.12, "the same; a cursor is read, which page 1 has not"),
        "one event: Python calls": (102, "one event by id"),
        "one event: C calls": (90, "the same"),
        "one event: statements": (1, "one event by id"),
        "one event: steps of SQLite": (30, "the index finds it"),
    },
}
# what fewer of would be no gain but a hole
EXACT = {
    *(f"{way}: signatures an event" for way in ("POST", "POST alone", "batch of 500", "forged")),
    *(f"{way}: SHA-256 an event" for way in ("POST", "POST alone", "batch of 500")),
    "page of 50, not read before: rows hashed",
    "page of 50: rows held against damage",
}

# The bounds of calls are for Python 3.11; another has a standard library of its own, and other events for its profiler.
SLACK = 1 if sys.version_info[:2] == (3, 11) else 1.3

MOST_SYSTEM_CALLS = 18  # an event, 11 to 12 now: who finds which lock taken is chance


@pytest.mark.skipif(not kernels.ACCELERATED, reason="the pure twins of the kernels are Python calls themselves")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_became_dearer(scenario: str, tmp_path: Path) -> None:
    found, counts = SCENARIOS[scenario](tmp_path)
    bounds = BOUNDS[scenario]
    assert found.keys() == bounds.keys()
    too_dear = []
    for name, value in found.items():
        most, guards = bounds[name]
        if " calls" in name:
            most *= SLACK
        if value > most + 1e-9:
            too_dear.append(f"{name}: {value:,.4g}, at most {most:,.4g} ({guards}); if this is meant, raise the bound")
        assert value == most or name not in EXACT, f"{name}: {value:,.4g}, not {most:,.4g} ({guards}): as it must be"
    if too_dear:
        too_dear.append("and say why in the commit. Called most, in one of its measurements:")
        pytest.fail("\n".join([*too_dear, counts.dearest(25)]), pytrace=False)


@pytest.mark.parametrize("count", [2_000])
def test_system_calls_of_an_event(count: int) -> None:
    events = signed_events(count)
    with our_relay(search="off") as server:
        try:
            calls = system_calls(server, posts(events), 64, count)
        except NotPossibleError as exc:
            pytest.skip(str(exc))
    assert calls <= MOST_SYSTEM_CALLS, (
        f"a POST costs {calls:.1f} system calls, at most {MOST_SYSTEM_CALLS};"
        " if this is meant, raise the bound and say why in the commit"
    )


def test_the_counts_do_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waste of each sort is seen: a bound that nothing can break guards nothing."""
    from anporia_relay.pipeline import Pipeline
    from anporia_store.transaction import Transaction

    _wasteful(monkeypatch, Pipeline, "_examine", lambda args: args[1].event.check_id())
    _wasteful(monkeypatch, Pipeline, "_prove", lambda args: args[1].event.to_json())
    _wasteful(monkeypatch, Transaction, "__call__", lambda args: args[1].execute("SELECT 1").fetchall())
    found, counts = SCENARIOS["singles"](tmp_path)
    for figure in ("SHA-256 an event", "serialised an event"):
        assert found[f"POST: {figure}"] == found[f"POST alone: {figure}"] == 2
    assert found["POST: statements a transaction"] == 6
    assert "openssl_sha256" in counts.dearest(500)


def _wasteful(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, waste: Callable[..., object]) -> None:
    real = getattr(owner, name)

    def twice(*args: object) -> object:
        waste(args)
        return real(*args)

    monkeypatch.setattr(owner, name, twice)
