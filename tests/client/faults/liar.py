"""An HTTP server that lies, and every lie it knows: raw bytes on real sockets, so that nothing on the way tidies them.

A lie is a generator: it is given the request and yields bytes, sleeping in between where it wants to be slow.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from types import TracebackType
from typing import Any, Self

from anporia_wire import Event
from tests.client.faults.proxy import read_request, reset, shut
from tests.wire.samples import ALICE, BOB, signed

__all__ = [
    "HTML",
    "LIES",
    "STREAM_LIES",
    "Asked",
    "Liar",
    "Lie",
    "answer",
    "bomb",
    "drip",
    "fixed",
    "forgeries",
    "frame",
    "stream_head",
]

_WAKE_S = 0.2
BETWEEN_BYTES_S = 0.05
_MOST_DRIPPED_S = 30.0  # a lie that nobody stops ends by itself


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> Event:
        return Event.parse(self.body)


Lie = Callable[[Asked], Iterator[bytes]]


class Liar:
    """The server, from `with` on: it answers every request with `lie`. `asked`: what came so far."""

    def __init__(self, lie: Lie) -> None:
        self.lie = lie
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()
        self._listener = socket.socket()
        self.url = ""

    def __enter__(self) -> Self:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self._listener.settimeout(_WAKE_S)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        shut(self._listener)
        self.cut()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(30)

    def cut(self) -> None:
        """Break every connection there is."""
        with self._lock:
            now = list(self._open)
        for one in now:
            reset(one)

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True, name="liar")
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.settimeout(None)
            with self._lock:
                self._open.add(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            request = read_request(client)
            if request is not None:
                asked = _asked(request)
                with self._lock:
                    self.asked.append(asked)
                for piece in self.lie(asked):
                    if self._ended.is_set():
                        break
                    client.sendall(piece)
                client.shutdown(socket.SHUT_WR)
                client.settimeout(1.0)
                while client.recv(65_536):
                    pass
        with self._lock:
            self._open.discard(client)


def _asked(request: bytes) -> Asked:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Asked(method, path, headers, body)


# ---------------------------------------------------------------------------------------------- how a lie is told


def answer(
    body: bytes | str | Any = b"", status: str = "200 OK", headers: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """Give a whole answer; what is neither bytes nor text goes as JSON."""
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    given = {"content-type": "application/json", "content-length": str(len(raw)), "connection": "close"}
    given |= {name.lower(): value for name, value in (headers or {}).items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    yield f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + raw


def drip(data: bytes, seconds: float = _MOST_DRIPPED_S) -> Iterator[bytes]:
    """Give one byte at a time, over and over, until nobody listens."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for byte in data:
            yield bytes([byte])
            time.sleep(BETWEEN_BYTES_S)


def fixed(body: bytes | str | Any = b"", status: str = "200 OK", headers: Mapping[str, str] | None = None) -> Lie:
    """Make a lie of one answer, whatever was asked."""
    return lambda _: answer(body, status, headers)


def forgeries() -> dict[str, dict[str, Any]]:
    """Give events as no honest relay would list them."""
    good = signed(content="good", by=BOB, at=int(time.time()))
    other = signed(content="of another", by=ALICE, at=int(time.time()))
    return {
        "tampered content": replace(good, content="altered").to_dict(),
        "tampered time": replace(good, created_at=good.created_at + 1).to_dict(),
        "tampered tags": replace(good, tags=(("t", "x"),)).to_dict(),
        "mis-attributed": replace(good, agent_id=ALICE.agent_id).to_dict(),
        "another's signature": replace(good, sig=other.sig).to_dict(),
        "unsigned": {**good.to_dict(), "sig": ""},
        "no signature": {name: value for name, value in good.to_dict().items() if name != "sig"},
        "zero signature": replace(good, sig="0" * 128).to_dict(),
        "own id": {**good.to_dict(), "id": "0" * 64},
    }


# ---------------------------------------------------------------------------------------------- the lies


def _acknowledges(**changes: Any) -> Lie:
    def lie(asked: Asked) -> Iterator[bytes]:
        id_ = asked.event.id if asked.method == "POST" else "0" * 64
        return answer({"id": id_, "accepted": True} | changes)

    return lie


def _endless(_: Asked) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n["
    until = time.monotonic() + _MOST_DRIPPED_S
    while time.monotonic() < until:
        yield b" " * 1_024
        time.sleep(0.01)


def _dripping_body(_: Asked) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n["
    yield from drip(b" ")


def _dripping_head(_: Asked) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nx-slow: "
    yield from drip(b"a")


def _dripping_chunk_head(_: Asked) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1;"
    yield from drip(b"a")


def _dripping_gzip(_: Asked) -> Iterator[bytes]:
    # a name in the header that never ends: bytes come, and nothing unpacks
    yield b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\xff"
    yield from drip(b"a")


def _endless_hints(_: Asked) -> Iterator[bytes]:
    until = time.monotonic() + _MOST_DRIPPED_S
    while time.monotonic() < until:
        yield b"HTTP/1.1 103 Early Hints\r\n\r\n"
        time.sleep(BETWEEN_BYTES_S)


def _silence(_asked: Asked) -> Iterator[bytes]:
    for _ in range(int(_MOST_DRIPPED_S / _WAKE_S)):
        time.sleep(_WAKE_S)
        yield b""


def _huge_headers(_: Asked) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in range(2_000):
        yield b"x-%d: %s\r\n" % (number, b"a" * 1_000)
    yield b"\r\n"


def _cut_body(_: Asked) -> Iterator[bytes]:
    yield b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"id":'


def _cut_head(_: Asked) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-ty"


def _no_answer(_: Asked) -> Iterator[bytes]:
    yield b""


def bomb(layers: int, megabytes: int) -> bytes:
    """Give `megabytes` of spaces packed `layers` times."""
    packer = zlib.compressobj(9, wbits=31)
    data = b"".join(packer.compress(b" " * 1_048_576) for _ in range(megabytes)) + packer.flush()
    for _ in range(layers - 1):
        data = gzip.compress(data, 9, mtime=0)
    return data


HTML = "<!doctype html><title>Welcome</title><p>It works!</p>"
_WEB = {"content-type": "text/html"}
_DEEP = b"[" * 1_000_000 + b"]" * 1_000_000

# what every call must survive: reading and publishing alike
LIES: dict[str, Lie] = {
    "nothing": _no_answer,
    "cut in the head": _cut_head,
    "cut in the body": _cut_body,
    "empty": fixed(b""),
    "empty object": fixed({}),
    "null": fixed(b"null"),
    "a number": fixed(b"7"),
    "text": fixed('"yes"'),
    "list of rubbish": fixed([None, 1, "x", [], {}, {"id": []}]),
    "object of rubbish": fixed({"id": [], "accepted": "yes", "events": 7}),
    "acknowledgement of another": _acknowledges(id="0" * 64),
    "acknowledgement that is none": _acknowledges(accepted=False),
    "acknowledgement by number": _acknowledges(accepted=1),
    "not UTF-8": fixed(b'{"id": "\xff\xfe"}'),
    "deep lists": fixed(_DEEP),
    "deep objects": fixed(b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000),
    "deep but legal": fixed(b'{"a":' * 1_000 + b"1" + b"}" * 1_000),
    "web page": fixed(HTML, headers=_WEB),
    "web page, endless": _endless,
    "204": fixed(b"", "204 No Content"),
    "101": fixed(b"", "101 Switching Protocols", {"upgrade": "x", "connection": "upgrade"}),
    "302 elsewhere": fixed(b"", "302 Found", {"location": "http://elsewhere.invalid/"}),
    "302 without address": fixed(b"", "302 Found"),
    "302 to rubbish": fixed(b"", "302 Found", {"location": "http://[::"}),
    "308 to another scheme": fixed(b"", "308 Permanent Redirect", {"location": "mailto:x"}),
    "307 loop": fixed(b"", "307 Temporary Redirect", {"location": "/events"}),
    "400": fixed({"detail": "no"}, "400 Bad Request"),
    "401": fixed({"detail": "who are you?"}, "401 Unauthorized", {"www-authenticate": 'Basic realm="x"'}),
    "403 page": fixed(HTML, "403 Forbidden", _WEB),
    "403": fixed({"detail": "no"}, "403 Forbidden"),
    "404": fixed({"detail": "Not Found"}, "404 Not Found"),
    "404 page": fixed(HTML, "404 Not Found", _WEB),
    "413": fixed({"detail": "too large"}, "413 Content Too Large"),
    "422 with deep places": fixed(
        b'{"detail":[{"loc":[' + b"[" * 1_000 + b"]" * 1_000 + b'],"msg":"x"}]}', "422 Unprocessable Content"
    ),
    "422 of rubbish": fixed({"detail": [None, 1, {"loc": {"a": 1}}, {"loc": [None]}]}, "422 Unprocessable Content"),
    "429": fixed({"detail": "slow down"}, "429 Too Many Requests"),
    "429, seconds": fixed({}, "429 Too Many Requests", {"retry-after": "1"}),
    "429, date": fixed({}, "429 Too Many Requests", {"retry-after": formatdate(time.time() + 3_600, usegmt=True)}),
    "429, year 9999": fixed({}, "429 Too Many Requests", {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}),
    "429, year 0": fixed({}, "429 Too Many Requests", {"retry-after": "Fri, 31 Dec 0000 23:59:59 GMT"}),
    "429, 30 years": fixed({}, "429 Too Many Requests", {"retry-after": "999999999"}),
    "429, for ever": fixed({}, "429 Too Many Requests", {"retry-after": "9" * 400}),
    "429, negative": fixed({}, "429 Too Many Requests", {"retry-after": "-5"}),
    "429, rubbish": fixed({}, "429 Too Many Requests", {"retry-after": "soon\u00e9"}),
    "500": fixed({"detail": "internal"}, "500 Internal Server Error", {"anporia-code": "internal"}),
    "502 page": fixed(HTML, "502 Bad Gateway", _WEB),
    "503": fixed({"detail": "stopping"}, "503 Service Unavailable", {"anporia-code": "stopping", "retry-after": "1"}),
    "504 page": fixed(HTML, "504 Gateway Timeout", _WEB),
    "599": fixed(b"", "599 Odd"),
    "999": fixed(b"", "999 Odder"),
    "code of control characters": fixed({"detail": "x"}, "400 Bad Request", {"anporia-code": "a\x1b[31m"}),
    "detail of control characters": fixed({"detail": "\x1b[2J\x1b[31m\u202e\r\nowned\x07"}, "400 Bad Request"),
    "huge headers": _huge_headers,
    "not HTTP": lambda _: iter([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"]),
    "HTTP/0.9": lambda _: iter([b"<html>hello</html>"]),
    "odd status line": lambda _: iter([b"HTTP/1.1 2OO OK\r\n\r\n"]),
    "odd header": lambda _: iter([b"HTTP/1.1 200 OK\r\n: x\r\n\r\n"]),
    "odd length": lambda _: iter([b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"]),
    "two lengths": lambda _: iter([b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx"]),
    "odd chunks": lambda _: iter([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"]),
    "odd gzip": fixed(b"\x1f\x8bnothing", headers={"content-encoding": "gzip"}),
    "odd deflate": fixed(b"\xff\xff\xff", headers={"content-encoding": "deflate"}),
    "unknown encoding": fixed(b"\xff\xff", headers={"content-encoding": "rot13"}),
    "odd cookie": fixed({}, headers={"set-cookie": 'a="; expires=never; max-age=x; version=y; \x01'}),
    "odd date": fixed({"detail": "x"}, "400 Bad Request", {"date": "yesterday", "anporia-code": "bad_time"}),
    "silence": _silence,
    "dripping body": _dripping_body,
    "dripping head": _dripping_head,
    "dripping chunk head": _dripping_chunk_head,
    "dripping gzip": _dripping_gzip,
    "endless hints": _endless_hints,
}


# ---------------------------------------------------------------------------------------------- lies of streams


def stream_head(type_: str = "text/event-stream; charset=utf-8") -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {type_}\r\nconnection: close\r\n\r\n".encode() + b": connected\n\n"


def frame(event: Event | Mapping[str, Any], id_: str | bytes = b"") -> bytes:
    raw = event.to_json() if isinstance(event, Event) else json.dumps(event).encode()
    name = id_.encode() if isinstance(id_, str) else id_
    return (b"id: " + name + b"\n" if name else b"") + b"data: " + raw + b"\n\n"


def _endless_frame(_asked: Asked) -> Iterator[bytes]:
    yield stream_head() + b"data: "
    for _ in range(200):
        yield b"x" * 65_536


def _endless_lines(_asked: Asked) -> Iterator[bytes]:
    yield stream_head()
    for _ in range(200):
        yield b"data: x\n" * 8_192


def _invalid_utf8(_: Asked) -> Iterator[bytes]:
    yield stream_head() + b'data: {"id": "\xff\xfe"}\n\n' + b"\xff\xfe\xfd: \xff\n\n"


def _forged(_: Asked) -> Iterator[bytes]:
    yield stream_head()
    for number, event in enumerate(forgeries().values(), 1):
        yield frame(event, f"aaaaaaaa-{number}")


# each ends by itself; none holds a genuine event
STREAM_LIES: dict[str, Lie] = {
    "frame without end": _endless_frame,
    "lines without end": _endless_lines,
    "not UTF-8": _invalid_utf8,
    "forgeries": _forged,
    "deep JSON": lambda _: iter([stream_head(), b"data: " + b"[" * 500_000 + b"\n\n"]),
    "wrong content type": lambda _: iter([stream_head("text/html")]),
    "no content type": lambda _: iter([b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n: connected\n\n"]),
    "pings only": lambda _: iter([stream_head(), b": ping\n\n" * 10_000]),
    "nothing": _no_answer,
    "nothing after the head": lambda _: iter([stream_head().removesuffix(b": connected\n\n")]),
    "401": fixed({"detail": "no"}, "401 Unauthorized"),
    "404": fixed({"detail": "no"}, "404 Not Found"),
    "410": fixed({"detail": "gone"}, "410 Gone", {"anporia-code": "cursor_gone"}),
    "503": fixed({"detail": "full"}, "503 Service Unavailable", {"anporia-code": "subscribers_full"}),
    "web page": fixed(HTML, headers=_WEB),
    "odd gzip": fixed(b"\x1f\x8bnothing", headers={"content-type": "text/event-stream", "content-encoding": "gzip"}),
}
