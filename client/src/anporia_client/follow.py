"""A stream of events that goes on: what to ask again after a cut, and what of it the reader has had already.

Bytes in, events out; `listening.py` and `async_listening.py` open the connections. One `Follower` follows one
relay. Relays that number their frames (feature `resume`) give what was missed by `Last-Event-ID`; from a plain
ANP2 relay it is queried, which is said in the log, since what was published late with an old date stays missed.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from anporia_wire import AnporiaError, Filter

from . import answers, requests
from .backoff import backoff
from .errors import BadAnswer, NotARelay, RateLimited, RelayError, RelayFailing, RelayRefused
from .frames import Frame, SseParser
from .transport import Request, Response

__all__ = ["SILENCE_S", "Followed", "Follower", "Item", "Seen", "Start"]

log = logging.getLogger("anporia.client")

SILENCE_S = 60.0  # relays send a ping every 15 s; four missed ones mean that nobody is there
_REMEMBERED = 20_000  # ids, some 3 MB: what may come twice around a cut
_OF_SEVERAL = 100_000  # ids, some 15 MB: how far one relay may be behind another
_MOST_CURSOR = 256  # characters; ours have some twenty
_CLOCKS_APART_S = 300  # an event may be dated this much ahead (protocol section 5.1), so the next one may be older

# the place to resume after it, and the event; None for one that is not to be handed out, so that places move on
Followed = tuple[str | None, dict[str, Any] | None]
Item = Followed | RelayError | None  # what following gives: an event; that it cannot be followed now; that it is open


class Seen:
    """The ids that came last; several followers may share it, also from several threads."""

    def __init__(self, *, several: bool = False) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._most = _OF_SEVERAL if several else _REMEMBERED
        self._lock = threading.Lock()

    def first(self, id_: str) -> bool:
        """Say whether this id comes for the first time, and remember it."""
        with self._lock:
            if id_ in self._ids:
                return False
            self._ids[id_] = None
            if len(self._ids) > self._most:
                self._ids.popitem(last=False)
            return True


class Follower:
    """Follows one relay's stream across cuts.

    `patient`: a relay that is down at first is asked again too; `drop`: told of each thing that came and
    was no genuine event.
    """

    def __init__(
        self,
        url: str,
        filter_: Filter,
        *,
        last_event_id: str | None,
        reconnect: bool,
        patient: bool,
        keep_invalid: bool,
        seen: Seen,
        drop: Callable[[AnporiaError, str], None],
    ) -> None:
        self.url = url
        self.filter = filter_
        self.cursor = last_event_id
        self._reconnect = reconnect
        self._patient = patient
        self._keep_invalid = keep_invalid
        self._seen = seen
        self._drop = drop
        self._parser = SseParser()
        self._opened_before = False
        self._failures = 0
        self._newest = 0  # latest created_at given so far
        self._alive = 0.0  # when it was cut, if what was missed since is not filled in yet
        self._opened_at = 0.0

    def request(self) -> Request:
        """Ask for what comes after the last frame. Raises `ValueError` for a cursor no header can carry."""
        return requests.stream(self.filter, self.cursor)

    def opened(self, head: Response, now: float) -> list[Filter]:
        """Take the answer's head; gives the queries that fill the gap, oldest events to come first.

        Raises `RelayError`.
        """
        if not 200 <= head.status < 300:
            raise answers.refusal(head, self.url, now)
        if not head.headers.get("content-type", "").startswith("text/event-stream"):
            raise NotARelay("the answer is not a stream of events", self.url)
        self._parser = SseParser()
        again, self._opened_before = self._opened_before, True
        alive, self._opened_at = self._alive or now, now
        if again:
            log.warning("the stream of %s goes on", self.url)
        if again and self.cursor is None:
            return self._gap(alive)
        if self.cursor is None and _is_cursor(place := head.headers.get("anporia-place", "")):
            self.cursor = (
                place  # where it begins, so that a cut before the first event loses none (protocol section 32)
            )
        return []

    def _gap(self, alive: float) -> list[Filter]:
        # it may have been dead for a while before that was noticed
        since = max(0, int(min(self._newest or alive, alive - SILENCE_S)) - _CLOCKS_APART_S)
        log.warning(
            "%s cannot resume a stream: the gap is filled by a query for what is dated %d and later", self.url, since
        )
        missed = replace(self.filter, since=since)
        # queries without kind and topic leave the lobby out, streams do not (protocol section 7)
        unfiltered = missed.t is None and missed.kinds is None
        return [missed, replace(missed, t="lobby")] if unfiltered else [missed]

    def filled(self, events: Sequence[dict[str, Any]]) -> list[Followed]:
        """Take what the queries found; gives what is new of it, oldest first."""
        ordered = sorted(events, key=lambda event: (event.get("created_at", 0), str(event.get("id"))))
        return [(None, event) for event in ordered if self._is_new(event)]

    def feed(self, chunk: bytes) -> Iterator[Followed]:
        """Take bytes of the stream; gives the events they complete. Raises `BadAnswer`."""
        self._alive = 0.0
        for frame in self._frames(chunk):
            self._failures = 0
            cursor = frame.id if _is_cursor(frame.id) else None
            if frame.type != "message":
                self.cursor = cursor or self.cursor
                yield cursor, None
                continue
            try:
                event = answers.as_dict(answers.frame_event(frame.data, self.filter))
            except AnporiaError as exc:
                self.cursor = cursor or self.cursor
                # plain relays filter by topic only: the rest of what they send is not asked for, but no lie
                lie = not isinstance(exc, BadAnswer) or cursor is not None
                if lie:
                    self._drop(exc, self.url)
                shown = self._keep_invalid and lie
                yield cursor, {**answers.claimed(frame.data), "invalid": exc.code} if shown else None
                continue
            self.cursor = cursor or self.cursor
            yield cursor, event if self._is_new(event) else None

    def ended(self, error: RelayError | None, now: float) -> float | None:
        """Say how long to wait before asking again; None when the stream is to end here. Raises what is final."""
        self._alive = self._alive or now
        if now - self._opened_at > SILENCE_S:
            self._failures = 0  # it held for a while: no relay that greets and hangs up
        first = not (self._opened_before or self._patient)
        if error is not None and (not self._reconnect or first or _is_final(error)):
            raise error
        if not self._reconnect:
            return None
        self._failures += 1
        pause = backoff(self._failures)
        retry_at = getattr(error, "retry_at", None)
        if retry_at is not None:
            pause = max(pause, min(retry_at - now, 300.0))
        if self._failures == 1:  # once a cut; that it goes on is told too
            what = "ended" if error is None else f"broke off ({error.code})"
            log.warning("the stream of %s %s; asking again until it goes on", self.url, what)
        return pause

    def _frames(self, chunk: bytes) -> list[Frame]:
        try:
            return self._parser.feed(chunk)
        except BadAnswer as exc:
            exc.url = self.url
            raise

    def _is_new(self, event: dict[str, Any]) -> bool:
        if "invalid" in event:
            return self._keep_invalid
        if not self._seen.first(event["id"]):
            return False
        self._newest = max(self._newest, event["created_at"])
        return True


class Start:
    """Says when a stream has begun: one relay is open. Raises the first error if none can be."""

    def __init__(self, relays: int) -> None:
        self._begun = False
        self._failed: dict[int, RelayError] = {}
        self._relays = relays

    def shows(self, at: int, item: RelayError | None) -> bool:
        """Take what a relay gives besides events; says whether it is the beginning. Raises `RelayError`."""
        if self._begun:
            return False
        if item is None:
            self._begun = True
            return True
        self._failed.setdefault(at, item)
        if len(self._failed) == self._relays:
            raise next(iter(self._failed.values()))
        return False


def _is_cursor(id_: str) -> bool:
    """Say whether a frame's id can be sent back; a relay's word must not end up in a header as it is."""
    return 0 < len(id_) <= _MOST_CURSOR and id_.isascii() and id_.isprintable() and id_.strip() == id_


def _is_final(error: RelayError) -> bool:
    """Say whether asking again cannot help: the cursor is gone, or the password is wrong."""
    return isinstance(error, RelayRefused) and not isinstance(error, (RateLimited, RelayFailing))
