"""A TCP proxy on a port that stays, in front of a relay that may go: it loses, cuts, delays and repeats on demand."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

__all__ = ["Fault", "Proxy", "read_request", "reset", "shut", "within"]

_WAKE_S = 0.2  # how soon a thread notices that the proxy ends
_PIECE = 65_536


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request; the fields act in this order.

    `delay`: seconds before it is forwarded; `refuse`: it never is, the connection is reset; `hang`: it never is,
    and nothing is said; `twice`: it is forwarded two times; `then`: called once it was forwarded, before the
    answer is read; `lose`: the answer is awaited and thrown away; `cut`: so many bytes of the answer pass.
    """

    delay: float = 0.0
    refuse: bool = False
    hang: bool = False
    twice: bool = False
    then: Callable[[], None] | None = None
    lose: bool = False
    cut: int | None = None


class Proxy:
    """The proxy, from `with` on. `url`: where clients go; `target`: the relay's address, to be set again at will.

    `decide`: asked about each request's head, in several threads; what it gives happens. None lets all pass.
    """

    def __init__(self, target: str = "") -> None:
        self.target = target
        self.decide: Callable[[bytes], Fault | None] | None = None
        self.seen = 0  # requests that came
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()
        self._listener: socket.socket | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def script(self, *faults: Fault | None, to: bytes = b"POST") -> None:
        """Let these happen to the next requests whose head begins with `to`, one each."""
        left = deque(faults)

        def decide(head: bytes) -> Fault | None:
            with self._lock:
                return left.popleft() if left and head.startswith(to) else None

        self.decide = decide

    def up(self) -> None:
        """Listen, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(128)
        listener.settimeout(_WAKE_S)
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._start(self._accept, listener)

    def down(self) -> None:
        """Refuse connections from now on, and end those there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            shut(listener)
        self.cut()

    def cut(self) -> None:
        """Break every connection there is."""
        with self._lock:
            now = list(self._open)
        for one in now:
            reset(one)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self.down()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(30)

    def _start(self, work: Callable[..., None], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True, name="proxy")
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive() or one.ident is None]
            self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.settimeout(None)
            with self._lock:
                self._open.add(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        upstream: socket.socket | None = None
        answers: threading.Thread | None = None
        fault: list[Fault | None] = [None]
        try:
            while (request := read_request(client)) is not None:
                self.seen += 1
                fault[0] = one = self.decide(request) if self.decide is not None else None
                if one is not None:
                    self._ended.wait(one.delay)
                    if one.refuse:
                        return
                    if one.hang:
                        self._wait_for_end_of(client)
                        return
                if upstream is None:
                    upstream = self._connect()
                    answers = self._start(self._answer, upstream, client, fault)
                if one is not None and one.twice:
                    with self._connect() as other:
                        other.sendall(request)
                        other.recv(_PIECE)
                upstream.sendall(request)
                if one is not None and one.then is not None:
                    one.then()
                    if one.lose:
                        return
        except OSError:
            pass  # one end is gone: so is the other one, below
        finally:
            for one_end in (client, upstream):
                if one_end is not None:
                    reset(one_end)
            if answers is not None:
                answers.join(30)
            for one_end in (client, upstream):
                if one_end is not None:
                    one_end.close()
            with self._lock:
                self._open.discard(client)

    def _answer(self, upstream: socket.socket, client: socket.socket, fault: list[Fault | None]) -> None:
        passed = 0
        cutting: Fault | None = None
        with contextlib.suppress(OSError):
            while piece := upstream.recv(_PIECE):
                one = fault[0]
                if one is not None and one.lose:
                    break
                if one is not None and one.cut is not None:
                    passed = 0 if one is not cutting else passed
                    cutting = one
                    piece = piece[: one.cut - passed]
                    passed += len(piece)
                    client.sendall(piece)
                    if passed >= one.cut:
                        break
                    continue
                client.sendall(piece)
        reset(upstream)
        # what was passed must arrive: a reset would throw it away
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _connect(self) -> socket.socket:
        address = urlsplit(self.target)
        upstream = socket.create_connection((address.hostname or "", address.port or 0), timeout=10)
        upstream.settimeout(None)
        return upstream

    def _wait_for_end_of(self, client: socket.socket) -> None:
        client.settimeout(_WAKE_S)
        while not self._ended.is_set():
            try:
                if not client.recv(_PIECE):
                    return
            except TimeoutError:
                continue


def read_request(client: socket.socket) -> bytes | None:
    """Read one request, head and body; None when the client is done."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(_PIECE)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        piece = client.recv(_PIECE)
        if not piece:
            return None
        body += piece
    return head + b"\r\n\r\n" + body


def shut(listener: socket.socket) -> None:
    """Listen no more, at once: while a thread waits in `accept`, closing alone leaves the port open."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def reset(connection: socket.socket) -> None:
    """End a connection at once, with a reset, and wake whoever waits for it."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail the test when the block hangs; for the main thread."""

    def over(*_: object) -> None:
        # pytest's own, which is no Exception: nothing on the way takes it for an error of the network
        pytest.fail(f"hung for {seconds} s")

    started = time.monotonic()
    before = signal.signal(signal.SIGALRM, over)
    outer = signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        if outer:
            signal.alarm(max(1, outer - int(time.monotonic() - started)))
