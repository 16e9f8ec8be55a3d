"""READ FIRST: how an event gets in. Everything else in this package serves these few steps.

    bytes -> parse -> cheap rules -> budget left? -> signature -> proof, targets -> spend budget
          -> group commit, which feeds views and subscribers -> acknowledge

The order is the protocol's (WIRE section 3), with one addition: what has no budget left is refused
before its signature costs anything. An acknowledgement means the event is on disk.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from anporia_store import Store
from anporia_wire import AnporiaError, BadSignature, Event, kinds, pow
from anporia_wire.events import BAD_SIGNATURE

from .limits import Limits, Peer
from .policies import POLICIES, Target
from .verifier import Verifier

__all__ = ["Accepted", "Pipeline", "Verdict"]

MAX_CHUNK = 256  # signatures of one request under way at once: 4 batches, so both threads stay busy


@dataclass(frozen=True, slots=True)
class Accepted:
    """The event is durable here. `duplicate`: it already was."""

    id: str
    duplicate: bool


Verdict = Accepted | AnporiaError


class Pipeline:
    """Judges events and keeps the good ones. Clocks are parameters: `wall` for dates, `steady` for rates."""

    def __init__(
        self,
        store: Store,
        verifier: Verifier,
        limits: Limits,
        on_beat: Callable[[Event], None],
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._limits = limits
        self._on_beat = on_beat
        self._wall = wall
        self._steady = steady
        self._under_way: Counter[str] = Counter()  # signatures being verified, by address
        self._released: dict[str, asyncio.Event] = {}  # what requests wait for that found no room

    async def accept(self, candidates: Sequence[Event | AnporiaError], peer: Peer) -> list[Verdict]:
        """Judge events in order and return when the accepted ones are durable; one verdict each.

        A candidate that already is an error (it did not parse) passes through in its place.
        """
        verdicts: list[Verdict | None] = [c if isinstance(c, AnporiaError) else None for c in candidates]
        kept: list[tuple[int, Event]] = []
        at = 0
        while at < len(candidates):
            async with self._room(peer, len(candidates) - at) as room:
                chunk = [(place, candidates[place]) for place in range(at, at + room)]
                await self._judge([(place, e) for place, e in chunk if isinstance(e, Event)], peer, kept, verdicts)
            at += room
        if kept:
            await self._keep(kept, verdicts)
        return cast("list[Verdict]", verdicts)

    async def _judge(
        self, chunk: list[tuple[int, Event]], peer: Peer, kept: list[tuple[int, Event]], verdicts: list[Verdict | None]
    ) -> None:
        """Refuse events in their place or add them to `kept`; beats end here, in memory."""
        plausible: list[tuple[int, Event]] = []
        for place, event in chunk:
            try:
                self._examine(event, peer)
                plausible.append((place, event))
            except AnporiaError as exc:
                verdicts[place] = exc
        genuine = await self._verifier.verify([event.signed() for _, event in plausible])
        for (place, event), good in zip(plausible, genuine, strict=True):
            try:
                await self._admit(event, good, peer, kept)
            except AnporiaError as exc:
                verdicts[place] = exc
                continue
            if event.kind in kinds.NEVER_STORED:
                self._on_beat(event)
                verdicts[place] = Accepted(event.id, duplicate=False)
            else:
                kept.append((place, event))

    def _examine(self, event: Event, peer: Peer) -> None:
        """Check all that needs neither signature nor store."""
        event.check_sizes()
        kinds.check_time(event, int(self._wall()))
        kinds.check_shape(event)
        event.check_id()
        self._limits.check(event, peer, int(self._steady()))

    async def _admit(self, event: Event, genuine: bool, peer: Peer, earlier: list[tuple[int, Event]]) -> None:
        """Check what a genuine event still has to fulfil, and spend its budget."""
        if not genuine:
            self._limits.count_bad(peer, int(self._steady()))
            raise BadSignature(BAD_SIGNATURE)
        pow.check(event)
        if policy := POLICIES.get(event.kind):
            policy(event, await self._target(event, earlier))
        self._limits.spend(event, peer, int(self._steady()))
        kinds.check_credit(event)  # last, and after the budget is spent: as published relays have it (WIRE section 3)

    async def _target(self, event: Event, earlier: list[tuple[int, Event]]) -> Target:
        """Find author and kind of what the first `e` tag names; a batch may hold an event and what refers to it."""
        id_ = (event.first_tag("e") or "").lower()
        near = next((e for _, e in earlier if e.id == id_), None)
        return (near.agent_id, near.kind) if near else await self._store.author_and_kind(id_)

    async def _keep(self, kept: list[tuple[int, Event]], verdicts: list[Verdict | None]) -> None:
        """Hand the events to the store, all in one transaction, and say so in their places."""
        try:
            appended = await self._store.append([event for _, event in kept])
        except AnporiaError as exc:
            for place, _ in kept:
                verdicts[place] = exc
            return
        for (place, event), one in zip(kept, appended, strict=True):
            verdicts[place] = Accepted(event.id, duplicate=not one.new)

    @asynccontextmanager
    async def _room(self, peer: Peer, wanted: int) -> AsyncIterator[int]:
        """Reserve how many signatures may be verified next, at least 1.

        All that is under way for an address may turn out forged, so parallel requests share what is
        left of its budget, and wait for each other when that is little.
        """
        while True:
            left = self._limits.verifications_left(peer, int(self._steady()))
            under_way = self._under_way[peer.key]
            if left is None or left > under_way or not under_way or left <= 0:  # with none left nothing is verified
                break
            await self._released.setdefault(peer.key, asyncio.Event()).wait()
        room = min(wanted, MAX_CHUNK if left is None else max(1, min(MAX_CHUNK, left - under_way)))
        self._under_way[peer.key] += room
        try:
            yield room
        finally:
            self._under_way[peer.key] -= room
            if not self._under_way[peer.key]:
                del self._under_way[peer.key]
            if released := self._released.pop(peer.key, None):
                released.set()
