"""A load generator: requests made ahead, keep-alive connections, one in flight on each; counts and latencies."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

__all__ = ["Outcome", "drive", "http_post"]

_DEADLINE_S = 300  # a run that takes longer has hung


@dataclass(slots=True)
class Outcome:
    """One run: wall seconds, answers by status, `"accepted":true` seen in bodies, seconds per request."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def failures(self) -> int:
        """How many answers were not 2xx."""
        return sum(count for status, count in self.statuses.items() if not 200 <= status < 300)


def http_post(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Make the bytes of one POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def drive(port: int, requests: Sequence[bytes], connections: int) -> Outcome:
    """Send all requests over so many connections, each waiting for its answer before the next."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(_drive(port, requests, connections), _DEADLINE_S))


async def _drive(port: int, requests: Sequence[bytes], connections: int) -> Outcome:
    loop = asyncio.get_running_loop()
    outcome = Outcome()
    source = iter(requests)
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: _Client(source, outcome), "127.0.0.1", port)
        clients.append(client)
    started = time.perf_counter()
    for client in clients:
        client.next()
    await asyncio.gather(*(client.finished for client in clients))
    outcome.seconds = time.perf_counter() - started
    return outcome


class _Client(asyncio.Protocol):
    def __init__(self, source: Iterator[bytes], outcome: Outcome) -> None:
        self._source, self._outcome = source, outcome
        self._buffer = b""
        self._sent_at = 0.0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is no subclass of asyncio's, so there is nothing to check here
        self._transport = cast("asyncio.Transport", transport)

    def next(self) -> None:
        request = next(self._source, None)
        if request is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

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
        outcome.latencies.append(time.perf_counter() - self._sent_at)
        outcome.statuses[int(head[9:12])] += 1
        outcome.accepted += self._buffer.count(b'"accepted":true', head_end, end)
        self._buffer = self._buffer[end:]
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
