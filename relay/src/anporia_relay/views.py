"""The views of a running relay: folded from the store, and trust worked out at most a second late."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from anporia_store import SqliteStore, Store, StoreError
from anporia_wire import Event, Filter, kinds
from anporia_wire.views import Views

__all__ = ["TrustRefresh", "fold", "take"]

log = logging.getLogger("anporia.relay")

_CHUNK = 1_000  # rows a read while folding: about 10 ms, so that signals are still heard

# Scores stay for 20 times as long as it took to work them out, so they take 5 % of a core at most. They are a
# second late at most while that takes 50 ms: up to some 20,000 votes.
_SHARE = 20
_DECAY_SECONDS = 60.0  # without new votes: trust halves in 30 days, so a minute changes 0.002 %

_MOVES_TRUST = frozenset({kinds.TRUST_VOTE, kinds.FLAG, kinds.REVOKE})


async def fold(
    store: Store, views: Views, progress: Callable[[int], None] = lambda _seq: None, upto: int | None = None
) -> None:
    """Take into the views what the log has beyond them, up to a place or its end. Raises `StoreDamaged`."""
    while views.seq < (store.last_seq if upto is None else upto):
        limit = _CHUNK if upto is None else min(_CHUNK, upto - views.seq)
        part = await store.replay(views.seq, Filter(), limit)
        for seq, serialised in part.rows:
            take(views, seq, Event.from_stored(serialised))
        views.complete(part.complete_to)
        progress(views.seq)


def take(views: Views, seq: int, event: Event) -> None:
    """Take one event into the views. No event should make a view raise; if one does, only that one is lost to it."""
    try:
        views.apply(seq, event)
    except Exception:
        log.exception("a view failed on an event", extra={"seq": seq, "id": event.id})


class TrustRefresh:
    """Works out trust when it is asked for or has moved, in steps, and has the store hide what it hides."""

    def __init__(self, views: Views, store: SqliteStore, wall: Callable[[], float]) -> None:
        self._views = views
        self._store = store
        self._wall = wall
        self._moved = asyncio.Event()
        self._working = asyncio.Lock()
        self._version = -1
        self._finished = 0.0  # time.monotonic() of the last computation, and how long it took
        self._took = 0.0
        self._hidden: set[str] | None = None

    def notice(self, events: Iterable[Event]) -> None:
        """Hear of new events."""
        if any(event.kind in _MOVES_TRUST for event in events):
            self._moved.set()

    async def fresh(self) -> None:
        """Return once `views.trust.scores` is at most a second late."""
        if self._is_late():
            async with self._working:
                if self._is_late():
                    await self._work_out()

    async def run(self) -> None:
        """Follow the votes until cancelled, so that lists hide what they should without being asked for trust."""
        while True:
            async with self._working:
                await self._work_out()
            try:
                await self._hide()
            except StoreError as exc:
                log.warning("what trust hides could not be marked", extra={"problem": str(exc)})
            await asyncio.sleep(_SHARE * self._took)
            try:
                await asyncio.wait_for(self._moved.wait(), _DECAY_SECONDS)
            except TimeoutError:
                pass
            self._moved.clear()

    def _is_late(self) -> bool:
        trust = self._views.trust
        if trust.scores.computed_at == int(self._wall()) and trust.version == self._version:
            return False
        return time.monotonic() - self._finished >= _SHARE * self._took

    async def _work_out(self) -> None:
        version, started = self._views.trust.version, time.monotonic()
        for _ in self._views.trust.refresh(int(self._wall())):
            await asyncio.sleep(0)
        self._version, self._finished = version, time.monotonic()
        self._took = self._finished - started

    async def _hide(self) -> None:
        hidden: set[str] = set()
        for some in self._views.moderation.read(self._views.trust.scores.weighted):
            hidden |= some
            await asyncio.sleep(0)
        if hidden != self._hidden:
            await self._store.distrust(hidden)
            self._hidden = hidden
