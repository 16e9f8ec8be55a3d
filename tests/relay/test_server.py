"""Sockets: limits, deadlines, odd HTTP, and what `server.py` relies on inside uvicorn."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from anporia_relay import server
from anporia_relay.server import MAX_HEADER_BYTES, MAX_PIPELINED, Connection, Server
from tests.relay.served import Served, Wire, head, post, sign, until


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        yield served


@pytest.fixture
def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A relay whose patience is a fifth of a second."""
    for name in ("HEADER_S", "BODY_S", "LINGER_S"):
        monkeypatch.setattr(server, name, 0.2)
    with Served(tmp_path) as served:
        yield served


def refused(wire: Wire, status: int, code: str) -> None:
    """Expect a refusal that ends the connection, and nothing after it."""
    answer = wire.answer()
    assert (answer.status, answer.code, answer.headers["connection"]) == (status, code, "close")
    assert answer.headers["content-type"] == "application/json"
    assert isinstance(answer.json()["detail"], str)
    assert wire.at_end()


# -- header blocks


@pytest.mark.parametrize("size", [MAX_HEADER_BYTES + 1, 60_000, 400_000])
def test_header_block_too_large(size: int, relay: Served) -> None:
    wire = relay.wire()
    wire.send(head("GET", "/health", {"X": "a" * size}))
    assert (wire.answer().status, relay.get("/health").status) == (431, 200)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /health HTTP/1.1\r\nX: " + b"a" * 20_000,  # never complete
        b"GET /" + b"a" * 20_000,
        b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 4_000,
        b"\r\n\r\nGET /health HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",  # blank lines may come first
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"\r\n" * 10_000,
    ],
)
def test_header_blocks_too_large_in_other_ways(start: bytes, relay: Served) -> None:
    wire = relay.wire().send(start)
    answer = wire.answer()
    assert (answer.status, answer.code) == (431, "header_too_large")


def test_second_request_of_a_read_is_held_to_the_header_limit(relay: Served) -> None:
    wire = relay.wire().send(head("GET", "/health") + head("GET", "/health", {"X": "a" * 20_000}))
    assert wire.answer().status == 200
    refused(wire, 431, "header_too_large") if not wire.at_end() else None


def test_header_in_pieces_and_a_large_body_right_behind_it(relay: Served) -> None:
    body = sign("x" * 60_000).to_json()
    whole = post("/events", body, {"X": "a" * 12_000})
    end = whole.index(b"\r\n\r\n")
    for cut in (1, 20, end - 1, end + 1, end + 2, end + 3, end + 4, end + 5):
        wire = relay.wire().send(whole[:cut])
        time.sleep(0.01)
        assert wire.send(whole[cut:]).answer().status == 200


def test_header_just_small_enough(relay: Served) -> None:
    block = head("GET", "/health", {"X": "a" * (MAX_HEADER_BYTES - 100)})
    wire = relay.wire()
    for _ in range(3):
        for at in range(0, len(block), 5_000):
            wire.send(block[at : at + 5_000])
        assert wire.answer().status == 200


# -- bodies


@pytest.mark.parametrize("size", [1_048_577, 5_000_000])
def test_body_too_large_is_read_so_that_the_answer_arrives(size: int, relay: Served) -> None:
    wire = relay.wire().send(post("/events", b" " * size))
    answer = wire.answer()
    assert (answer.status, answer.code, answer.headers["connection"]) == (413, "body_too_large", "close")
    assert wire.at_end()


def test_body_of_just_the_limit(relay: Served) -> None:
    assert relay.post("/events", sign("fits").to_json().ljust(1_048_576)).status == 200


def test_absurd_body_is_refused_unread(relay: Served) -> None:
    wire = relay.wire().send(
        head("POST", "/events", {"Content-Type": "application/json", "Content-Length": "99999999999"})
    )
    assert wire.answer().code == "body_too_large"


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


CHUNKED = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}


@pytest.mark.parametrize("size", [1, 10, 100_000])
def test_chunked_body(size: int, relay: Served) -> None:
    wire = relay.wire()
    for number in range(3):
        event = sign(str(number))
        assert wire.ask(head("POST", "/events", CHUNKED) + chunked(event.to_json(), size)).json()["id"] == event.id
    assert relay.get("/health").json()["events"] == 3


def test_chunked_body_too_large(relay: Served) -> None:
    wire = relay.wire().send(head("POST", "/events", CHUNKED) + chunked(b" " * 2_000_000, 50_000))
    assert wire.answer().code == "body_too_large"


def test_endless_chunked_body_is_cut_off(relay: Served) -> None:
    wire = relay.wire().send(head("POST", "/events", CHUNKED))
    sent = 0
    with pytest.raises(OSError):  # noqa: PT012
        while sent < 200_000_000:
            wire.send(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
            sent += 0x100000
    assert sent < 60_000_000


@pytest.mark.parametrize("what", ["trailer", "many trailers", "chunk extension"])
def test_endless_framing_is_cut_off(what: str, relay: Served) -> None:
    """The parser keeps a trailer in memory for as long as it goes on."""
    start, more = {
        "trailer": (b"400\r\n" + b"x" * 1024 + b"\r\n0\r\nX: ", b"a" * 50_000),
        "many trailers": (b"0\r\n", b"A: b\r\n" * 10_000),
        "chunk extension": (b"400;", b"a" * 50_000),
    }[what]
    for path in ("/events", "/nowhere"):
        wire, sent = relay.wire().send(head("POST", path, CHUNKED) + start), 0
        with pytest.raises(OSError):  # noqa: PT012
            while sent < 100_000_000:
                wire.send(more)
                sent += len(more)
        assert sent < 20_000_000


def test_body_that_nobody_asked_for(relay: Served) -> None:
    wire = relay.wire()
    for method, path, status in (("GET", "/health", 200), ("POST", "/nowhere", 404), ("DELETE", "/events", 405)):
        body = b"y" * 200_000
        answer = wire.ask(head(method, path, {"Content-Length": str(len(body))}) + body)
        assert answer.status == status
    assert wire.ask(head("GET", "/health")).status == 200


def test_expect_100_continue(relay: Served) -> None:
    body = sign("polite").to_json()
    wire = relay.wire().send(post("/events", body, {"Expect": "100-continue"})[: -len(body)])
    assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wire.send(body).answer().status == 200
    wire.send(
        head(
            "POST",
            "/events",
            {"Content-Type": "application/json", "Content-Length": "2000000", "Expect": "100-continue"},
        )
    )
    assert wire.answer().code == "body_too_large"  # at once, without a 100
    assert wire.at_end()


def test_client_that_leaves_within_its_body(relay: Served) -> None:
    whole = post("/events", sign("never whole").to_json())
    for number in range(30):
        wire = Wire(relay.port).send(whole[: -1 - number])
        wire.reset() if number % 2 else wire.close()
    assert until(lambda: not relay.call(lambda: relay.server.server_state.tasks or relay.door.connections))
    assert relay.get("/health").json()["events"] == 0


def test_event_of_a_client_that_leaves_after_sending_is_kept(relay: Served) -> None:
    events = [sign(str(number)) for number in range(20)]
    for event in events:
        Wire(relay.port).send(post("/events", event.to_json())).close()
    assert until(lambda: relay.call(lambda: relay.relay.store.last_seq) == 20)


# -- deadlines


@pytest.mark.parametrize("start", [b"", b"G", b"GET /health HTTP/1.1\r\nX: ", b"\r\n"])
def test_no_complete_header_in_time(start: bytes, hasty: Served) -> None:
    wire = hasty.wire()
    if start:
        wire.send(start)
    refused(wire, 408, "timeout")


def test_dripping_header(hasty: Served) -> None:
    wire = hasty.wire().send(b"GET /health HTTP/1.1\r\nX: ")
    started = time.monotonic()
    with pytest.raises(OSError):  # noqa: PT012
        while time.monotonic() - started < 10:
            wire.send(b"a")
            time.sleep(0.01)
    assert time.monotonic() - started < 5


def test_second_header_has_its_own_deadline(hasty: Served) -> None:
    wire = hasty.wire()
    for _ in range(3):
        assert wire.ask(head("GET", "/health")).status == 200
        time.sleep(0.15)  # idle is no offence
    time.sleep(0.3)
    assert wire.ask(head("GET", "/health")).status == 200
    refused(wire.send(b"GET "), 408, "timeout")


@pytest.mark.parametrize("path", ["/events", "/events/batch"])
def test_slow_body(path: str, hasty: Served) -> None:
    wire = hasty.wire().send(head("POST", path, {"Content-Type": "application/json", "Content-Length": "100"}) + b"{")
    refused(wire, 408, "timeout")


def test_slow_body_after_its_answer(hasty: Served) -> None:
    """The request has been answered: closing is all that is left, a second answer would be taken for the next one's."""
    wire = hasty.wire().send(head("POST", "/nowhere", {"Content-Length": "100"}))
    assert wire.answer().status == 404
    assert wire.at_end()


def test_body_that_keeps_its_rate(hasty: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_BYTES_PER_S", 200)
    body = sign("steady").to_json()
    wire = hasty.wire().send(post("/events", body)[: -len(body)])
    for at in range(0, len(body), 20):
        wire.send(body[at : at + 20])
        time.sleep(0.03)
    assert wire.answer().status == 200


def test_answer_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes would otherwise wait in memory for as long as a client likes."""
    monkeypatch.setattr(server, "WRITE_S", 1.0)
    with Served(tmp_path) as relay:
        relay.publish(*(sign(str(number).ljust(60_000), by=number + 1) for number in range(200)))
        relay.wire(receive_buffer=4_096).send(head("GET", "/events?limit=200"))
        slow = relay.wire(receive_buffer=65_536).send(head("GET", "/events?limit=200"))
        got = 0
        while got < 7_000_000:  # one who reads slowly but steadily is served to the end
            data = slow.more()
            assert data, got
            got, slow.buffer = got + len(data), b""
            time.sleep(0.002)
        assert until(lambda: relay.call(lambda: len(relay.door.connections)) == 1)


# -- how many


def test_connections_of_one_address(tmp_path: Path) -> None:
    with Served(tmp_path, max_connections_per_peer=3, trusted_proxies=()) as relay:
        wires = [relay.wire() for _ in range(3)]
        assert [wire.ask(head("GET", "/health")).status for wire in wires] == [200] * 3
        extra = relay.wire()
        answer = extra.answer()
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "connections_full", "10")
        assert extra.at_end()
        wires[0].close()
        assert until(lambda: relay.call(lambda: sum(relay.door.open.values())) == 2)
        with relay.one_wire() as wire:
            assert wire.ask(head("GET", "/health")).status == 200
        for wire in wires:
            wire.close()
        assert until(lambda: not relay.call(lambda: relay.door.open))


def test_trusted_proxies_may_hold_any_number(tmp_path: Path) -> None:
    with Served(tmp_path, max_connections_per_peer=2) as relay:
        assert [relay.wire().ask(head("GET", "/health")).status for _ in range(6)] == [200] * 6


# -- several requests at once


def test_pipelined_requests_are_answered_in_order(relay: Served) -> None:
    paths = ["/health", "/events?limit=5", "/nowhere", "/stats", "/agents"] * 8
    wire = relay.wire().send(b"".join(head("GET", path) for path in paths))
    assert [wire.answer().status for _ in paths] == [200, 200, 404, 200, 200] * 8


def test_too_many_requests_ahead(relay: Served) -> None:
    wire = relay.wire().send(b"GET /events HTTP/1.1\r\n\r\n" * 10_000)
    assert until(lambda: relay.call(lambda: all(len(c.pipeline) <= MAX_PIPELINED + 1 for c in relay.door.connections)))
    while wire.more():
        pass
    assert wire.buffer.count(b"HTTP/1.1 200 ") <= MAX_PIPELINED + 2
    assert relay.get("/health").status == 200


@pytest.mark.parametrize(
    "rest", [b"\x00garbage\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", head("GET", "/", {"X": "a" * 20_000})]
)
def test_what_was_read_whole_is_answered_before_a_refusal(rest: bytes, relay: Served) -> None:
    """An event under way must not be answered with the 400 of what follows it."""
    event = sign("first")
    wire = relay.wire().send(post("/events", event.to_json()) + rest)
    assert wire.answer().json() == {"id": event.id, "accepted": True}
    assert wire.at_end()


# -- odd HTTP


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x80" * 200,  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 60_000,  # too large as well: one answer, not two
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET /events?a=\x0c HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: y\r\n folded\r\n\r\n",
        b"CONNECT relay:80 HTTP/1.1\r\n\r\n",
        b"POST /events HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /events HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n",
        b"POST /events HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /events HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /events HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /events HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 30\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)
def test_garbage_is_answered_400(data: bytes, relay: Served) -> None:
    """Also where two readings are possible: then a proxy before us might have read it the other way."""
    wire = relay.wire().send(data)
    refused(wire, 400, "bad_request")
    assert relay.get("/health").status == 200


def test_upgrade_without_body_is_ignored(relay: Served) -> None:
    wire = relay.wire()
    for upgrade in ("websocket", "h2c", "TLS/1.0"):
        headers = {
            "Connection": "Upgrade",
            "Upgrade": upgrade,
            "Sec-WebSocket-Key": "AAAA",
            "Sec-WebSocket-Version": "13",
        }
        assert wire.ask(head("GET", "/health", headers)).status == 200
    assert wire.ask(head("GET", "/health")).status == 200


def test_http_1_0(relay: Served) -> None:
    wire = relay.wire().send(b"GET /health HTTP/1.0\r\n\r\n")
    answer = wire.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert wire.at_end()


def test_connection_close_is_kept(relay: Served) -> None:
    wire = relay.wire().send(head("GET", "/health", {"Connection": "close"}) + head("GET", "/health"))
    assert wire.answer().headers["connection"] == "close"
    assert wire.at_end()


# -- what server.py relies on


def test_contract_with_uvicorn() -> None:
    """`server.py` overrides parts of uvicorn's protocol class. Where this fails, read the new version of

    uvicorn/protocols/http/httptools_impl.py and server.py against ours before moving the pin.
    """

    def takes(function: Callable[..., object], *names: str) -> None:
        found = tuple(inspect.signature(function).parameters)
        assert found == names, f"uvicorn {uvicorn.__version__}: {function.__qualname__} now takes {found}"

    takes(HttpToolsProtocol.__init__, "self", "config", "server_state", "app_state", "_loop")
    takes(HttpToolsProtocol.connection_made, "self", "transport")
    takes(HttpToolsProtocol.connection_lost, "self", "exc")
    takes(HttpToolsProtocol.data_received, "self", "data")
    takes(HttpToolsProtocol.send_400_response, "self", "msg")
    takes(HttpToolsProtocol._start_asgi_task, "self", "cycle", "app")
    takes(HttpToolsProtocol.on_body, "self", "body")
    for name in ("on_message_begin", "on_headers_complete", "on_message_complete", "shutdown", "on_response_complete"):
        takes(getattr(HttpToolsProtocol, name), "self")
    takes(uvicorn.Server.startup, "self", "sockets")
    takes(uvicorn.Server.shutdown, "self", "sockets")
    takes(uvicorn.Server.capture_signals, "self")
    assert httptools_impl.STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")

    said: dict[Callable[..., object], list[str]] = {
        # a parser error ends in send_400_response, which we make JSON of
        HttpToolsProtocol.data_received: ["self.parser.feed_data(data)", "self.send_400_response(msg)"],
        # each request gets a scope of its own before its headers are complete, and is started or queued after
        HttpToolsProtocol.on_message_begin: ["self.scope = {"],
        HttpToolsProtocol.on_headers_complete: [
            "self.cycle = RequestResponseCycle(",
            "self._start_asgi_task(self.cycle, app)",
            "self.flow.pause_reading()",
            "self.pipeline.appendleft((self.cycle, app))",
        ],
        HttpToolsProtocol.on_response_complete: [
            "self.transport.is_closing()",
            "self.flow.resume_reading()",
            "cycle, app = self.pipeline.pop()",
            "self._start_asgi_task(cycle, app)",
        ],
        HttpToolsProtocol.connection_lost: ["self.cycle.disconnected = True", "self.flow.resume_writing()"],
        HttpToolsProtocol.shutdown: ["self.transport.close()", "self.cycle.keep_alive = False"],
        # what a cut stream relies on: chunks are written whole, nothing after `disconnected`
        RequestResponseCycle.send: [
            "await self.flow.drain()",
            "if self.disconnected:",
            'content = [b"%x\\r\\n" % len(body), body, b"\\r\\n"]',
            "if not self.keep_alive:",
            "self.transport.close()",
            "self.on_response()",
        ],
        RequestResponseCycle.receive: ["HTTP/1.1 100 Continue", '{"type": "http.disconnect"}'],
        uvicorn.Server._serve: [
            "await self.startup(sockets=sockets)",
            "await self.main_loop()",
            "await self.shutdown(sockets=sockets)",
        ],
        uvicorn.Server.serve: ["with self.capture_signals():"],
        uvicorn.Server.capture_signals: ["self._captured_signals"],
    }
    for function, parts in said.items():
        source, at = inspect.getsource(function), 0
        for part in parts:
            assert part in source[at:], (
                f"uvicorn {uvicorn.__version__}: {function.__qualname__} no longer says {part!r}"
            )
            at = source.index(part, at) + len(part)


class RecordingTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written, self.closing = b"", False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def test_call_order_inside_uvicorn() -> None:
    """The callbacks of one request, of two in one read, and of one that is cut in the middle."""
    calls: list[str] = []

    class Recorder(Connection):
        def on_message_begin(self) -> None:
            calls.append("begin")
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            calls.append("headers")
            super().on_headers_complete()
            assert isinstance(self.cycle, RequestResponseCycle)
            assert self.cycle.scope["extensions"] == {"anporia.connection": {"connection": self}}

        def on_body(self, body: bytes) -> None:
            calls.append("body")
            super().on_body(body)

        def on_message_complete(self) -> None:
            calls.append("complete")
            super().on_message_complete()

    async def app(scope: object, receive: Callable[[], object], send: Callable[[object], object]) -> None:
        calls.append("app")

    door = server.Door(0, lambda _address: True)
    made = Server(app, door, on_ready=lambda: None, before_stop=lambda: None)
    made.config.load()
    recorder = type("Recorder", (Recorder,), {"door": door})
    connection = recorder(config=made.config, server_state=made.server_state, app_state={})
    transport = RecordingTransport()
    connection.connection_made(transport)
    connection.data_received(b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nab")
    assert (connection._reading, connection._body_bytes) == ("body", 2)
    connection.data_received(b"cdGET /b HTTP/1.1\r\n\r\nGET ")
    assert connection._reading == "header"
    assert len(connection.pipeline) == 1
    assert calls == ["begin", "headers", "body", "body", "complete", "begin", "headers", "complete", "begin"]
    connection.connection_lost(None)
    assert connection.cycle.disconnected
    await asyncio.gather(*made.server_state.tasks, return_exceptions=True)
    assert calls[-1] == "app"
    assert not door.connections


def test_listening_on_ipv6_and_peer_of_a_mapped_address() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    from anporia_relay.config import Config
    from anporia_relay.serve import _listen

    try:
        listener = _listen(Config(host="::1", port=0))
    except Exception as exc:
        pytest.skip(f"no IPv6 loopback here: {exc}")
    with listener:
        assert listener.family == socket.AF_INET6
        assert re.fullmatch(r"::1", listener.getsockname()[0])
