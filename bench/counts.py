"""What the relay does for an event or a request, counted and not timed: `./dev bench counts`, half a minute.

Calls, tasks, signatures, SQL statements, hops between threads and writes, counted inside a relay in this process
where nothing is left to chance (tests/relay/counting.py): the figures are the same on any machine, and
tests/relay/test_counts.py holds most of them against bounds. Calls are those of Python 3.11; others count otherwise.

Then, where `strace` and `perf` are installed and may look into another process, system calls and instructions in user
space for an event, of a relay in a process of its own under 64 connections. These depend on who finds what ready, on
the C library and on the CPU, so they are for comparing two commits on one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import orjson

from anporia_store import Cursor, SqliteStore, checkpoint, query
from anporia_wire import Event, Filter
from bench._alone import progress
from bench._events import batches, forged, posts, signed_events, wrong_id
from bench._figures import Figure, print_table, write_json
from bench._load import apart, drive
from bench._servers import Server, our_relay
from tests.relay.counting import Counted, Counts
from tests.relay.served import NOW, head, keys, post, until
from tests.store.samples import event as unsigned

__all__ = ["SCENARIOS", "Found", "NotPossibleError", "figures", "instructions", "system_calls"]

CONNECTIONS, ROUNDS = 64, 4
BATCH = 500
READERS, STRANGERS = 100, 2_000  # streams that match, and that do not
SMALL_LOG, LARGE_LOG, PAGE, DEEP_PAGE, DEEP = 1_000, 20_000, 50, 19, 1_000
EVENTS, QUICK_EVENTS = 20_000, 1_000

Found = tuple[dict[str, float], Counts]
"""Figures by name, and the counts of the last measurement, to see what is dear."""


class NotPossibleError(Exception):
    """A tool is missing, or may not look into the relay; the text says which."""


def signed(count: int, start: int = 0) -> list[Event]:
    """Sign events of one length, some 500 bytes, by 50 agents."""
    text = "the quick brown fox watches the relay " * 4
    return [
        Event.create(
            keys(at % 50 + 1), 1, f"observation {at:6}: {text}", [["t", f"room{at % 10}"], ["lang", "en"]],
            created_at=NOW,
        )
        for at in range(start, start + count)
    ]  # fmt: skip


def request(event: Event | bytes, **headers: str) -> bytes:
    """Make the request that publishes an event."""
    return post("/events", event if isinstance(event, bytes) else event.to_json(), headers)


def _in_rounds(relay: Counted, requests: Sequence[bytes], status: int = 200, connections: int = CONNECTIONS) -> Counts:
    """Send the requests in bursts over so many connections, the first two of them uncounted."""
    wires = relay.wires(connections)
    rounds = [requests[at : at + len(wires)] for at in range(0, len(requests), len(wires))]
    assert len(rounds) == ROUNDS + 2
    for one in rounds[:2]:
        relay.burst(wires, one)
    with relay.counting() as counts:
        for one in rounds[2:]:
            answers = relay.burst(wires, one)
            assert {answer.status for answer in answers} == {status}, answers[0]
    for wire in wires:
        wire.close()
    return counts


def _per_event(name: str, counts: Counts, events: int) -> dict[str, float]:
    """Give what is counted for each event."""
    named = counts.by_name
    return {
        f"{name}: Python calls an event": counts.calls.total() / events,
        f"{name}: C calls an event": counts.c_calls.total() / events,
        f"{name}: tasks an event": counts.tasks / events,
        f"{name}: signatures an event": counts.verified / events,
        f"{name}: verifier batches an event": counts.verify_batches / events,
        f"{name}: transactions an event": counts.transactions / events,
        f"{name}: thread hops a transaction": counts.hops / max(1, counts.transactions),
        f"{name}: statements a transaction": len(counts.statements) / max(1, counts.transactions),
        f"{name}: serialised an event": named["Event.to_json"] / events,
        f"{name}: JSON read an event": (named["loads"] + named["orjson.loads"]) / events,
        f"{name}: SHA-256 an event": named["openssl_sha256"] / events,
        f"{name}: checkpoint passes": counts.passes,
    }


def singles(folder: Path) -> Found:
    """POST /events, 64 at once: the short way, the parser's, and one at a time."""
    count = CONNECTIONS * (ROUNDS + 2)
    events = signed(2 * count + ROUNDS + 2)
    with Counted(folder) as relay:
        short = _in_rounds(relay, [request(event) for event in events[:count]])
        # a header that no request had before is the parser's
        usual = _in_rounds(relay, [request(e, **{"X-N": f"{at}"}) for at, e in enumerate(events[count : 2 * count])])
        one_by_one = events[2 * count :][: ROUNDS + 2]
        alone = _in_rounds(relay, [request(event) for event in one_by_one], connections=1)
    counted = CONNECTIONS * ROUNDS
    parsed = _per_event("POST, new header", usual, counted)
    found = {
        **_per_event("POST", short, counted),
        **{name: parsed[name] for name in list(parsed)[:3]},
        **_per_event("POST alone", alone, ROUNDS),
    }
    return found, short


def batch(folder: Path) -> Found:
    """NDJSON batches, and statements by the size of a transaction."""
    sizes = (1, 31, 999, 1_000)
    events = signed(2 * BATCH + sum(sizes))
    found: dict[str, float] = {}
    with Counted(folder) as relay:
        (wire,) = relay.wires(1)

        def publish(count: int) -> Counts:
            some = [events.pop() for _ in range(count)]
            body = b"\n".join(event.to_json() for event in some)
            with relay.counting() as counts:
                answer = wire.ask(post("/events/batch", body, {"Content-Type": "application/x-ndjson"}))
                assert answer.body.count(b'"accepted":true') == count
            return counts

        publish(BATCH)
        counts = publish(BATCH)
        found |= _per_event("batch of 500", counts, BATCH)
        for size in sizes:
            found[f"{size:,} events: statements a transaction"] = len(publish(size).statements)
    return found, counts


def waiting(folder: Path) -> Found:
    """Events that come while the writer is busy share a transaction; and one checkpoint."""
    rounds, events = 6, signed(CONNECTIONS * 7)
    with Counted(folder) as relay:
        many = [relay.wires(CONNECTIONS) for _ in range(rounds)]
        relay.burst(many[0], [request(event) for event in events[:CONNECTIONS]])
        with relay.counting() as counts:
            with relay.writer_held():
                queued = 0  # the first are taken at once, and wait in the writer's thread
                for at, wires in enumerate(many):
                    some = events[CONNECTIONS * (at + 1) :][:CONNECTIONS]
                    relay.send(wires, [request(event) for event in some])
                    assert until(partial(relay.queues, queued))
                    queued += CONNECTIONS
            for wires in many:
                assert {wire.answer().status for wire in wires} == {200}
        late = signed(1, len(events))
        with relay.counting() as growing, patch.object(checkpoint, "LOG_BYTES", 1), relay.one_wire() as wire:
            assert wire.ask(request(late[0])).status == 200
            assert until(relay.checkpointed)
    return {
        "384 events while the writer is busy: commits": counts.started("COMMIT"),
        "384 events while the writer is busy: thread hops": counts.hops,
        "a checkpoint of a short log: passes": growing.passes,
    }, counts


def refused(folder: Path) -> Found:
    """What is not taken: how many signatures it costs, and how many calls."""
    count = CONNECTIONS * (ROUNDS + 2)
    good = signed(count)
    raw = [event.to_json() for event in good]
    later = [Event.create(keys(9), 1, event.content, event.tags, created_at=NOW).to_json() for event in good]
    kinds = {
        "forged": (400, forged(raw)),
        "wrong id": (400, wrong_id(raw)),
        "malformed": (422, [one.replace(b'"kind":1', b'"kind":"') for one in raw]),
        "too early": (400, [orjson.dumps({**orjson.loads(one), "created_at": NOW + 10**6}) for one in raw]),
        "duplicate": (200, raw),
    }
    found: dict[str, float] = {}
    with Counted(folder) as relay:
        for at in range(0, count, CONNECTIONS):
            relay.batch(*good[at : at + CONNECTIONS])
        for name, (status, bodies) in kinds.items():
            counts = _in_rounds(relay, [request(body) for body in bodies], status)
            found |= _refusal(name, counts)
    over = folder / "over"
    over.mkdir()
    with Counted(over, agent_rate=1) as relay:
        relay.batch(Event.create(keys(9), 1, "the only one", created_at=NOW))
        counts = _in_rounds(relay, [request(body) for body in later], 429)
        found |= _refusal("over budget", counts)
    return found, counts


def _refusal(name: str, counts: Counts) -> dict[str, float]:
    events = CONNECTIONS * ROUNDS
    return {
        f"{name}: signatures an event": counts.verified / events,
        f"{name}: Python calls an event": counts.calls.total() / events,
        f"{name}: C calls an event": counts.c_calls.total() / events,
        f"{name}: thread hops a burst": counts.hops / ROUNDS,
    }


def streams(folder: Path) -> Found:
    """One event and one commit of many, to nobody, to 100 streams, and past 2,000 that want others."""
    events = signed(CONNECTIONS * 5 + 8)

    def commit(count: int) -> Counts:
        some = [request(events.pop()) for _ in range(count)]
        with relay.counting() as counts:
            assert {answer.status for answer in relay.burst(wires[:count], some)} == {200}
        return counts

    with Counted(folder) as relay:
        wires = relay.wires(CONNECTIONS)
        commit(CONNECTIONS)
        commit(1)
        nobody = commit(1)

        def strangers(count: int) -> None:
            hub = relay.relay.hub
            for at in range(count):
                hub.go_live(hub.admit(Filter(authors=frozenset({f"{at + 2**40:064x}"}), t=f"room{at}")))

        relay.call(lambda: strangers(10))
        few = commit(CONNECTIONS)
        relay.call(lambda: strangers(STRANGERS - 10))
        crowd = commit(CONNECTIONS)
        readers = [relay.stream() for _ in range(READERS)]
        relay.watch_streams()
        commit(1)
        one = commit(1)
        many = commit(CONNECTIONS)
        for reader in readers:
            for _ in range(2 + CONNECTIONS):
                assert reader.chunk().startswith(b"id: ")
    calls_one, calls_nobody = (c.calls.total() + c.c_calls.total() for c in (one, nobody))
    calls_few, calls_crowd = (c.calls.total() + c.c_calls.total() for c in (few, crowd))
    return {
        "100 streams, one event: socket writes": one.writes,
        "100 streams, one event: encoded": one.by_name["chunk"],
        "100 streams, one event: matches": one.matches,
        "100 streams, one event: calls a stream": (calls_one - calls_nobody) / READERS,
        "100 streams, one event: tasks": one.tasks,
        "100 streams, a commit of 64: socket writes": many.writes,
        "100 streams, a commit of 64: encoded": many.by_name["chunk"],
        "100 streams, a commit of 64: matches": many.matches,
        "100 streams, a commit of 64: serialised": many.by_name["Event.to_json"],
        "2,000 streams of others instead of 10: calls more an event": (calls_crowd - calls_few) / CONNECTIONS,
    }, one


def reads(folder: Path) -> Found:
    """GET /events in a log of 1,000 events and in one of 20,000; page 1,000 beside page 1; one event."""
    found: dict[str, float] = {}
    calls: dict[int, int] = {}
    for size in (SMALL_LOG, LARGE_LOG):
        place = folder / f"{size}"
        place.mkdir()
        log = [unsigned(1, f"{at:6}: " + "reading " * 30, [("t", f"{at % 10}")], at=NOW + at) for at in range(size)]
        asyncio.run(_fill(place / "relay.db", log))
        with Counted(place) as relay:
            unread = _read(relay, f"/events?kinds=1&limit={PAGE}", PAGE, forget=True)
            counts = _read(relay, f"/events?kinds=1&limit={PAGE}", PAGE)
            calls[size] = counts.calls.total() + counts.c_calls.total()
            if size == LARGE_LOG:
                found = _deep(relay, log) | _single(relay, log[size // 2])
    return {
        "page of 50, not read before: rows hashed": unread.by_name["openssl_sha256"],
        "page of 50, not read before: Python calls": unread.calls.total(),
        "page of 50, not read before: C calls": unread.c_calls.total(),
        "page of 50: rows held against damage": counts.by_name["Reader.is_whole"],
        "page of 50: rows hashed": counts.by_name["openssl_sha256"],
        "page of 50: statements": len(counts.statements),
        "page of 50: thread hops": counts.hops,
        "page of 50: Python calls": counts.calls.total(),
        "page of 50: C calls": counts.c_calls.total(),
        "page of 50: steps of SQLite": counts.scans,
        "page of 50: tasks": counts.tasks,
        "page of 50: calls, 20,000 events / 1,000": calls[LARGE_LOG] / calls[SMALL_LOG],
        **found,
    }, counts


async def _fill(path: Path, log: Sequence[Event]) -> None:
    store = await SqliteStore.open(path)
    for at in range(0, len(log), 1_000):
        await store.append(log[at : at + 1_000])
    await store.close()


def _read(relay: Counted, path: str, rows: int, *, forget: bool = False) -> Counts:
    """Read a path when its statement is prepared; `forget`: as if its rows had never been read before."""
    (wire,) = relay.wires(1)
    for _ in range(4):  # both readers have the statement prepared then
        answer = wire.ask(head("GET", path))
    if forget:
        relay.call(relay.relay.store._found_whole.clear)
    with relay.counting() as counts:
        answer = wire.ask(head("GET", path))
    assert answer.status == 200 and len(answer.json()) == rows, answer
    return counts


def _deep(relay: Counted, log: Sequence[Event]) -> dict[str, float]:
    size = DEEP_PAGE
    newest = sorted(log, key=lambda event: (event.created_at, query.id_key(event.id)), reverse=True)
    last = newest[(DEEP - 1) * size - 1]
    cursor = Cursor(last.created_at, query.id_key(last.id)).encode()
    first = _read(relay, f"/events?kinds=1&limit={size}", size)
    deep = _read(relay, f"/events?kinds=1&limit={size}&cursor={cursor}", size)
    return {
        "page 1,000 / page 1: steps of SQLite": deep.scans / first.scans,
        "page 1,000 / page 1: calls": (deep.calls.total() + deep.c_calls.total())
        / (first.calls.total() + first.c_calls.total()),
    }


def _single(relay: Counted, event: Event) -> dict[str, float]:
    counts = _read(relay, f"/events/{event.id}", 7)  # fields
    return {
        "one event: Python calls": counts.calls.total(),
        "one event: C calls": counts.c_calls.total(),
        "one event: statements": len(counts.statements),
        "one event: steps of SQLite": counts.scans,
    }


SCENARIOS: dict[str, Callable[[Path], Found]] = {
    scenario.__name__: scenario for scenario in (singles, batch, waiting, refused, streams, reads)
}

# -- a relay in a process of its own


def system_calls(server: Server, requests: Sequence[bytes], connections: int, events: int) -> float:
    """Count the relay's system calls for an event. Raises `NotPossibleError`."""
    with _beside(["strace", "-f", "-c", "-U", "calls,name", "-p", f"{server.pid}"], "attached") as said:
        _load(server, requests, connections)
    lines = (line.split() for line in "".join(said).splitlines())
    total = next((fields[0] for fields in lines if fields[1:] == ["total"]), None)
    if total is None:
        raise NotPossibleError(f"strace counted nothing: {''.join(said)[-200:]}")
    return int(total) / events


def instructions(server: Server, requests: Sequence[bytes], connections: int, events: int) -> float:
    """Count the instructions that the relay has executed in user space for an event. Raises `NotPossibleError`."""
    command = ["perf", "stat", "-x", ";", "-e", "instructions:u", "-p", f"{server.pid}"]
    with _beside(command, None) as said:
        _load(server, requests, connections)
    counted = re.search(r"^(\d+);;instructions", "".join(said), re.MULTILINE)
    if not counted:
        raise NotPossibleError(f"perf counts no instructions here: {''.join(said)[-200:]}")
    return int(counted[1]) / events


def _load(server: Server, requests: Sequence[bytes], connections: int) -> None:
    outcome = apart(drive, server.port, requests, connections)
    if outcome.failures:
        raise RuntimeError(f"not all were taken: {outcome.statuses}")


@contextmanager
def _beside(command: Sequence[str], ready: str | None) -> Iterator[list[str]]:
    """Run a counter beside the block; gives what it has said, once the block is over."""
    if not shutil.which(command[0]):
        raise NotPossibleError(f"{command[0]} is not installed")
    said: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as counter:
        assert counter.stderr
        try:
            while ready and ready not in (line := counter.stderr.readline()):
                if not line:
                    raise NotPossibleError(f"{command[0]}: {''.join(said).strip()[-200:]}")
                said.append(line)
            if not ready:
                time.sleep(0.5)  # perf does not say when it has begun
            yield said
        finally:
            if counter.poll() is None:
                counter.send_signal(signal.SIGINT)
            said.append(counter.communicate(timeout=30)[1])


def _outside(events: int) -> list[Figure]:
    found = []
    fresh = signed_events(events)
    for name, requests, connections in (("POST", posts(fresh), CONNECTIONS), ("batch of 500", batches(fresh), 8)):
        for unit, count in (("system calls", system_calls), ("instructions", instructions)):
            with our_relay() as server:
                try:
                    value = count(server, requests, connections, events)
                except NotPossibleError as exc:
                    print(f"no {unit}: {exc}")
                    continue
            found.append(Figure(f"{name}, {connections} connections: {unit}", "an event", [value]))
    return found


def figures(runs: int, quick: bool, events: int | None = None) -> list[Figure]:
    """Count; one run is enough, since the next would give the same."""
    found = []
    for scenario in progress(list(SCENARIOS.values()), "counts"):
        with tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder:
            values, _ = scenario(Path(folder))
        found += [Figure(name, "", [value]) for name, value in values.items()]
    return found + _outside(events or (QUICK_EVENTS if quick else EVENTS))


def main() -> None:
    """Print the counts; `--dearest` names the functions called most."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, help=f"for system calls and instructions, default {EVENTS:,}")
    parser.add_argument("--quick", action="store_true", help="few of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--dearest", choices=SCENARIOS, help="only name what one scenario calls most, and how often")
    args = parser.parse_args()
    if args.dearest:
        with tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder:
            print(SCENARIOS[args.dearest](Path(folder))[1].dearest(60))
        return
    found = figures(1, args.quick, args.events)
    print_table("Counts", found)
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
