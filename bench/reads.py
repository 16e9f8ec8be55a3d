"""Reading a large log, and beside the published relay: `./dev bench reads [--events 1000000]`, some five minutes.

Fills a database (2,000 authors, 500 topics, four in five of kind 1; unsigned, reading does not verify; each row
served is re-hashed), starts a relay on it, and asks over one keep-alive connection with one request in flight, 300
requests a shape with other authors, topics and ids each time. Then the published `anp2-relay` 0.1.0 and ours are
each filled over HTTP with the same 20,000 signed events, and asked the same over 16 connections, in turn.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson

from anporia_wire import Event, Keypair
from bench._alone import alone, progress
from bench._events import PER_AUTHOR, posts
from bench._figures import Figure
from bench._filled import AUTHORS, KINDS, SEED, TOPICS, fill
from bench._load import drive
from bench._samples import percentile
from bench._servers import our_relay, reference_relay, running
from bench._streams import Client, http_get
from bench.fanout import Results

__all__ = ["ask", "figures", "fill", "middle_and_tail"]

EVENTS = 1_000_000
CONNECTIONS = 16
# p50 in ms that a shape must keep
GOALS = {"one event by id": 0.5, "author, 50": 1.5, "kind, 50": 1.5, "topic, 50": 1.5}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    events: int  # in the large log
    requests: int  # a shape, at the large log
    far_page: int
    shared: int  # events in each of the two relays
    mix: int  # requests to each of the two relays, of all shapes; of ours five times as many


FULL = Sizes(events=EVENTS, requests=300, far_page=1_000, shared=20_000, mix=500)
QUICK = Sizes(events=20_000, requests=30, far_page=50, shared=300, mix=50)


def shapes(ids: list[str], draw: random.Random) -> dict[str, Callable[[], str]]:
    """Give a path for each shape, drawn anew on each call."""
    return {
        "one event by id": lambda: f"/events/{draw.choice(ids)}",
        "newest 100": lambda: "/events?limit=100",
        "author, 50": lambda: f"/events?limit=50&authors={draw.choice(AUTHORS)}",
        "kind, 50": lambda: f"/events?limit=50&kinds={draw.choice(KINDS)}",
        "topic, 50": lambda: f"/events?limit=50&t={draw.choice(TOPICS)}",
        "author and kind, 50": lambda: f"/events?limit=50&kinds=4&authors={draw.choice(AUTHORS)}",
        "topic and kind, 50": lambda: f"/events?limit=50&kinds=6&t={draw.choice(TOPICS)}",
        "50 authors, 100": lambda: f"/events?limit=100&authors={','.join(draw.sample(AUTHORS, 50))}",
        "one agent": lambda: f"/agents/{draw.choice(AUTHORS)}",
        "stats": lambda: "/stats",
        "rooms": lambda: "/rooms",
    }


def large_log(results: Results, runs: int, sizes: Sizes) -> None:
    """Measure each shape at the large log, and the far page beside the first."""
    draw = random.Random(SEED + 1)
    with tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder:
        path = Path(folder) / "relay.db"
        ids = asyncio.run(fill(path, sizes.events))
        started = time.perf_counter()
        with running(db=str(path)) as server:
            results.add(Figure("start to ready", "s", [time.perf_counter() - started]))
            client = Client(server.port)
            asked = shapes(ids, draw)
            for name, make in progress(list(asked.items()) * runs, "reading"):
                times, failures = timed(client, [make() for _ in range(sizes.requests)])
                p50, p99 = (percentile(sorted(times), share) for share in (0.5, 0.99))
                about = {"p99_ms": [p99]}
                results.add(
                    Figure(f"{name}: p50", "ms", [p50], GOALS.get(name), False, len(times), failures, "", about)
                )
            far = page_path(client, sizes.far_page)
            for _ in range(runs):
                pages(results, client, far, sizes)
            client.close()
            results.add(Figure("memory of the relay", "MB", [server.resident_bytes() / 1e6]))
        results.add(Figure("size of the file", "MB", [path.stat().st_size / 1e6], note=f"{sizes.events:,} events"))


def pages(results: Results, client: Client, far: str, sizes: Sizes) -> None:
    """Ask for the first page and a far one in turn, so that a drift meets both alike."""
    times, failures = timed(client, [page_path(client, 1), far] * sizes.requests)
    first, later = statistics.median(times[::2]), statistics.median(times[1::2])
    about = {"first_ms": [first], "far_ms": [later]}
    note = f"page {sizes.far_page:,} of 50"
    results.add(
        Figure("far page / page 1: p50", "ratio", [later / first], 1.2, False, len(times), failures, note, about)
    )


def timed(client: Client, paths: list[str]) -> tuple[list[float], int]:
    """Ask one after the other; gives milliseconds, and how many answers were not 200."""
    times, failures = [], 0
    for request in [http_get(path) for path in paths]:
        started = time.perf_counter()
        status, _, _ = client.ask(request)
        times.append((time.perf_counter() - started) * 1e3)
        failures += status != 200
    return times, failures


def page_path(client: Client, page: int) -> str:
    """Follow the Link header to a page; gives its path."""
    path = "/events?kinds=1&limit=50"
    for _ in range(page - 1):
        _, head, _ = client.ask(http_get(path))
        path = head.partition(b"\nlink: <")[2].partition(b">")[0].decode()
    return path


def real_events(count: int) -> list[bytes]:
    """Sign posts, claims and beacons of many authors, four seconds apart up to now, as both relays take them."""
    draw, now = random.Random(SEED), int(time.time())
    authors = [Keypair.generate() for _ in range(-(-count // PER_AUTHOR))]
    events = []
    for number in range(count):
        text, tags = (
            f"observation {number}: " + "the quick brown fox watches the relay " * 3,
            [["t", f"room{number % 50}"]],
        )
        kind = draw.choice([1] * 8 + [5, 15])
        if kind == 5:
            text = json.dumps({"claim": text, "confidence": 0.5, "sources": [], "derived_from": []})
        elif kind == 15:
            text = json.dumps({"intent": "offer", "about": text, "ttl_sec": 3_600})
        at = now - (count - number) * 4
        events.append(Event.create(authors[number % len(authors)], kind, text, tags, created_at=at))
    return [event.to_json() for event in events]


def beside_published(results: Results, runs: int, sizes: Sizes) -> None:
    """Measure how many requests a second each of the two relays answers, of the same events."""
    events = real_events(sizes.shared)
    fields: list[dict[str, Any]] = [orjson.loads(event) for event in events]
    draw = random.Random(SEED + 2)
    queries: dict[str, Callable[[], str]] = {
        "author, 50": lambda: f"/events?limit=50&authors={draw.choice(fields)['agent_id']}",
        "kind, 50": lambda: f"/events?limit=50&kinds={draw.choice((1, 5, 15))}",
        "topic, 50": lambda: f"/events?limit=50&t=room{draw.randrange(50)}",
        "newest 50": lambda: "/events?limit=50",
        "by id": lambda: f"/events/{draw.choice(fields)['id']}",
    }
    with ExitStack() as stack:
        published, ours = stack.enter_context(reference_relay()), stack.enter_context(our_relay())
        for server in progress((published, ours), f"posting {len(events):,} events to each"):
            outcome = drive(server.port, posts(events), CONNECTIONS)
            if outcome.failures or outcome.accepted != len(events):
                raise SystemExit(f"the relays do not hold the same: {outcome.statuses}")
        for _ in progress(range(runs), "reading beside the published relay"):
            rates: dict[str, tuple[float, float]] = {}
            failures = asked = 0
            mixed = [make for make in queries.values() for _ in range(sizes.mix // len(queries))]
            draw.shuffle(mixed)
            for name, makes in {
                "mix": mixed,
                **{one: [make] * (sizes.mix // 5) for one, make in queries.items()},
            }.items():
                requests = [http_get(make()) for make in makes]
                theirs = drive(published.port, requests, CONNECTIONS)
                own = drive(ours.port, requests * 5, CONNECTIONS)
                failures += theirs.failures + own.failures
                asked += len(requests) * 6
                rates[name] = len(requests) / theirs.seconds, len(requests) * 5 / own.seconds
            add_ratios(results, rates, asked, failures, len(events))


def add_ratios(results: Results, rates: dict[str, tuple[float, float]], asked: int, failures: int, events: int) -> None:
    """Add one run: of the mix a ratio with a goal and both rates, of each shape the ratio."""
    for name, (theirs, own) in rates.items():
        note = f"{events:,} events, {CONNECTIONS} connections" if name == "mix" else ""
        about = {"published_per_s": [theirs], "ours_per_s": [own]}
        goal = 20 if name == "mix" else None
        results.add(
            Figure(f"{name}: ours / published", "times", [own / theirs], goal, True, asked, failures, note, about)
        )


def figures(runs: int, quick: bool, events: int | None = None) -> list[Figure]:
    """Measure both, so many times each; `events`: in the large log."""
    results, sizes = Results(), QUICK if quick else FULL
    if events:
        sizes = replace(sizes, events=events, far_page=min(sizes.far_page, events // 100))
    large_log(results, runs, sizes)
    beside_published(results, runs, sizes)
    return results.all()


def ask(connection: HTTPConnection, paths: list[str]) -> tuple[list[float], int]:
    """Time requests one after the other; gives seconds, and the bytes of the last answer."""
    times, size = [], 0
    for path in paths:
        started = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        size = len(answer.read())
        times.append(time.perf_counter() - started)
        assert answer.status == 200, (path, answer.status)
    return times, size


def middle_and_tail(times: list[float]) -> tuple[str, str]:
    """Write the median and the 99th percentile in milliseconds."""
    ordered = sorted(times)
    return f"{statistics.median(ordered) * 1e3:.2f}", f"{ordered[int(len(ordered) * 0.99)] * 1e3:.2f}"


if __name__ == "__main__":
    alone("Reading", __doc__, figures, EVENTS)
