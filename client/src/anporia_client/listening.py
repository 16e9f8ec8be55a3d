"""Follows streams with plain calls; several relays are followed from threads of their own."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from anporia_wire import Filter

from .errors import RelayError
from .follow import SILENCE_S, Follower, Item, Start
from .transport import Opened, Transport

__all__ = ["Events", "Following"]

log = logging.getLogger("anporia.client")

_AHEAD = 1_000  # events a relay's thread may be ahead of the reader


class Events:
    """Events of a stream as they come, for one thread to iterate. `close` ends it, from any thread.

    `given`: told the relay's number and the event's place as each event is handed out. `place`: that of the event
    given last, at first where the stream began; None on plain ANP2 relays.
    """

    def __init__(self, followings: Sequence[Following], given: Callable[[int, str | None], None]) -> None:
        self._followings = followings
        self._given = given
        self.place: str | None = None
        self._start = Start(len(followings))
        self._source = _merged(followings) if len(followings) > 1 else _alone(followings[0])

    def open(self) -> Self:
        """Subscribe: what is published from then on will come. Raises `RelayError`."""
        try:
            for at, item in self._source:
                if not isinstance(item, tuple) and self._start.shows(at, item):
                    self._take(at, self._followings[at].place)
                    break
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End the stream; whoever waits for its next event gets the end of the iteration."""
        for following in self._followings:
            following.stop()
        with contextlib.suppress(ValueError):  # another thread is reading, and ends by itself now
            self._source.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        for at, item in self._source:
            if isinstance(item, tuple):
                self._take(at, item[0])
                if item[1] is not None:
                    return item[1]
        raise StopIteration

    def _take(self, at: int, place: str | None) -> None:
        self.place = place
        self._given(at, place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Following:
    """One relay's stream, for whichever thread iterates it; `stop` may be called from another.

    Gives None each time it is open, `RelayError` each time it is not, and the events.
    """

    def __init__(
        self,
        transport: Transport,
        follower: Follower,
        fill: Callable[[Sequence[Filter], threading.Event], list[dict[str, Any]]],
        timeout: float,
    ) -> None:
        self._transport = transport
        self._follower = follower
        self._fill = fill
        self._timeout = timeout
        self._stopped = threading.Event()
        self._opened: Opened | None = None

    def __iter__(self) -> Generator[Item, None, None]:
        while not self._stopped.is_set():
            error: RelayError | None = None
            try:
                yield from self._once()
            except RelayError as exc:
                error = exc
            if self._stopped.is_set():
                return
            pause = self._follower.ended(error, time.time())
            if pause is None:
                return
            yield error
            self._stopped.wait(pause)

    @property
    def place(self) -> str | None:
        """What the relay would be asked to go on from."""
        return self._follower.cursor

    def stop(self) -> None:
        """End it, also while it waits for the relay."""
        self._stopped.set()
        if self._opened is not None:
            self._opened.close()

    def _once(self) -> Iterator[Item]:
        follower = self._follower
        opened = self._transport.open(follower.request(), timeout=self._timeout, silence=SILENCE_S)
        self._opened = opened
        try:
            if self._stopped.is_set():  # just before there was anything to close
                return
            gap = follower.opened(opened.head, time.time())
            chunks = opened.chunks()
            # the first bytes come at once, and say that the relay has us on its list (WIRE section 14)
            first = next(chunks, b"")
            yield None
            if gap:
                yield from follower.filled(self._fill(gap, self._stopped))
            yield from follower.feed(first)
            for chunk in chunks:
                yield from follower.feed(chunk)
        finally:
            self._opened = None
            opened.close()


def _alone(following: Following) -> Generator[tuple[int, Item], None, None]:
    with contextlib.closing(iter(following)) as items:
        for item in items:
            yield 0, item


def _merged(followings: Sequence[Following]) -> Generator[tuple[int, Item], None, None]:
    """Give what each relay gives as it comes, with its number.

    A relay that ends for good gives its error as the last thing; when all have, the first error is raised.
    """
    came: queue.Queue[tuple[int, Item | Exception, bool]] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(at: int, item: Item | Exception, last: bool) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                came.put((at, item, last), timeout=1.0)
                return

    def work(at: int, following: Following) -> None:
        try:
            for item in following:
                put(at, item, False)
                if stopped.is_set():
                    return
            put(at, None, True)
        except Exception as exc:  # noqa: BLE001, RUF100  # the reading thread gets it
            put(at, exc, True)

    for at, following in enumerate(followings):
        threading.Thread(target=work, args=(at, following), daemon=True).start()
    errors: list[RelayError] = []
    left = len(followings)
    try:
        while left:
            at, item, last = came.get()
            left -= last
            if isinstance(item, RelayError) and last:
                log.warning("no longer following a relay: %s", item)
                errors.append(item)
            elif isinstance(item, Exception) and not isinstance(item, RelayError):
                raise item
            if item is not None or not last:
                yield at, item
        if errors:
            raise errors[0]
    finally:
        stopped.set()
        for following in followings:
            following.stop()
