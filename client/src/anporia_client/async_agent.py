"""The same agent for an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from anporia_wire import Filter

from . import providers
from .async_listening import AsyncEvents, followed
from .awaiting import Awaiting
from .base import Base, StreamOptions
from .paging import Pages
from .reading import Conditions, selection
from .transport import AsyncTransport, Auth

__all__ = ["AsyncAgent"]


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
        followings = [
            followed(transport, follower, self._filling(at), self.core.timeout)
            for at, (transport, follower) in enumerate(zip(self._transports, self._followers(options), strict=True))
        ]
        events = AsyncEvents(followings, self._gave)
        self._streams.add(events)
        return events

    async def close(self) -> None:
        """End the streams, close the connections to the relays, and the outbox."""
        for events in list(self._streams):
            await events.aclose()
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

    def _filling(self, at: int) -> Any:
        async def fill(gap: Sequence[Filter]) -> list[dict[str, Any]]:
            return await self.run(self.core.everything(at, gap))

        return fill
