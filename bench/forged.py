"""What forged events and duplicates cost, and what honest ones lose to them: `./dev bench forged`, three minutes.

In turn, five times, over 128 connections, each against a relay of its own that already holds as many events of the
same authors: honest events alone; events with a wrong id (refused after all that comes before the signature);
forged ones (bench/_events.py has the four ways) in the name of strangers, and in that of authors whose signatures
the relay has verified before, which may cost less; honest ones and those in strangers' names in turn; what the relay
holds, once more; honest events and those in turn. Loopback has no ceiling for bad signatures here, so nothing but
their price holds forged events back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from anporia_relay.errors import STATUS
from bench._alone import alone, progress
from bench._events import batches, forged, posts, signed_events, wrong_id
from bench._figures import Figure
from bench._load import apart, drive
from bench._samples import CHUNK, Sample, Verification, calibrate, figure, mean, measure
from bench._servers import Server, our_relay

__all__ = ["figures"]

CONNECTIONS = 128
EVENTS, QUICK_EVENTS = 12_000, 500
PER_AUTHOR = 10  # a duplicate counts against its author as well: three times 10 stay below 60 a minute
BAD_ID, BAD_SIGNATURE = STATUS["bad_id"], STATUS["bad_signature"]

Results = dict[str, list[Sample]]


@contextmanager
def _relay_that_knows(known: Sequence[bytes]) -> Iterator[Server]:
    with our_relay() as server:
        outcome = apart(drive, server.port, batches(known), 2)
        assert outcome.accepted == len(known), outcome.statuses
        yield server


def run(runs: int, count: int) -> tuple[Results, list[Verification]]:
    """Measure everything in turn so that a drift of the machine meets all alike."""
    results: Results = {}
    calibrations = []
    for _ in progress(range(runs), "forged events and duplicates"):
        # each author's first half is known to the relay, the second is fresh
        theirs = signed_events(2 * count, PER_AUTHOR)
        half = PER_AUTHOR // 2
        known = [raw for at, raw in enumerate(theirs) if at % PER_AUTHOR < half]
        fresh = [raw for at, raw in enumerate(theirs) if at % PER_AUTHOR >= half]
        strangers = signed_events(count, PER_AUTHOR)
        bad = forged(strangers)

        def take(name: str, events: Sequence[bytes], expected: dict[int, int], known: Sequence[bytes] = known) -> None:
            with _relay_that_knows(known) as server:
                sample = measure(server, posts(events), CONNECTIONS, len(events), expected=expected)
            results.setdefault(name, []).append(sample)

        before = calibrate(strangers)
        take("honest", fresh, {200: count})
        take("wrong id", wrong_id(fresh), {BAD_ID: count})
        take("forged", bad, {BAD_SIGNATURE: count})
        take("forged, known authors", forged(fresh), {BAD_SIGNATURE: count})
        take("honest and forged", _in_turn(fresh, bad), {200: count, BAD_SIGNATURE: count})
        take("duplicates", known, {200: count})
        take("honest and duplicates", _in_turn(fresh, known), {200: 2 * count})
        calibrations.append(mean(before, calibrate(strangers)))
    return results, calibrations


def _in_turn(one: Sequence[bytes], other: Sequence[bytes]) -> list[bytes]:
    return [raw for pair in zip(one, other, strict=True) for raw in pair]


def _remaining(mixed: Sample, honest: Sample, other: Sample) -> float:
    """Give the rate of honest events in a mix over what is left when the others' CPU time is taken away."""
    expected = honest.rate * honest.cpu_us / (honest.cpu_us + other.cpu_us)
    return (mixed.rate / 2) / expected


def _remaining_with_generator(mixed: Sample, honest: Sample, other: Sample) -> float:
    """Do the same where the generator's CPU time counts too: it shares the cores and sends twice as much."""
    kept, taken = honest.cpu_us + honest.generator_us, other.cpu_us + other.generator_us
    return (mixed.rate / 2) / (honest.rate * kept / (kept + taken))


def figures(runs: int, quick: bool, events: int | None = None) -> list[Figure]:
    """Measure; `events`: of each sort."""
    count = max(events or (QUICK_EVENTS if quick else EVENTS), CHUNK) // PER_AUTHOR * PER_AUTHOR
    results, verified = run(runs, count)
    honest, refused, bad, again = (results[name] for name in ("honest", "wrong id", "forged", "duplicates"))
    with_bad, with_again = results["honest and forged"], results["honest and duplicates"]
    found = [figure("one bare libsodium verification", "us", lambda v: v.bare_us, verified)]
    for name, samples in results.items():
        found.append(figure(name, "events/s", lambda s: s.rate, samples))
        if " and " not in name:
            times = [s.cpu_us / v.bare_us for s, v in zip(samples, verified, strict=True)]
            found.append(figure(f"{name}: CPU", "us/event", lambda s: s.cpu_us, samples, in_verifications=times))
    return [
        *found,
        figure(
            "a forgery costs beyond a wrong id", "verifications", lambda b, r, v: (b.cpu_us - r.cpu_us) / v.bare_us,
            bad, refused, verified, goal=1.0,
        ),
        figure(
            "the same in a known author's name", "verifications", lambda b, r, v: (b.cpu_us - r.cpu_us) / v.bare_us,
            results["forged, known authors"], refused, verified,
        ),
        # Nothing lost would be 1: what honest events get is what the others leave of the CPU. The 5 % are for the
        # generator, which shares the cores and sends two events for each honest one; the second line counts it in.
        *_left("forged", with_bad, honest, bad),
        *_left("known", with_again, honest, again),
    ]  # fmt: skip


def _left(others: str, mixed: Sequence[Sample], honest: Sequence[Sample], alone: Sequence[Sample]) -> list[Figure]:
    name, series = f"honest among {others} / expected", (mixed, honest, alone)
    return [
        figure(name, "share", _remaining, *series, goal=0.95, more_is_better=True),
        figure(f"{name}, generator counted", "share", _remaining_with_generator, *series),
    ]


if __name__ == "__main__":
    alone("Forged events and duplicates", __doc__, figures, EVENTS)
