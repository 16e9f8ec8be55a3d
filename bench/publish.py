"""Publishing, ours beside the published relay: `./dev bench publish`, about four minutes, needs a quiet machine.

In turn, five times: verifying alone (calibration: bare libsodium, and our `verify_many` beside it, before and after
what is held against them), the published `anp2-relay` 0.1.0 over 8, 16 and 32 connections, our relay over 8 to 256
connections with POST /events, and NDJSON batches of 500 over 8 connections, once more with the relay held to one
core and the generator to another; and POST and batches again where each event has an author of its own, since a
relay verifies keys faster that it has seen before. Each relay runs as its own process on a fresh database on the
same disk, with its limit per address lifted by a launcher or setting (verification and the limit per agent stay
on); the generator, a process too, shares the two cores. Events are kind 1, some 500 bytes, signed ahead with a
fresh date by enough authors to stay within 60 a minute each. Reported: medians with the lowest and highest of the
runs, CPU time of the server per event, and all answers that were not 2xx.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from bench._alone import alone, progress
from bench._events import BATCH_EVENTS, PER_AUTHOR, batches, posts, signed_events
from bench._figures import Figure, spread
from bench._samples import CHUNK, Sample, Verification, calibrate, figure, mean, measure
from bench._servers import our_relay, reference_relay

__all__ = ["BATCH_CONNECTIONS", "BATCH_EVENTS", "PER_AUTHOR", "Sample", "figures", "measure", "signed_events", "spread"]

REFERENCE_CONNECTIONS = (8, 16, 32)
OUR_CONNECTIONS = (8, 32, 128, 256)
MAIN_CONNECTIONS = 128  # the goals of POST are set for this many
BATCH_CONNECTIONS = 8  # as in the design's measurements
EVENTS, QUICK_EVENTS = 20_000, 500
BATCH_FACTOR = 3  # batches take so many times the events: 20,000 are over in five rounds of the connections
REFERENCE_EVENTS = 600  # of the published relay, which does some 270 a second
QUIET = 0.8  # of what the cores would do if none of them had anything else to do

Results = dict[str, list[Sample]]


def run(runs: int, events: int, quick: bool) -> tuple[Results, list[Verification]]:
    """Measure everything in turn so that a drift of the machine meets all alike."""
    results: Results = {}
    calibrations = []
    for _ in progress(range(runs), "publishing"):
        fresh = signed_events(max(events * (1 if quick else BATCH_FACTOR), CHUNK))
        if not quick:
            for connections in REFERENCE_CONNECTIONS:
                _reference(results, fresh[: min(REFERENCE_EVENTS, events)], connections)
        before = calibrate(fresh[:events])
        for connections in (MAIN_CONNECTIONS,) if quick else OUR_CONNECTIONS:
            with our_relay() as server:
                sample = measure(server, posts(fresh[:events]), connections, events)
            results.setdefault(f"POST, {connections} connections", []).append(sample)
        _batches(results, fresh)
        if not quick:
            _strangers(results, signed_events(events, per_author=1))
        calibrations.append(mean(before, calibrate(fresh[:events])))
    return results, calibrations


def _reference(results: Results, fresh: Sequence[bytes], connections: int) -> None:
    with reference_relay() as server:
        sample = measure(server, posts(fresh), connections, len(fresh))
    results.setdefault(f"published, {connections} connections", []).append(sample)


def _batches(results: Results, fresh: Sequence[bytes]) -> None:
    with our_relay() as server:
        sample = measure(server, batches(fresh), BATCH_CONNECTIONS, len(fresh))
    results.setdefault("batch", []).append(sample)
    first, *rest = sorted(os.sched_getaffinity(0))
    with our_relay() as server:
        server.pin([first])
        sample = measure(server, batches(fresh), BATCH_CONNECTIONS, len(fresh), cores=rest or [first])
    results.setdefault("batch, one core", []).append(sample)


def _strangers(results: Results, fresh: Sequence[bytes]) -> None:
    """Measure the same where nobody comes twice: a relay verifies keys faster that it has seen before."""
    for name, made, connections in (
        ("POST, each its own author", posts, MAIN_CONNECTIONS),
        ("batch, each its own author", batches, BATCH_CONNECTIONS),
    ):
        with our_relay() as server:
            sample = measure(server, made(fresh), connections, len(fresh))
        results.setdefault(name, []).append(sample)


def figures(runs: int, quick: bool, events: int | None = None) -> list[Figure]:
    """Measure; `quick`: a few events to try the bench itself, without the published relay."""
    results, verified = run(runs, events or (QUICK_EVENTS if quick else EVENTS), quick)
    return [*_calibration(verified), *_table(results, verified), *_goals(results, verified)]


def _calibration(verified: Sequence[Verification]) -> list[Figure]:
    cores = len(os.sched_getaffinity(0))
    loud = any(v.bare_all < QUIET * cores * v.bare_one for v in verified)
    warning = f"not quiet: {cores} cores did under {QUIET * cores:.1f} times one" if loud else ""
    return [
        figure("one bare libsodium verification", "us", lambda v: v.bare_us, verified),
        figure("bare verifying, one core", "events/s", lambda v: v.bare_one, verified),
        figure("bare verifying, all cores", "events/s", lambda v: v.bare_all, verified, note=warning),
        figure("our verify_many, known keys", "us", lambda v: v.ours_us, verified, note=f"in chunks of {CHUNK}"),
        figure("our verify_many, new keys", "us", lambda v: v.ours_new_us, verified),
        figure("our verify_many, known keys, all cores", "events/s", lambda v: v.ours_all, verified),
    ]


def _table(results: Results, verified: Sequence[Verification]) -> list[Figure]:
    rows = []
    for name, samples in results.items():
        whose = "published" if name.startswith("published") else "ours"
        rows += [
            figure(
                name, "events/s", lambda s: s.rate, samples, chart="published", whose=whose, bar=name,
                p50_ms=[s.p50_ms for s in samples], generator_us=[s.generator_us for s in samples],
            ),
            figure(
                f"{name}: CPU", "us/event", lambda s: s.cpu_us, samples,
                in_verifications=[s.cpu_us / v.bare_us for s, v in zip(samples, verified, strict=True)],
            ),
        ]  # fmt: skip
    return rows


def _goals(results: Results, verified: Sequence[Verification]) -> list[Figure]:
    post, batch, one_core = (
        results[name] for name in (f"POST, {MAIN_CONNECTIONS} connections", "batch", "batch, one core")
    )
    found = [
        figure("POST: CPU / verification", "times", lambda s, v: s.cpu_us / v.bare_us, post, verified, goal=1.9),
        figure(
            "batch / bare verifying, all cores", "share", lambda s, v: s.rate / v.bare_all, batch, verified,
            goal=0.75, more_is_better=True,
        ),
        figure(
            "batch / bare verifying, one core", "share", lambda s, v: s.rate / v.bare_one, one_core, verified,
            goal=0.85, more_is_better=True,
        ),
    ]  # fmt: skip
    published = [samples for name, samples in results.items() if name.startswith("published")]
    for name, samples, goal, stretch in (("POST", post, 30, 45), ("batch", batch, 65, 85)) if published else ():
        found.append(
            figure(
                f"{name} / the published relay's best", "times",
                # its best in the same run, whichever number of connections that was
                lambda ours, *theirs: ours.rate / max(sample.rate for sample in theirs), samples, *published,
                goal=goal, more_is_better=True, note=f"stretch: {stretch}", stretch=stretch,
            )
        )  # fmt: skip
    return found


if __name__ == "__main__":
    alone("Publishing", __doc__, figures, EVENTS)
