"""POST /events without a scope and a task for each request: what publishing costs besides the event itself.

A client's request headers are the same bytes from one event to the next, but for the length. The first time they come
the parser reads them and the request takes the usual way; what they said is kept under these very bytes. The next
request that begins with the same bytes goes from the socket to the pipeline at once, and its answer straight back.
Anything out of the ordinary is the parser's, as if this module did not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from anporia_wire import AnporiaError

from .http import Response, authorised, headers_of, refusal
from .limits import Peer
from .pipeline import Accepted, Verdict
from .routes.publish import answer_to, is_json, parse_event
from .server import IDLE_S, Connection

if TYPE_CHECKING:
    from .app import Relay

__all__ = ["Express", "ExpressConnection", "connection_to"]

MAX_HEAD = 2_048  # bytes of a header that is kept; usual ones have 150 to 600
MAX_HEADS = 8_192  # so at most 16 MiB, with usual ones 3; clients, proxies in between and lengths make the variety
MAX_BODY = 65_536  # larger events, which come in several reads, are for the usual way

_PATHS = frozenset({b"/events", b"/api/events"})
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """What a request's header said, all that still matters once it is known to ask for POST /events."""

    length: int
    forwarded: bytes | None
    cors: bool


class Express:
    """The headers known so far, and the answers; one for all connections of a relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._heads: dict[bytes, Head] = {}
        self._ok = relay.metrics.requests.labels("200")
        self._dated: Any = None
        self._begin_ok = b""

    def find(self, raw: bytes) -> Head | None:
        """Give what these bytes said when the parser read them."""
        return self._heads.get(raw)

    def learn(self, raw: bytes, url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Keep what a header said that the parser has just read, if it is one of ours and quite ordinary."""
        if url not in _PATHS or raw.count(b"\n") != raw.count(b"\r\n") or raw.count(b"\r") != raw.count(b"\r\n"):
            return  # with a bare CR or LF the parser may have seen the end elsewhere
        said = dict(headers)
        length = said.get(b"content-length", b"")
        if (
            len(said) != len(headers)  # something stands there twice
            or not said.keys().isdisjoint((b"transfer-encoding", b"expect", b"upgrade"))
            or not is_json(said.get(b"content-type", b""))
            or not length.isdigit()
            or int(length) > MAX_BODY
        ):
            return
        config = self._relay.config
        if config.private and not authorised(said, config.auth_user, config.auth_password):
            return
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()  # the parser reads each once more
        self._heads[raw] = Head(int(length), said.get(b"x-forwarded-for"), b"origin" in said)

    def publish(self, connection: ExpressConnection, head: Head, body: bytes) -> None:
        """Judge the event; `connection.answer` follows."""
        try:
            event = parse_event(body)
        except AnporiaError as exc:
            connection.answer(exc)
            return
        self._relay.pipeline.offer(event, self.peer(connection, head), connection.answer)

    def peer(self, connection: ExpressConnection, head: Head) -> Peer:
        """Give who sent a request."""
        return self._relay.peer_at(connection.client[0] if connection.client else "", head.forwarded)

    def write(self, verdict: Verdict, dated: list[tuple[bytes, bytes]], *, cors: bool, last: bool) -> bytes:
        """Give the bytes of an answer; `dated` are the server's own headers, a new list each second."""
        if isinstance(verdict, Accepted) and not cors and not last:
            if dated is not self._dated:
                self._dated = dated
                self._begin_ok = _begin(200, [*dated, (b"vary", b"Origin"), (b"content-type", b"application/json")])
            self._ok.inc()
            body = answer_to(self._relay, verdict)
            return b"%bcontent-length: %d\r\n\r\n%b" % (self._begin_ok, len(body), body)
        if isinstance(verdict, AnporiaError):
            self._relay.count_refused(verdict)
            response = refusal(verdict)
        else:
            response = Response(200, answer_to(self._relay, verdict))
        self._relay.metrics.requests.labels(str(response.status)).inc()
        headers = [*dated, *headers_of(response, cors=cors)]
        if last:
            headers.append((b"connection", b"close"))
        return _begin(response.status, headers) + b"\r\n" + response.body


def _begin(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers)


class ExpressConnection(Connection):
    """One client's connection, on which known headers take the short way."""

    express: Express  # set on a subclass per server, as `door` is

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: Head | None = None  # of the request that is under way here
        self._held = b""  # read, but not yet for anybody: a request that is not whole, or what follows one under way
        self._unread: bytes | None = None  # the header that the parser is about to read
        self._upgraded = False
        self._last = False
        self._answered = 0.0

    @property
    def _at_boundary(self) -> bool:
        """Whether the next byte begins a request, and no other is under way."""
        cycle: RequestResponseCycle | None = self.cycle
        return (
            (self._reading == "nothing" or (self._reading == "header" and not self._header_bytes))
            and (cycle is None or cycle.response_complete)
            and not (self._refused or self._upgraded)
        )

    def data_received(self, data: bytes) -> None:
        """Take a whole request with a known header the short way, leave all others to the parser."""
        if self._head is not None:
            self._held += data
            self.flow.pause_reading()
            return
        if self._held:
            data, self._held = self._held + data, b""
            self._reading = "nothing"
        if not self._at_boundary:
            super().data_received(data)
            return
        begin = data.find(_END, 0, MAX_HEAD) + len(_END)
        raw = data[:begin]
        head = self.express.find(raw) if begin >= len(_END) else None
        if head is None:
            self._unread = raw if raw.startswith(b"POST ") else None
            super().data_received(data)
            self._unread = None
        elif len(data) < begin + head.length:
            self._hold(data)
        else:
            self._head = head
            self._reading = "nothing"
            self._unset_keepalive_if_required()
            end = begin + head.length
            if len(data) > end:
                self._held = data[end:]
                self.flow.pause_reading()
            self.express.publish(self, head, data[begin:end])

    def _hold(self, data: bytes) -> None:
        """Keep the beginning of a request; until it is whole the deadlines of a body hold."""
        self._unset_keepalive_if_required()
        if self._reading != "body":
            self._since = self.loop.time()
        self._reading, self._held, self._body_bytes = "body", data, len(data)

    def _let_go(self) -> None:
        """Leave a request that is not whole to the parser."""
        if self._held and self._head is None:
            data, self._held = self._held, b""
            self._reading = "nothing"
            since = self._since
            super().data_received(data)
            self._since = since

    def on_headers_complete(self) -> None:
        """Remember the header, once the parser has found it in order."""
        super().on_headers_complete()
        self._upgraded = self._upgraded or self.parser.should_upgrade()
        if self._unread and self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1":
            self.express.learn(self._unread, self.url, self.headers)
        self._unread = None

    def answer(self, verdict: Verdict) -> None:
        """Answer the request that is under way, then go on with what came behind it."""
        head, self._head = self._head, None
        if self.gone or self.transport.is_closing() or head is None:
            return
        dated = self.server_state.default_headers
        self.transport.write(self.express.write(verdict, dated, cors=head.cors, last=self._last))
        self._answered = self.loop.time()
        if self._last:
            self.transport.close()
        elif self._held:
            held, self._held = self._held, b""
            self.flow.resume_reading()
            self.data_received(held)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Let a client that has only finished sending hear its answer."""
        if self._head is not None:
            self._last = True
            return True
        self._let_go()
        return super().eof_received()

    def expire(self, now: float) -> None:
        """Close the connection when what it owes is overdue, or it has been idle for too long."""
        if self._head is None and self._reading == "body":
            self._let_go()
        super().expire(now)
        idle = self._head is None and self._at_boundary and self._answered and self.timeout_keep_alive_task is None
        if idle and now - self._answered > IDLE_S:
            self.transport.close()

    def shutdown(self) -> None:
        """End the connection once the request that is under way has its answer."""
        if self._head is not None:
            self._last = True
        else:
            super().shutdown()


def connection_to(relay: Relay) -> type[Connection]:
    """Make the class of a relay's connections."""
    return type("RelayConnection", (ExpressConnection,), {"express": Express(relay)})
