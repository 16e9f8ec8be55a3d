"""Carries steps and streams out with plain calls; several relays are served from threads of their own."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeVar

from anporia_wire import AnporiaError, Filter

from .errors import RelayError, RelayTimeout
from .follow import SILENCE_S, Follower, Item
from .steps import Direct, Effect, Local, Send, Steps, Together, Wait, named, verb, verbs_of
from .transport import Opened, Transport

__all__ = ["Blocking", "Following", "merged", "numbered"]

log = logging.getLogger("anporia.client")

T = TypeVar("T")

_MOST_UNDER_WAY = 8  # calls at a relay that hangs, before further ones are not even begun
_AHEAD = 1_000  # events a relay's thread may be ahead of the reader


class Blocking(Direct):
    """Base of agents whose verbs are plain methods. `core`: whose steps they are."""

    core: Any

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, found in verbs_of(cls).items():
            setattr(cls, name, named(_method(found), cls, found))

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = transports
        self._under_way = [0] * len(transports)
        self._counting = threading.Lock()

    def run(self, steps: Steps[T]) -> T:
        """Carry steps out; gives their value, or raises their error."""
        value: Any = None
        error: AnporiaError | None = None
        while True:
            try:
                effect = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as done:
                result: T = done.value
                return result
            value = error = None
            try:
                value = self._perform(effect)
            except AnporiaError as exc:
                error = exc

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Send(relay, request, timeout):
                return self._transports[relay].send(request, timeout=timeout)
            case Wait(seconds):
                return time.sleep(seconds)
            case Local(call):
                return call()
            case Together(steps, enough, grace):
                return self._together(steps, enough, grace)

    def _together(self, steps: Sequence[Steps[Any]], enough: int, grace: float) -> list[Any]:
        done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()

        def work(at: int, one: Steps[Any]) -> None:
            try:
                done.put((at, self.run(one)))
            except Exception as exc:  # noqa: BLE001, RUF100  # the calling thread gets it
                done.put((at, exc))
            finally:
                with self._counting:
                    self._under_way[at] -= 1

        for at, one in enumerate(steps):
            with self._counting:
                free = self._under_way[at] < _MOST_UNDER_WAY
                self._under_way[at] += free
            if free:
                threading.Thread(target=work, args=(at, one), daemon=True).start()
            else:
                done.put((at, RelayTimeout("earlier calls still wait for an answer of this relay")))
        results: list[Any] = [None] * len(steps)
        good = 0
        until: float | None = None
        for _ in steps:
            try:
                at, result = done.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(result, Exception) and not isinstance(result, AnporiaError):
                raise result
            results[at] = result
            good += not isinstance(result, AnporiaError)
            if good >= enough and until is None:
                until = time.monotonic() + grace
        return results


class Following:
    """One relay's stream, for whichever thread iterates it; `stop` may be called from another.

    Gives None each time it is open, `RelayError` each time it is not, and the events.
    """

    def __init__(
        self,
        transport: Transport,
        follower: Follower,
        fill: Callable[[Sequence[Filter]], list[dict[str, Any]]],
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
                yield from follower.filled(self._fill(gap))
            yield from follower.feed(first)
            for chunk in chunks:
                yield from follower.feed(chunk)
        finally:
            self._opened = None
            opened.close()


def numbered(following: Following) -> Generator[tuple[int, Item], None, None]:
    """Follow the one relay there is, as `merged` would."""
    with closing(iter(following)) as items:
        for item in items:
            yield 0, item


def merged(followings: Sequence[Following]) -> Generator[tuple[int, Item], None, None]:
    """Follow several relays at once; gives what each gives as it comes, with the relay's number.

    A relay that ends for good gives its error as the last thing; when all have, the first error is raised.
    """
    came: queue.Queue[tuple[int, Item, bool]] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(at: int, item: Item, last: bool) -> None:
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
        except RelayError as exc:
            log.warning("no longer following a relay: %s", exc)
            put(at, exc, True)

    for at, following in enumerate(followings):
        threading.Thread(target=work, args=(at, following), daemon=True).start()
    errors: list[RelayError] = []
    try:
        for _ in followings:
            while True:
                at, item, last = came.get()
                if last:
                    break
                yield at, item
            if isinstance(item, RelayError):
                errors.append(item)
                yield at, item
        if errors:
            raise errors[0]
    finally:
        stopped.set()
        for following in followings:
            following.stop()


def _method(found: verb[Any, Any]) -> Callable[..., Any]:
    def method(self: Blocking, *args: Any, **kwargs: Any) -> Any:
        return self.run(found.steps(self.core, *args, **kwargs))

    return method
