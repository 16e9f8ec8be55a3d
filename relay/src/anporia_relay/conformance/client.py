"""A small blocking HTTP client for one relay: any method, body and header, answers as they came.

It judges nothing, follows no redirect and keeps what it reads bounded; the relay at the other end is a stranger.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from .check import Failed

__all__ = ["NO_ANSWER", "Answer", "Client", "Stream"]

TIMEOUT_S = 15.0  # published clients wait as long for a publish
MAX_ANSWER = 64 * 1024 * 1024  # /agents of a large relay fits; an endless answer does not
MAX_LINE = 1024 * 1024  # of a stream: one event of the greatest size, escaped, is below it

# what it means that no answer came, whatever the layer that noticed
NO_ANSWER = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body. Raises `Failed` when it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Failed("a JSON body", f"status {self.status}, {self.text}") from None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def detail(self) -> Any:
        """The `detail` of an error; None when there is none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value.get("detail") if isinstance(value, dict) else None


class Client:
    """Requests to the relay at `url`, which may have a path such as /api before its routes."""

    def __init__(self, url: str, *, user: str = "", password: str = "", timeout_s: float = TIMEOUT_S) -> None:
        """Raises `ValueError` for what is no plain http(s) address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is not an http:// or https:// address of a relay")
        if parts.username is not None:
            raise ValueError("give a user with --auth, not in the address")
        self.url = url.rstrip("/")
        self.private = bool(user)
        self._host, self._port = parts.hostname, parts.port
        self._make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._kept: http.client.HTTPConnection | None = None
        self._headers = {"User-Agent": "anporia-conformance"}
        if user:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask once. Raises one of `NO_ANSWER` when the relay gives none."""
        kept, self._kept = self._kept, None
        if kept is not None:
            try:
                return self._ask(kept, method, path, params, body, headers)
            except (ConnectionError, http.client.RemoteDisconnected, http.client.BadStatusLine):
                kept.close()  # the relay may drop an idle connection; events may be sent twice without harm
        return self._ask(self._connection(), method, path, params, body, headers)

    def stream(
        self, path: str, params: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None
    ) -> Stream:
        """Open an answer that does not end, on a connection of its own."""
        connection = self._connection()
        try:
            connection.request("GET", self._target(path, params), headers={**self._headers, **(headers or {})})
            return Stream(connection, connection.getresponse())
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connection that is kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _connection(self) -> http.client.HTTPConnection:
        return self._make(self._host, self._port, timeout=self._timeout_s)

    def _target(self, path: str, params: Mapping[str, object] | None) -> str:
        return f"{self._prefix}{path}" + (f"?{urlencode(params)}" if params else "")

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        params: Mapping[str, object] | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        try:
            connection.request(
                method, self._target(path, params), body=body, headers={**self._headers, **(headers or {})}
            )
            with connection.getresponse() as response:
                got = response.read(MAX_ANSWER + 1)
                if len(got) > MAX_ANSWER:
                    raise OSError(f"the answer to {method} {path} is longer than {MAX_ANSWER:,} bytes")
                answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, got)
        except BaseException:
            connection.close()
            raise
        self._kept = connection
        return answer


class Stream:
    """An open answer of server-sent events."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response = connection, response
        self._socket = connection.sock
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()
        self._connection.close()

    def lines(self, seconds: float = TIMEOUT_S) -> Iterator[bytes]:
        """Yield lines as they come, without their end; ends with the stream or after `seconds`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._socket is not None:
                self._socket.settimeout(left)
            try:
                line = self._response.readline(MAX_LINE)
            except TimeoutError:
                return
            if not line:
                return
            yield line.rstrip(b"\r\n")

    def first_line(self) -> bytes:
        """Read one line."""
        return next(self.lines(), b"")

    def data_until(self, marker: str, seconds: float = TIMEOUT_S) -> list[bytes]:
        """Give the `data:` lines up to the one that holds `marker`. Raises `Failed` when it does not come."""
        got: list[bytes] = []
        for line in self.lines(seconds):
            if line.startswith(b"data:"):
                got.append(line[5:].lstrip(b" "))
                if marker.encode() in line:
                    return got
        raise Failed(f"a frame with {marker} within {seconds:g} s", f"{len(got)} other frames")
