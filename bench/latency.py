"""How soon an event is acknowledged: `./dev bench latency`, about four minutes, needs a quiet machine.

One request in flight on one connection; then so many events a second offered over 64 connections, from 500 to
8,000, for five seconds each. Offered means: when each is due is settled ahead, and its latency counts from then,
also where the relay was too slow to let it be sent (`bench/_load.py`). A level at which fewer than 95 % of the
offered events were answered in time is the last of its run. Each level has a relay of its own on a fresh database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench._alone import alone, progress
from bench._events import posts, signed_events
from bench._figures import Figure
from bench._load import Outcome, apart, drive, pace
from bench._samples import Sample, figure, percentile
from bench._servers import our_relay
from bench._streams import cpu_seconds

__all__ = ["figures"]

OFFERED, QUICK_OFFERED = (500, 1_000, 2_000, 4_000, 6_000, 8_000), (500,)
MAIN_OFFERED = 2_000  # the goal is set for this
CONNECTIONS = 64
SECONDS, QUICK_SECONDS = 5, 0.5
ALONE, QUICK_ALONE = 3_000, 100  # requests, one in flight
KEEPS_UP = 0.95  # of the offered


@dataclass(frozen=True, slots=True)
class Level:
    """One level of one run: what it gave, and how late the generator itself was."""

    sample: Sample
    late_p99_ms: float


def _level(outcome: Outcome, cpu_s: float) -> Level:
    count = outcome.requests
    late = percentile(sorted(outcome.late), 0.99) * 1e3 if outcome.late else 0.0
    return Level(
        Sample.of(outcome, cpu_s, count, max(outcome.unexpected({200: count}), count - outcome.accepted)), late
    )


def one_in_flight(count: int) -> Level:
    """Send one event after the other."""
    requests = posts(signed_events(count))
    with our_relay() as server:
        before = cpu_seconds(server)
        outcome = apart(drive, server.port, requests, 1)
        return _level(outcome, cpu_seconds(server) - before)


def offered(rate: int, seconds: float) -> Level:
    """Send so many events a second at times settled ahead."""
    requests = posts(signed_events(int(rate * seconds)))
    with our_relay() as server:
        before = cpu_seconds(server)
        outcome = apart(pace, server.port, requests, CONNECTIONS, rate)
        return _level(outcome, cpu_seconds(server) - before)


def figures(runs: int, quick: bool, events: int | None = None) -> list[Figure]:
    """Measure; `events`: with one in flight."""
    alone_: list[Level] = []
    levels: dict[int, list[Level]] = {}
    for _ in progress(range(runs), "latency"):
        alone_.append(one_in_flight(events or (QUICK_ALONE if quick else ALONE)))
        for rate in QUICK_OFFERED if quick else OFFERED:
            level = offered(rate, QUICK_SECONDS if quick else SECONDS)
            levels.setdefault(rate, []).append(level)
            if level.sample.rate < rate * KEEPS_UP:
                break
    flying = [level.sample for level in alone_]
    found = [
        figure("one in flight: p50", "ms", lambda s: s.p50_ms, flying, goal=1.5),
        figure("one in flight: p99", "ms", lambda s: s.p99_ms, flying),
        figure("one in flight", "events/s", lambda s: s.rate, flying),
    ]
    for rate, reached in levels.items():
        found += _of_level(rate, reached, runs)
    return found


def _of_level(rate: int, levels: Sequence[Level], runs: int) -> list[Figure]:
    samples = [level.sample for level in levels]
    note = "" if len(levels) == runs else f"{runs - len(levels)} runs did not get this far"
    about: dict[str, Any] = {
        "chart": "latency",
        "offered": rate,
        "achieved": [sample.rate for sample in samples],
        "generator_late_p99_ms": [level.late_p99_ms for level in levels],
    }
    kept = all(sample.rate >= rate * KEEPS_UP for sample in samples)
    goal = 15 if rate == MAIN_OFFERED else None
    return [
        figure(f"{rate:,}/s offered: p50", "ms", lambda s: s.p50_ms, samples, series="p50", **about),
        figure(
            f"{rate:,}/s offered: p99", "ms", lambda s: s.p99_ms, samples, series="p99", goal=goal,
            note=note if kept else (f"{note}; " if note else "") + "not kept up with in every run", **about,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    alone("Latency", __doc__, figures, ALONE)
