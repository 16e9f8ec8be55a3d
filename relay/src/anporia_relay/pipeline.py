"""READ FIRST: how an event gets in. Everything else in this package serves these few steps.

    bytes -> parse -> cheap rules -> budget left? -> signature -> proof, targets -> spend budget
          -> group commit, which feeds views and subscribers -> acknowledge

The order is the protocol's (WIRE section 3), with one addition: what has no budget left is refused
before its signature costs anything. An acknowledgement means the event is on disk.

There are two ways in: `accept` takes one request of many events; `offer` takes one event and judges it
together with all others that arrive in the same turn of the event loop, so that they share what a
request costs besides its own bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, cast

from anporia_store import Store
from anporia_wire import AnporiaError, BadSignature, Event, kinds, pow
from anporia_wire.events import BAD_SIGNATURE

from .errors import Rejected
from .limits import Limits, Peer
from .policies import POLICIES, Target
from .verifier import Verifier

__all__ = ["Accepted", "Pipeline", "Verdict", "internal"]

log = logging.getLogger("anporia.relay")

MAX_CHUNK = 256  # signatures of one request or turn under way at once: 4 batches, so two threads stay busy


@dataclass(frozen=True, slots=True)
class Accepted:
    """The event is durable here. `duplicate`: it already was."""

    id: str
    duplicate: bool


Verdict = Accepted | AnporiaError


def internal() -> Rejected:
    """Give the refusal of whom a fault of ours has met."""
    return Rejected("internal", "internal error; the operator's log has the details")


def _refusal(exc: Exception, event: Event) -> AnporiaError:
    """Give what one is told; a fault of ours that one event met is not that of others judged together with it."""
    if isinstance(exc, AnporiaError):
        return exc
    log.error("unexpected error", exc_info=exc, extra={"event": event.id})
    return internal()


@dataclass(slots=True)
class _Candidate:
    """An event on its way in, who sent it, and what became of it."""

    event: Event
    peer: Peer
    verdict: Verdict | None = None
    answer: Callable[[Verdict], None] | None = None

    def settle(self, verdict: Verdict) -> None:
        self.verdict = verdict
        if self.answer:
            try:
                self.answer(verdict)
            except Exception:  # one who cannot be answered is no reason to answer others wrongly
                log.exception("an answer failed", extra={"event": self.event.id})


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
        self._offered: list[_Candidate] = []  # in this turn of the event loop
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, candidates: Sequence[Event | AnporiaError], peer: Peer) -> list[Verdict]:
        """Judge events in order and return when the accepted ones are durable; one verdict each.

        A candidate that already is an error (it did not parse) passes through in its place.
        """
        given = [c if isinstance(c, AnporiaError) else _Candidate(c, peer) for c in candidates]
        kept: list[_Candidate] = []
        at = 0
        while at < len(given):
            room = self._reserve(peer, len(given) - at)
            if not room:
                await self._some_released(peer)
                continue
            try:
                await self._judge([c for c in given[at : at + room] if isinstance(c, _Candidate)], kept)
            finally:
                self._release(peer, room)
            at += room
        await self._keep(kept)
        return [cast("Verdict", c.verdict) if isinstance(c, _Candidate) else c for c in given]

    def offer(self, event: Event, peer: Peer, answer: Callable[[Verdict], None]) -> None:
        """Judge one event and call `answer` once: when it is refused, or durable."""
        self._offered.append(_Candidate(event, peer, answer=answer))
        if len(self._offered) == 1:
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Take in what was offered in this turn, together but for those who may wait: for room, or the store."""
        offered, self._offered = self._offered, []
        together: list[_Candidate] = []
        for candidate in offered:
            if not self._reserve(candidate.peer, 1):
                self._start(self._wait_alone(candidate))
            elif candidate.event.kind in POLICIES:  # it asks the store, for which others need not wait
                self._start(self._take_in([candidate]))
            else:
                together.append(candidate)
        for at in range(0, len(together), MAX_CHUNK):
            self._start(self._take_in(together[at : at + MAX_CHUNK]))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait_alone(self, candidate: _Candidate) -> None:
        while not self._reserve(candidate.peer, 1):
            await self._some_released(candidate.peer)
        await self._take_in([candidate])

    async def _take_in(self, group: list[_Candidate]) -> None:
        """Judge and keep a group for which room is reserved; each is answered, whatever goes wrong."""
        kept: list[_Candidate] = []
        try:
            try:
                await self._judge(group, kept)
            finally:
                for candidate in group:
                    self._release(candidate.peer, 1)
            await self._keep(kept)
        except Exception:
            log.exception("unexpected error", extra={"events": len(group)})
            for candidate in group:
                if candidate.verdict is None:
                    candidate.settle(internal())

    async def _judge(self, candidates: list[_Candidate], kept: list[_Candidate]) -> None:
        """Refuse events or add them to `kept`; beats end here, in memory."""
        wall, steady = int(self._wall()), int(self._steady())
        plausible: list[_Candidate] = []
        for candidate in candidates:
            try:
                self._examine(candidate, wall, steady)
                plausible.append(candidate)
            except Exception as exc:
                candidate.settle(_refusal(exc, candidate.event))
        genuine = await self._verifier.verify([candidate.event.signed() for candidate in plausible])
        steady = int(self._steady())
        for candidate, good in zip(plausible, genuine, strict=True):
            event = candidate.event
            try:
                self._prove(candidate, good, steady)
                if policy := POLICIES.get(event.kind):
                    policy(event, await self._target(event, kept))
                    steady = int(self._steady())  # some time may have gone by
                self._limits.spend(event, candidate.peer, steady)
                kinds.check_credit(event)  # after the budget is spent: as published relays have it (WIRE section 3)
            except Exception as exc:
                candidate.settle(_refusal(exc, candidate.event))
                continue
            if event.kind in kinds.NEVER_STORED:
                self._on_beat(event)
                candidate.settle(Accepted(event.id, duplicate=False))
            else:
                kept.append(candidate)

    def _examine(self, candidate: _Candidate, wall: int, steady: int) -> None:
        """Check all that needs neither signature nor store."""
        event = candidate.event
        event.check_sizes()
        kinds.check_time(event, wall)
        kinds.check_shape(event)
        event.check_id()
        self._limits.check(event, candidate.peer, steady)

    def _prove(self, candidate: _Candidate, genuine: bool, steady: int) -> None:
        """Hold a candidate against what its signature says, and its proof of work."""
        if not genuine:
            self._limits.count_bad(candidate.peer, steady)
            raise BadSignature(BAD_SIGNATURE)
        pow.check(candidate.event)

    async def _target(self, event: Event, earlier: list[_Candidate]) -> Target:
        """Find author and kind of what the first `e` tag names; a batch may hold an event and what refers to it."""
        id_ = (event.first_tag("e") or "").lower()
        near = next((c.event for c in earlier if c.event.id == id_), None)
        return (near.agent_id, near.kind) if near else await self._store.author_and_kind(id_)

    async def _keep(self, kept: list[_Candidate]) -> None:
        """Hand the events to the store, all in one transaction, and say so."""
        if not kept:
            return
        try:
            appended = await self._store.append([candidate.event for candidate in kept])
        except AnporiaError as exc:
            for candidate in kept:
                candidate.settle(exc)
            return
        for candidate, one in zip(kept, appended, strict=True):
            candidate.settle(Accepted(candidate.event.id, duplicate=not one.new))

    def _reserve(self, peer: Peer, wanted: int) -> int:
        """Reserve how many signatures of an address may be verified next; 0: none before others come back.

        All that is under way for an address may turn out forged, so parallel requests share what is
        left of its budget, and wait for each other when that is little.
        """
        left = self._limits.verifications_left(peer, int(self._steady()))
        if left is None:
            return min(wanted, MAX_CHUNK)
        under_way = self._under_way[peer.key]
        if left <= under_way and under_way and left > 0:  # with none left nothing is verified
            return 0
        room = max(1, min(wanted, MAX_CHUNK, left - under_way))
        self._under_way[peer.key] += room
        return room

    def _release(self, peer: Peer, room: int) -> None:
        if peer.exempt or peer.key not in self._under_way:  # no limit, so nothing was counted
            return
        self._under_way[peer.key] -= room
        if not self._under_way[peer.key]:
            del self._under_way[peer.key]
        if released := self._released.pop(peer.key, None):
            released.set()

    async def _some_released(self, peer: Peer) -> None:
        await self._released.setdefault(peer.key, asyncio.Event()).wait()
