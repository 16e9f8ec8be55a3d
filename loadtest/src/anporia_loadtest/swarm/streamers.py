"""Streamers: who listens live, is cut off, and comes back to where it was."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import orjson
from locust import User, constant, task
from locust.user.task import LOCUST_STATE_STOPPING

from ..frames import BadStream, StreamReader
from ..observations import StreamSeen
from ..posts import TOPICS
from .recording import RECORDER
from .visitor import aimed_at

__all__ = ["Streamers"]

SETTLED_S = 2.0  # a connection that lived so long has heard what it missed
QUIET_S, LEAVE_S = 1.0, 6.0  # at the end: heard nothing for so long, and at most so long
_TICK_S = 0.25
_NUMBERS: Iterator[int] = count()


class Streamers(User):
    """Listen to `/stream`, to all or filtered; drop the connection every few seconds and resume by Last-Event-ID."""

    weight = 2
    wait_time = constant(0)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._target = aimed_at(str(self.host))
        self._seen: StreamSeen | None = None
        self._query: dict[str, str] = {}
        self._place = ""

    def on_start(self) -> None:
        """Join, and choose what to listen to."""
        number = RECORDER.joined(type(self).__name__)
        self._choose = random.Random(f"{RECORDER.seed} {number}")
        self._query = self._filter(next(_NUMBERS))

    def on_stop(self) -> None:
        """Leave."""
        RECORDER.left(type(self).__name__)

    @task
    def listen(self) -> None:
        """One connection, from place to cut."""
        started = time.perf_counter()
        try:
            with self._target.dial(10.0) as connection:
                cut = self._hear(connection, started)
        except (OSError, BadStream) as exc:
            RECORDER.seen.stream_faults.fault(f"{type(exc).__name__} {exc}"[:160])
            self._report("GET /stream", started, exc)
            time.sleep(0.5)
            return
        RECORDER.finished(type(self).__name__)
        if cut and self._seen is not None:
            self._seen.cuts += 1
            time.sleep(self._choose.uniform(0, 0.8))  # meanwhile others go on talking

    def _filter(self, number: int) -> dict[str, str]:
        authors = ",".join(sorted({said.agent_id for said in list(RECORDER.recent)[-8:]}))
        choices = [{}, {"t": self._choose.choice(TOPICS)}, {"kinds": "1"}, {"kinds": "50,51,52,53,54,55"}]
        return {"authors": authors} if number % 5 == 4 and authors else choices[number % 5 % 4]

    def _hear(self, connection: socket.socket, started: float) -> bool:
        """Read until it is time to leave; says whether that was a cut, after which one comes back."""
        query = "&".join(f"{name}={value}" for name, value in self._query.items())
        resume = {"Last-Event-ID": self._place} if self._place else {}
        connection.sendall(self._target.head("GET", f"/stream?{query}" if query else "/stream", resume))
        connection.settimeout(_TICK_S)
        # the first ends soon, so that a short run shows a cut too
        reader, ends = StreamReader(), started + (self._choose.uniform(2.2, 6.0) if self._place else 2.1)
        heard, leaving_since = time.perf_counter(), 0.0
        while True:
            data = self._receive(connection)
            now = time.perf_counter()
            if data:
                heard = now
                known = reader.status
                frames = reader.feed(data)
                if reader.status and not known:
                    self._begin(reader, started)
                for frame in frames:
                    self._take(frame.place, frame.number, frame.data, started, now)
            elif data == b"":
                if RECORDER.stopping:
                    return False
                raise BadStream(f"ended by the relay: {' '.join(reader.comments[-1:]) or 'without a word'}")
            if self._seen is not None and reader.status == 200 and now - started > SETTLED_S:
                self._seen.left_at = time.time()
            if RECORDER.stopping or self._state == LOCUST_STATE_STOPPING:
                leaving_since = leaving_since or now
                if now - leaving_since > LEAVE_S or min(now - heard, now - leaving_since) > QUIET_S:
                    return False
            elif now > ends:
                if self._choose.random() < 0.5:  # by a reset, as when a machine loses its net
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return True

    @staticmethod
    def _receive(connection: socket.socket) -> bytes | None:
        """Give what came, None for nothing yet, empty for the end."""
        try:
            return connection.recv(65_536)
        except TimeoutError:
            return None

    def _begin(self, reader: StreamReader, started: float) -> None:
        RECORDER.answered(reader.status)
        if reader.status != 200:
            if reader.status >= 500:
                RECORDER.seen.server_errors.fault(f"/stream {reader.status}")
            raise BadStream(f"{reader.status} {reader.headers.get('anporia-code', '')}".strip())
        place = reader.headers.get("anporia-place", "")
        self._report("GET /stream", started, None)
        if self._seen is None:
            self._place = place
            self._seen = StreamSeen(self._query, int(place.rpartition("-")[2]))
            RECORDER.listening(self._seen)
        else:
            self._seen.resumed += 1
            if place != self._place:
                RECORDER.seen.stream_faults.fault(f"resumed at {place} instead of {self._place}")

    def _take(self, place: str, number: int, data: bytes, started: float, now: float) -> None:
        assert self._seen is not None
        self._place = place
        self._seen.numbers.append(number)
        sent = RECORDER.sent_at(orjson.loads(data)["id"])
        if sent is not None and sent > started:
            RECORDER.took("deliver", (now - sent) * 1_000)

    def _report(self, name: str, started: float, exc: Exception | None) -> None:
        self.environment.events.request.fire(
            request_type="SSE",
            name=name,
            response_time=(time.perf_counter() - started) * 1_000,
            response_length=0,
            context={},
            exception=exc,
        )
