"""Traffic for a running relay: events signed ahead by many authors, publishers, readers of streams, the log itself."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import itertools
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from anporia_wire import Event, Keypair

__all__ = ["NOT_RATED", "TOPICS", "Answer", "Publisher", "Refused", "frames", "read_log", "signed_events"]

# frees one machine from the limit per address; the one per agent (60 a minute) stays
NOT_RATED = {"ANPORIA_RATE_EXEMPT": "127.0.0.0/8"}

TOPICS = ("news", "weather", "lobby", "調査")

_EVENTS_PER_AUTHOR = 50
_KINDS = (1, 1, 1, 5, 777)
_TEXTS = ("plain", "", "日本語", "a\u2028b", 'quote " and \\ backslash', "🦑 \x85 \u2029", "data: x\n\nid: 1-1")

_authors = itertools.count()


def signed_events(count: int, rng: Random) -> list[Event]:
    """Sign events as agents post them now, no author more often than a relay allows in a minute."""
    now = int(time.time())
    events: list[Event] = []
    for at in range(count):
        if at % _EVENTS_PER_AUTHOR == 0:
            author = Keypair(hashlib.sha256(b"author %d" % next(_authors)).digest())
        tags = [["t", topic] for topic in rng.sample(TOPICS, rng.randrange(3))]
        if events and rng.random() < 0.3:
            tags.append(["p", rng.choice(events).agent_id])
        text = f"{rng.choice(_TEXTS)} {at}" + "x" * rng.choice((0, 0, 0, 500, 5_000))
        events.append(Event.create(author, rng.choice(_KINDS), text, tags, created_at=now - rng.randrange(1_000)))
    return events


class Answer(NamedTuple):
    """What the relay said to one request."""

    status: int
    code: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Publisher:
    """One keep-alive connection to the relay at `url`. A dead relay shows as `OSError` or `HTTPException`."""

    def __init__(self, url: str, timeout: float = 30) -> None:
        self._http = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)

    def get(self, path: str) -> Answer:
        return self._ask("GET", path, None, "")

    def post(self, event: Event) -> Answer:
        return self._ask("POST", "/events", event.to_json(), "application/json")

    def batch(self, events: Iterable[Event]) -> list[Any]:
        """Publish as NDJSON; one parsed answer an event."""
        body = b"\n".join(event.to_json() for event in events)
        answer = self._ask("POST", "/events/batch", body, "application/x-ndjson")
        assert answer.status == 200, answer
        return [json.loads(line) for line in answer.body.splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _ask(self, method: str, path: str, body: bytes | None, content_type: str) -> Answer:
        self._http.request(method, path, body, {"content-type": content_type} if body is not None else {})
        response = self._http.getresponse()
        return Answer(response.status, response.headers.get("anporia-code", ""), response.read())


async def frames(url: str, query: str = "", last_id: str = "") -> AsyncIterator[tuple[str, bytes]]:
    """Read a stream until it ends: (id, data) of each frame, ("", comment) for a comment.

    Raises `OSError` when nobody answers or the connection dies, `Refused` for an answer other than 200.
    """
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**20)
    try:
        resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        writer.write(f"GET /stream?{query} HTTP/1.1\r\nHost: test\r\n{resume}\r\n".encode())
        head = (await _until(reader, b"\r\n\r\n")).decode()
        if " 200 " not in head.splitlines()[0]:
            raise Refused(head)
        text = b""
        while size := int(await _until(reader, b"\r\n"), 16):
            text += (await _exactly(reader, size + 2))[:-2]
            *whole, text = text.split(b"\n\n")
            for frame in whole:
                fields = dict(line.split(b": ", 1) for line in frame.split(b"\n"))
                yield fields.get(b"id", b"").decode(), fields.get(b"data", frame)
    finally:
        writer.transport.abort()  # whatever is under way is lost, as when a laptop is closed


class Refused(Exception):
    """A stream was answered with something else than 200; the text is the answer's head."""


async def _until(reader: asyncio.StreamReader, separator: bytes) -> bytes:
    try:
        return await reader.readuntil(separator)
    except asyncio.IncompleteReadError as exc:
        raise ConnectionResetError("the relay went away") from exc


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as exc:
        raise ConnectionResetError("the relay went away") from exc


def read_log(db: Path, after: int = 0) -> Sequence[tuple[int, bytes]]:
    """Read (seq, bytes) from the file itself, past all of our code; a relay may be using it."""
    with closing(sqlite3.connect(f"{db.absolute().as_uri()}?mode=ro", uri=True)) as file:
        return file.execute("SELECT seq, raw FROM events WHERE seq > ? ORDER BY seq", (after,)).fetchall()
