"""What an event costs as the log grows: `./dev bench growth`, some 15 minutes and 5 GB in the temporary folder.

Logs of 100,000 to 3,000,000 events (bench/_filled.py), each indexed for search by a relay beforehand; then in turn,
five times, a relay is started on each and gets the same new events: with POST over 128 connections, and in batches
of 500 over 8. What is published stays, so a log grows by some ten thousand events a run.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench._alone import alone, progress
from bench._events import batches, posts, signed_events
from bench._figures import Figure
from bench._filled import fill
from bench._samples import Sample, figure, measure
from bench._servers import running
from bench.publish import BATCH_CONNECTIONS, MAIN_CONNECTIONS
from bench.views import until_indexed

__all__ = ["figures"]

SIZES, QUICK_SIZES = (100_000, 300_000, 1_000_000, 3_000_000), (1_000, 3_000)
EVENTS, QUICK_EVENTS = 3_000, 500  # with POST; batches take twice as many
GOAL = 1.3  # the largest log beside the smallest

Results = dict[tuple[str, int], list[Sample]]


def prepare(folder: Path, sizes: Sequence[int]) -> dict[int, Path]:
    """Make the logs, each out of the one before it, with the search index and the views' snapshot of a relay."""
    paths: dict[int, Path] = {}
    for size in progress(sizes, "filling and indexing"):
        path = paths[size] = folder / f"{size}.db"
        before = max((other for other in paths if other < size), default=0)
        for suffix in ("", ".search", ".views") if before else ():
            source = Path(f"{paths[before]}{suffix}")
            if source.exists():
                shutil.copyfile(source, f"{path}{suffix}")
        asyncio.run(fill(path, size, before))
        with running(db=str(path)) as server:
            until_indexed(HTTPConnection("127.0.0.1", server.port), size)
    return paths


def run(runs: int, events: int, sizes: Sequence[int]) -> Results:
    """Measure each size in turn so that a drift of the machine meets all alike."""
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder:
        paths = prepare(Path(folder), sorted(sizes))
        for _ in progress(range(runs), "publishing to logs of each size"):
            fresh = signed_events(3 * events)
            one_by_one, together = fresh[:events], fresh[events:]
            for size, path in paths.items():
                with running(db=str(path)) as server:
                    # what the last run published is found by now, or indexing it would count here
                    until_indexed(HTTPConnection("127.0.0.1", server.port), size)
                    post = measure(server, posts(one_by_one), MAIN_CONNECTIONS, len(one_by_one))
                    batch = measure(server, batches(together), BATCH_CONNECTIONS, len(together))
                results.setdefault(("POST", size), []).append(post)
                results.setdefault(("batch", size), []).append(batch)
    return results


def figures(runs: int, quick: bool, events: int | None = None, sizes: Sequence[int] | None = None) -> list[Figure]:
    """Measure; `events`: with POST, a run and a size."""
    sizes = sizes or (QUICK_SIZES if quick else SIZES)
    results = run(runs, events or (QUICK_EVENTS if quick else EVENTS), sizes)
    found = []
    for (way, size), samples in results.items():
        about: dict[str, Any] = {"chart": "growth", "way": way, "stored": size}
        found += [
            figure(f"{way}, {size:,} stored: CPU", "us/event", lambda s: s.cpu_us, samples, **about),
            figure(f"{way}, {size:,} stored", "events/s", lambda s: s.rate, samples),
        ]
    small, large = min(sizes), max(sizes)
    for way in ("POST", "batch"):
        name = f"{way}: CPU at {large:,} / at {small:,}"
        pair = results[way, large], results[way, small]
        found.append(figure(name, "times", lambda late, early: late.cpu_us / early.cpu_us, *pair, goal=GOAL))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--sizes", type=int, nargs="+")
    own, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    alone("Growth", __doc__, lambda runs, quick, events: figures(runs, quick, events, own.sizes), EVENTS)
