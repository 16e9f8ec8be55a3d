"""Readers of the stream in a process of their own, and a plain client: what the benches of a live relay share.

All times are `time.perf_counter()`, which on Linux is one clock for all processes.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import re
import resource
import socket
import struct
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, cast

from bench._servers import Server

__all__ = [
    "Client", "Frames", "Readers", "Report", "Wanted",
    "all_descriptors", "cpu_seconds", "http_get", "readers", "reset_on_close", "until",
]  # fmt: skip

_CONNECTING = 256  # handshakes at a time: fewer than the relay's backlog of 4,096 holds
_TOLD_EVERY_S = 0.002  # how often the parent learns how far the readers are
_ID_LINE = re.compile(rb"^id: [^\n]*-(\d+)$", re.MULTILINE)
_SEQ_AND_ID = re.compile(rb'^id: [^\n]*-(\d+)\ndata: \{"id":"([0-9a-f]{64})"', re.MULTILINE)


class Frames:
    """Counts the frames of one answer of /stream, however reads and chunks cut it, and checks their order. Sans-IO.

    Neither frames nor JSON hold a raw CR, so splitting at CRLF gives chunk sizes and chunks in turn; and no JSON
    holds a raw newline, so `\\ndata: ` counts frames. With `contiguous` all events match: then the first id, the
    last id and the count tell of every gap and duplicate, and of most reorderings; `every_id` looks at each one.
    """

    __slots__ = ("_chunked", "_contiguous", "_every_id", "_head_read", "_needle", "_raw", "_text",
                 "comment", "count", "ended", "fault", "place", "started", "whole")  # fmt: skip

    def __init__(self, *, contiguous: bool, every_id: bool = False, needle: bytes = b"") -> None:
        self.count = 0
        self.place = 0  # the seq of the last frame; before it, where the stream begins
        self.started = self.ended = False
        self.comment = b""  # the last one
        self.fault = ""  # the first thing that was wrong
        self.whole = b""  # the frames of the latest read
        self._contiguous, self._every_id, self._needle = contiguous, every_id or not contiguous, needle
        self._head_read = self._chunked = False
        self._raw = self._text = b""  # what is not whole yet: of the chunks, of the frames

    def feed(self, data: bytes) -> int:
        """Take what was read; give how many frames it made whole."""
        data = self._raw + data
        if not self._head_read:
            head, end, rest = data.partition(b"\r\n\r\n")
            if not end:
                self._raw = data
                return 0
            self._read_head(head)
            data = rest
        if self._chunked:
            parts = data.split(b"\r\n")
            whole = (len(parts) - 1) // 2 * 2  # a size and its chunk, each ended by a CRLF
            self._raw = b"\r\n".join(parts[whole:])
            self.ended = whole > 0 and parts[whole - 2] == b"0"
            data = b"".join(parts[1:whole:2])
        else:
            self._raw = b""
        text = self._text + data
        end_at = text.rfind(b"\n\n") + 2
        if end_at == 1:
            self._text = text
            return 0
        self.whole, self._text = text[:end_at], text[end_at:]
        if not self.whole.endswith(b"}\n\n"):
            self.comment = self.whole[self.whole.rfind(b"\n\n", 0, -2) + 1 :].strip()
            self.started = True
        count = self.whole.count(b"\ndata: ")
        if count:
            self.count += count
            self._check(count)
        return count

    def _read_head(self, head: bytes) -> None:
        self._head_read = True
        lines = head.split(b"\r\n")
        if lines[0].split(b" ")[1] != b"200":
            self.fault = lines[0].decode()
        for line in lines[1:]:
            name, _, value = line.lower().partition(b":")
            if name == b"transfer-encoding":
                self._chunked = value.strip() == b"chunked"
            elif name == b"anporia-place":
                self.place = int(value.rpartition(b"-")[2])

    def _check(self, count: int) -> None:
        text = self.whole
        if self._every_id:
            seqs = [int(seq) for seq in _ID_LINE.findall(text)]
            ascending = all(a < b for a, b in zip([self.place, *seqs], seqs, strict=False))
            first, last = seqs[0], seqs[-1]
            right = ascending and len(seqs) == count
        else:
            first_at, last_at = text.find(b"id: "), text.rfind(b"\n\nid: ") + 2
            first = last = _seq(text, first_at)
            if last_at > first_at:
                last = _seq(text, last_at)
            right = True
        if self._contiguous:
            right = right and first == self.place + 1 and last - first + 1 == count
        if self._needle:
            right = right and text.count(self._needle) == count
        if not right and not self.fault:
            self.fault = f"{count} frames {first} to {last} after {self.place}"
        self.place = last


def _seq(text: bytes, at: int) -> int:
    return int(text[at : text.index(b"\n", at)].rpartition(b"-")[2])


@dataclass(frozen=True, slots=True)
class Wanted:
    """One subscriber: the query of its stream, and what each of its frames must hold once."""

    query: str = ""
    needle: bytes = b""


@dataclass(slots=True)
class Report:
    """What the readers have had so far."""

    counts: list[int]
    first_at: float
    last_at: float
    faults: list[str]
    lost: int  # connections that ended
    cpu_s: float  # of the readers' process: as long as the window, and it was the readers that were slow
    # if timed: each delivery's seq and time, and the event of each seq
    seqs: array[int] = field(default_factory=lambda: array("q"))
    times: array[float] = field(default_factory=lambda: array("d"))
    ids: dict[int, str] = field(default_factory=dict)


class _Crowd:
    """All readers of the process."""

    def __init__(self, wanted: Sequence[Wanted], progress: Any, *, contiguous: bool, timed: bool) -> None:
        # one reader in a hundred looks at each id; all at once could not keep up with a fast relay
        self.all = [
            Frames(contiguous=contiguous, every_id=number % 100 == 0, needle=one.needle)
            for number, one in enumerate(wanted)
        ]
        self.timed = timed
        self.counts = [0] * len(wanted)
        self.had = Report(self.counts, 0.0, 0.0, [], 0, 0.0)
        self._wanted, self._progress, self._told = wanted, progress, True

    async def connect(self, port: int) -> None:
        gate = asyncio.Semaphore(_CONNECTING)
        loop = asyncio.get_running_loop()

        async def one(number: int) -> None:
            async with gate:
                reader = _Reader(self, number, loop.create_future())
                await loop.create_connection(lambda: reader, "127.0.0.1", port)
                reader.transport.write(http_get(f"/stream{self._wanted[number].query}"))
                await reader.started

        await asyncio.gather(*map(one, range(len(self.all))))
        self._tell()

    def took(self, number: int, count: int, now: float) -> None:
        had, frames = self.had, self.all[number]
        self.counts[number] += count
        had.first_at = had.first_at or now
        had.last_at = now
        self._told = False
        if self.timed:
            had.seqs.extend(range(frames.place - count + 1, frames.place + 1))
            had.times.extend([now] * count)
            if number == 0:
                had.ids.update((int(seq), id_.decode()) for seq, id_ in _SEQ_AND_ID.findall(frames.whole))

    def lose(self, number: int) -> None:
        self.had.lost += 1
        frames = self.all[number]
        frames.fault = frames.fault or f"ended: {frames.comment.decode()}"
        self._told = False

    def report(self) -> Report:
        self.had.faults = [frames.fault for frames in self.all if frames.fault]
        self.had.cpu_s = time.process_time()
        return self.had

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._progress[:] = [min(self.counts), sum(self.counts), self.had.lost]
        asyncio.get_running_loop().call_later(_TOLD_EVERY_S, self._tell)


class _Reader(asyncio.Protocol):
    def __init__(self, crowd: _Crowd, number: int, started: asyncio.Future[None]) -> None:
        self._crowd, self._number, self._frames, self.started = crowd, number, crowd.all[number], started

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is no subclass of asyncio's, so there is nothing to check here
        self.transport = cast("asyncio.Transport", transport)
        reset_on_close(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        count = self._frames.feed(data)
        if count:
            self._crowd.took(self._number, count, now)
        elif self._frames.started and not self.started.done():
            self.started.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.lose(self._number)
        if not self.started.done():
            self.started.set_exception(ConnectionError(f"no stream: {self._frames.fault} {exc}"))


class Readers:
    """Subscribers in another process."""

    def __init__(self, pipe: Connection, progress: Any) -> None:
        self._pipe, self._progress = pipe, progress
        try:
            self.connect_s = float(pipe.recv())  # told once all streams have begun
        except EOFError:  # the child said why on standard error
            raise SystemExit("the relay did not begin all streams") from None

    @property
    def slowest(self) -> int:
        """How many frames the reader has that has the fewest."""
        return int(self._progress[0])

    @property
    def total(self) -> int:
        """How many frames all of them have."""
        return int(self._progress[1])

    @property
    def lost(self) -> int:
        """How many of the streams have ended."""
        return int(self._progress[2])

    def report(self) -> Report:
        """Ask for all they know."""
        self._pipe.send("report")
        return cast("Report", self._pipe.recv())


@contextmanager
def readers(port: int, wanted: Sequence[Wanted], *, contiguous: bool = False, timed: bool = False) -> Iterator[Readers]:
    """Subscribe to streams from another process; `contiguous`: each must get every event; `timed` needs that."""
    spawn = multiprocessing.get_context("spawn")
    progress = spawn.RawArray("q", 3)
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_child, args=(theirs, progress, port, wanted, contiguous, timed), daemon=True)
    child.start()
    theirs.close()
    try:
        yield Readers(ours, progress)
    finally:
        ours.close()
        child.join()


def _child(pipe: Connection, progress: Any, port: int, wanted: list[Wanted], contiguous: bool, timed: bool) -> None:
    import uvloop

    async def read() -> None:
        crowd = _Crowd(wanted, progress, contiguous=contiguous, timed=timed)
        started = time.perf_counter()
        await crowd.connect(port)
        gc.freeze()
        gc.disable()  # its pauses would be taken for the relay's
        pipe.send(time.perf_counter() - started)
        asked = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), asked.set)
        os.set_blocking(pipe.fileno(), True)  # the loop made it otherwise, and a report is megabytes
        while True:
            await asked.wait()
            asked.clear()
            try:
                pipe.recv()
            except EOFError:
                return
            pipe.send(crowd.report())

    all_descriptors()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(read())


class Client:
    """One keep-alive connection with one request in flight; costs some 20 us a request itself."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Send a request; gives status, header in lower case, and body."""
        self._socket.sendall(request)
        got = self._socket.recv(262_144)
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._more()
        head = got[:end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(got) < end + 4 + length:
            got += self._more()
        return int(head[9:12]), head, got[end + 4 :]

    def close(self) -> None:
        """Let it go."""
        self._socket.close()

    def _more(self) -> bytes:
        data = self._socket.recv(262_144)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


def http_get(path: str) -> bytes:
    """Make the bytes of one GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds, for so long at most; says whether it does."""
    deadline = time.perf_counter() + seconds
    while not holds():
        if time.perf_counter() > deadline:
            return False
        time.sleep(0.001)
    return True


def cpu_seconds(server: Server) -> float:
    """Read a server's CPU time to the nanosecond; /proc/PID/stat counts in hundredths of a second."""
    return time.clock_gettime(~server.pid << 3 | 2)  # as clock_getcpuclockid(3) makes it


def all_descriptors() -> None:
    """Allow this process as many open connections as the system does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def reset_on_close(connection: socket.socket) -> None:
    """Close by RST: thousands of connections must not hold their ports in TIME_WAIT for the next run."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
