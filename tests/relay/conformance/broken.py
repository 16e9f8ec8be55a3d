"""A relay that is wrong in one place: it passes requests on to a true one and alters what comes back."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

__all__ = ["Broken", "Exchange", "change"]


@dataclass
class Exchange:
    """One request and its answer; a fault alters it before it is passed on, and after."""

    method: str
    path: str
    params: dict[str, str]
    body: bytes = b""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @json.setter
    def json(self, value: object) -> None:
        self.body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


Fault = Callable[[Exchange], None]


def _same(_: Exchange) -> None:
    pass


def _same_line(line: bytes) -> bytes:
    return line


def change(alter: Callable[[Any], Any], path: str = "/events", method: str = "GET") -> Fault:
    """Give a fault that alters the JSON of 200s of paths that begin so."""

    def fault(exchange: Exchange) -> None:
        if exchange.method == method and exchange.path.startswith(path) and exchange.status == 200 and exchange.body:
            exchange.json = alter(exchange.json)

    return fault


class Broken:
    """`with Broken(true.url, after=fault) as relay: relay.url`; `line` alters each line of a stream."""

    def __init__(
        self, url: str, *, before: Fault = _same, after: Fault = _same, line: Callable[[bytes], bytes] = _same_line
    ) -> None:
        upstream = urlsplit(url)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two writes

            def do_GET(self) -> None:
                target = urlsplit(self.path)
                exchange = Exchange(self.command, target.path, dict(parse_qsl(target.query, keep_blank_values=True)))
                exchange.body = self.rfile.read(int(self.headers.get("content-length", 0)))
                before(exchange)
                query = f"?{urlencode(exchange.params)}" if exchange.params else ""
                connection = http.client.HTTPConnection(str(upstream.hostname), upstream.port, timeout=10)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
                try:
                    connection.request(self.command, exchange.path + query, exchange.body or None, headers)
                    response = connection.getresponse()
                    if "event-stream" in response.headers.get("content-type", ""):
                        self._stream(response)
                    else:
                        self._answer(exchange, response)
                finally:
                    connection.close()

            do_POST = do_GET  # noqa: N815, RUF100
            do_OPTIONS = do_GET  # noqa: N815, RUF100

            def _answer(self, exchange: Exchange, response: http.client.HTTPResponse) -> None:
                exchange.status, exchange.body = response.status, response.read()
                exchange.headers = {name.lower(): value for name, value in response.getheaders()}
                after(exchange)
                self.send_response_only(exchange.status)
                exchange.headers["content-length"] = str(len(exchange.body))
                for name, value in exchange.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(exchange.body)

            def _stream(self, response: http.client.HTTPResponse) -> None:
                self.close_connection = True
                self.send_response_only(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                try:
                    while got := response.readline():
                        self.wfile.write(line(got))
                except OSError:
                    pass  # the reader has left, or nothing more comes

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
