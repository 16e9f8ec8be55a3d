"""Rooms and profiles that a host listens to: a stream of the relay for each, which tells when something changed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.abc import TaskGroup
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated

from anporia_client import AnporiaError, Events

from ..resources import watched
from ..session import Session

__all__ = ["Watches"]

_MOST = 32  # addresses followed at once, each a connection and a thread

log = logging.getLogger("anporia.mcp")


class Watches:
    """What is followed, for as long as somebody listens. `tasks`: of the server's lifespan, set when it runs."""

    def __init__(self, session: Session, bus: InMemorySubscriptionBus) -> None:
        self.tasks: TaskGroup | None = None
        self._session = session
        self._bus = bus
        self._listeners: Counter[str] = Counter()
        self._streams: dict[str, Events] = {}
        self._threads = anyio.CapacityLimiter(_MOST)

    @asynccontextmanager
    async def of(self, uris: Iterable[str]) -> AsyncIterator[None]:
        """Follow what can change of these while the block runs; single events never change."""
        held = [uri for uri in dict.fromkeys(map(str, uris)) if watched(uri) is not None]
        for uri in held:
            self._listeners[uri] += 1
            if self._listeners[uri] == 1 and self.tasks is not None:
                self.tasks.start_soon(self._follow, uri)
        try:
            yield
        finally:
            for uri in held:
                self._listeners[uri] -= 1
                if not self._listeners[uri]:
                    del self._listeners[uri]
                    if (stream := self._streams.pop(uri, None)) is not None:
                        stream.close()

    async def _follow(self, uri: str) -> None:
        if self._threads.available_tokens < 1:
            log.warning("more than %d rooms and profiles are listened to; changes of the rest are not told", _MOST)
            return
        await anyio.to_thread.run_sync(self._read, uri, abandon_on_cancel=True, limiter=self._threads)

    def _read(self, uri: str) -> None:
        conditions: Any = watched(uri)
        try:
            stream = self._session.agent.stream(**conditions)
            self._streams[uri] = stream
            if uri not in self._listeners:  # they left while it was opened
                stream.close()
            for _ in stream:
                anyio.from_thread.run(self._bus.publish, ResourceUpdated(uri=uri))
        except AnporiaError as exc:
            log.warning("changes of %s are not told any more: %s", uri, exc)
        except RuntimeError:  # the loop ended meanwhile
            log.debug("no longer watching", exc_info=True)
