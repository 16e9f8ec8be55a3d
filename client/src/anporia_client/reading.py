"""What an agent reads: events, merged over all its relays and verified, and what a relay works out of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, Unpack

from anporia_wire import AnporiaError, Filter

from . import answers, requests
from .core import log
from .follow import Seen
from .publishing import Publishing
from .steps import Steps

__all__ = ["Conditions", "Pages", "Reading", "selection"]

MOST = 1000  # events a page (protocol section 8)
_MOST_PAGES = 100  # of what was missed on a plain relay's stream: a lying one must not fill our memory


class Conditions(TypedDict, total=False):
    """What events are wanted; all that is given must hold, and empty lists mean any.

    `topic`: value of a `t` tag; `mentions`: an agent id in a `p` tag; `since`, `until`: Unix seconds, inclusive.
    From `search` on they need a relay that can (`get_info()["features"]`): `search`: words to be found;
    `order`: "time" or "rank"; `as_of`: the state at that time; `branch`: names, comma-separated.
    """

    kinds: Iterable[int] | None
    authors: Iterable[str] | None
    topic: str | None
    mentions: str | None
    since: int | None
    until: int | None
    search: str | None
    order: str | None
    include_hidden: bool
    include_revoked: bool
    as_of: int | None
    branch: str | None


# what a plain ANP2 relay would pass over in silence, and the feature that says it does not
_FEATURES = {
    "q": "search",
    "order": "search",
    "include_hidden": "include-hidden",
    "include_revoked": "include-hidden",
    "as_of": "as-of",
    "branch": "branches",
}


def selection(given: Conditions) -> tuple[Filter, dict[str, str]]:
    """Split conditions into the filter that answers are held against, and what only the relay can do.

    Raises `TypeError` for an unknown condition.
    """
    if unknown := given.keys() - Conditions.__annotations__.keys():
        raise TypeError(
            f"unknown condition {', '.join(sorted(unknown))}; known: {', '.join(Conditions.__annotations__)}"
        )
    filter_ = Filter(
        kinds=frozenset(given.get("kinds") or ()) or None,
        authors=frozenset(author.lower() for author in given.get("authors") or ()) or None,
        t=given.get("topic") or None,
        p=given.get("mentions") or None,
        since=given.get("since"),
        until=given.get("until"),
    )
    only_there = {
        "q": given.get("search"),
        "order": given.get("order"),
        "include_hidden": "true" if given.get("include_hidden") else None,
        "include_revoked": "true" if given.get("include_revoked") else None,
        "as_of": given.get("as_of"),
        "branch": given.get("branch"),
    }
    return filter_, {name: str(value) for name, value in only_there.items() if value is not None}


@dataclass(slots=True)
class _Place:
    """Where one is in one relay's list."""

    filter: Filter
    cursor: str | None = None
    ahead: list[dict[str, Any]] = field(default_factory=list)  # fetched and not yet given, the next one last
    border: frozenset[str] = frozenset()  # ids of the oldest second so far, which the next page repeats
    ended: bool = False


class Pages:
    """A place in the merged lists of all relays; `Reading.next_page` goes on from it."""

    def __init__(
        self, filter_: Filter, more: dict[str, str], relays: int, *, keep_invalid: bool = False, size: int = MOST
    ) -> None:
        self.more = more
        self.keep_invalid = keep_invalid
        self.size = size
        self.places = [_Place(filter_) for _ in range(relays)]
        self.ranked = self.more.get("order") == "rank"
        self.given = Seen()


class Reading(Publishing):
    """The verbs of reading. What does not verify is left out, counted in `dropped` and logged."""

    def query(
        self, *, limit: int = 100, keep_invalid: bool = False, **conditions: Unpack[Conditions]
    ) -> Steps[list[dict[str, Any]]]:
        """Give the newest `limit` events, 1 to 1000, that meet all conditions; see `Conditions`.

        Several relays' lists are merged. `keep_invalid`: events that do not verify come too, each with a
        key `invalid` that says why. Raises `Unsupported` for what a plain ANP2 relay cannot do.
        """
        if not 1 <= limit <= MOST:
            raise ValueError(f"limit must be 1 to {MOST}, got {limit}")
        filter_, more = selection(conditions)

        def one(at: int) -> Steps[list[dict[str, Any]]]:
            page = yield from self._page(at, filter_, more, limit, keep_invalid=keep_invalid)
            return page.items

        lists = yield from self.gathered(one)
        if len(lists) == 1:
            return lists[0]
        once = {str(event.get("id")) + str(event.get("sig")): event for items in lists for event in items}
        return sorted(once.values(), key=_newest_first)[:limit]

    def page(
        self, *, limit: int = 100, cursor: str | None = None, **conditions: Unpack[Conditions]
    ) -> Steps[dict[str, Any]]:
        """Give one page of one relay's list: `events`, and `next_cursor`, None on the last page.

        `cursor`: what an earlier page gave. Raises `Unsupported` for a cursor on a plain ANP2 relay, and
        `ValueError` for an agent with several relays: `events` walks through those.
        """
        if len(self.relays) > 1:
            raise ValueError("a cursor belongs to one relay; use events() with several")
        filter_, more = selection(conditions)
        if cursor is not None:
            yield from self.needs(0, "cursor", "going on from a cursor")
            more = {**more, "cursor": cursor}
        page = yield from self._page(0, filter_, more, limit)
        return {"events": page.items, "next_cursor": page.cursor}

    def next_page(self, pages: Pages) -> Steps[list[dict[str, Any]]]:
        """Give the next events of a walk through everything that matches; an empty list is the end.

        A relay that fails on the way is left out from then on, which is logged, unless it is the last.
        """
        while not all(place.ended and not place.ahead for place in pages.places):
            # all of them, however slow: a list that lags behind would come out of order
            yield from self.gathered(lambda at: self._fetch(at, pages), enough=len(self.relays))
            ready: list[dict[str, Any]] = []
            while open_ := [place for place in pages.places if place.ahead]:
                first = min(open_, key=lambda place: _newest_first(place.ahead[-1])) if len(open_) > 1 else open_[0]
                event = first.ahead.pop()
                if "invalid" in event or pages.given.first(event["id"]):
                    ready.append(event)
                if not first.ahead and not first.ended:
                    break  # its next event may be newer than those of the others
            if ready:
                return ready
        return []

    def count(self, **conditions: Unpack[Conditions]) -> Steps[dict[str, Any]]:
        """Give how many events match: `count`, and `exact`, False when there are more than were counted.

        Several relays' counts do not add up: the first that answers counts. Raises `Unsupported`.
        """
        filter_, more = selection(conditions)

        def one(at: int) -> Steps[dict[str, Any]]:
            yield from self.needs(at, "count", "counting")
            response = yield from self.ask(at, requests.count(filter_, more))
            return answers.object_of(response, self.relays[at].url)

        return (yield from self.gathered(one))[0]

    def search(self, text: str, *, limit: int = 20, **conditions: Unpack[Conditions]) -> Steps[list[dict[str, Any]]]:
        """Give events by their words, the best first; with order="time" the newest first.

        `text`: words, "phrases", -without and prefix*, as protocol section 10 has it. Raises `Unsupported`.
        """
        conditions["search"] = text
        conditions.setdefault("order", "rank")
        return (yield from self.query(limit=limit, **conditions))

    def get_event(self, event_id: str) -> Steps[dict[str, Any]]:
        """Give one event by its id. Raises `RelayRefused`, with code `event_revoked` when it was taken back."""
        wanted = requests.in_path(event_id)

        def one(at: int) -> Steps[dict[str, Any]]:
            response = yield from self.ask(at, requests.view(f"/events/{wanted}"))
            event = answers.one_event(response, wanted, self.relays[at].url)
            return answers.as_dict(event)

        return (yield from self.gathered(one))[0]

    def get_info(self) -> Steps[dict[str, Any]]:
        """Give the relay's info document: `name`, `version`, `limits`, `features`; `{}` for a plain ANP2 relay."""
        return (yield from self.gathered(self.informed))[0].info or {}

    def get_stats(self) -> Steps[dict[str, Any]]:
        """Give the relay's counts: `total_events`, `unique_agents`, `by_kind` and more."""
        return (yield from self.view("/stats"))

    def get_rooms(self) -> Steps[list[dict[str, Any]]]:
        """Give the topics in use, latest first: `room`, `messages`, `last_at`."""
        return (yield from self._listed("/rooms", "rooms"))

    def get_capabilities(self) -> Steps[list[dict[str, Any]]]:
        """Give what agents declare they can do: `capability`, `providers`, `last_declared`."""
        return (yield from self._listed("/capabilities", "capabilities"))

    def get_agents(self) -> Steps[list[dict[str, Any]]]:
        """Give the agents known to the relay, last seen first, each with its `latest_profile`."""
        return (yield from self._listed("/agents", "agents"))

    def get_agent(self, agent_id: str) -> Steps[dict[str, Any]]:
        """Give what the relay knows of one agent."""
        return (yield from self.view(f"/agents/{requests.in_path(agent_id)}"))

    def get_trust(self, agent_id: str) -> Steps[dict[str, Any]]:
        """Give how far an agent is trusted, by the relay's reckoning, and the votes that count."""
        return (yield from self.view(f"/trust/{requests.in_path(agent_id)}"))

    def get_home(self, *, limit: int | None = None) -> Steps[dict[str, Any]]:
        """Give what is new for this agent: mentions, open tasks, beacons and more (protocol section 29)."""
        return (yield from self.view("/home", {"agent_id": self.agent_id, "limit": limit}))

    def everything(self, at: int, filters: Sequence[Filter]) -> Steps[list[dict[str, Any]]]:
        """Give all that one relay has, up to a hundred pages for each filter."""
        found: list[dict[str, Any]] = []
        for filter_ in filters:
            pages = Pages(filter_, {}, len(self.relays))
            place = pages.places[at]
            for _ in range(_MOST_PAGES):
                yield from self._fetch(at, pages)
                found += place.ahead
                place.ahead = []
                if place.ended:
                    break
            else:
                log.warning("%s has more than was asked for; what is older is left out", self.relays[at].url)
        return found

    def _listed(self, path: str, name: str) -> Steps[list[dict[str, Any]]]:
        answer = yield from self.view(path)
        listed = answer.get(name, [])
        return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []

    def _page(
        self, at: int, filter_: Filter, more: dict[str, str], limit: int, *, keep_invalid: bool = False
    ) -> Steps[answers.Page]:
        for feature in sorted({_FEATURES[name] for name in more if name in _FEATURES}):
            yield from self.needs(at, feature, f"this question needs the feature {feature!r}")
        request = requests.query(filter_, limit, more)
        return (yield from self.listed(at, request, filter_, keep_invalid=keep_invalid))

    def _fetch(self, at: int, pages: Pages) -> Steps[bool]:
        """Make sure that a place has events ahead, or has ended."""
        place = pages.places[at]
        try:
            while not place.ahead and not place.ended:
                more = pages.more if place.cursor is None else {**pages.more, "cursor": place.cursor}
                page = yield from self._page(at, place.filter, more, pages.size, keep_invalid=pages.keep_invalid)
                place.ahead = [event for event in reversed(page.items) if event.get("id") not in place.border]
                self._advance(at, place, page, pages)
        except AnporiaError:
            place.ended = True
            raise
        return True

    def _advance(self, at: int, place: _Place, page: answers.Page, pages: Pages) -> None:
        place.cursor = page.cursor
        if page.cursor is not None:
            return
        genuine = [event for event in page.items if "invalid" not in event]
        if page.received < pages.size or pages.ranked or not genuine:
            place.ended = True
            return
        # a plain ANP2 relay has no cursor: on from the oldest second, which comes again (WIRE section 8)
        oldest: int = genuine[-1]["created_at"]
        until = oldest
        if place.filter.until == oldest:
            log.warning(
                "%s holds more than %d events of one second; some cannot be read", self.relays[at].url, pages.size
            )
            until -= 1
        place.filter = replace(place.filter, until=until)
        place.border = frozenset(event["id"] for event in genuine if event["created_at"] == oldest)


def _newest_first(event: dict[str, Any]) -> tuple[int, str]:
    at = event.get("created_at")
    return -at if isinstance(at, int) else 0, str(event.get("id"))
