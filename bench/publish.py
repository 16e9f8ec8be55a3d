"""Publishing, ours beside the published relay: `./dev bench publish`, about three minutes, needs a quiet machine.

In turn, five times: a bare libsodium verify loop (calibration), the published `anp2-relay` 0.1.0 over 8,
16 and 32 connections, our relay over 8 to 256 connections with POST /events, and NDJSON batches of 500 over
8 connections. Each relay runs as its own process on a fresh database on the same disk, with its limit per
address lifted by a launcher or setting (verification and the limit per agent stay on); the generator shares
the two cores. Events are kind 1, some 500 bytes, signed ahead with a fresh date by enough authors to stay
within 60 a minute each. Reported: medians with the lowest and highest of the runs, CPU time of the server
per event, and all answers that were not 2xx.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from rich.console import Console
from rich.progress import track
from rich.table import Table

from anporia_wire import Event, Keypair, verify_many
from bench._load import Outcome, drive, http_post
from bench._servers import Server, our_relay, reference_relay

PER_AUTHOR = 50  # of the 60 a minute that both relays allow
REFERENCE_CONNECTIONS = (8, 16, 32)
OUR_CONNECTIONS = (8, 32, 128, 256)
BATCH_EVENTS, BATCH_CONNECTIONS = 500, 8  # as in the design's measurements


class Sample:
    """What one measurement gave: events a second, server CPU microseconds an event, failures, p50 in ms."""

    def __init__(self, events: int, outcome: Outcome, cpu_s: float) -> None:
        self.rate = events / outcome.seconds
        self.cpu_us = cpu_s / events * 1e6
        self.failures = outcome.failures + (events - outcome.accepted if outcome.accepted else 0)
        self.p50_ms = statistics.median(outcome.latencies) * 1e3


def signed_events(count: int) -> list[bytes]:
    """Sign kind-1 events of about 500 bytes with a fresh date."""
    now = int(time.time())
    events = []
    for at in range(count):
        if at % PER_AUTHOR == 0:
            author = Keypair.generate()
        content = f"observation {at}: " + "the quick brown fox watches the relay " * 4
        events.append(Event.create(author, 1, content[:150], [["t", f"room{at % 20}"], ["lang", "en"]], created_at=now))
    return [event.to_json() for event in events]


def measure(server: Server, requests: list[bytes], connections: int, events: int) -> Sample:
    """Send all requests; one untimed request first, so that lazy imports are not measured."""
    before = server.cpu_seconds()
    outcome = drive(server.port, requests, connections)
    return Sample(events, outcome, server.cpu_seconds() - before)


def calibrate(events: list[bytes]) -> float:
    """Give the microseconds of one bare verification, on one core."""
    batch = [Event.parse(raw).signed() for raw in events[:2_000]]
    started = time.perf_counter()
    assert all(verify_many(batch))
    return (time.perf_counter() - started) / len(batch) * 1e6


def run(runs: int, ours: int, reference: int) -> dict[str, list[Sample]]:
    """Measure everything in turn so that a drift of the machine meets all alike."""
    results: dict[str, list[Sample]] = {}
    for _ in track(range(runs), "measuring", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        fresh = signed_events(ours)
        CALIBRATION.append(calibrate(fresh))
        for connections in REFERENCE_CONNECTIONS:
            with reference_relay() as server:
                requests = [http_post("/events", raw) for raw in fresh[:reference]]
                results.setdefault(f"reference POST, {connections} conn", []).append(
                    measure(server, requests, connections, reference)
                )
        for connections in OUR_CONNECTIONS:
            with our_relay() as server:
                requests = [http_post("/events", raw) for raw in fresh]
                results.setdefault(f"POST, {connections} conn", []).append(measure(server, requests, connections, ours))
        with our_relay() as server:
            bodies = [b"\n".join(fresh[at : at + BATCH_EVENTS]) for at in range(0, ours, BATCH_EVENTS)]
            requests = [http_post("/events/batch", body, "application/x-ndjson") for body in bodies]
            label = f"batch of {BATCH_EVENTS}, {BATCH_CONNECTIONS} conn"
            results.setdefault(label, []).append(measure(server, requests, BATCH_CONNECTIONS, ours))
    return results


CALIBRATION: list[float] = []


def spread(values: list[float], digits: int = 0) -> str:
    """Write a median with its lowest and highest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--events", type=int, default=20_000, help="events a run of ours")
    parser.add_argument("--reference-events", type=int, default=600, help="events a run of the published relay")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = run(args.runs, args.events, args.reference_events)
    best = max(statistics.median(s.rate for s in samples) for name, samples in results.items() if "reference" in name)
    verify_us = statistics.median(CALIBRATION)
    if args.json:
        rows = {name: [vars(sample) for sample in samples] for name, samples in results.items()}
        print(json.dumps({"verify_us": CALIBRATION, "rows": rows}))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("", "events/s", "server us/event", "/verify", "x best ref", "p50 ms", "not 2xx"):
        table.add_column(column, justify="left" if not column else "right")
    for name, samples in results.items():
        cpu = [sample.cpu_us for sample in samples]
        rate = [sample.rate for sample in samples]
        table.add_row(
            name,
            spread(rate),
            spread(cpu),
            f"{statistics.median(cpu) / verify_us:.1f}",
            f"{statistics.median(rate) / best:.1f}",
            f"{statistics.median(s.p50_ms for s in samples):.1f}",
            f"{sum(s.failures for s in samples)}",
        )
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    print(f"one bare verification: {spread(CALIBRATION, 1)} us; {args.runs} runs; Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
