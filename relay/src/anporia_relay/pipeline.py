"""READ FIRST: how an event gets in. Everything else in this package serves these few steps.

    bytes -> parse -> cheap rules -> budget left? -> signature -> proof, targets -> spend budget
          -> group commit -> acknowledge; the store then feeds subscribers and views

The order is the protocol's (WIRE section 3), with one addition: what has no budget left is refused
before its signature costs anything. An acknowledgement means the event is on disk.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anporia_store import Store
from anporia_wire import AnporiaError, BadSignature, Event, kinds, pow
from anporia_wire.events import BAD_SIGNATURE

from .limits import Limits, Peer
from .policies import POLICIES
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
        admitted: dict[str, Event] = {}
        places: list[int] = []
        at = 0
        while at < len(candidates):
            end = at + await self._room(peer)
            plausible: list[tuple[int, Event]] = []
            for place in range(at, min(end, len(candidates))):
                event = candidates[place]
                if isinstance(event, Event):
                    try:
                        self._examine(event, peer)
                        plausible.append((place, event))
                    except AnporiaError as exc:
                        verdicts[place] = exc
            self._under_way[peer.key] += len(plausible)
            try:
                genuine = await self._verifier.verify([event.signed() for _, event in plausible]) if plausible else ()
                for (place, event), good in zip(plausible, genuine, strict=True):
                    try:
                        await self._admit(event, good, peer, admitted)
                    except AnporiaError as exc:
                        verdicts[place] = exc
                        continue
                    if event.kind in kinds.NEVER_STORED:
                        self._on_beat(event)
                        verdicts[place] = Accepted(event.id, duplicate=False)
                    else:
                        admitted.setdefault(event.id, event)
                        places.append(place)
            finally:
                self._release(peer, len(plausible))
            at = end
        await self._keep(candidates, places, verdicts)
        return [verdict for verdict in verdicts if verdict is not None]

    async def _room(self, peer: Peer) -> int:
        """Give how many signatures may be verified next, at least 1.

        All that is under way for an address may turn out forged, so parallel requests share what is
        left of its budget, and wait for each other when that is little.
        """
        while True:
            left = self._limits.verifications_left(peer, int(self._steady()))
            if left is None:
                return MAX_CHUNK
            under_way = self._under_way[peer.key]
            if left > under_way or not under_way:
                return max(1, min(MAX_CHUNK, left - under_way))
            await self._released.setdefault(peer.key, asyncio.Event()).wait()

    def _release(self, peer: Peer, count: int) -> None:
        self._under_way[peer.key] -= count
        if not self._under_way[peer.key]:
            del self._under_way[peer.key]
        if released := self._released.pop(peer.key, None):
            released.set()

    def _examine(self, event: Event, peer: Peer) -> None:
        """Check all that needs neither signature nor store."""
        event.check_sizes()
        kinds.check_time(event, int(self._wall()))
        kinds.check_shape(event)
        event.check_id()
        self._limits.check(event, peer, int(self._steady()))

    async def _admit(self, event: Event, genuine: bool, peer: Peer, earlier: dict[str, Event]) -> None:
        """Check what a genuine event still has to fulfil, then spend its budget."""
        if not genuine:
            self._limits.count_bad(peer, int(self._steady()))
            raise BadSignature(BAD_SIGNATURE)
        pow.check(event)
        policy = POLICIES.get(event.kind)
        if policy:

            async def lookup(event_id: str) -> tuple[str, int] | None:
                target = earlier.get(event_id)  # a batch may hold an event and what refers to it
                return (target.agent_id, target.kind) if target else await self._store.author_and_kind(event_id)

            await policy(event, lookup)
        self._limits.spend(event, peer, int(self._steady()))
        kinds.check_credit(event)

    async def _keep(
        self, candidates: Sequence[Event | AnporiaError], places: list[int], verdicts: list[Verdict | None]
    ) -> None:
        events = [event for place in places if isinstance(event := candidates[place], Event)]
        if not events:
            return
        try:
            kept = await self._store.append(events)
        except AnporiaError as exc:
            for place in places:
                verdicts[place] = exc
            return
        for place, event, appended in zip(places, events, kept, strict=True):
            verdicts[place] = Accepted(event.id, duplicate=not appended.new)
