"""Every view at 10k, 100k and 1M events, and what views cost publishing: `./dev bench views [--chart FILE.svg]`.

Fills a database a size (bench/network.py), starts a relay on it, stops it, starts it again from the views'
snapshot, and asks each route 300 times over one keep-alive connection, with other agents, tasks and words each
time. Then publishes to a relay as it is and to one without views and search, in turn. Some 15 minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import network
from bench._load import http_post
from bench._servers import Server, our_relay, process, running
from bench.publish import BATCH_CONNECTIONS, BATCH_EVENTS, measure, signed_events, spread
from bench.reads import ask, middle_and_tail

SIZES = (10_000, 100_000, 1_000_000)
REQUESTS = 300
DRAW = random.Random(network.SEED + 1)

# the same relay, but what is committed goes to subscribers only
_BARE = """
from anporia_relay import app, cli
app.Relay._committed = lambda self, committed: self.hub.publish(committed)
cli.main()
"""


def shapes(filled: network.Network) -> dict[str, Callable[[], str]]:
    """Give a path for each view, drawn anew on each call."""

    def agent() -> str:
        return DRAW.choice(network.AGENTS)

    def task() -> str:
        return DRAW.choice(filled.tasks)

    def post() -> str:
        return DRAW.choice(filled.posts)

    def word() -> str:
        return DRAW.choice(network.WORDS[10:500])  # neither the commonest nor the rarest

    return {
        "/trust/{id}": lambda: f"/trust/{agent()}",
        "/agents/{id}": lambda: f"/agents/{agent()}",
        "/agents/{id}/credit": lambda: f"/agents/{agent()}/credit",
        "/agents/{id}/trust_received": lambda: f"/agents/{agent()}/trust_received",
        "/task/{id}": lambda: f"/task/{task()}",
        "/subscriptions/{id}": lambda: f"/subscriptions/{agent()}",
        "/dms/{id}": lambda: f"/dms/{agent()}",
        "/events/{id}/flags": lambda: f"/events/{post()}/flags",
        "/citations/{id}": lambda: f"/citations/{post()}",
        "/trust_graph": lambda: "/trust_graph",
        "/agents": lambda: "/agents",
        "/rooms": lambda: "/rooms",
        "/capabilities": lambda: "/capabilities",
        "/capabilities/search": lambda: f"/capabilities/search?cap=skill{DRAW.randrange(20)}&limit=20",
        "/beacons": lambda: "/beacons",
        "/stats": lambda: "/stats",
        "/copresence/{id}": lambda: f"/copresence/{agent()}",
        "/neighbors/{id}": lambda: f"/neighbors/{agent()}",
        "/recommendations/{id}": lambda: f"/recommendations/{agent()}",
        "/onboarding/{id}": lambda: f"/onboarding/{agent()}",
        "/home": lambda: f"/home?agent_id={agent()}",
        "/welcome": lambda: "/welcome",
        "/events?q= by time": lambda: f"/events?q={word()}+{word()}&limit=20",
        "/events?q= by rank": lambda: f"/events?q={word()}+{word()}&order=rank&limit=20",
        "/events/count": lambda: f"/events/count?t={DRAW.choice(network.TOPICS)}",
    }


def one_size(count: int, folder: Path) -> dict[str, Any]:
    """Measure one size; times in milliseconds unless named otherwise."""
    path = folder / f"{count}.db"
    filled = asyncio.run(network.fill(path, count))
    answer: dict[str, Any] = {"events": count, "MB": path.stat().st_size / 1e6, "views": {}}
    started = time.perf_counter()
    with running(db=str(path)) as server:
        answer["first start s"] = time.perf_counter() - started
        connection = HTTPConnection("127.0.0.1", server.port)
        until_indexed(connection, count)
        answer["indexed s"] = time.perf_counter() - started
    if not Path(f"{path}.views").exists():  # a small log is folded quicker than read
        answer["snapshot MB"] = 0.0
    else:
        answer["snapshot MB"] = Path(f"{path}.views").stat().st_size / 1e6
    answer["search MB"] = Path(f"{path}.search").stat().st_size / 1e6
    started = time.perf_counter()
    with running(db=str(path)) as server:
        answer["next start s"] = time.perf_counter() - started
        connection = HTTPConnection("127.0.0.1", server.port)
        answer["memory MB"] = server.resident_bytes() / 2**20
        for name, make in shapes(filled).items():
            ask(connection, [make()])
            times, size = ask(connection, [make() for _ in range(REQUESTS)])
            answer["views"][name] = [*map(float, middle_and_tail(times)), size]
        answer["memory after MB"] = server.resident_bytes() / 2**20
    return answer


def until_indexed(connection: HTTPConnection, count: int) -> None:
    """Wait until everything can be found."""
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        connection.request("GET", "/health")
        if json.loads(connection.getresponse().read())["searchable"] >= count:
            return
        time.sleep(0.5)
    raise SystemExit("the search index does not get there")


@contextmanager
def bare_relay() -> Iterator[Server]:
    """Run our relay without views and search."""
    with tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder:
        env = {**os.environ, "ANPORIA_RATE_EXEMPT": "127.0.0.0/8", "ANPORIA_SEARCH": "off"}
        env |= {"ANPORIA_DB": f"{folder}/relay.db", "ANPORIA_PORT": "0"}
        with process([sys.executable, "-c", _BARE], env, "url=") as server:
            yield server


def publishing(runs: int, count: int) -> None:
    """Print what publishing costs with and without views, measured in turn."""
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    for _ in range(runs):
        fresh = signed_events(count)
        posts = [http_post("/events", raw) for raw in fresh]
        batches = [
            http_post("/events/batch", b"\n".join(fresh[at : at + BATCH_EVENTS]), "application/x-ndjson")
            for at in range(0, count, BATCH_EVENTS)
        ]
        for way, requests, connections in (("POST", posts, 128), ("batch", batches, BATCH_CONNECTIONS)):
            for name, relay in (("with views", our_relay), ("bare log", bare_relay)):
                with relay() as server:
                    sample = measure(server, requests, connections, count)
                assert not sample.failures
                rates.setdefault(f"{way}, {name}", []).append(sample.rate)
                costs.setdefault(f"{way}, {name}", []).append(sample.cpu_us)
    table = Table(box=None, pad_edge=False)
    for column in ("", "events/s", "server us/event"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in rates.items():
        table.add_row(name, spread(values), spread(costs[name]))
    Console(width=100).print(table)
    for way in ("POST", "batch"):
        share = statistics.median(rates[f"{way}, with views"]) / statistics.median(rates[f"{way}, bare log"])
        print(f"{way}: {share:.1%} of the bare log's throughput; {runs} runs")


def chart(results: list[dict[str, Any]], file: Path) -> None:
    """Draw the median of each view over the size of the log."""
    import pygal  # type: ignore[import-untyped]

    drawing = pygal.Line(logarithmic=True, width=1_000, height=700, legend_at_bottom=True, show_dots=True)
    drawing.title = "Median milliseconds of each view by number of events"
    drawing.x_labels = [f"{result['events']:,}" for result in results]
    for name in results[0]["views"]:
        drawing.add(name, [result["views"][name][0] for result in results])
    drawing.render_to_file(str(file))


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--runs", type=int, default=5, help="of publishing; 0 leaves it out")
    parser.add_argument("--events", type=int, default=20_000, help="events a run of publishing")
    parser.add_argument("--chart", type=Path, help="write an SVG")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder:
        results = [one_size(size, Path(folder)) for size in args.sizes]
    if args.chart:
        chart(results, args.chart)
    if args.json:
        print(json.dumps(results))
    else:
        show(results)
    if args.runs and not args.json:
        publishing(args.runs, args.events)


def show(results: list[dict[str, Any]]) -> None:
    """Print p50 and p99 of each view, and what the relay itself needs."""
    table = Table(box=None, pad_edge=False)
    table.add_column("p50 / p99 ms")
    for result in results:
        table.add_column(f"{result['events']:,}", justify="right")
    for name in results[0]["views"]:
        table.add_row(name, *("{:.2f} / {:.2f}".format(*result["views"][name][:2]) for result in results))
    for name in results[0]:
        if name not in ("events", "views"):
            table.add_row(name, *(f"{result[name]:,.1f}" for result in results))
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
