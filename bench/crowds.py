"""Many connections that ask for little, and what they cost: `./dev bench crowds`, some four minutes a run.

Each part has fresh relays of its own. 10,000 streams with a filter each, half by topic, half by author: memory, and
whether 1,000 events reach exactly those they are for. 1,000 streams that match everything and never read, while 50
events a second are posted and 100 others read: memory, and what the others notice. 5,000 idle kept connections, and
5,000 that never finish their header and come again when the relay closes them, while 500 events a second are posted:
memory, and what the poster notices. What others notice is a ratio of 99th percentiles with and without the crowd,
measured in turn. Crowds close by RST, so that the next run finds free ports.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import orjson

from bench._alone import alone, progress
from bench._events import batches, posts
from bench._figures import Figure
from bench._samples import percentile
from bench._servers import Server, our_relay
from bench._streams import Client, Wanted, all_descriptors, http_get, readers, reset_on_close, until
from bench.fanout import Results, delays_ms, ids_of, missed, paced, read_up_to, signed

__all__ = ["figures"]

KB, MB = 1_000, 1_000_000
HALF_HEADER = b"GET /health HTTP/1.1\r\nHost: bench\r\nX-More: "
# Long events, so that a stopped reader reaches the 1 MiB it may be behind within half a minute at 50 a second.
LONG_TEXT, LONG_RATE = 1_200, 50
# Of a stopped reader the kernel is to hold little, so that the rest is the relay's: its receive buffer is small, and
# its segments are as on Ethernet. Loopback's of 64 kB would let the kernel take 2.5 MB to send to each.
SMALL_BUFFER, ETHERNET_SEGMENT = 4_096, 1_460
SILENT_RATE, CONNECTIONS = 500, 8  # of the poster beside a silent crowd


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    streams: int
    events: int  # posted to those
    rest_s: float  # before memory is read, and after the last delivery
    stopped: int
    live: int
    settling_s: float  # of posting, in which readers that have just stopped are still written to: not measured
    stopped_s: float  # of posting after that
    silent: int  # idle, or half-open
    silent_s: float  # of posting
    spread_s: float  # in which the half-open come; the relay gives each 10 s, so they come again as evenly
    rounds: int  # with and without, of which a run takes the medians


FULL = Sizes(
    streams=10_000, events=1_000, rest_s=1.0,
    stopped=1_000, live=100, settling_s=3.0, stopped_s=32.0,
    silent=5_000, silent_s=10.0, spread_s=10.0, rounds=3,
)  # fmt: skip
QUICK = Sizes(
    streams=200, events=100, rest_s=0.1,
    stopped=20, live=5, settling_s=0.2, stopped_s=0.4,
    silent=50, silent_s=0.3, spread_s=0.3, rounds=1,
)  # fmt: skip


def many_filters(results: Results, sizes: Sizes) -> None:
    """Measure what a stream with a filter of its own takes of memory, and that it gets its own events only."""
    half = sizes.streams // 2
    events = signed(
        sizes.events, lambda at: f"topic{at * (sizes.streams // sizes.events)}"
    )  # every second has a stream
    matching = [(f"t={event['tags'][0][1]}", f"authors={event['agent_id']}") for event in map(orjson.loads, events)]
    authors = sorted({author for _, author in matching})[::2]  # the others have no stream
    filters = [f"t=topic{number}" for number in range(half)] + authors
    filters += [f"authors={number:064x}" for number in range(sizes.streams - len(filters))]
    with our_relay() as server:
        with readers(server.port, [Wanted()] * 20):
            pass  # lazy imports and first pages are not measured
        before = server.resident_bytes()
        with readers(server.port, [Wanted(f"?{one}", needle(one)) for one in filters]) as streams:
            time.sleep(sizes.rest_s)
            after = server.resident_bytes()
            client = Client(server.port)
            accepted = sum(client.ask(request)[2].count(b'"accepted":true') for request in batches(events))
            client.close()
            due = Counter(one for both in matching for one in both)
            until(lambda: streams.total >= sum(due[one] for one in filters), 10)
            time.sleep(sizes.rest_s)  # for what should not come
            report, connect_s = streams.report(), streams.connect_s
    wrong = sum(abs(due[one] - count) for one, count in zip(filters, report.counts, strict=True))
    asked, failures = sum(due.values()), len(report.faults) + wrong + len(events) - accepted
    note = (
        f"{len(filters):,} streams; {sum(report.counts):,} deliveries of {len(events):,} events, each where it belongs"
    )
    about = {"faults": report.faults[:3], "misdelivered": [wrong]}
    for name, unit, value, goal, said in (
        ("streams with a filter each: memory, each", "kB", (after - before) / len(filters) / KB, 20, note),
        ("streams with a filter each: the whole relay", "MB", after / MB, 300, ""),
        ("streams with a filter each: connecting all", "s", connect_s, None, ""),
    ):
        results.add(Figure(name, unit, [value], goal, False, asked, failures, said, about if said else {}))


def needle(filter_: str) -> bytes:
    """Give what each event that a filter matches holds once."""
    name, _, value = filter_.partition("=")
    return (f'["t","{value}"]' if name == "t" else f'"agent_id":"{value}"').encode()


@dataclass(slots=True)
class Noticed:
    """What the readers and the poster beside a crowd of stopped readers felt, and what the crowd took."""

    post_p99_ms: float
    delivery_p99_ms: float
    grown: int  # bytes, at the peak
    cut: int
    asked: int
    failures: int


def beside_stopped(sizes: Sizes, count: int) -> Noticed:
    """Post to readers, with so many beside them that do not read."""
    events = signed(int(LONG_RATE * (sizes.settling_s + sizes.stopped_s)), text=LONG_TEXT)
    with (
        our_relay() as server,
        readers(server.port, [Wanted()] * sizes.live, contiguous=True, timed=True) as live,
        opened(server.port, count, http_get("/stream"), small=True),
    ):
        before = server.resident_bytes()
        forget_peak(server)
        sent = paced(server.port, posts(events), LONG_RATE, CONNECTIONS)
        read_up_to(live, len(events))
        grown = peak_bytes(server) - before
        report, cut = live.report(), streams_cut(server)
    settled = int(LONG_RATE * sizes.settling_s)
    delays = delays_ms(report, dict(zip(ids_of(events), sent.answered, strict=True)), after=sent.answered[settled])
    asked, failures = len(events) * sizes.live, missed(report, len(events)) + sent.failures
    post_p99, delivery_p99 = tail(sent.waits_ms[settled:]), tail(delays)
    return Noticed(post_p99, delivery_p99, grown, cut, asked, failures)


def stopped_readers(results: Results, sizes: Sizes) -> None:
    """Measure what readers that do not read take of memory, and what others notice of them."""
    without, beside = beside_stopped(sizes, 0), beside_stopped(sizes, sizes.stopped)
    asked, failures = without.asked + beside.asked, without.failures + beside.failures
    note = f"{sizes.stopped:,} of them beside {sizes.live} that read; {beside.cut:,} were cut in the last run"
    grown = [(one.grown / MB) for one in (beside, without)]
    results.add(
        Figure(
            "stopped readers: memory grown", "MB", grown[:1], None, False, asked, failures, note,
            {"MB_without": grown[1:], "cut": [beside.cut]},
        )
    )  # fmt: skip
    for name, p99s in (
        ("POST", (beside.post_p99_ms, without.post_p99_ms)),
        ("delivery", (beside.delivery_p99_ms, without.delivery_p99_ms)),
    ):
        ratio(results, f"stopped readers: others' {name}, p99 with / without", 1.10, *p99s, asked, failures)


def ratio(results: Results, name: str, goal: float, beside: float, without: float, asked: int, failures: int) -> None:
    """Add one run of a ratio of two 99th percentiles, in milliseconds."""
    about = {"p99_ms": [beside], "p99_ms_without": [without]}
    results.add(Figure(name, "ratio", [beside / without], goal, False, asked, failures, "", about))


def silent_crowd(
    results: Results,
    sizes: Sizes,
    name: str,
    goal: float,
    crowd: Callable[[int], AbstractContextManager[None]],
) -> None:
    """Measure what connections that ask for nothing take of memory, and what somebody who posts notices of them."""
    without: list[float] = []
    beside: list[float] = []
    each: list[float] = []
    later: list[float] = []
    failures = 0

    def post(to: list[float]) -> float:
        """Post for a while; gives the bytes by which the relay grew."""
        nonlocal failures
        requests = posts(signed(int(SILENT_RATE * sizes.silent_s)))
        before = server.resident_bytes()
        sent = paced(server.port, requests, SILENT_RATE, CONNECTIONS)
        failures += sent.failures
        to.append(tail(sent.waits_ms))
        return server.resident_bytes() - before

    with our_relay() as server:
        post([])  # lazy imports and first pages are not measured
        for _ in range(sizes.rounds):
            usual = post(without)
            before = server.resident_bytes()
            with crowd(server.port):
                each.append((server.resident_bytes() - before) / sizes.silent / KB)
                later.append((post(beside) - usual) / MB)
    asked = int(SILENT_RATE * sizes.silent_s) * (2 * sizes.rounds + 1)
    note = f"{sizes.silent:,} of them"
    # the first time: later crowds find the room of those before them
    results.add(Figure(f"{name}: memory, each", "kB", each[:1], None, False, asked, failures, note))
    results.add(
        Figure(
            f"{name}: memory grown while they stay", "MB", [statistics.median(later)], None, False, asked, failures,
            "beyond what the same posts take without them",
        )
    )  # fmt: skip
    p99s = statistics.median(beside), statistics.median(without)
    ratio(results, f"{name}: others' POST, p99 with / without", goal, *p99s, asked, failures)


@contextmanager
def opened(port: int, count: int, request: bytes, *, small: bool = False) -> Iterator[None]:
    """Hold connections on which one request was sent, and of whose answers nothing is read."""
    all_descriptors()
    held = []
    try:
        for _ in range(count):
            connection = socket.socket()
            held.append(connection)
            connection.settimeout(30)
            reset_on_close(connection)
            if small:  # said in the handshake
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET_SEGMENT)
            connection.connect(("127.0.0.1", port))
            connection.sendall(request)
        for connection in held:
            connection.recv(1, socket.MSG_PEEK)  # the answer has begun
        yield
    finally:
        for connection in held:
            connection.close()


@contextmanager
def half_open(port: int, count: int, spread_s: float) -> Iterator[None]:
    """Hold connections that never finish their header, from a process that renews each one the relay closes."""
    spawn = multiprocessing.get_context("spawn")
    now_open = spawn.RawValue("q", 0)
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_half_open, args=(theirs, now_open, port, count, spread_s), daemon=True)
    child.start()
    theirs.close()
    try:
        # not quite all: some are being renewed at any time
        if not until(lambda: now_open.value >= count * 0.95, spread_s + 30):
            raise SystemExit("the half-open connections do not come about")
        yield
    finally:
        ours.close()
        child.join()


def _half_open(pipe: Connection, now_open: Any, port: int, count: int, spread_s: float) -> None:
    import uvloop

    class HalfOpen(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            now_open.value += 1
            reset_on_close(transport.get_extra_info("socket"))
            cast("asyncio.Transport", transport).write(HALF_HEADER)

        def connection_lost(self, exc: Exception | None) -> None:
            now_open.value -= 1
            connect()

    async def hold() -> None:
        loop = asyncio.get_running_loop()
        for number in range(count):
            loop.call_later(spread_s * number / count, connect)
        over = asyncio.Event()
        loop.add_reader(pipe.fileno(), over.set)  # the other end is closed, or its process is gone
        await over.wait()

    def connect() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.create_connection(HalfOpen, "127.0.0.1", port))
        pending.add(task)
        task.add_done_callback(pending.discard)

    pending: set[asyncio.Task[Any]] = set()  # the loop itself holds tasks weakly
    all_descriptors()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(hold())


def tail(values: Sequence[float]) -> float:
    """Give the 99th percentile."""
    return percentile(sorted(values) or [float("inf")], 0.99)


def forget_peak(server: Server) -> None:
    """Let the peak of its resident memory count from now (proc(5), clear_refs)."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")


def peak_bytes(server: Server) -> int:
    """Read the peak of its resident memory."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1]) * 1024


def streams_cut(server: Server) -> int:
    """Ask the relay how many slow readers it has cut."""
    client = Client(server.port)
    _, _, text = client.ask(http_get("/metrics"))
    client.close()
    return int(float(text.partition(b"\nanporia_subscribers_cut_total ")[2].split(b"\n")[0]))


def figures(runs: int, quick: bool, events: int | None = None) -> list[Figure]:
    """Measure all, in turn, so many times; `events`: posted to the streams with filters."""
    results, sizes = Results(), QUICK if quick else FULL
    sizes = replace(sizes, events=events or sizes.events)
    parts: list[Callable[[], None]] = [
        partial(many_filters, results, sizes),
        partial(stopped_readers, results, sizes),
        lambda: silent_crowd(
            results, sizes, "idle", 1.10, lambda port: opened(port, sizes.silent, http_get("/health"))
        ),
        lambda: silent_crowd(
            results, sizes, "half-open", 2.0, lambda port: half_open(port, sizes.silent, sizes.spread_s)
        ),
    ]
    for part in progress(parts * runs, "crowds"):
        part()
    return results.all()


if __name__ == "__main__":
    alone("Crowds", __doc__, figures, FULL.events)
