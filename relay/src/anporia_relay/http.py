"""HTTP as plain values: requests in, responses out, one table of routes. No decisions on events here.

Written on bare ASGI since a framework's share of a request was larger than all of ours
(decision 0003); the table below also is the source of the OpenAPI document.
"""

from __future__ import annotations

import base64
import hmac
import json as std_json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

from anporia_wire import AnporiaError, InvalidFilter, MalformedEvent, Problem

from .errors import STATUS, Rejected

__all__ = [
    "Param",
    "Request",
    "Response",
    "Route",
    "Router",
    "Streaming",
    "authorised",
    "boolean",
    "decimal",
    "headers_of",
    "integer",
    "json",
    "refusal",
    "serialise",
]

# headers that pages of other origins may read
EXPOSED = b"Link, Retry-After, Anporia-Code, Anporia-Place, X-ANP-Branch-Unknown"

MAX_BODY = 1024 * 1024  # settled limit 15: twice the largest event, for escapes
# A body just over its limit is read and thrown away so that the client reads our answer instead of
# a reset; beyond this much the connection is closed.
MAX_DISCARD = 16 * 1024 * 1024

Headers = list[tuple[bytes, bytes]]
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class Request:
    """One request. `path` is without `/api`; of repeated query parameters the last counts."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[bytes, bytes]
    address: str
    scope: Scope
    receive: Receive
    arg: str = ""

    @classmethod
    def of(cls, scope: Scope, receive: Receive) -> Request:
        """Read an ASGI scope."""
        path = scope["path"]
        if path == "/api" or path.startswith("/api/"):
            path = path[4:] or "/"
        raw = scope["query_string"]
        query = dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True)) if raw else {}
        return cls(scope["method"], path, query, dict(scope["headers"]), (scope["client"] or ("",))[0], scope, receive)

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """Read the whole body. Raises `Rejected` above `limit` bytes."""
        announced = self.headers.get(b"content-length", b"")
        size = int(announced) if announced.isdigit() else 0
        if size > MAX_DISCARD or (size > limit and self.headers.get(b"expect")):
            raise _too_large(limit)
        parts: list[bytes] = []
        got = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            got += len(message["body"])
            if got <= limit:
                parts.append(message["body"])
            elif got > MAX_DISCARD:
                raise _too_large(limit)
            if not message["more_body"]:
                break
        if got > limit:
            raise _too_large(limit)
        return parts[0] if len(parts) == 1 else b"".join(parts)


@dataclass(slots=True)
class Response:
    """One complete answer."""

    status: int
    body: bytes
    headers: Headers = field(default_factory=list)
    content_type: bytes = b"application/json"


@dataclass(slots=True)
class Streaming:
    """An answer that goes on: `run(send)` writes chunks until it returns."""

    run: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]
    headers: Headers


Handler = Callable[[Request], Awaitable[Response | Streaming]]


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter, as the OpenAPI document tells of it."""

    name: str
    schema: Mapping[str, Any]
    about: str


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path; `{name}` in the path is one segment."""

    method: str
    path: str
    handler: Handler
    about: str
    params: Sequence[Param] = ()
    returns: str = "object"
    body: str = ""
    codes: Sequence[str] = ()


class Router:
    """Finds the route of a request. Every path has at most one variable segment, the second."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._by_path: dict[str, dict[str, Route]] = {}
        for route in self.routes:
            head, brace, tail = route.path.partition("{")
            key = head + "{}" + tail.partition("}")[2] if brace else route.path
            self._by_path.setdefault(key, {})[route.method] = route

    def find(self, request: Request) -> Route:
        """Give the route, setting `request.arg`. Raises `Rejected` for an unknown path or method."""
        exact = self._by_path.get(request.path, {})
        route = exact.get(request.method)
        if route:
            return route
        parts = request.path.split("/")
        variable: dict[str, Route] = {}
        if len(parts) > 2 and parts[2]:
            request.arg = parts[2]
            variable = self._by_path.get("/".join([*parts[:2], "{}", *parts[3:]]), {})
            route = variable.get(request.method)
            if route:
                return route
        allowed = sorted({*exact, *variable})
        if allowed:
            raise MethodNotAllowed(allowed)
        raise Rejected("not_found", "Not Found")

    def knows(self, path: str) -> bool:
        """Say whether a path without variable segment exists."""
        return path in self._by_path


class MethodNotAllowed(Rejected):
    """Another method of this path exists; `allowed` names which."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = allowed
        super().__init__("method_not_allowed", "Method Not Allowed")


def json(value: object, status: int = 200, headers: Headers | None = None) -> Response:
    """Answer with a JSON value."""
    return Response(status, serialise(value), headers or [])


def serialise(value: object) -> bytes:
    """Write JSON. Integers may have any size: balances are sums without a bound."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return std_json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def headers_of(response: Response | Streaming, *, cors: bool) -> Headers:
    """Give all headers of an answer; `cors`: the request named an Origin."""
    headers = [(b"vary", b"Origin"), *response.headers]
    if cors:
        headers += [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED)]
    if isinstance(response, Response):
        headers.append((b"content-type", response.content_type))
        headers.append((b"content-length", b"%d" % len(response.body)))
    return headers


def refusal(error: AnporiaError) -> Response:
    """Turn an error into its answer: status by code, `{"detail"}`, `Anporia-Code`, `Retry-After`."""
    status = STATUS.get(error.code, 500)
    headers: Headers = [(b"anporia-code", error.code.encode())]
    retry_in = getattr(error, "retry_in", None)
    if retry_in is not None:
        headers.append((b"retry-after", str(max(1, retry_in)).encode()))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if error.code == "unauthorized":
        headers.append((b"www-authenticate", b'Basic realm="anporia", charset="UTF-8"'))
    if error.code == "body_too_large":
        headers.append((b"connection", b"close"))
    if isinstance(error, (MalformedEvent, InvalidFilter)) and status == 422:
        return json({"detail": [_bounded(problem) for problem in error.problems]}, status, headers)
    return json({"detail": str(error)}, status, headers)


def integer(params: Mapping[str, str], name: str, low: int, high: int, default: int) -> int:
    """Read an integer parameter. Raises `InvalidFilter` naming the range."""
    text = params.get(name)
    if text is None:
        return default
    digits = text.strip()
    if digits.removeprefix("-").isascii() and digits.removeprefix("-").isdigit() and len(digits) < 20:
        value = int(digits)
        if low <= value <= high:
            return value
        kind = "less_than_equal" if value > high else "greater_than_equal"
    else:
        kind = "int_parsing"
    msg = f"must be an integer from {low} to {high}"
    raise InvalidFilter.of(kind, name, msg, text)


def decimal(params: Mapping[str, str], name: str, low: float, high: float) -> float | None:
    """Read a decimal parameter, None when absent. Raises `InvalidFilter` naming the range."""
    text = params.get(name)
    if text is None:
        return None
    try:
        value = float(text) if len(text) < 32 and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if low <= value <= high:
        return value
    msg = f"must be a number from {low:g} to {high:g}"
    raise InvalidFilter.of("float_parsing", name, msg, text)


def boolean(params: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """Read a flag: true, 1 / false, 0, or absent. Raises `InvalidFilter`."""
    text = params.get(name, "").lower() or ("true" if default else "false")
    if text not in ("true", "1", "false", "0"):
        msg = "must be true or false"
        raise InvalidFilter.of("bool_parsing", name, msg, text)
    return text in ("true", "1")


def authorised(headers: Mapping[bytes, bytes], user: str, password: str) -> bool:
    """Compare HTTP Basic credentials in constant time."""
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    try:
        decoded = base64.b64decode(given.strip(), validate=True) if scheme.lower() == b"basic" else b""
    except ValueError:
        decoded = b""
    return hmac.compare_digest(decoded, f"{user}:{password}".encode("utf-8", "surrogateescape"))


def _too_large(limit: int) -> Rejected:
    return Rejected("body_too_large", f"request body exceeds {limit} bytes")


def _bounded(problem: Problem) -> Problem:
    """Keep an echoed value from making the answer as large as the question."""
    given = problem["input"]
    if len(orjson.dumps(given, default=str)) > 200:
        given = f"<{type(given).__name__}>"
    return {**problem, "input": given}
