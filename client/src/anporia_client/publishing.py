"""How an event gets to the relays and is never lost on the way: again after a lost answer, later after a limit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from anporia_wire import AnporiaError, Event, kinds, pow

from . import answers, requests
from .backoff import backoff
from .core import Core
from .errors import (
    BadAnswer,
    ClockSkew,
    NoAnswer,
    NotARelay,
    OutboxError,
    OutcomeUnknown,
    QuorumMissed,
    RateLimited,
    RelayError,
    RelayFailing,
    RelayRefused,
    RelayTimeout,
    RelayUnreachable,
    Unauthorized,
)
from .steps import Local, Send, Steps, Wait
from .transport import Request, Response

if TYPE_CHECKING:
    from .outbox import Outbox

__all__ = ["Ack", "Draft", "Publishing", "Tags"]

log = logging.getLogger("anporia.client")

Tags = Iterable[Sequence[str]]
Ack = dict[str, Any]
Draft = Event | tuple[int, str] | tuple[int, str, Tags]  # a signed event, or kind, content and tags of one to be

_UNSAID_RETRY_S = 5.0  # published relays name no time; their window slides, so that a slot is free soon
_SHORTEST_PAUSE_S = 0.25  # as the first of backoff
_SHORTEST_TRY_S = 0.1  # what a relay needs to answer at all
_LONGEST_PAUSE_S = 900.0  # whatever a relay names: our own name 60 s at most
_BATCH = 100  # events; signed just before they are sent, and few enough to be answered within seconds
_BATCH_BYTES = 2 * 1024 * 1024  # half of what our relays take (protocol section 5.2)


class Publishing(Core):
    """What an agent needs to be heard. With an `outbox` events wait there for relays that cannot be reached."""

    outbox: Outbox | None = None

    def signed(self, kind: int, content: str, tags: Tags | None = None) -> Event:
        """Sign an event of now, mining first if its kind needs it. Raises `InvalidEvent` for what no relay takes."""
        now = int(self.clock.wall())
        if kinds.lookup(kind).proof is kinds.Proof.REQUIRED:
            return pow.mine(self.keypair, kind, content, tags or (), now)
        return Event.create(self.keypair, kind, content, tags or (), created_at=now)

    def publish(self, kind: int, content: str, tags: Tags | None = None) -> Steps[Ack]:
        """Sign an event and hand it to the relays, mining 12 bits first if the kind needs proof of work.

        Gives what `send` gives. Raises `InvalidEvent` for what no relay would take, else as `send`.
        """
        return (yield from self.send(self.signed(kind, content, tags)))

    def send(self, event: Event) -> Steps[Ack]:
        """Hand a signed event to the relays; sending one again is safe and makes no second.

        Gives the relay's `{"id", "accepted"}` and `event`, the event as a dict: it is stored there. With
        several relays also `relays`: per address `accepted` (True, False, or None where an answer is
        still to come), and `code` and `detail` where it is not True; enough are those of `quorum`.
        Within its timeout the event is sent again when an answer was lost or a limit is about to pass.
        With an outbox, `accepted` False and `queued` True mean that it waits there for too many relays.
        Raises `RelayError` with `event` set: `OutcomeUnknown` if it may be stored, `QuorumMissed` if
        several relays are asked and too few took it.
        """
        deadline = self.clock.steady() + self.timeout
        outbox = self.outbox
        if outbox is None:
            results = yield from self.everywhere(lambda at: self._deliver(at, event, deadline), self.quorum)
            return self._receipt(event, results)
        yield Local(lambda: outbox.put([event], [relay.url for relay in self.relays]))
        results = yield from self.everywhere(lambda at: self._drain(at, outbox, deadline, event), self.quorum)
        try:
            return self._receipt(event, results)
        except RelayError as exc:
            if all(_is_final(result) for result in results):
                raise
            return self._queued(event, exc)

    def drain(self, *, timeout: float | None = None) -> Steps[dict[str, Any]]:
        """Send what waits in the outbox, oldest first, within the relays' limits.

        `timeout`: seconds to keep trying; None goes on as long as each relay answers. Gives `sent`
        (deliveries, one per relay), `waiting`, `problems` (per relay's address, what keeps it from taking
        more) and `undelivered`, the `Undelivered` of the whole outbox: what waits, for other relays too,
        and what a relay refused for good, such as events older than the seven days it takes. Those stay
        until `agent.outbox.forget(id)`. Raises `ValueError` for an agent without outbox.
        """
        outbox = self.outbox
        if outbox is None:
            raise ValueError("this agent has no outbox: Agent(..., outbox=path)")
        deadline = None if timeout is None else self.clock.steady() + timeout
        sent: list[str] = []
        results = yield from self.everywhere(lambda at: self._drain(at, outbox, deadline, sent=sent), len(self.relays))
        said = zip(self.relays, results, strict=True)
        problems = {relay.url: str(result) for relay, result in said if isinstance(result, AnporiaError)}
        after: list[Any] = yield Local(outbox.undelivered)
        waiting = sum(1 for one in after if one.code is None)
        return {"sent": len(sent), "waiting": waiting, "problems": problems, "undelivered": after}

    def publish_many(self, drafts: Iterable[Draft], *, timeout: float | None = None) -> Steps[list[Ack]]:
        """Publish many events, in batches where a relay takes them; gives an answer each, in order.

        A draft is `(kind, content)`, `(kind, content, tags)` or a signed event. Drafts are signed just
        before they are sent. An answer is as `send` gives it, or `accepted` False with the relay's
        `code` and `detail`. Limits are waited for, up to `timeout` seconds in all (None: as long as it
        takes). A draft that no relay would take, or that the outbox cannot keep, has an answer as well.
        """
        deadline = None if timeout is None else self.clock.steady() + timeout
        yield from self.everywhere(self.informed, len(self.relays))
        size = min(_BATCH, *(relay.limit("max_batch_events", _BATCH) for relay in self.relays))
        given: list[Ack] = []
        drafts = iter(drafts)
        while chunk := list(islice(drafts, size)):
            made = [self._made(draft) for draft in chunk]
            events = [event for event in made if isinstance(event, Event)]
            try:
                said = iter((yield from self._publish_chunk(events, deadline)) if events else ())
            except OutboxError as exc:  # what was answered before must not be lost with it
                said = iter([_not_accepted(event, exc) for event in events])
            given += [next(said) if isinstance(event, Event) else _not_accepted(None, event) for event in made]
        return given

    def _made(self, draft: Draft) -> Event | AnporiaError:
        try:
            return draft if isinstance(draft, Event) else self.signed(*draft)
        except AnporiaError as exc:
            return exc

    def _publish_chunk(self, events: Sequence[Event], deadline: float | None) -> Steps[list[Ack]]:
        outbox = self.outbox
        if outbox is not None:
            yield Local(lambda: outbox.put(events, [relay.url for relay in self.relays]))
        results = yield from self.everywhere(lambda at: self._deliver_many(at, events, deadline), self.quorum)
        per_relay = [result if isinstance(result, list) else [result] * len(events) for result in results]
        given: list[Ack] = []
        for event, said in zip(events, zip(*per_relay, strict=True), strict=True):
            try:
                given.append(self._receipt(event, said))
            except RelayError as exc:
                if outbox is not None and not all(_is_final(result) for result in said):
                    given.append(self._queued(event, exc))
                    continue
                given.append(_not_accepted(event, exc))
        return given

    def _queued(self, event: Event, why: RelayError) -> Ack:
        log.warning("event %s waits in the outbox: %s", event.id, why.code)
        answer = {"id": event.id, "accepted": False, "queued": True, "event": answers.as_dict(event)}
        return answer | {"code": why.code, "detail": why.detail}

    def _receipt(self, event: Event, results: Sequence[Any]) -> Ack:
        """Make one answer of the relays' answers. Raises `RelayError` when too few took the event."""
        if len(results) == 1:
            if isinstance(results[0], AnporiaError):
                raise _about(results[0], event)
            return {**results[0], "event": answers.as_dict(event)}
        said = {relay.url: _said(result) for relay, result in zip(self.relays, results, strict=True)}
        took = sum(1 for one in said.values() if one["accepted"])
        if took < self.quorum:
            causes = "; ".join(f"{url}: {one['detail']}" for url, one in said.items() if not one["accepted"])
            raise _about(QuorumMissed(f"{took} of {self.quorum} needed relays took the event: {causes}", said), event)
        return {"id": event.id, "accepted": True, "event": answers.as_dict(event), "relays": said}

    def _deliver(self, at: int, event: Event, deadline: float | None) -> Steps[Ack]:
        """Send an event to one relay until it answers for good or the time is over."""
        url = self.relays[at].url

        def read(response: Response) -> Ack:
            return answers.accepted(self.good(at, response), event, url)

        answer: Ack = yield from self._insist(at, requests.publish(event), read, deadline)
        return answer

    def _insist(self, at: int, request: Request, read: Callable[[Response], Any], deadline: float | None) -> Steps[Any]:
        """Send a request until it is answered. Raises what stands in the way when the time is over.

        Without a deadline limits are waited for, and anything else is tried for the time of one call.
        """
        url = self.relays[at].url
        lost: RelayError | None = None  # once an answer was lost, only an answer says what became of the events
        patience = self.clock.steady() + self.timeout
        attempt = 0
        while True:
            attempt += 1
            left = (patience if deadline is None else deadline) - self.clock.steady()
            try:
                # two thirds, so that a request that hangs leaves time for another
                response = yield Send(at, request, max(_SHORTEST_TRY_S, min(left, self.timeout) * 2 / 3))
                return read(response)
            except RelayError as exc:
                error = exc
            if isinstance(error, NotARelay) and error.status >= 400 and lost is None:
                raise error  # it took nothing
            if isinstance(error, BadAnswer) and isinstance(lost, BadAnswer):
                raise OutcomeUnknown(f"the event was sent, and the answer says nothing of it ({error.detail})", url)
            if lost is None and (isinstance(error, (NoAnswer, BadAnswer)) or _is_lost(error)):
                lost = error
            passes = isinstance(error, (RateLimited, RelayFailing)) and error.status not in (501, 505)
            if _is_final(error) or (lost is None and not passes):
                raise error
            pause = self.pause(error, attempt)
            limit = deadline
            if isinstance(error, RateLimited):
                patience = self.clock.steady() + pause + self.timeout  # it lives: waiting is no failure
            elif limit is None:
                limit = patience
            again = passes or isinstance(error, (RelayUnreachable, NoAnswer, BadAnswer))
            if not again or (limit is not None and self.clock.steady() + pause >= limit):
                if lost is None:
                    raise error
                raise OutcomeUnknown(f"the event was sent, and no answer came ({lost.detail})", url)
            yield Wait(pause)

    def pause(self, error: RelayError, attempt: int) -> float:
        """Say how many seconds to wait before asking again."""
        if isinstance(error, RelayRefused) and error.retry_at is not None:
            return min(max(_SHORTEST_PAUSE_S, error.retry_at - self.clock.wall()), _LONGEST_PAUSE_S)
        return _UNSAID_RETRY_S if isinstance(error, RateLimited) else backoff(attempt)

    def _drain(
        self,
        at: int,
        outbox: Outbox,
        deadline: float | None,
        until: Event | None = None,
        *,
        upto: Event | None = None,
        sent: list[str] | None = None,
    ) -> Steps[Ack | None]:
        """Send what waits for one relay: all, up to and with `until`, or up to but without `upto`.

        `sent` gets the ids that were taken. Raises what keeps `until` from being taken, and what keeps the
        relay from taking any more.
        """
        url = self.relays[at].url
        while True:
            if deadline is not None and deadline - self.clock.steady() < _SHORTEST_TRY_S:
                raise RelayTimeout("more waits in the outbox than could be sent in time", url)
            waiting: list[Event] = yield Local(partial(outbox.waiting, url))
            if not waiting and until is None:
                return None
            # if it does not wait any more, another thread or process has sent it or taken it out: the relay knows
            event = waiting[0] if waiting else until
            if event is None or event == upto:
                return None
            try:
                answer = yield from self._deliver(at, event, deadline)
            except RelayError as exc:
                if not _is_final(exc):
                    raise
                yield Local(partial(outbox.refused, event.id, url, exc.code, exc.detail))
                log.warning("%s will not take event %s from the outbox: %s", url, event.id, exc.code)
                if event == until:
                    raise
                continue
            if sent is not None:
                sent.append(event.id)
            try:
                yield Local(partial(outbox.took, event.id, url))
            except OutboxError as exc:  # it will be sent once more, which makes no second
                log.warning("the outbox does not take note of event %s: %s", event.id, exc)
                if event != until:
                    raise
            if event == until:
                return answer

    def _deliver_many(self, at: int, events: Sequence[Event], deadline: float | None) -> Steps[list[Any]]:
        """Send events to one relay; gives an answer or `RelayError` each."""
        relay, outbox = self.relays[at], self.outbox
        if outbox is not None:  # all that is older first, and these among it
            yield from self._drain(at, outbox, deadline, upto=events[0])
        if not (yield from self.informed(at)).has("batch"):
            single: list[Any] = []
            for event in events:
                try:
                    single.append((yield from self._deliver(at, event, deadline)))
                except RelayError as exc:
                    single.append(exc)
            yield from self._settle(relay.url, events, single)
            return single
        results: list[Any] = [None] * len(events)
        open_ = list(range(len(events)))
        while open_:
            part = _within_bytes(open_, events)
            sent = [events[index] for index in part]
            read = partial(self._batch_lines, at, sent)
            try:
                lines: list[answers.Line] = yield from self._insist(at, requests.batch(sent), read, deadline)
            except RelayError as exc:
                for index in open_:  # what was answered before stays answered
                    results[index] = exc
                break
            for index, line in zip(part, lines, strict=True):
                results[index] = _line_error(line, relay.url) or {"id": events[index].id, "accepted": True}
            limited = [index for index in part if isinstance(results[index], RateLimited)]
            open_ = limited + open_[len(part) :]
            if limited:
                pause = self.pause(results[limited[0]], 1)
                if deadline is not None and self.clock.steady() + pause >= deadline:
                    for index in open_:
                        results[index] = results[limited[0]]
                    break
                yield Wait(pause)
        yield from self._settle(relay.url, events, results)
        return results

    def _batch_lines(self, at: int, sent: Sequence[Event], response: Response) -> list[answers.Line]:
        return answers.batch_lines(self.good(at, response), sent, self.relays[at].url, self.clock.wall())

    def _settle(self, url: str, events: Sequence[Event], results: Sequence[Any]) -> Steps[None]:
        """Note in the outbox what a relay said of each event."""
        outbox = self.outbox
        if outbox is None:
            return
        for event, result in zip(events, results, strict=True):
            try:
                if not isinstance(result, RelayError):
                    yield Local(partial(outbox.took, event.id, url))
                elif _is_final(result):
                    yield Local(partial(outbox.refused, event.id, url, result.code, result.detail))
            except OutboxError as exc:  # the answers count; what is sent once more makes no second
                log.warning("the outbox does not take note of event %s: %s", event.id, exc)


def _within_bytes(open_: Sequence[int], events: Sequence[Event]) -> list[int]:
    """Give as many of the first as one request takes, one at least."""
    size = 0
    for count, index in enumerate(open_):
        size += len(events[index].to_json())
        if size > _BATCH_BYTES and count:
            return list(open_[:count])
    return list(open_)


def _not_accepted(event: Event | None, why: AnporiaError) -> Ack:
    answer = {"id": event.id if event else None, "accepted": False, "code": why.code}
    detail = str(getattr(why, "detail", why))
    return answer | {"detail": detail, "event": answers.as_dict(event) if event else None}


def _line_error(line: answers.Line, url: str) -> RelayRefused | None:
    if line.status == 200:
        return None
    if line.code == "bad_time" and line.ahead is not None and abs(line.ahead) > answers.SKEW_S:
        return answers.skewed(line.status, line.detail, line.ahead, url)
    of_status = RateLimited if line.status == 429 else RelayFailing if line.status >= 500 else RelayRefused
    return of_status(line.status, line.code, line.detail, line.retry_at, url)


def _is_final(error: Any) -> bool:
    """Say whether a relay judged the event itself, so that sending it again would change nothing.

    A 403 may be a firewall's, a 404 an address without a relay: that is no word about the event.
    """
    passing = (RateLimited, RelayFailing, Unauthorized, ClockSkew)
    if not isinstance(error, RelayRefused) or isinstance(error, passing):  # among them a clock that can be set
        return False
    return 400 <= error.status < 500 and error.status not in (403, 404, 405, 408)


def _is_lost(error: RelayError) -> bool:
    """Say whether a 5xx tells nothing of the event: 500 of a plain relay, a gateway that gave up on the relay."""
    return isinstance(error, RelayFailing) and error.code.startswith("http_") and error.status in (500, 502, 504)


def _about(error: AnporiaError, event: Event) -> AnporiaError:
    if isinstance(error, RelayError):
        error.event = event
    return error


def _said(result: Any) -> dict[str, Any]:
    if isinstance(result, AnporiaError):
        return {"accepted": False, "code": result.code, "detail": str(getattr(result, "detail", result))}
    if result is None:
        return {"accepted": None, "code": "pending", "detail": "no answer yet"}
    return {"accepted": True}
