"""A load generator: requests made ahead, kept connections; counts and latencies. `apart` gives it a process of its own.

`drive` is a closed loop: each connection waits for its answer before it sends the next request. `pace` is an open
one: when each request is due is settled before the first is sent, and its latency counts from then, so that a
relay that stalls is charged for all that should have been sent meanwhile (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import math
import multiprocessing
import os
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import ParamSpec, cast

__all__ = ["Outcome", "apart", "apart_on", "drive", "http_post", "pace"]

_DEADLINE_S = 300  # a run that takes longer has hung

P = ParamSpec("P")


@dataclass(slots=True)
class Outcome:
    """One run: wall seconds, answers by status, `"accepted":true` seen in bodies, seconds per request."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: int = 0
    latencies: list[float] = field(default_factory=list)
    requests: int = 0
    cpu_s: float = 0.0
    """What the generator itself used, in all its process."""
    late: list[float] = field(default_factory=list)
    """How long after its due time `pace` came to each request: the generator's own fault, in seconds."""

    @property
    def failures(self) -> int:
        """How many answers were not 2xx."""
        return sum(count for status, count in self.statuses.items() if not 200 <= status < 300)

    def unexpected(self, expected: Mapping[int, int]) -> int:
        """Count the requests that had another answer than expected (so many of each status), or none."""
        return sum(expected.values()) - sum(min(self.statuses[status], count) for status, count in expected.items())


def http_post(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Make the bytes of one POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def apart(function: Callable[P, Outcome], *args: P.args, **kwargs: P.kwargs) -> Outcome:
    """Run `drive` or `pace` in the generator's own process, where nothing else needs the interpreter."""
    return _process().submit(_held_to, None, function, args, kwargs).result()


def apart_on(cores: Sequence[int], function: Callable[P, Outcome], *args: P.args, **kwargs: P.kwargs) -> Outcome:
    """Do as `apart`, with the generator held to these cores."""
    return _process().submit(_held_to, cores, function, args, kwargs).result()


@cache
def _process() -> ProcessPoolExecutor:
    # spawned, not forked: a fork would share our heap, and copy it as reference counts change
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _held_to(
    cores: Sequence[int] | None, function: Callable[..., Outcome], args: tuple[object, ...], kwargs: dict[str, object]
) -> Outcome:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    gc.disable()  # what a run makes is small and without cycles; a collection in the middle would look like a stall
    try:
        return function(*args, **kwargs)
    finally:
        gc.enable()
        os.sched_setaffinity(0, before)


def drive(port: int, requests: Sequence[bytes], connections: int) -> Outcome:
    """Send all requests over so many connections, each waiting for its answer before the next."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(_drive(port, requests, connections), _DEADLINE_S))


def pace(port: int, requests: Sequence[bytes], connections: int, rate: float) -> Outcome:
    """Send so many requests a second at times fixed ahead; one that finds no free connection waits, and is late."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(_pace(port, requests, connections, rate), _DEADLINE_S))


async def _drive(port: int, requests: Sequence[bytes], connections: int) -> Outcome:
    outcome = Outcome(requests=len(requests))
    source = iter(requests)

    def go_on(client: _Client) -> None:
        request = next(source, None)
        if request is None:
            client.close()
        else:
            client.send(request, time.perf_counter())

    clients = await _connected(port, connections, outcome, go_on)
    with _timed(outcome):
        for client in clients:
            go_on(client)
        await asyncio.gather(*(client.finished for client in clients))
    return outcome


async def _pace(port: int, requests: Sequence[bytes], connections: int, rate: float) -> Outcome:
    outcome = Outcome(requests=len(requests))
    waiting: deque[tuple[bytes, float]] = deque()
    free: list[_Client] = []
    at = 0

    def go_on(client: _Client) -> None:
        if waiting:
            client.send(*waiting.popleft())
        elif at < len(requests):
            free.append(client)
        else:
            client.close()

    def send_what_is_due() -> None:
        nonlocal at
        os.read(clock, 8)
        now = time.perf_counter()
        while at < len(requests) and (due := started + at / rate) <= now:
            outcome.late.append(now - due)
            waiting.append((requests[at], due))
            at += 1
            if free:
                go_on(free.pop())
        if at == len(requests):
            loop.remove_reader(clock)
            while free:
                free.pop().close()

    loop = asyncio.get_running_loop()
    clients = await _connected(port, connections, outcome, go_on)
    free += clients
    # before the clock begins, or each tick would come just too early for the request that it is meant for
    started = time.perf_counter()
    with _ticks(1 / rate) as clock, _timed(outcome):
        loop.add_reader(clock, send_what_is_due)
        await asyncio.gather(*(client.finished for client in clients))
        loop.remove_reader(clock)
    return outcome


@contextmanager
def _timed(outcome: Outcome) -> Iterator[None]:
    started, cpu = time.perf_counter(), time.process_time()
    yield
    outcome.seconds = time.perf_counter() - started
    outcome.cpu_s = time.process_time() - cpu


@contextmanager
def _ticks(seconds: float) -> Iterator[int]:
    """Give a descriptor that becomes readable so often: the timers of event loops know whole milliseconds only."""
    libc = ctypes.CDLL(None, use_errno=True)
    # os.timerfd_create comes with Python 3.13
    descriptor: int = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    whole, rest = divmod(math.ceil(seconds * 1e9), 10**9)
    if descriptor < 0 or libc.timerfd_settime(descriptor, 0, struct.pack("4l", whole, rest, 0, 1), None) < 0:
        raise OSError(ctypes.get_errno(), "no timer")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _connected(port: int, connections: int, outcome: Outcome, go_on: Callable[[_Client], None]) -> list[_Client]:
    loop = asyncio.get_running_loop()
    return [
        (await loop.create_connection(lambda: _Client(outcome, go_on), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]


class _Client(asyncio.Protocol):
    """One connection; `go_on` is asked what comes next whenever an answer is complete."""

    def __init__(self, outcome: Outcome, go_on: Callable[[_Client], None]) -> None:
        self._outcome, self._go_on = outcome, go_on
        self._buffer = b""
        self._due = 0.0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is no subclass of asyncio's, so there is nothing to check here
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        at = head.index(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        end = head_end + 4 + length
        if len(self._buffer) < end:
            return
        outcome = self._outcome
        outcome.latencies.append(time.perf_counter() - self._due)
        outcome.statuses[int(head[9:12])] += 1
        outcome.accepted += self._buffer.count(b'"accepted":true', head_end, end)
        self._buffer = self._buffer[end:]
        self._go_on(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
