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
from functools import lru_cache
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from .errors import Rejected
from .http import EXPOSED, refusal
from .limits import Peer

__all__ = ["IDLE_S", "TICKS", "Connection", "Door", "Server", "head_of"]

# Settled limit 15, all of them.
MAX_HEADER_BYTES = 16 * 1024
HEADER_S = 10.0  # from connecting, or from the first byte of a later request
BODY_S, BODY_BYTES_PER_S = 10.0, 1024
IDLE_S = 60
WRITE_S = 30.0  # an answer of which nobody takes a byte for so long is dropped; streams have the same in hub.py

# A read of 256 KiB holds 14,000 small requests; each queued one takes some 3 kB. No honest client is so far ahead.
MAX_PIPELINED = 64

TICKS = 50  # a second; in each a part of the connections is looked through

LINGER_S = 5.0  # a cut reader may still drain what the kernel holds; then the connection is dropped


class Door:
    """What all connections of one server share: caps, and who is there."""

    def __init__(
        self,
        max_per_peer: int,
        uncapped: Callable[[str], bool],
        on_refused: Callable[[Rejected], None] = lambda _error: None,
    ) -> None:
        self.max_per_peer = max_per_peer
        self.uncapped = uncapped
        self.on_refused = on_refused
        self.open: Counter[str] = Counter()
        self.connections: set[Connection] = set()
        self._to_see: list[Connection] = []  # in this round
        self._part = 1

    def tick(self, now: float) -> None:
        """Every `1 / TICKS` of a second: close what has outstayed its deadline, of the next part of all connections.

        Thousands may come due at once, and come back at once: so others wait for a part of them only.
        """
        if not self._to_see:
            self._to_see = list(self.connections)
            self._part = -(-len(self._to_see) // TICKS)
        part, self._to_see = self._to_see[: self._part], self._to_see[self._part :]
        for connection in part:
            connection.expire(now)


class Connection(HttpToolsProtocol):
    """One client's connection."""

    door: Door  # set on a subclass per server, since uvicorn makes the instances

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_lost: Callable[[], None] | None = None  # of the stream that runs here, as is the next
        self.on_writable: Callable[[], None] | None = None
        self.gone = False
        self._refused = False
        self._complaint: Rejected | None = None  # what is wrong with the request that is being read
        self._header_bytes = 0
        self._bytes_without_body = 0
        self._unsent, self._unsent_since = 0, self.loop.time()
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
        self.gone = True
        if self.on_lost:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, counting what it keeps: a header or, after the body, a trailer."""
        if self._refused:
            return
        if self._reading == "nothing":
            self._reading, self._since = "header", self.loop.time()
        if self._reading == "header":
            self._header_bytes += len(data)
        self._bytes_without_body += len(data)
        super().data_received(data)
        # Only now is it known whether the header was complete; a read is at most 256 KiB too much.
        if self._reading == "header" and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(_header_too_large())
        if self._reading == "body" and self._bytes_without_body > MAX_HEADER_BYTES:
            self._refuse(Rejected("bad_request", "the body's trailer or chunk extension is too long"))

    def on_message_begin(self) -> None:
        """Begin another request, perhaps in the bytes that ended the one before."""
        if self._reading == "nothing":
            self._reading, self._since = "header", self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the request; from here on the body's deadline runs."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEADER_BYTES:
            self._complain(_header_too_large())
        if self.parser.should_upgrade() and any(_announces_body(*header) for header in self.headers):
            # The parser would take the body for another protocol's bytes or for the next request.
            self._complain(Rejected("bad_request", "a request with a body must not ask for an upgrade"))
        self.scope["extensions"] = {"anporia.connection": {"connection": self}}
        super().on_headers_complete()
        self._reading, self._since = "body", self.loop.time()
        self._header_bytes = self._body_bytes = self._bytes_without_body = 0
        if len(self.pipeline) > MAX_PIPELINED:
            self._complain(Rejected("bad_request", f"more than {MAX_PIPELINED} requests ahead of their answers"))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle  # `cycle` of the base is the one read last, perhaps waiting behind this one
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Count what has come, for the rate a body must keep."""
        self._body_bytes += len(body)
        self._bytes_without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is read; nothing is due from the client now."""
        self._reading = "nothing"
        super().on_message_complete()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # None closes, True waits for our answer
        """Let a client that has only finished sending hear its answer; one that reads a stream is gone."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or self._reading == "body" or self.on_lost:
            return None
        cycle.keep_alive = False
        return True

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP in the shape of every other refusal."""
        self._refuse(self._complaint or Rejected("bad_request", msg))

    def expire(self, now: float) -> None:
        """Close the connection when its header or body is overdue, or its answer is not taken."""
        if self.gone:
            return
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent or not unsent:
            self._unsent_since = now
        self._unsent = unsent
        if now - self._unsent_since > WRITE_S and self.on_lost is None:
            self.transport.abort()
        if self._refused or self.transport.is_closing() or self.flow.read_paused:
            return
        waited = now - self._since
        if self._reading == "header" and waited > HEADER_S:
            self._refuse(Rejected("timeout", f"no complete request header within {HEADER_S:.0f} s"))
        elif self._reading == "body" and waited > BODY_S + self._body_bytes / BODY_BYTES_PER_S:
            self._refuse(Rejected("timeout", f"request body slower than {BODY_BYTES_PER_S} bytes/s"))

    def cut(self, chunks: bytes) -> None:
        """End a stream that is under way: its last chunks, then the connection goes, read or not."""
        if self.transport.is_closing():
            return
        self._running.disconnected = True  # or what waits to be written would follow the last chunk
        self.transport.write(chunks + b"0\r\n\r\n")
        self._hang_up()

    def resume_writing(self) -> None:
        """Tell the stream, if any, that its socket has room again."""
        super().resume_writing()
        if self.on_writable:
            self.on_writable()

    def shutdown(self) -> None:
        """End an idle connection, as uvicorn does, and not wait for one that reads nothing."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(LINGER_S, self.transport.abort)

    def _hang_up(self) -> None:
        self.transport.close()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _complain(self, error: Rejected) -> None:
        """Stop the parser, which calls `send_400_response` then."""
        self._complaint = error
        raise error

    def _refuse(self, error: Rejected) -> None:
        """Refuse the request that is being read, unless others are to be answered first; then close."""
        if self._refused:
            return
        self._refused = True
        cycle: RequestResponseCycle | None = self.cycle
        answered = cycle is None or cycle.response_complete
        if self._reading == "body":
            ours_is_next = cycle is not None and not cycle.response_started and not self.pipeline
        else:
            ours_is_next = answered
            if cycle is not None and not answered and self.on_lost is None:
                cycle.keep_alive = False  # the last request that was read whole; its answer ends the connection
                return
        if ours_is_next:
            self.door.on_refused(error)
            self.transport.write(_last_answer(error.code, str(error), error.retry_in))
        self._hang_up()


@lru_cache(maxsize=16)  # thousands of half-open connections come due for the same reason
def _last_answer(code: str, detail: str, retry_in: int | None) -> bytes:
    answer = refusal(Rejected(code, detail, retry_in=retry_in))
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    # whether an Origin was sent is not always known here
    headers += [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED)]
    headers += [header for header in answer.headers if header[0] != b"connection"]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    return head_of(answer.status, headers) + b"\r\n" + answer.body


def head_of(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Give the status line and these headers, without the empty line that ends them."""
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers)


def _header_too_large() -> Rejected:
    return Rejected("header_too_large", f"request header exceeds {MAX_HEADER_BYTES} bytes")


def _announces_body(name: bytes, value: bytes) -> bool:
    return name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")


class Server(uvicorn.Server):
    """uvicorn's server, whose stop first ends the streams, and which exits 0 on SIGTERM."""

    def __init__(
        self,
        app: Any,
        door: Door,
        connection: type[Connection] = Connection,
        *,
        on_ready: Callable[[], None],
        before_stop: Callable[[], None],
    ) -> None:
        protocol = type("RelayConnection", (connection,), {"door": door})
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
