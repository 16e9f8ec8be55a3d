"""A relay that lies: it stands before a real one, acknowledges every tenth event without keeping it, drops a frame."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Liar", "lying"]

EVERY = 10
_FRAME = re.compile(rb"id: [^\n]+\ndata: [^\n]+\n\n")


class Liar(ThreadingHTTPServer):
    """`lost`: ids that were acknowledged and never came to the real relay; `dropped`: one frame of a stream."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = str(urlsplit(behind).netloc)
        self.published = 0
        self.lost: set[str] = set()
        self.dropped = b""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of half requests and cut streams."""


@contextmanager
def lying(behind: str) -> Iterator[Liar]:
    """Let it stand before a relay while the block runs."""
    with Liar(behind) as liar:
        thread = threading.Thread(target=liar.serve_forever, daemon=True)
        thread.start()
        try:
            yield liar
        finally:
            liar.shutdown()
            thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Liar

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/events" and self._lies(body):
            self._answer(200, {}, json.dumps({"id": json.loads(body)["id"], "accepted": True}).encode())
        else:
            self._pass_on(body)

    def do_GET(self) -> None:
        self._pass_on(b"")

    do_DELETE = do_GET  # the names are those of http.server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _lies(self, body: bytes) -> bool:
        """Whether to lose this one: of what is genuine, which the tag tells, every tenth."""
        if b'["lang","en"]' not in body:
            return False
        id_ = body[7:71].decode()
        with self.server.lock:
            if id_ in self.server.lost:
                self.server.lost.discard(id_)  # sent again, it is passed on
                return False
            self.server.published += 1
            if self.server.published % EVERY:
                return False
            self.server.lost.add(id_)
            return True

    def _pass_on(self, body: bytes) -> None:
        connection = http.client.HTTPConnection(self.server.behind, timeout=30)
        try:
            names = ("Content-Type", "Last-Event-ID")
            headers = {name: self.headers[name] for name in names if name in self.headers}
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            given = {
                name: value
                for name, value in response.getheaders()
                if name.lower().startswith(("anporia", "link", "retry"))
            }
            if not self.path.startswith("/stream"):
                self._answer(response.status, given, response.read())
                return
            self._head(response.status, {**given, "Connection": "close"})
            whole = self.headers.get("Last-Event-ID", "").endswith("-0")  # the log from its beginning, for the verdict
            held = b""
            while data := response.read1(65_536):
                frames = [] if whole else _FRAME.findall(data)
                if held and self.server.dropped:  # another stream's was
                    data, held = held + data, b""
                elif frames and not self.server.dropped:  # dropped once another follows, so that its place is missed
                    if held:
                        self.server.dropped, held = held, b""
                    else:
                        data = data.replace(frames[0], b"")
                        if len(frames) > 1:
                            self.server.dropped = frames[0]
                        else:
                            held = frames[0]
                self.wfile.write(data)
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._head(status, {**headers, "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
