"""A relay of one's own making, put in at the client's one seam: the transport."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any

from anporia_client import Request, Response
from anporia_client.errors import RelayError
from anporia_wire import Event

Answer = Callable[[Request], "Response | Chunks"]

STREAM = {"content-type": "text/event-stream; charset=utf-8"}


class Chunks:
    """An open answer: bytes as they come, and how it ends: quietly, or with an error."""

    def __init__(self, *chunks: bytes, error: RelayError | None = None, endless: bytes = b"") -> None:
        self.head = Response(200, STREAM, b"")
        self.closed = False
        self._chunks, self._error, self._endless = chunks, error, endless

    def chunks(self) -> Iterator[bytes]:
        yield b": connected\n\n"
        yield from self._chunks
        while self._endless:
            yield self._endless
        if self._error:
            raise self._error

    def close(self) -> None:
        self.closed = True


class Refused:
    """An answer to a stream's request that is no stream."""

    def __init__(self, response: Response) -> None:
        self.head = response

    def chunks(self) -> Iterator[bytes]:
        yield self.head.body

    def close(self) -> None:
        pass


class Scripted:
    """A transport whose relay is a function; remembers what it was asked and with which password."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Request] = []
        self.timeouts: list[float] = []
        self.silences: list[float] = []
        self.auth: tuple[str, str] | None = None
        self.closed = False

    def __call__(self, url: str, auth: tuple[str, str] | None) -> Scripted:
        self.url, self.auth = url, auth
        return self

    def send(self, request: Request, *, timeout: float) -> Response:
        self.asked.append(request)
        self.timeouts.append(timeout)
        response = self.answer(request)
        assert isinstance(response, Response)
        return response

    def open(self, request: Request, *, timeout: float, silence: float) -> Chunks | Refused:
        self.asked.append(request)
        self.silences.append(silence)
        answer = self.answer(request)
        return Refused(answer) if isinstance(answer, Response) else answer

    def close(self) -> None:
        self.closed = True


class AsyncScripted:
    """The same for an event loop."""

    def __init__(self, answer: Answer) -> None:
        self.relay = Scripted(answer)

    def __call__(self, url: str, auth: tuple[str, str] | None) -> AsyncScripted:
        self.relay(url, auth)
        return self

    async def send(self, request: Request, *, timeout: float) -> Response:
        return self.relay.send(request, timeout=timeout)

    async def open(self, request: Request, *, timeout: float, silence: float) -> AsyncOpen:
        return AsyncOpen(self.relay.open(request, timeout=timeout, silence=silence))

    async def close(self) -> None:
        self.relay.close()


class AsyncOpen:
    def __init__(self, opened: Chunks | Refused) -> None:
        self.head = opened.head
        self._opened = opened

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for chunk in self._opened.chunks():
            yield chunk

    async def close(self) -> None:
        self._opened.close()


def says(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer everything so."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda _: Response(status, headers or {"content-type": "application/json"}, data)


def streams(*frames: bytes, error: RelayError | None = None) -> Answer:
    return lambda _: Chunks(*frames, error=error)


def frame(event: Event, id_: str = "") -> bytes:
    return (f"id: {id_}\n".encode() if id_ else b"") + b"data: " + event.to_json() + b"\n\n"


class Honest:
    """Acknowledges everything and remembers it."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, request: Request) -> Response:
        if request.method == "GET":
            return Response(404, {}, b"")
        assert (request.method, request.path) == ("POST", "/events")
        assert request.headers["content-type"] == "application/json"
        event = Event.parse(request.body or b"")
        event.check()
        self.events.append(event)
        return Response(200, {}, json.dumps({"id": event.id, "accepted": True}).encode())
