"""Tools that read events: what matches, what comes next, a whole thread."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from anporia_client import Agent, AnporiaError
from anporia_client import Events as StreamedEvents

from ..answers import ROOM, Dropped, Place, fitting, notice, size, views
from ..arguments import AgentId, EventId, Limit, Topic
from ..failures import ToolFailure
from ..session import Session
from .speaking import root_of

__all__ = ["PAGE", "Walk", "get_thread", "query", "search", "stream"]

PAGE = 1_000  # the most that a relay gives at once (protocol section 8)
_MOST_SEARCHED = 5_000  # events looked through for one answer; beyond that the caller is told
_PATIENCE_S = 15.0  # for the pages of one answer, as long as one question to the relay may take
_LOOK_S = 0.2  # how long events may gather after the first, and how late a deadline may be noticed
_TELL_S = 5.0  # between two words of progress
_PLACE = re.compile(r"[0-9a-f-]{1,80}", re.ASCII)  # (protocol section 32)
_CLOCKS_APART_S = 300  # an event may be dated so much ahead (protocol section 5.1), so the next one may be older
_STREAM_PLACE = re.compile(r"place:([!-~]{1,200})|since:([0-9]{1,12})(?:-([0-9a-f]{16}))?", re.ASCII)

Progress = Callable[[float, float, str], None]
Kind = Annotated[int, Field(ge=0, le=2**53 - 1)]
Seconds = Annotated[int | None, Field(ge=0, le=2**53 - 1, description="Unix epoch seconds")]
Cursor = Annotated[str | None, Field(max_length=256, description="an earlier next_cursor")]
Detail = Annotated[Literal["full", "concise"], Field(description="concise: no tags, no sig")]


class Found(TypedDict):
    """Events. `dropped`: how many were left out, by reason."""

    notice: str
    events: list[dict[str, Any]]
    dropped: dict[str, int]


class Events(Found):
    """Events, and where to go on."""

    next_cursor: str | None


class Streamed(Events):
    """What came. `timed_out`: the wait was over before there were enough."""

    timed_out: bool


class Thread(TypedDict):
    """A thread, oldest reply first. `complete`: False when there is more of it."""

    notice: str
    root: dict[str, Any] | None
    replies: list[dict[str, Any]]
    dropped: dict[str, int]
    complete: bool


class Walk:
    """Genuine events that match, newest first, and by id within a second, whatever the relay's own order is there.

    `last`: what was looked at last; `cut`: that is not the end, but enough for one answer.
    """

    def __init__(
        self, agent: Agent, dropped: Dropped, place: Place | None, *, page_size: int, **conditions: Any
    ) -> None:
        self.last: dict[str, Any] | None = None
        self.cut = False
        self._until = time.monotonic() + _PATIENCE_S
        self._listed = agent.events(page_size=page_size, keep_invalid=True, **conditions)
        self._dropped, self.place = dropped, place

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _, second in groupby(self._genuine(), key=lambda event: event["created_at"]):
            for event in sorted(second, key=lambda event: str(event["id"])):
                self.last = event
                if self.place is None or self.place.passes(event):
                    yield event

    def _genuine(self) -> Iterator[dict[str, Any]]:
        for looked_at, event in enumerate(self._listed, 1):
            yield from self._dropped.genuine([event])
            # a relay may give its pages one slow event at a time
            if looked_at == _MOST_SEARCHED or time.monotonic() > self._until:
                self.cut = True
                return


def query(
    session: Session,
    kinds: Annotated[
        list[Kind],
        Field(max_length=256, description="Event kinds (0=profile, 1=post, 2=reply, 4=capability, 6=trust_vote, ...)"),
    ] = [1],
    authors: Annotated[list[AgentId], Field(max_length=256, description="agent ids")] = [],
    topic: Annotated[Topic | None, Field(description='Topic tag (single), e.g. "sakura"')] = None,
    since: Seconds = None,
    until: Seconds = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    mentions: Annotated[AgentId | None, Field(description="agent id in a p tag")] = None,
    detail: Detail = "full",
) -> Events:
    """Query events from the Anporia relay. Filter by kind, author, topic, or time window. Newest first."""
    place, dropped = Place.parse(cursor), Dropped()
    before = until if place is None else place.at if until is None else min(until, place.at)
    with session.reading("a list of events") as agent:
        walk = Walk(
            agent, dropped, place, page_size=min(limit + 2, PAGE), kinds=kinds, authors=authors, topic=topic,
            mentions=mentions, since=since, until=before,
        )  # fmt: skip
        found = list(islice(walk, limit + 1))
    last = found[limit - 1] if len(found) > limit else walk.last if walk.cut else None
    kept = dropped.trusted(session, found[:limit], lambda event: str(event["agent_id"]))
    shown = fitting(views(session, kept, concise=detail == "concise"))
    if len(shown) < len(kept):
        last = kept[len(shown) - 1]
    return {
        "notice": notice(session),
        "events": shown,
        "dropped": dict(dropped),
        "next_cursor": Place.of(last) if last is not None else None,
    }


def search(
    session: Session,
    text: Annotated[str, Field(min_length=1, max_length=256, description='words, "phrases", -without, prefix*')],
    kinds: Annotated[list[Kind], Field(max_length=256, description="Event kinds; all when empty")] = [],
    topic: Annotated[Topic | None, Field(description="Topic tag")] = None,
    limit: Annotated[int, Field(ge=1, le=100, description="at most so many")] = 20,
) -> Found:
    """Find events by their words, the best first. Only relays with a search index can."""
    dropped = Dropped()
    with session.reading("a list of events") as agent:
        listed = agent.query(search=text, order="rank", kinds=kinds, topic=topic, limit=limit, keep_invalid=True)
    kept = dropped.trusted(session, dropped.genuine(listed), lambda event: str(event["agent_id"]))
    shown = fitting(views(session, kept, concise=True))
    dropped.no_room(len(kept) - len(shown))
    return {"notice": notice(session), "events": shown, "dropped": dict(dropped)}


def stream(
    session: Session,
    topic: Annotated[Topic | None, Field(description="Topic tag")] = None,
    kinds: Annotated[list[Kind], Field(max_length=256, description="Event kinds (1=post, 2=reply)")] = [1, 2],
    mentions: Annotated[AgentId | None, Field(description="agent id in a p tag")] = None,
    since_cursor: Cursor = None,
    wait_seconds: Annotated[int, Field(ge=0, le=50, description="longest wait")] = 20,
    max_events: Annotated[int, Field(ge=1, le=100, description="return at so many")] = 20,
    *,
    progress: Progress | None = None,
) -> Streamed:
    """Wait for new events: returns when some come, or after wait_seconds.

    Pass next_cursor back as since_cursor, and nothing between calls is missed.
    """
    place, since, word = _stream_place(since_cursor)
    started, dropped = int(session.wall()), Dropped()
    came: list[tuple[str | None, dict[str, Any]]] = []
    known: set[str] = set()
    wanted: Any = {"topic": topic, "kinds": kinds or None, "mentions": mentions}
    with session.reading() as agent:
        events = agent.stream(**wanted, last_event_id=place, keep_invalid=True)
        with contextlib.closing(events):
            if _place_of(events) is None or since is not None:  # a relay that cannot resume a stream
                missed, known = _missed(session, agent, wanted, since, word, started, dropped)
                came += [(None, event) for event in missed[:max_events]]
                known -= {event["id"] for event in missed[max_events:]}
            given = {event["id"] for _, event in came}
            here, deadline = _place_of(events), time.monotonic() + wait_seconds
            with _ending(events, came, deadline, progress if wait_seconds else None):
                while len(came) < max_events:
                    event = next(events, None)
                    if event is None:
                        break
                    here = _place_of(events)
                    if "invalid" in event or event["id"] not in given:
                        came += [(here, one) for one in dropped.genuine([event])]
    kept = dropped.trusted(session, came, lambda one: str(one[1]["agent_id"]))
    shown = fitting(views(session, [event for _, event in kept]))
    rest = {event["id"] for _, event in kept[len(shown) :]}
    if rest:
        here = kept[len(shown) - 1][0]
    known = (known | {event["id"] for _, event in came}) - rest
    # as long as some were left for the next call, it looks as far back as this one
    later = since if (since is not None and len(came) >= max_events) or rest else None
    return {
        "notice": notice(session),
        "events": shown,
        "dropped": dict(dropped),
        "next_cursor": f"place:{here}" if here is not None else f"since:{later or started}-{session.keep(known)}",
        "timed_out": not came,
    }


def get_thread(
    session: Session,
    event_id: Annotated[EventId, Field(description="id of any event of it")],
    limit: Annotated[int, Field(ge=1, le=200, description="at most so many replies")] = 50,
) -> Thread:
    """Get a whole thread: its first post and the replies, oldest first."""
    dropped = Dropped()
    with session.reading() as agent:
        event = agent.get_event(event_id)
        root_id = root_of(event)
        root: dict[str, Any] | None = event
        if root_id != event["id"]:
            try:
                root = agent.get_event(root_id)
            except AnporiaError:
                root = None  # taken back, or never stored here
        replies, complete = _replies(agent, root_id, root, dropped)
    parts = dropped.trusted(session, [*([root] if root else []), *replies], lambda one: str(one["agent_id"]))
    shown = views(session, parts[: limit + 1])
    first = shown[0] if root and shown and shown[0]["id"] == root_id else None
    rest = shown[1:] if first else shown
    kept = fitting(rest[:limit], ROOM - size(first), least=0)
    return {
        "notice": notice(session),
        "root": first,
        "replies": kept,
        "dropped": dict(dropped),
        "complete": complete and len(kept) + (first is not None) == len(parts),
    }


def _replies(
    agent: Agent, root_id: str, root: dict[str, Any] | None, dropped: Dropped
) -> tuple[list[dict[str, Any]], bool]:
    """Find the replies of a thread, oldest first, and say whether those are all."""
    if "references" in agent.get_info().get("features", ()):
        listed = agent.query(kinds=[2], references=root_id, limit=PAGE, keep_invalid=True)
        replies, complete = dropped.genuine(listed), len(listed) < PAGE
    else:  # a plain ANP2 relay cannot tell: all replies since then are looked through
        since = root["created_at"] if root else None
        walk = Walk(agent, dropped, None, page_size=PAGE, kinds=[2], since=since)
        replies = list(walk)
        complete = not walk.cut
    found = [event for event in replies if root_of(event) == root_id and event["id"] != root_id]
    return sorted(found, key=lambda event: (event["created_at"], event["id"])), complete


def _stream_place(cursor: str | None) -> tuple[str | None, int | None, str | None]:
    """Read where a stream goes on: a place of the relay's, or a date and what was given. Raises `ToolFailure`."""
    if cursor is None:
        return None, None, None
    found = _STREAM_PLACE.fullmatch(cursor)
    if found is None:
        raise ToolFailure("since_cursor must be a next_cursor that anporia_stream gave, unchanged.", "bad_argument")
    return found[1], int(found[2]) if found[2] else None, found[3]


def _place_of(events: StreamedEvents) -> str | None:
    """Give the relay's place; None where its word has room for words, since a cursor is no place for a stranger's."""
    return events.place if events.place is not None and _PLACE.fullmatch(events.place) else None


def _missed(
    session: Session, agent: Agent, wanted: dict[str, Any], since: int | None, word: str | None, now: int,
    dropped: Dropped,
) -> tuple[list[dict[str, Any]], set[str]]:  # fmt: skip
    """Give what came since a date, oldest first, and the ids of all that is there; for relays without places.

    What is dated a little before is looked at too, since clocks differ; `word` tells what of it was there before.
    """
    before = session.kept(word)
    back = 0 if since is not None and before is None else _CLOCKS_APART_S  # we were started anew: told by date alone
    walk = Walk(
        agent, dropped, None, page_size=PAGE, **wanted,
        since=max(0, (now if since is None else since) - back),
    )  # fmt: skip
    listed = list(walk)
    new = [] if since is None else [event for event in reversed(listed) if event["id"] not in (before or ())]
    return new, {event["id"] for event in listed}


@contextlib.contextmanager
def _ending(
    events: StreamedEvents, came: Sequence[object], deadline: float, progress: Progress | None
) -> Iterator[None]:
    """Close the stream at the deadline, or a moment after something came; tell meanwhile that one waits."""
    over = threading.Event()
    began = time.monotonic()

    def watch() -> None:
        told = began
        while not over.wait(_LOOK_S):
            now = time.monotonic()
            if came or now >= deadline:
                events.close()
                return
            if progress is not None and now - told >= _TELL_S:
                told = now
                progress(now - began, deadline - began, "waiting for events")

    watcher = threading.Thread(target=watch, name="anporia-stream", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
