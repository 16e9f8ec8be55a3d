"""Sockets: uvicorn, with deadlines and caps on each connection and a stop that keeps its promises.

uvicorn leaves idle, half-header and half-body connections open for ever; the subclass below watches
them. What it relies on inside uvicorn is pinned in pyproject.toml and held by a contract test.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from .errors import Rejected
from .http import refusal
from .limits import Peer

__all__ = ["Connection", "Door", "Server"]

# Settled limit 15, all of them.
MAX_HEADER_BYTES = 16 * 1024
HEADER_S = 10.0  # from connecting, or from the first byte of a later request
BODY_S, BODY_BYTES_PER_S = 10.0, 1024
IDLE_S = 60

LINGER_S = 5.0  # a cut reader may still drain what the kernel holds; then the connection is dropped


class Door:
    """What all connections of one server share: caps, and who is there."""

    def __init__(self, max_per_peer: int, uncapped: Callable[[str], bool]) -> None:
        self.max_per_peer = max_per_peer
        self.uncapped = uncapped
        self.open: Counter[str] = Counter()
        self.connections: set[Connection] = set()

    def tick(self, now: float) -> None:
        """Once a second: close what has outstayed its deadline."""
        for connection in list(self.connections):
            connection.expire(now)


class Connection(HttpToolsProtocol):
    """One client's connection."""

    door: Door  # set on a subclass per server, since uvicorn makes the instances

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_lost: Callable[[], None] | None = None
        self._header_bytes = 0
        self._reading: str = "header"  # header, body, or nothing: waiting for us
        self._since = self.loop.time()
        self._body_bytes = 0
        self._peer_key = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or close it at once when its address holds too many."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if not self.door.uncapped(address):
            self._peer_key = Peer.of(address).key
            self.door.open[self._peer_key] += 1
            if self.door.max_per_peer and self.door.open[self._peer_key] > self.door.max_per_peer:
                self._refuse(Rejected("connections_full", "too many open connections from this address", retry_in=10))
        self.door.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and tell its stream, if any."""
        self.door.connections.discard(self)
        if self._peer_key:
            self.door.open[self._peer_key] -= 1
            if not self.door.open[self._peer_key]:
                del self.door.open[self._peer_key]
        super().connection_lost(exc)
        if self.on_lost:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, counting header bytes before it keeps them."""
        if self._reading == "nothing":
            self._reading, self._since = "header", self.loop.time()
        if self._reading == "header":
            self._header_bytes += len(data)
            # A chunk may carry a small header and a large body: only what never completes is too large.
            if self._header_bytes > MAX_HEADER_BYTES and b"\r\n\r\n" not in data[:MAX_HEADER_BYTES]:
                self._refuse(Rejected("header_too_large", f"request header exceeds {MAX_HEADER_BYTES} bytes"))
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Start the request; from here on the body's deadline runs."""
        self._header_bytes = 0
        self._reading, self._since, self._body_bytes = "body", self.loop.time(), 0
        self.scope["extensions"] = {"anporia.connection": {"connection": self}}
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what has come, for the rate a body must keep."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is read; nothing is due from the client now."""
        self._reading = "nothing"
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP in the shape of every other refusal."""
        self._refuse(Rejected("bad_request", msg))

    def expire(self, now: float) -> None:
        """Close the connection when its header or body is overdue."""
        if self.transport.is_closing() or self.flow.read_paused:
            return
        waited = now - self._since
        if self._reading == "header" and waited > HEADER_S:
            self._refuse(Rejected("timeout", f"no complete request header within {HEADER_S:.0f} s"))
        elif self._reading == "body" and waited > BODY_S + self._body_bytes / BODY_BYTES_PER_S:
            self._refuse(Rejected("timeout", f"request body slower than {BODY_BYTES_PER_S} bytes/s"))

    def cut(self, comment: bytes) -> None:
        """End a stream that is under way: one last chunk, then the connection goes, read or not."""
        if self.transport.is_closing():
            return
        self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(comment), comment))
        self.transport.close()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and cycle.response_started and not cycle.response_complete

    def _refuse(self, error: Rejected) -> None:
        answer = refusal(error)
        head = [STATUS_LINE[answer.status], b"content-type: application/json\r\nconnection: close\r\n"]
        head += [name + b": " + value + b"\r\n" for name, value in answer.headers]
        head.append(b"content-length: %d\r\n\r\n" % len(answer.body))
        if not self._answering():
            self.transport.write(b"".join(head) + answer.body)
        self.transport.close()
        self.loop.call_later(LINGER_S, self.transport.abort)


class Server(uvicorn.Server):
    """uvicorn's server, whose stop first ends the streams, and which exits 0 on SIGTERM."""

    def __init__(self, app: Any, door: Door, *, on_ready: Callable[[], None], before_stop: Callable[[], None]) -> None:
        protocol = type("RelayConnection", (Connection,), {"door": door})
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=True,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=20,  # longer than any body may take; then tasks are cancelled
                backlog=4096,  # one burst of reconnecting subscribers
            )
        )
        self._on_ready = on_ready
        self._before_stop = before_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with the signal handlers in place already, and only then say so."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, end streams, finish what was begun."""
        for server in self.servers:
            server.close()
        self._before_stop()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, without raising the signal again: a graceful stop is exit 0."""
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()
