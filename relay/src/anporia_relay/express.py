"""POST /events without a scope and a task for each request: what publishing costs besides the event itself.

A client's request headers are the same bytes from one event to the next, but for the length. The first time they come
the parser reads them and the request takes the usual way; what they said is kept under these very bytes. The next
request that begins with the same bytes goes from the socket to the pipeline at once, and its answer straight back.
Anything out of the ordinary is the parser's, as if this module did not exist.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from anporia_wire import AnporiaError

from .http import Response, authorised, headers_of, refusal
from .limits import Peer
from .pipeline import Accepted, Verdict, internal
from .routes.publish import answer_to, is_json, parse_event
from .server import IDLE_S, Connection, head_of

if TYPE_CHECKING:
    from .app import Relay

__all__ = ["Express", "ExpressConnection", "connection_to"]

log = logging.getLogger("anporia.relay")

MAX_HEAD = 2_048  # bytes of a header that is kept; usual ones have 150 to 600
# At most 33 MB, with usual headers 3; when it is full all are forgotten, and read once more. Clients, proxies in
# between and lengths make the variety.
MAX_HEADS = 8_192
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
        """Judge the event; `connection.answer` follows, at once for what is no event."""
        try:
            event, peer = parse_event(body), self.peer(connection, head)
        except AnporiaError as exc:
            connection.answer(exc)
        except Exception:
            log.exception("unexpected error", extra={"method": "POST", "path": "/events"})
            connection.answer(internal())
        else:
            self._relay.pipeline.offer(event, peer, connection.answer)

    def peer(self, connection: ExpressConnection, head: Head) -> Peer:
        """Give who sent a request."""
        return self._relay.peer_at(connection.client[0] if connection.client else "", head.forwarded)

    def write(self, verdict: Verdict, dated: list[tuple[bytes, bytes]], *, cors: bool, last: bool) -> bytes:
        """Give the bytes of an answer; `dated` are the server's own headers, a new list each second."""
        if isinstance(verdict, Accepted) and not cors and not last:
            if dated is not self._dated:
                self._dated = dated
                self._begin_ok = head_of(200, [*dated, (b"vary", b"Origin"), (b"content-type", b"application/json")])
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
        return head_of(response.status, headers) + b"\r\n" + response.body


class ExpressConnection(Connection):
    """One client's connection, on which known headers take the short way."""

    express: Express  # set on a subclass per server, as `door` is

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: Head | None = None  # of the request that is under way here
        self._held = b""  # read, but not yet for anybody: a request that is not whole, or what follows one under way
        self._between = True  # the parser stands between two requests
        self._unread: bytes | None = None  # the header that the parser is about to read
        self._upgraded = False
        self._last = False
        self._answered = 0.0

    @property
    def _at_boundary(self) -> bool:
        """Whether the next byte begins a request, and no other is under way."""
        cycle: RequestResponseCycle | None = self.cycle
        return (
            self._between
            and (self._reading == "nothing" or (self._reading == "header" and not self._header_bytes))
            and (cycle is None or cycle.response_complete)
            and not (self._refused or self._upgraded)
        )

    @property
    def _waits(self) -> bool:
        """Whether what is held is for later: a request is under way, or answers that nobody takes."""
        return self._head is not None or bool(self._held and self.flow.read_paused)

    def data_received(self, data: bytes) -> None:
        """Take a whole request with a known header the short way, leave all others to the parser."""
        if self._head is None and not self._held:
            if self._at_boundary:
                self._take(data)
            else:
                super().data_received(data)
        elif self._waits:
            self._wait(self._held + data)
        else:
            self._take(self._held + data)

    def _take(self, data: bytes) -> None:
        """Take what begins a request, and perhaps more."""
        self._held = b""
        begin = data.find(_END, 0, MAX_HEAD) + len(_END)
        raw = data[:begin]
        head = self.express.find(raw) if begin >= len(_END) else None
        if head is None:
            self._unread = raw if raw.startswith(b"POST ") else None
            self._parse(data)
            self._unread = None
            return
        end = begin + head.length
        if self.flow.write_paused:
            self._wait(data)
        elif len(data) < end:
            self._hold(data)
        else:
            self._head = head
            self._reading = "nothing"
            self._unset_keepalive_if_required()
            if rest := data[end:].lstrip(b"\r\n"):  # empty lines between requests mean nothing (RFC 9112, section 2.2)
                self._wait(rest)
            self.express.publish(self, head, data[begin:end])

    def _wait(self, data: bytes) -> None:
        """Keep what is for later, at most two reads of it."""
        self._held = data
        self._reading = "nothing"  # and nothing is due from the client
        self.flow.pause_reading()

    def _go_on(self) -> None:
        """Take up what was kept for later."""
        if self._waits and self._head is None and not (self.gone or self.transport.is_closing()):
            self.flow.resume_reading()
            self._take(self._held)

    def _hold(self, data: bytes) -> None:
        """Keep the beginning of a request; until it is whole the deadlines of a body hold."""
        self._unset_keepalive_if_required()
        if self._reading != "body":
            self._since = self.loop.time()
        self._reading, self._held, self._body_bytes = "body", data, len(data)

    def _parse(self, data: bytes) -> None:
        """Leave the beginning of a request to the parser; if it came in pieces, its deadline stays as it was."""
        since = self._since if self._reading == "body" else None
        if since is not None:
            self._reading = "nothing"
        super().data_received(data)
        if since is not None:
            self._since = since

    def _let_go(self) -> None:
        """Leave what is held to the parser."""
        if self._held and self._head is None and not self.gone:
            data, self._held = self._held, b""
            self.flow.resume_reading()
            self._parse(data)

    def on_message_begin(self) -> None:
        """Note that the parser has begun a request: what comes next belongs to it, whatever it looks like."""
        self._between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Remember the header, once the parser has found it in order."""
        super().on_headers_complete()
        self._upgraded = self._upgraded or self.parser.should_upgrade()
        if self._unread and self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1":
            self.express.learn(self._unread, self.url, self.headers)
        self._unread = None

    def on_message_complete(self) -> None:
        """Note that the parser has read a request to its end."""
        self._between = True
        super().on_message_complete()

    def answer(self, verdict: Verdict) -> None:
        """Answer the request that is under way; what came behind it has its turn after others."""
        head, self._head = self._head, None
        if head is None:
            return
        last = self._last and not self._held
        data = self.express.write(verdict, self.server_state.default_headers, cors=head.cors, last=last)
        if self.gone or self.transport.is_closing():
            return  # counted all the same
        self.transport.write(data)
        self._answered = self.loop.time()
        if last:
            self.transport.close()
        elif self._last:
            self.shutdown()
        elif self._held:
            self.loop.call_soon(self._go_on)

    def resume_writing(self) -> None:
        """Go on with requests that waited until their client took its answers."""
        super().resume_writing()
        self._go_on()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Let a client that has only finished sending hear its answer."""
        if self._head is not None:
            self._last = True
            return True
        self._let_go()
        return super().eof_received()

    def expire(self, now: float) -> None:
        """Close the connection when what it owes is overdue, or it has been idle for too long."""
        if not self._waits:
            self._let_go()
        super().expire(now)
        idle = not self._waits and self._at_boundary and self._answered and self.timeout_keep_alive_task is None
        if idle and now - self._answered > IDLE_S:
            self.transport.close()

    def shutdown(self) -> None:
        """End the connection once the requests that have come have their answers."""
        if self._head is not None:
            self._last = True
        else:
            self._let_go()
            super().shutdown()


def connection_to(relay: Relay) -> type[Connection]:
    """Make the class of a relay's connections."""
    return type("RelayConnection", (ExpressConnection,), {"express": Express(relay)})
