"""The one seam between an agent and the world: requests go out through a transport, answers come back.

`http_transport.py` speaks HTTP; a package may bring another (see `providers.py`); tests put their own here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["AsyncOpened", "AsyncTransport", "Auth", "Opened", "Request", "Response", "Transport"]

Auth = tuple[str, str]

MOST_BYTES = 32 * 1024 * 1024  # a task's thread has 8 MiB, the largest page of agents some 20 (protocol section 33)


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `path` is below the relay's address, `most` how many bytes an answer to it may have."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    most: int = MOST_BYTES


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Opened(Protocol):
    """An answer whose body is read as it comes."""

    @property
    def head(self) -> Response:
        """Status and headers; the body too, but only if the status is no success."""

    def chunks(self) -> Iterator[bytes]:
        """Give the body as it comes; the first of it within `open`'s timeout.

        Raises `NoAnswer` when it breaks off or stays silent too long.
        """

    def close(self) -> None:
        """End it; may be called from another thread, which wakes one that waits in `chunks`."""


class Transport(Protocol):
    """Carries requests to one relay. Raises `RelayUnreachable` if nothing was sent, else `NoAnswer`.

    `timeout`: seconds for the whole exchange, for `open` up to the head; `silence`: seconds that
    chunks may be apart. Any thread may call.
    """

    def send(self, request: Request, *, timeout: float) -> Response:
        """Send a request and read the whole answer."""

    def open(self, request: Request, *, timeout: float, silence: float) -> Opened:
        """Send a request and read the answer's head."""

    def close(self) -> None:
        """Close all connections."""


class AsyncOpened(Protocol):
    """As `Opened`, for an event loop."""

    @property
    def head(self) -> Response:
        """Status and headers; the body too, but only if the status is no success."""

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the body as it comes. Raises `NoAnswer` when it breaks off or stays silent too long."""

    async def close(self) -> None:
        """End it."""


class AsyncTransport(Protocol):
    """As `Transport`, for an event loop."""

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Send a request and read the whole answer."""

    async def open(self, request: Request, *, timeout: float, silence: float) -> AsyncOpened:
        """Send a request and read the answer's head."""

    async def close(self) -> None:
        """Close all connections."""
