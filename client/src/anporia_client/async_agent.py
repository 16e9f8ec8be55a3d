"""The same agent for an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, Unpack

from anporia_wire import Filter

from . import providers
from .awaiting import Awaiting, follow, merged
from .base import Base, Start, StreamOptions
from .errors import RelayError
from .follow import Follower
from .paging import Pages
from .reading import Conditions, selection
from .transport import AsyncTransport, Auth

__all__ = ["AsyncAgent", "AsyncEvents"]


class AsyncAgent(Base, Awaiting):
    """`Agent` for an event loop: the same verbs, each to be awaited."""

    async def events(
        self, *, keep_invalid: bool = False, page_size: int = 1000, **conditions: Unpack[Conditions]
    ) -> AsyncIterator[dict[str, Any]]:
        """Give every event that meets the conditions, newest first, page by page; see `Conditions`."""
        pages = Pages(*selection(conditions), len(self.core.relays), keep_invalid=keep_invalid, size=page_size)
        while page := await self.run(self.core.next_page(pages)):
            for event in page:
                yield event

    def stream(self, **options: Unpack[StreamOptions]) -> AsyncEvents:
        """Give events as they are published, as `Agent.stream` does.

        One is subscribed with the first step of the loop, or with `await events.opened()` before.
        """
        followers = self._followers(options)
        return AsyncEvents(self._streamed(followers))

    async def close(self) -> None:
        """Close the connections to the relays, and the outbox."""
        await self._end_unobserved()
        for transport in self._transports:
            await transport.close()
        if self.core.outbox is not None:
            await asyncio.to_thread(self.core.outbox.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _provided(self, url: str, auth: Auth | None) -> AsyncTransport:
        return providers.awaiting(url, auth)

    async def _streamed(self, followers: Sequence[Follower]) -> AsyncGenerator[dict[str, Any], None]:
        followings = [
            follow(transport, follower, self._filling(at), self.core.timeout)
            for at, (transport, follower) in enumerate(zip(self._transports, followers, strict=True))
        ]
        start = Start(len(followings))
        async with aclosing(merged(followings)) as source:
            async for at, item in source:
                if isinstance(item, tuple):
                    self._gave(at, item[0])
                    yield item[1]
                elif start.shows(at, item):
                    yield {}  # for opened()

    def _filling(self, at: int) -> Any:
        async def fill(gap: Sequence[Filter]) -> list[dict[str, Any]]:
            return await self.run(self.core.everything(at, gap))

        return fill


class AsyncEvents:
    """Events of a stream, for `async for`. `aclose` ends it."""

    def __init__(self, source: AsyncGenerator[dict[str, Any], None]) -> None:
        self._source = source
        self._open = False
        self._failure: BaseException | None = None

    async def opened(self) -> None:
        """Subscribe now: what is published from then on will come. Raises `RelayError`."""
        if self._failure is not None:
            raise self._failure
        if not self._open:
            self._open = True
            try:
                await anext(self._source, None)
            except RelayError as exc:
                self._failure = exc  # a stream that could not be opened must not look like a quiet one
                raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        await self.opened()
        return await anext(self._source)

    async def aclose(self) -> None:
        """End the stream."""
        await self._source.aclose()
