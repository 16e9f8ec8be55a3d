"""One measurement of a relay under load, the bare cost of a verification beside it, and figures made of many."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nacl.bindings import crypto_sign_open

from anporia_wire import Event, verify_many
from bench._events import signed_events
from bench._figures import MOST_FAILURES, Figure
from bench._load import Outcome, apart, apart_on, drive
from bench._servers import Server
from bench._streams import cpu_seconds

__all__ = ["Sample", "Verification", "calibrate", "figure", "mean", "measure", "percentile"]

CHUNK = 250  # verifications that are timed at once, some 9 ms


@dataclass(frozen=True, slots=True)
class Sample:
    """What one measurement gave; `failures` are answers other than the expected ones."""

    events: int
    seconds: float
    cpu_s: float
    failures: int
    p50_ms: float
    p99_ms: float
    generator_us: float
    """CPU microseconds that the generator itself used for an event; it shares the machine."""

    @classmethod
    def of(cls, outcome: Outcome, cpu_s: float, events: int, failures: int) -> Sample:
        """Sum up a run in which so many events were sent."""
        ordered = sorted(outcome.latencies) or [float("inf")]
        p50, p99 = (percentile(ordered, share) * 1e3 for share in (0.5, 0.99))
        return cls(events, outcome.seconds, cpu_s, failures, p50, p99, outcome.cpu_s / events * 1e6)

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the server an event."""
        return self.cpu_s / self.events * 1e6

    @property
    def failed(self) -> bool:
        """Say whether too much failed for the run to mean anything."""
        return self.failures > self.events * MOST_FAILURES


def percentile(ordered: Sequence[float], share: float) -> float:
    """Give the value below which that share of the sorted values lies (nearest rank)."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def measure(
    server: Server,
    requests: Sequence[bytes],
    connections: int,
    events: int,
    *,
    expected: Mapping[int, int] | None = None,
    cores: Sequence[int] | None = None,
) -> Sample:
    """Send all requests from a process of its own, held to `cores` if given. All must be accepted, or as `expected`."""
    before = cpu_seconds(server)
    if cores:
        outcome = apart_on(cores, drive, server.port, requests, connections)
    else:
        outcome = apart(drive, server.port, requests, connections)
    cpu = cpu_seconds(server) - before
    if expected is None:
        # the body too: a batch is answered with 200 whatever became of its lines
        failures = max(outcome.unexpected({200: len(requests)}), events - outcome.accepted)
    else:
        failures = outcome.unexpected(expected)
    return Sample.of(outcome, cpu, events, failures)


@dataclass(frozen=True, slots=True)
class Verification:
    """What verifying alone reaches here: microseconds on one core, signatures a second with all cores.

    `ours`: our `verify_many`, which is quicker with keys that it has seen before; `ours_new_us`: with new ones.
    """

    bare_us: float
    bare_all: float
    ours_us: float
    ours_all: float
    ours_new_us: float

    @property
    def bare_one(self) -> float:
        """Signatures a second that libsodium verifies on one core."""
        return 1e6 / self.bare_us


def calibrate(events: Sequence[bytes]) -> Verification:
    """Time bare libsodium, and our `verify_many`, on the signatures of these events (at least `CHUNK`)."""
    triples = [Event.parse(raw).signed() for raw in events]
    chunks = [triples[at : at + CHUNK] for at in range(0, len(triples) - CHUNK + 1, CHUNK)]
    # libsodium wants signature and message in one piece: joined here, so that the loop does nothing else
    joined = [[(signature + message, key) for key, message, signature in chunk] for chunk in chunks]

    def bare(at: int) -> None:
        for signed, key in joined[at]:
            crypto_sign_open(signed, key)

    def ours(at: int) -> None:
        assert all(verify_many(chunks[at]))

    new = [Event.parse(raw).signed() for raw in signed_events(2 * CHUNK, per_author=1)]

    def ours_new(at: int) -> None:
        assert all(verify_many(new[at * CHUNK : (at + 1) * CHUNK]))

    cores = len(os.sched_getaffinity(0))
    (bare_one,), (ours_one,) = _chunk_seconds(bare, len(chunks), 1), _chunk_seconds(ours, len(chunks), 1)
    bare_all, ours_all = _chunk_seconds(bare, len(chunks), cores), _chunk_seconds(ours, len(chunks), cores)
    return Verification(
        bare_one / CHUNK * 1e6,
        sum(CHUNK / seconds for seconds in bare_all),
        ours_one / CHUNK * 1e6,
        sum(CHUNK / seconds for seconds in ours_all),
        _chunk_seconds(ours_new, 2, 1)[0] / CHUNK * 1e6,
    )


def _chunk_seconds(work: Callable[[int], None], chunks: int, threads: int) -> list[float]:
    """Give the median seconds a chunk, one value a thread; libsodium and our kernels run without the interpreter."""
    together = threading.Barrier(threads)
    medians: list[float] = []

    def run() -> None:
        together.wait()
        times = []
        for at in range(chunks):
            started = time.perf_counter()
            work(at)
            times.append(time.perf_counter() - started)
        medians.append(statistics.median(times))

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return medians


def mean(one: Verification, other: Verification) -> Verification:
    """Take the middle of a calibration before and one after what is held against them."""
    return Verification(*((getattr(one, name) + getattr(other, name)) / 2 for name in Verification.__slots__))


def figure(
    name: str,
    unit: str,
    value: Callable[..., float],
    *series: Sequence[Any],
    goal: float | None = None,
    more_is_better: bool = False,
    note: str = "",
    **details: Any,
) -> Figure:
    """Work out a figure from what was measured side by side: one value a run.

    Requests and failures are those of every `Sample` that goes into it, so a ratio is as good as its worse side.
    """
    rows = list(zip(*series, strict=True))
    samples = [[item for item in row if isinstance(item, Sample)] for row in rows]
    return Figure(
        name,
        unit,
        [value(*row) for row in rows],
        goal,
        more_is_better,
        requests=sum(sample.events for row in samples for sample in row),
        failures=sum(sample.failures for row in samples for sample in row),
        note=note,
        details=details,
        failed_runs=sum(any(sample.failed for sample in row) for row in samples),
    )
