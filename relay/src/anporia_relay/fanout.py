"""From the hub's queues to the sockets: whoever has something to read is served in turn, some in each turn of the loop.

So a thousand readers of one event hold up nobody: acknowledgements and other requests go out in between, and what is
committed meanwhile joins the queues of those who were not served yet, to go out with the same write.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .hub import Subscriber

__all__ = ["Fanout", "LiveStream", "Socket"]

log = logging.getLogger("anporia.relay")

A_TURN = 64  # writes, each some 8 us of this process and the kernel: half a millisecond


class Socket(Protocol):
    """What a stream needs of the connection below it (`server.Connection`)."""

    on_lost: Callable[[], None] | None
    on_writable: Callable[[], None] | None
    gone: bool
    transport: asyncio.Transport
    flow: Any  # uvicorn's: `write_paused`

    def cut(self, chunks: bytes) -> None:
        """End the stream."""


class Fanout:
    """The streams that have something to write, in the order in which they got it."""

    def __init__(self) -> None:
        self._due: deque[LiveStream] = deque()

    def add(self, stream: LiveStream) -> None:
        """Serve a stream in its turn."""
        self._due.append(stream)
        if len(self._due) == 1:
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        for _ in range(min(A_TURN, len(self._due))):
            stream = self._due.popleft()
            try:
                stream.write()
            except Exception:
                log.exception("a stream failed")
                stream.abandon()
        if self._due:
            asyncio.get_running_loop().call_soon(self._serve)


class LiveStream:
    """One subscriber at its socket."""

    def __init__(self, subscriber: Subscriber, socket: Socket, fanout: Fanout) -> None:
        self.ended = asyncio.Event()
        """Set when the connection is gone, or the hub has cut the stream."""
        self._subscriber = subscriber
        self._socket = socket
        self._fanout = fanout
        self._loop = asyncio.get_running_loop()
        self._live = self._due = False
        subscriber.wake = self._wake
        socket.on_lost = self.ended.set
        if socket.gone:  # while the stream waited behind another answer
            self.ended.set()
        elif subscriber.cut:  # the same
            self._wake()

    def go_live(self) -> None:
        """Write what the hub queues from now on."""
        self._live = True
        self._socket.on_writable = self._queue
        self.write()

    def write(self) -> None:
        """Hand the socket what is queued, until it asks to wait."""
        self._due = False
        subscriber, socket = self._subscriber, self._socket
        while not (subscriber.cut or socket.gone or socket.flow.write_paused):
            chunks = subscriber.take()
            if not chunks:
                return
            socket.transport.writelines(chunks)
            subscriber.wrote(sum(map(len, chunks)), self._loop.time())

    def abandon(self) -> None:
        """Drop the connection after a fault, so that its reader resumes: a gap is never silent."""
        self.ended.set()
        self._socket.transport.abort()

    def _wake(self) -> None:
        if self._subscriber.cut:
            self.ended.set()
            self._socket.cut(self._subscriber.cut)
        elif self._live:
            self._queue()

    def _queue(self) -> None:
        if not self._due:
            self._due = True
            self._fanout.add(self)
