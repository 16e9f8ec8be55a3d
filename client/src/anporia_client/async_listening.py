"""Follows streams on an event loop, each relay's in a task of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from anporia_wire import Filter

from .errors import RelayError
from .follow import SILENCE_S, Follower, Item, Start
from .transport import AsyncTransport

__all__ = ["AsyncEvents", "followed"]

log = logging.getLogger("anporia.client")

_AHEAD = 1_000  # events a relay's task may be ahead of the reader


class AsyncEvents:
    """Events of a stream as they come, for `async for`. `aclose` ends it, from any task.

    `given`: told the relay's number and the event's place as each event is handed out.
    """

    def __init__(
        self, followings: Sequence[AsyncGenerator[Item, None]], given: Callable[[int, str | None], None]
    ) -> None:
        self._followings = followings
        self._given = given
        self._start = Start(len(followings))
        self._came: asyncio.Queue[tuple[int, Item | Exception, bool]] = asyncio.Queue(_AHEAD)
        self._tasks: list[asyncio.Task[None]] = []
        self._left = len(followings)
        self._errors: list[RelayError] = []
        self._failure: Exception | None = None
        self._begun = self._ended = False

    async def opened(self) -> None:
        """Subscribe now: what is published from then on will come. Raises `RelayError`, each time it is asked."""
        if self._failure is not None:
            raise self._failure
        if not self._tasks:
            self._tasks = [asyncio.create_task(_work(self._came, at, one)) for at, one in enumerate(self._followings)]
        try:
            while not (self._begun or self._ended):
                at, item = await self._next()
                if not isinstance(item, tuple) and self._start.shows(at, item):
                    self._begun = True
        except StopAsyncIteration:
            self._begun = True
        except RelayError as exc:
            self._failure = exc  # a stream that could not be opened must not look like a quiet one
            await self.aclose()
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        await self.opened()
        while True:
            at, item = await self._next()
            if isinstance(item, tuple):
                self._given(at, item[0])
                if item[1] is not None:
                    return item[1]

    async def aclose(self) -> None:
        """End the stream; whoever waits for its next event gets the end of the iteration."""
        self._ended = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self._followings:
            await one.aclose()
        while not self._came.empty():
            self._came.get_nowait()
        self._came.put_nowait((0, None, True))  # wakes a reader

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _next(self) -> tuple[int, Item]:
        while self._left and not self._ended:
            at, item, last = await self._came.get()
            if self._ended:
                break
            self._left -= last
            if isinstance(item, RelayError) and last:
                self._errors.append(item)
                if len(self._followings) > 1:
                    log.warning("no longer following a relay: %s", item)
            elif isinstance(item, Exception) and not isinstance(item, RelayError):
                raise item
            if item is not None or not last:
                return at, item
        if self._errors and not self._ended:
            self._ended = True
            raise self._errors[0]
        raise StopAsyncIteration

    def __del__(self) -> None:
        # a loop that was cancelled or left by `break` leaves nobody to close the stream
        for task in self._tasks:
            task.cancel()


# no method: a task that knew the stream would keep it alive
async def _work(
    came: asyncio.Queue[tuple[int, Item | Exception, bool]], at: int, following: AsyncGenerator[Item, None]
) -> None:
    try:
        async with aclosing(following):
            async for item in following:
                await came.put((at, item, False))
        await came.put((at, None, True))
    except Exception as exc:  # noqa: BLE001, RUF100  # the reader gets it
        await came.put((at, exc, True))


async def followed(
    transport: AsyncTransport,
    follower: Follower,
    fill: Callable[[Sequence[Filter]], Awaitable[list[dict[str, Any]]]],
    timeout: float,
) -> AsyncGenerator[Item, None]:
    """Follow one relay's stream: None each time it is open, `RelayError` each time it is not, and the events."""
    while True:
        error: RelayError | None = None
        try:
            opened = await transport.open(follower.request(), timeout=timeout, silence=SILENCE_S)
            try:
                gap = follower.opened(opened.head, time.time())
                # the first bytes come at once, and say that the relay has us on its list (WIRE section 14)
                greeted = False
                async with aclosing(opened.chunks()) as chunks:
                    async for chunk in chunks:
                        if not greeted:
                            greeted = True
                            yield None
                            for item in follower.filled(await fill(gap)) if gap else ():
                                yield item
                        for item in follower.feed(chunk):
                            yield item
            finally:
                await opened.close()
        except RelayError as exc:
            error = exc
        pause = follower.ended(error, time.time())
        if pause is None:
            return
        yield error
        await asyncio.sleep(pause)
