"""The relay a test is aimed at: what its address means, and plain requests to it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

__all__ = ["NEEDED", "NOT_YOURS", "PERMISSION", "Answer", "Target", "TargetError", "next_page"]

PERMISSION = "--yes-this-is-my-relay"
NOT_YOURS = f"is not this machine. Load is for one's own relay only: {PERMISSION} says it is"

# what a load test uses of a relay beyond the plain protocol
NEEDED = frozenset({"batch", "cursor", "resume", "stream-filters", "include-hidden"})

_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


class TargetError(Exception):
    """The relay cannot be tested; the text is one line for the person who asked."""


class Answer(NamedTuple):
    """What came back. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The stable code of a refusal, or empty."""
        return self.headers.get("anporia-code", "")

    def json(self) -> Any:
        """Read the body. Raises `ValueError`."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a relay, taken apart."""

    tls: bool
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an address. Raises `TargetError`."""
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as exc:
            raise TargetError(f"{url!r} is no address: {exc}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TargetError(f"{url!r} is no address: expected http://HOST:PORT or https://HOST")
        if parts.username is not None or parts.password is not None:
            raise TargetError("an address with a password is not taken, since it would stand in the report")
        if parts.query or parts.fragment:
            raise TargetError(f"{url!r} has a query or fragment; expected http://HOST:PORT or https://HOST")
        return cls(parts.scheme == "https", parts.hostname, port, parts.path.rstrip("/"))

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix}"

    @property
    def loopback(self) -> bool:
        """Whether it is this machine, by the address alone: no name server is asked."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def dial(self, timeout: float) -> socket.socket:
        """Open a connection. Raises `OSError`."""
        plain = socket.create_connection((self.host, self.port), timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return ssl.create_default_context().wrap_socket(plain, server_hostname=self.host) if self.tls else plain

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        """Give the bytes of a request up to its body."""
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()

    def get(self, path: str, timeout: float = 30.0) -> Answer:
        """Ask once, over a connection of its own; redirects are not followed. Raises `TargetError`."""
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=timeout)
        try:
            connection.request("GET", self.prefix + path)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        except (OSError, http.client.HTTPException) as exc:
            raise TargetError(f"{self.url}{path} gives no answer: {str(exc) or type(exc).__name__}") from None
        finally:
            connection.close()

    def info(self) -> dict[str, Any]:
        """Ask what it is and can. Raises `TargetError` when it is no relay that can be tested."""
        answer = self.get("/")
        try:
            info = answer.json()
            lacking = NEEDED - set(info["features"])
            ready = isinstance(info["limits"], dict) and isinstance(info["database_id"], str)
        except (ValueError, TypeError, KeyError):
            raise TargetError(f"{self.url} is no relay that says what it can: it answered {answer.status}") from None
        if lacking or not ready:
            raise TargetError(f"{self.url} lacks what the test needs: {', '.join(sorted(lacking)) or 'its limits'}")
        if info.get("auth", "none") != "none":
            raise TargetError(f"{self.url} is private; test it without its password, on loopback")
        return dict(info)


def next_page(link: str) -> str:
    """Give path and query of the next page from a `Link` header, or nothing: never another host."""
    found = _NEXT.search(link)
    return urlsplit(found[1]).query if found else ""
