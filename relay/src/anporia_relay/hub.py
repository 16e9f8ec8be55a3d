"""Live subscriptions: which frames go to whom, and who has fallen too far behind. Sans-IO.

Each event is matched once against all filters and encoded once, as the chunk of HTTP/1.1 that goes out;
subscribers share the bytes. A subscriber holds a bounded queue; one that does not keep up is cut and
told so, the others never wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from anporia_store import Committed
from anporia_wire import Event, Filter, FilterSet

from .errors import Rejected

__all__ = ["CUT_SLOW", "Hub", "Subscriber", "chunk", "frame"]

MAX_BEHIND_BYTES = 1024 * 1024  # settled limit 15
MAX_BEHIND_S = 30.0  # the same
PING_S = 15.0  # WIRE section 14
MAX_WRITE_BYTES = 64 * 1024  # as many as the socket's buffer takes before it asks to wait

CONNECTED = b": connected\n\n"
PING = b": ping\n\n"
CUT_SLOW = b": cut, slow reader\n\n"
CUT_FAULT = b": cut, a fault of the relay; resume from the last id\n\n"
CUT_STOPPING = b": bye, the relay is stopping\n\n"


def chunk(data: bytes) -> bytes:
    """Encode bytes as one chunk of a chunked body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(database_id: str, seq: int, serialised: bytes) -> bytes:
    """Encode one event as a server-sent event whose id is the place to resume from.

    U+0085, U+2028 and U+2029 are escaped: httpx splits lines there, which tears a frame apart (WIRE 14).
    """
    if b"\xe2\x80" in serialised or b"\xc2\x85" in serialised:
        serialised = (
            serialised.replace(b"\xe2\x80\xa8", b"\\u2028")
            .replace(b"\xe2\x80\xa9", b"\\u2029")
            .replace(b"\xc2\x85", b"\\u0085")
        )
    return b"id: %b-%d\ndata: %b\n\n" % (database_id.encode(), seq, serialised)


_PING = chunk(PING)


class Subscriber:
    """One stream: a queue of encoded frames. `wake` is called when there is something to write.

    `cut`: the chunks with which it ends, once it has been ended.
    """

    __slots__ = ("_before", "_commit", "_frames", "_last_write", "_oldest", "behind", "cut", "filter", "wake")

    def __init__(self, filter_: Filter, now: float) -> None:
        self.filter = filter_
        self.behind = 0  # bytes queued or being written
        self.cut: bytes | None = None
        self.wake: Callable[[], None] = lambda: None
        self._frames: deque[bytes] = deque()
        self._oldest: float | None = None  # since when something waits to be written
        self._last_write = now
        self._commit, self._before = 0, 0  # how far behind it was before what this commit brought

    def take(self) -> list[bytes]:
        """Take what is queued, or a good part of it, as one write; `wrote` must follow once it is out."""
        if self.behind <= MAX_WRITE_BYTES:
            part = list(self._frames)
            self._frames.clear()
            return part
        part, size = [], 0
        while self._frames and size < MAX_WRITE_BYTES:
            part.append(self._frames.popleft())
            size += len(part[-1])
        return part

    def wrote(self, size: int, now: float) -> None:
        """Say that `size` bytes are with the network."""
        self.behind -= size
        self._last_write = now
        self._oldest = now if self._frames else None

    def _push(self, data: bytes, now: float) -> None:
        self._frames.append(data)
        self.behind += len(data)
        if self._oldest is None:
            self._oldest = now
        if len(self._frames) == 1:
            self.wake()

    def _end(self, comment: bytes, before: bytes = b"") -> None:
        self.cut = before + chunk(comment)
        self._frames.clear()
        self.wake()


class Hub:
    """All live subscriptions of a relay. `clock` is a steady clock in seconds."""

    def __init__(self, database_id: str, max_subscribers: int, clock: Callable[[], float]) -> None:
        self._database_id = database_id
        self._max = max_subscribers
        self._clock = clock
        self._live: FilterSet = FilterSet()
        self._all: set[Subscriber] = set()
        self._stopping = False
        self.on_cut: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, filter_: Filter) -> Subscriber:
        """Make room for a subscriber, not live yet: it may first replay. Raises `Rejected`."""
        if self._stopping:
            raise Rejected("stopping", "the relay is stopping; reconnect shortly", retry_in=5)
        if len(self._all) >= self._max:
            raise Rejected("subscribers_full", "stream subscriber limit reached; retry shortly", retry_in=30)
        subscriber = Subscriber(filter_, self._clock())
        self._all.add(subscriber)
        return subscriber

    def go_live(self, subscriber: Subscriber) -> None:
        """Deliver from the next committed event on."""
        self._live.add(subscriber, subscriber.filter)

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a subscriber; harmless when it is gone already."""
        self._live.discard(subscriber)
        self._all.discard(subscriber)

    def publish(self, committed: Sequence[Committed]) -> None:
        """Queue newly stored events, in seq order, for all whose filter matches."""
        if not self._live:
            return
        now = self._clock()
        for item in committed:
            receivers = self._matching(item.event)
            if not receivers:
                continue
            data = chunk(frame(self._database_id, item.seq, item.serialised))
            for subscriber in receivers:
                if subscriber._commit != committed[0].seq:
                    subscriber._commit, subscriber._before = committed[0].seq, subscriber.behind
                # Nobody can take anything while this runs: a commit as such, however large, makes no reader slow.
                if subscriber._before > MAX_BEHIND_BYTES:
                    self._cut(subscriber, CUT_SLOW)
                else:
                    subscriber._push(data, now)

    def tick(self) -> None:
        """Once a second: ping the quiet ones, cut those who have not taken a byte for too long."""
        now = self._clock()
        for subscriber in list(self._all):
            if subscriber._oldest is not None:
                if now - subscriber._oldest > MAX_BEHIND_S:
                    self._cut(subscriber, CUT_SLOW)
            elif now - subscriber._last_write >= PING_S:
                subscriber._push(_PING, now)

    def cut_all(self) -> None:
        """End every stream, so that its reader resumes, when frames may have been missed: a gap is never silent."""
        for subscriber in list(self._all):
            self._cut(subscriber, CUT_FAULT)

    def stop(self) -> None:
        """End every stream with a word of farewell and admit no new one."""
        self._stopping = True
        for subscriber in list(self._all):
            self.leave(subscriber)
            unsent = b"".join(subscriber.take())
            # What is being written just now may be lost; only when nothing is can the rest follow without a gap.
            subscriber._end(CUT_STOPPING, unsent if len(unsent) == subscriber.behind else b"")

    def _matching(self, event: Event) -> list[Subscriber]:
        return [key for key in self._live.match(event) if isinstance(key, Subscriber)]

    def _cut(self, subscriber: Subscriber, comment: bytes) -> None:
        if subscriber.cut is None:
            self.leave(subscriber)
            subscriber._end(comment)
            self.on_cut()
