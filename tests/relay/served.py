"""A relay inside the test's process, on a thread of its own: constants can be patched, insides looked at.

The sockets are real and the loop is uvloop, as in `anporia-relay`; only signals and the command line are
left out (`tests.relays` has those). The clock of the tests is `Served.now`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from anporia_relay.app import Relay
from anporia_relay.config import Config
from anporia_relay.express import connection_to
from anporia_relay.server import TICKS, Connection, Door, Server
from anporia_wire import Event, Keypair

__all__ = ["NOW", "Answer", "Served", "Wire", "head", "keys", "post", "sign", "until"]

T = TypeVar("T")

NOW = 1_790_000_000  # the clock of the vectors
PATIENCE_S = 15.0  # at least ten times what anything here takes on a slow machine

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def keys(number: int) -> Keypair:
    """A key of its own for each number."""
    return Keypair(number.to_bytes(32, "big"))


def sign(content: str = "", kind: int = 1, *tags: list[str], by: int = 1, at: int = NOW) -> Event:
    return Event.create(keys(by), kind, content, tags, created_at=at)


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    raw_head: bytes = field(default=b"", repr=False)

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def code(self) -> str | None:
        return self.headers.get("anporia-code")


def head(method: str, path: str, headers: Mapping[str, str] | None = None, *, version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: relay"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    usual = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return head("POST", path, {**usual, **(headers or {})}) + body


class Wire:
    """One connection, byte by byte; answers are read strictly, so that a surplus byte is noticed."""

    def __init__(self, port: int, *, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:  # before connecting, or it has no effect
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_S)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.buffer = b""

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def more(self) -> bytes:
        """Receive something; empty at the end of the connection, however it ended."""
        try:
            got = self.socket.recv(262_144)
        except ConnectionError:
            got = b""
        self.buffer += got
        return got

    def until(self, marker: bytes) -> bytes:
        """Take everything up to and including `marker`."""
        while marker not in self.buffer:
            if not self.more():
                raise EOFError(f"the connection ended without {marker!r} after {self.buffer[-500:]!r}")
        got, _, self.buffer = self.buffer.partition(marker)
        return got + marker

    def answer(self, *, to_head: bool = False) -> Answer:
        """Read one answer."""
        start = self.until(b"\r\n\r\n")
        first, *fields = start[:-4].decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
        length = _LENGTH.search(start)
        assert length or status == "100" or to_head, start
        size = int(length[1]) if length and not to_head else 0
        while len(self.buffer) < size:
            if not self.more():
                raise EOFError(f"the body of {first} is cut short")
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return Answer(int(status), headers, body, start)

    def ask(self, data: bytes) -> Answer:
        return self.send(data).answer()

    def stream_head(self) -> bytes:
        return self.until(b"\r\n\r\n")

    def chunk(self) -> bytes:
        """Read one chunk of a chunked answer; empty is the last one."""
        size = int(self.until(b"\r\n"), 16)
        while len(self.buffer) < size + 2:
            if not self.more():
                raise EOFError("a chunk is cut short")
        got, self.buffer = self.buffer[:size], self.buffer[size + 2 :]
        return got

    def at_end(self) -> bool:
        """Wait for the end of the connection; False when something else comes."""
        return not self.buffer and not self.more()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Drop the connection as a crashed client's kernel does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.socket.close()


class Served:
    """`with Served(tmp_path) as relay:`; settings as for `Config`. Limits are off unless given.

    `express=False`: the parser reads every request.
    """

    def __init__(self, folder: Path, *, tick_s: float = 0.02, express: bool = True, **settings: Any) -> None:
        free = {"agent_rate": 0, "peer_rate": 0, "bad_event_rate": 0}
        self.config = Config(db=folder / "relay.db", **{**free, **settings})
        self.now = float(NOW)
        self.steady = 1_000.0
        self._tick_s, self._express = tick_s, express
        self._ready = threading.Event()
        self._wires: list[Wire] = []
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        if self._failure:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for wire in self._wires:
            wire.close()
        self.loop.call_soon_threadsafe(self._done.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the relay does not stop"
        if self._failure:
            raise self._failure

    # -- talking to it

    def wire(self, *, receive_buffer: int = 0) -> Wire:
        """Open a connection; it is closed with the relay."""
        self._wires.append(Wire(self.port, receive_buffer=receive_buffer))
        return self._wires[-1]

    @contextlib.contextmanager
    def one_wire(self) -> Iterator[Wire]:
        wire = Wire(self.port)
        try:
            yield wire
        finally:
            wire.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        with self.one_wire() as wire:
            return wire.ask(head("GET", path, headers))

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        with self.one_wire() as wire:
            return wire.ask(post(path, body, headers))

    def publish(self, *events: Event) -> None:
        """Publish through the front door; each must be taken."""
        with self.one_wire() as wire:
            for event in events:
                answer = wire.ask(post("/events", event.to_json()))
                assert answer.status == 200, answer

    def batch(self, *events: Event) -> list[Any]:
        return self.post("/events/batch", b"\n".join(event.to_json() for event in events)).lines()

    def stream(self, path: str = "/stream", headers: Mapping[str, str] | None = None) -> Wire:
        """Open a stream and read its greeting."""
        wire = self.wire().send(head("GET", path, headers))
        assert wire.stream_head().startswith(b"HTTP/1.1 200 "), wire.buffer
        assert wire.chunk() == b": connected\n\n"
        return wire

    # -- its insides

    def call(self, function: Callable[[], T]) -> T:
        """Call something on the relay's own thread."""

        async def work() -> T:
            return function()

        return self.run(work())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def subscribers(self) -> int:
        return self.call(lambda: len(self.relay.hub))

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as exc:  # noqa: BLE001, RUF100  # the test's thread raises it
            self._failure = exc
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        self.relay = relay = await Relay.start(self.config)
        relay.wall = relay.pipeline._wall = lambda: self.now
        relay.pipeline._steady = lambda: self.steady
        self.door = Door(self.config.max_connections_per_peer, relay.is_trusted_proxy, relay.count_refused)
        kind = connection_to(relay) if self._express else Connection
        self.server = server = Server(relay, self.door, kind, on_ready=self._ready.set, before_stop=relay.end_streams)
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        ticks = self.loop.create_task(
            _often(self._tick_s, relay.tick, relay.settle, *[lambda: self.door.tick(self.loop.time())] * TICKS)
        )
        # not `serve`: its stop sleeps for a tenth of a second, thrice
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup([listener])
        try:
            await self._done.wait()
        finally:
            for asyncio_server in server.servers:
                asyncio_server.close()
            relay.end_streams()
            for connection in list(self.door.connections):
                connection.transport.abort()
            while server.server_state.tasks or self.door.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            ticks.cancel()
            await relay.stop()


async def _often(seconds: float, *ticks: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        for tick in ticks:
            tick()


def until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> bool:
    """Wait until something holds; say whether it came to be."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
