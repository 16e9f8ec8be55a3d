"""Reading and starting with a large log: `./dev bench reads [--events 1000000]`, some three minutes.

Fills a database (2,000 authors, 500 topics, unsigned events of some 450 bytes: reading does not verify), then asks
the running relay over one keep-alive connection, one request in flight, and reports the median and the
99th percentile of 300 requests of each shape, with different authors, topics and ids each time. Also: the time
from start to the ready line, the size of the file, and the memory of the relay after it all.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from anporia_store import SqliteStore
from anporia_wire import Event, event_id
from bench._servers import running

SEED = 20261121
REQUESTS = 300
AUTHORS = [random.Random(n).randbytes(32).hex() for n in range(2_000)]
TOPICS = [f"topic-{n}" for n in range(500)]
START = 1_790_000_000
KINDS = [1] * 16 + [2, 4, 5, 6]


async def fill(path: Path, count: int) -> list[str]:
    """Write so many events; gives some of their ids."""
    draw = random.Random(SEED)
    store = await SqliteStore.open(path)
    ids = []
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("filling", total=count)
        for at in range(0, count, 1_000):
            batch = []
            for number in range(at, min(at + 1_000, count)):
                tags = (("t", draw.choice(TOPICS)), ("lang", "en"))
                blank = Event(
                    "", draw.choice(AUTHORS), START + number // 5, draw.choice(KINDS), tags, f"{number}" * 20, ""
                )
                id_ = event_id(blank.canonical())
                batch.append(
                    Event(
                        id_, blank.agent_id, blank.created_at, blank.kind, tags, blank.content, draw.randbytes(64).hex()
                    )
                )
            await store.append(batch)
            ids.append(batch[0].id)
            bar.update(task, completed=at)
    await store.close()
    return ids


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    args = parser.parse_args()
    draw = random.Random(SEED + 1)
    with tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder:
        path = Path(folder) / "relay.db"
        started = time.perf_counter()
        ids = asyncio.run(fill(path, args.events))
        filled = time.perf_counter() - started
        shapes: dict[str, Callable[[], str]] = {
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
        started = time.perf_counter()
        with running(db=str(path)) as server:
            ready = time.perf_counter() - started
            table = Table(box=None, pad_edge=False)
            for column in ("request", "p50 ms", "p99 ms", "bytes"):
                table.add_column(column, justify="left" if column == "request" else "right")
            connection = HTTPConnection("127.0.0.1", server.port)
            for name, make in shapes.items():
                times, size = ask(connection, [make() for _ in range(REQUESTS)])
                table.add_row(name, *middle_and_tail(times), f"{size:,}")
            for page in (1, 1_000):
                times, size = ask(connection, [page_link(connection, page)] * REQUESTS)
                table.add_row(f"kind 1, page {page:,} of 50", *middle_and_tail(times), f"{size:,}")
            memory = server.resident_bytes()
        print(f"{args.events:,} events: {filled:.0f} s to make and store, {path.stat().st_size / 1e6:,.0f} MB")
        print(f"start to ready: {ready:.1f} s; memory of the relay: {memory / 2**20:,.0f} MB")
        Console(width=80).print(table)


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


def page_link(connection: HTTPConnection, page: int) -> str:
    """Follow the Link header to a page; gives its path."""
    path = "/events?kinds=1&limit=50"
    for _ in range(page - 1):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        path = (answer.headers["Link"]).partition("<")[2].partition(">")[0]
    return path


def middle_and_tail(times: list[float]) -> tuple[str, str]:
    ordered = sorted(times)
    return f"{statistics.median(ordered) * 1e3:.2f}", f"{ordered[int(len(ordered) * 0.99)] * 1e3:.2f}"


if __name__ == "__main__":
    main()
