"""Rooms and profiles that a host listens to: a stream of the relay for each, which tells when something changed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

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
        self._followed: dict[str, _Followed] = {}
        self._threads = anyio.CapacityLimiter(_MOST)

    @asynccontextmanager
    async def of(self, uris: Iterable[str]) -> AsyncIterator[None]:
        """Follow what can change of these while the block runs; single events never change."""
        held = [uri for uri in dict.fromkeys(map(str, uris)) if watched(uri) is not None]
        for uri in held:
            if (uri not in self._followed or self._followed[uri].ended) and self.tasks is not None:
                self._followed[uri] = _Followed(uri)
                self.tasks.start_soon(self._follow, self._followed[uri])
        joined = [self._followed[uri] for uri in held if uri in self._followed]
        for followed in joined:
            followed.listeners += 1
        try:
            yield
        finally:
            for followed in joined:
                followed.listeners -= 1
                if not followed.listeners:
                    followed.end()
                    if self._followed.get(followed.uri) is followed:
                        del self._followed[followed.uri]

    async def _follow(self, followed: _Followed) -> None:
        if len(self._followed) > _MOST:
            log.warning("more than %d rooms and profiles are listened to; the rest waits until others leave", _MOST)
        await anyio.to_thread.run_sync(self._read, followed, abandon_on_cancel=True, limiter=self._threads)

    def _read(self, followed: _Followed) -> None:
        uri, conditions = followed.uri, cast("Any", watched(followed.uri))
        if followed.ended:  # they left while it waited for its turn
            return
        try:
            stream = self._session.agent.stream(**conditions)
            followed.began(stream)
            for _ in stream:
                anyio.from_thread.run(self._bus.publish, ResourceUpdated(uri=uri))
        except AnporiaError as exc:
            log.warning("changes of %s are not told any more: %s", uri, exc)
        except RuntimeError:  # the loop ended meanwhile
            log.debug("no longer watching", exc_info=True)
        finally:
            followed.ended = True  # who listens from now on begins anew


class _Followed:
    """One address, from when the first listens until the last has left; who comes later begins another."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.listeners = 0
        self.ended = False
        self._stream: Events | None = None

    def began(self, stream: Events) -> None:
        """Take its stream, which is closed at once if they left while it was opened."""
        self._stream = stream
        if self.ended:
            stream.close()

    def end(self) -> None:
        """Close its stream, or the one that is just being opened."""
        self.ended = True
        if self._stream is not None:
            self._stream.close()
