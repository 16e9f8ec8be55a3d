"""One event to a thousand streams: `./dev bench fanout [--runs N] [--quick] [--json FILE]`, a minute and a half a run.

Each part has a fresh relay: 1,000 streams that get every event, while batches of 50 are posted as fast as they are
taken, then single events, as fast and at 20 and 100 a second; and 100 streams on one topic, whose events are posted
while nobody else is there and while 10,000 streams wait on topics of their own. The readers are one process
(`bench/_streams.py`), which checks that each stream gets each event once and in order; publishers are threads of
this one. Events are kind 1, about 500 bytes, signed ahead.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from anporia_wire import Event, Keypair
from bench._alone import alone, progress
from bench._events import PER_AUTHOR, posts
from bench._figures import MOST_FAILURES, Figure
from bench._load import http_post
from bench._samples import percentile
from bench._servers import Server, our_relay
from bench._streams import Client, Readers, Report, Wanted, cpu_seconds, readers, until

__all__ = ["Paced", "Results", "delays_ms", "figures", "ids_of", "missed", "paced", "read_up_to", "signed"]

# A relay cuts a reader who is more than 1 MiB behind. So many events, some 560 bytes a frame, are half of that.
MOST_UNREAD = 1_000
BATCH_EVENTS, PUBLISHERS = 50, 2
STALLED_S = 30  # no reader got anything for so long: the run has failed
SEGMENTS = 5  # pieces of which the cost of an event is the median: pings fall into some of them only


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    subscribers: int
    events: int  # in batches; a tenth of them singly
    paced_s: float
    sharers: int  # streams on the one topic
    bystanders: int
    segment: int  # events


FULL = Sizes(subscribers=1_000, events=10_000, paced_s=20.0, sharers=100, bystanders=10_000, segment=400)
QUICK = Sizes(subscribers=50, events=500, paced_s=1.0, sharers=10, bystanders=200, segment=100)


@dataclass(slots=True)
class Paced:
    """Requests at a set pace: when each was answered, and how long after it was due."""

    answered: list[float]
    waits_ms: list[float]
    failures: int
    seconds: float


def paced(port: int, requests: Sequence[bytes], rate: float, connections: int = 1) -> Paced:
    """Send so many requests a second, each when it is due or, if no connection is free, as soon as one is.

    Threads, since they wake within 0.1 ms; uvloop's timers count whole milliseconds. A wait counts from when the
    request was due, so that a server which stands still is not asked less and measured better.
    """
    done = Paced([0.0] * len(requests), [0.0] * len(requests), 0, 0.0)
    numbers, lock = iter(range(len(requests))), threading.Lock()
    clients = [Client(port) for _ in range(connections)]
    begin = time.perf_counter() + 0.05

    def send(client: Client) -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                client.close()
                return
            due = begin + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                status, _, _ = client.ask(requests[number])
            except OSError:  # the relay hung up: a failure like any other
                status, client = 0, Client(port)
            done.answered[number] = now = time.perf_counter()
            done.waits_ms[number] = (now - due) * 1e3
            if status != 200:
                with lock:
                    done.failures += 1

    threads = [threading.Thread(target=send, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.seconds = max(done.answered) - begin
    return done


def delays_ms(report: Report, answered: dict[str, float], after: float = 0.0) -> list[float]:
    """Give the time of each delivery after the acknowledgement of its event, 0 if it came first.

    Events acknowledged before `after` are left out.
    """
    acknowledged = {seq: answered[id_] for seq, id_ in report.ids.items() if answered[id_] >= after}
    pairs = zip(report.seqs, report.times, strict=True)
    return [max(0.0, at - acknowledged[seq]) * 1e3 for seq, at in pairs if seq in acknowledged]


def signed(count: int, topic: Callable[[int], str] = lambda at: f"room{at % 20}", text: int = 150) -> list[bytes]:
    """Sign kind-1 events with a fresh date, by as many authors as their limit needs; 150 characters make 500 bytes."""
    now, words = int(time.time()), "the quick brown fox watches the relay "
    events = []
    for at in range(count):
        if at % PER_AUTHOR == 0:
            author = Keypair.generate()
        content = f"observation {at}: {words * (text // len(words) + 1)}"[:text]
        events.append(Event.create(author, 1, content, [["t", topic(at)], ["lang", "en"]], created_at=now))
    return [event.to_json() for event in events]


def ids_of(events: Sequence[bytes]) -> list[str]:
    """Read the ids of serialised events: the first of their fields."""
    return [event[7:71].decode() for event in events]


def flood(
    port: int, events: Sequence[bytes], streams: Readers, batch: int = BATCH_EVENTS, publishers: int = PUBLISHERS
) -> int:
    """Post batches as fast as they are taken and read; gives how many events were not accepted.

    The slowest reader sets the pace, so that none falls so far behind that the relay cuts it.
    """
    starts, lock = iter(range(0, len(events), batch)), threading.Lock()
    had, refused = streams.slowest, 0  # what the readers got earlier

    def post() -> None:
        nonlocal refused
        client = Client(port)
        while True:
            with lock:
                start = next(starts, None)
            if start is None:
                break
            part = events[start : start + batch]
            if not read_up_to(streams, had + start + len(part) - MOST_UNREAD):
                break
            _, _, answer = client.ask(http_post("/events/batch", b"\n".join(part), "application/x-ndjson"))
            with lock:
                refused += len(part) - answer.count(b'"accepted":true')
        client.close()

    threads = [threading.Thread(target=post) for _ in range(publishers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read_up_to(streams, had + len(events))
    return refused


def read_up_to(streams: Readers, count: int) -> bool:
    """Wait until each reader has so many frames; False when one was cut or nothing comes any more."""
    total, since = streams.total, time.perf_counter()
    while not until(lambda: streams.slowest >= count, 0.1):
        if streams.total > total:
            total, since = streams.total, time.perf_counter()
        if streams.lost or time.perf_counter() - since > STALLED_S:
            return False
    return True


def missed(report: Report, events: int) -> int:
    """Count deliveries that did not come; all of them count when one came twice or out of order."""
    wanted = events * len(report.counts)
    return wanted if report.faults else wanted - sum(report.counts)


class Results:
    """Collects the runs of each figure, with what failed in them."""

    def __init__(self) -> None:
        self._by_name: dict[str, Figure] = {}

    def add(self, new: Figure) -> None:
        """Take one run of a figure; its details are lists that grow."""
        new.failed_runs = int(new.failures > new.requests * MOST_FAILURES)
        old = self._by_name.setdefault(new.name, new)
        if old is not new:
            old.runs += new.runs
            old.requests += new.requests
            old.failures += new.failures
            old.failed_runs += new.failed_runs
            for key, values in new.details.items():
                old.details[key] += values

    def all(self) -> list[Figure]:
        """Give the figures in the order in which they first came."""
        return list(self._by_name.values())


def flat_out(results: Results, sizes: Sizes, singly: bool) -> None:
    """Measure deliveries a second, and what each costs the relay."""
    events = signed(sizes.events // 10 if singly else sizes.events)
    batch, publishers = (1, 1) if singly else (BATCH_EVENTS, PUBLISHERS)
    with our_relay() as server, readers(server.port, [Wanted()] * sizes.subscribers, contiguous=True) as streams:
        begin, cpu, reader_cpu = time.perf_counter(), cpu_seconds(server), streams.report().cpu_s
        refused = flood(server.port, events, streams, batch, publishers)
        cpu = cpu_seconds(server) - cpu
        wall, report = time.perf_counter() - begin, streams.report()
    deliveries = sum(report.counts)
    asked, failures = len(events) * sizes.subscribers, missed(report, len(events)) + refused
    way = "flat out, singly" if singly else "flat out"
    note = f"{sizes.subscribers:,} streams, {len(events):,} events; each stream held to: once, in order"
    about = {"faults": report.faults[:3], "reader_cores": [(report.cpu_s - reader_cpu) / wall]}
    rate = deliveries / max(report.last_at - report.first_at, 1e-9)
    results.add(
        Figure(f"{way}: deliveries", "/s", [rate], None if singly else 150_000, True, asked, failures, note, about)
    )
    note = "with what it costs to take, verify and store the events"
    cost = cpu / max(deliveries, 1) * 1e6
    results.add(Figure(f"{way}: server CPU a delivery", "us", [cost], None, False, asked, failures, note))


def at_pace(results: Results, sizes: Sizes, rate: int, goals: tuple[float | None, float | None]) -> None:
    """Measure how long after the acknowledgement of an event its deliveries come, and how late that one is itself."""
    events = signed(int(rate * sizes.paced_s))
    with (
        our_relay() as server,
        readers(server.port, [Wanted()] * sizes.subscribers, contiguous=True, timed=True) as streams,
    ):
        sent = paced(server.port, posts(events), rate, connections=8)
        read_up_to(streams, len(events))
        report = streams.report()
    delays = sorted(delays_ms(report, dict(zip(ids_of(events), sent.answered, strict=True))))
    asked, failures = len(events) * sizes.subscribers, missed(report, len(events)) + sent.failures
    about = {"faults": report.faults[:3], "achieved": [(len(events) - 1) / sent.seconds]}
    for name, share, note in (("p50", 0.5, f"{sizes.subscribers:,} streams"), ("p99", 0.99, "")):
        taken = percentile(sorted(sent.waits_ms), share)
        results.add(Figure(f"{rate}/s: acknowledged, {name}", "ms", [taken], None, False, asked, failures, note))
    for name, share, goal in (("p50", 0.5, goals[0]), ("p99", 0.99, goals[1])):
        come = percentile(delays or [float("inf")], share)
        results.add(
            Figure(f"{rate}/s: delivered after that, {name}", "ms", [come], goal, False, asked, failures, "", about)
        )


def cost_of_an_event(server: Server, streams: Readers, count: int) -> float:
    """Give server CPU microseconds for each event of a topic that is delivered."""
    events = signed(count, lambda _: "shared")
    cpu = cpu_seconds(server)
    flood(server.port, events, streams)
    return (cpu_seconds(server) - cpu) / count * 1e6


def bystanders(results: Results, sizes: Sizes) -> None:
    """Measure whether streams that want something else cost anything."""
    sharing = [Wanted("?t=shared", b'["t","shared"]')] * sizes.sharers
    others = [Wanted(f"?t=other{number}") for number in range(sizes.bystanders)]
    with our_relay() as server, readers(server.port, sharing, contiguous=True) as streams:

        def cost() -> float:
            return statistics.median(cost_of_an_event(server, streams, sizes.segment) for _ in range(SEGMENTS))

        cost_of_an_event(server, streams, sizes.segment)  # lazy imports and first pages are not measured
        alone = [cost()]
        with readers(server.port, others) as waiting:
            crowded = cost()
            strays = waiting.total
        alone.append(cost())
        report = streams.report()
    events = sizes.segment * (SEGMENTS * 3 + 1)
    asked = events * sizes.sharers
    note = f"{sizes.sharers:,} streams get it, {sizes.bystanders:,} others or none wait; its noise is some 5 %"
    results.add(
        Figure(
            "cost of an event, bystanders / none", "ratio", [crowded / statistics.mean(alone)], 1.15, False,
            asked, missed(report, events) + strays, note,
            {"us_alone": alone, "us_crowded": [crowded], "faults": report.faults[:3]},
        )
    )  # fmt: skip


def figures(runs: int, quick: bool, events: int | None = None) -> list[Figure]:
    """Measure all, in turn, so many times; `events`: of the batches."""
    results, sizes = Results(), QUICK if quick else FULL
    sizes = replace(sizes, events=events or sizes.events)
    parts: list[Callable[[], None]] = [
        lambda: flat_out(results, sizes, singly=False),
        lambda: flat_out(results, sizes, singly=True),
        lambda: at_pace(results, sizes, 20, (8, 25)),
        lambda: at_pace(results, sizes, 100, (None, None)),
        lambda: bystanders(results, sizes),
    ]
    for part in progress(parts * runs, "fan-out"):
        part()
    return results.all()


if __name__ == "__main__":
    alone("Fan-out", __doc__, figures, FULL.events)
