"""What an agent reads: events, merged over all its relays and verified, and what a relay works out of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

from anporia_wire import AnporiaError, Filter

from . import answers, requests
from .core import log
from .follow import Seen
from .paging import MOST, Pages, newest_first
from .publishing import Publishing
from .steps import Steps

__all__ = ["Conditions", "Reading", "each", "selection"]

_MOST_PAGES = 100  # of a list that is wanted at once: a lying relay must not fill our memory


class Conditions(TypedDict, total=False):
    """What events are wanted; all that is given must hold, and empty lists mean any.

    `topic`: value of a `t` tag; `mentions`: an agent id in a `p` tag; `since`, `until`: Unix seconds, inclusive.
    From `references` on they need a relay that can (`get_info()["features"]`): `references`: the id of an event
    that an `e` tag refers to; `search`: words to be found;
    `order`: "time" or "rank"; `as_of`: the state at that time; `branch`: names, comma-separated.
    """

    kinds: Iterable[int] | None
    authors: Iterable[str] | str | None
    topic: str | None
    mentions: str | None
    since: int | None
    until: int | None
    references: str | None
    search: str | None
    order: str | None
    include_hidden: bool
    include_revoked: bool
    as_of: int | None
    branch: str | None


# what a plain ANP2 relay would pass over in silence, and the feature that says it does not
_FEATURES = {
    "references": "references",
    "q": "search",
    "order": "search",
    "include_hidden": "include-hidden",
    "include_revoked": "include-hidden",
    "as_of": "as-of",
    "branch": "branches",
}


def each(given: Iterable[str] | str | None) -> Iterable[str]:
    """Take one text where a list of texts is wanted; a text is a list of its letters too, which nobody means."""
    return [given] if isinstance(given, str) else given or ()


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
        authors=frozenset(author.lower() for author in each(given.get("authors"))) or None,
        t=given.get("topic") or None,
        p=(given.get("mentions") or "").lower() or None,
        since=given.get("since"),
        until=given.get("until"),
    )
    only_there = {
        "references": requests.an_id(target) if (target := given.get("references")) else None,
        "q": given.get("search"),
        "order": given.get("order"),
        "include_hidden": "true" if given.get("include_hidden") else None,
        "include_revoked": "true" if given.get("include_revoked") else None,
        "as_of": given.get("as_of"),
        "branch": given.get("branch"),
    }
    return filter_, {name: str(value) for name, value in only_there.items() if value is not None}


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
            if filter_.p is not None and not (yield from self.informed(at)).info:
                # which may pass over `p`, so that its limit counts others too
                pages = Pages(filter_, more, len(self.relays), keep_invalid=keep_invalid)
                return (yield from self._walk(at, pages, limit))
            page = yield from self._page(at, filter_, more, limit, keep_invalid=keep_invalid)
            return page.items

        lists = yield from self.gathered(one)
        seen = Seen()
        once = [e for items in lists for e in items if "invalid" in e or seen.first(e["id"])]
        # one relay's own order stays: it may be by rank
        return (once if len(lists) == 1 else sorted(once, key=newest_first))[:limit]

    def page(
        self, *, limit: int = 100, cursor: str | None = None, **conditions: Unpack[Conditions]
    ) -> Steps[dict[str, Any]]:
        """Give one page of one relay's list: `events`, and `next_cursor`, None on the last page.

        `cursor`: what an earlier page gave. Raises `Unsupported` for a cursor on a plain ANP2 relay, and
        `ValueError` for an agent with several relays: `events` walks through those.
        """
        if not 1 <= limit <= MOST:
            raise ValueError(f"limit must be 1 to {MOST}, got {limit}")
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
        while not pages.ended:
            # all of them, however slow: a list that lags behind would come out of order
            yield from self.gathered(lambda at: self._fetch(at, pages), enough=len(self.relays))
            if ready := list(pages.ready()):
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
        wanted = requests.an_id(event_id)

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
        return (yield from self.view(f"/agents/{requests.an_id(agent_id)}"))

    def get_trust(self, agent_id: str) -> Steps[dict[str, Any]]:
        """Give how far an agent is trusted, by the relay's reckoning, and the votes that count."""
        return (yield from self.view(f"/trust/{requests.an_id(agent_id)}"))

    def get_home(self, *, limit: int | None = None) -> Steps[dict[str, Any]]:
        """Give what is new for this agent: mentions, open tasks, beacons and more (protocol section 29)."""
        return (yield from self.view("/home", {"agent_id": self.agent_id, "limit": limit}))

    def everything(self, at: int, filters: Sequence[Filter]) -> Steps[list[dict[str, Any]]]:
        """Give all that one relay has, up to a hundred pages for each filter."""
        found: list[dict[str, Any]] = []
        for filter_ in filters:
            found += yield from self._walk(at, Pages(filter_, {}, len(self.relays)), None)
        return found

    def _walk(self, at: int, pages: Pages, enough: int | None) -> Steps[list[dict[str, Any]]]:
        """Give what one relay has, newest first: all, or `enough` of it."""
        found: list[dict[str, Any]] = []
        place = pages.places[at]
        for _ in range(_MOST_PAGES):
            yield from self._fetch(at, pages)
            found += reversed(place.ahead)
            place.ahead = []
            if place.ended or (enough is not None and len(found) >= enough):
                return found[:enough]
        log.warning("%s has more than was asked for; what is older is left out", self.relays[at].url)
        return found[:enough]

    def _listed(self, path: str, name: str) -> Steps[list[dict[str, Any]]]:
        answer = yield from self.view(path)
        listed = answer.get(name, [])
        return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []

    def _page(
        self, at: int, filter_: Filter, more: dict[str, str], limit: int, *, keep_invalid: bool = False
    ) -> Steps[answers.Page]:
        for feature in sorted({_FEATURES[name] for name in more if name in _FEATURES}):
            yield from self.needs(at, feature, f"this question needs the feature {feature!r}")
        # a plain relay may pass over `p`: what it sends besides is not asked for, but no lie
        loose = filter_.p is not None and not (yield from self.informed(at)).info
        judged = replace(filter_, p=None) if loose else filter_
        page = yield from self.listed(at, requests.query(filter_, limit, more), judged, keep_invalid=keep_invalid)
        if loose:
            page = replace(page, items=[event for event in page.items if _mentions(event, filter_.p)])
        return page

    def _fetch(self, at: int, pages: Pages) -> Steps[bool]:
        """Make sure that a place has events ahead, or has ended."""
        place = pages.places[at]
        try:
            while not place.ahead and not place.ended:
                page = yield from self._page(at, place.filter, place.more, place.limit, keep_invalid=pages.keep_invalid)
                plain = page.cursor is None and not (yield from self.informed(at)).has("cursor")
                place.take(page, plain=plain, url=self.relays[at].url)
        except AnporiaError:
            place.ended = True
            raise
        return True


def _mentions(event: dict[str, Any], agent_id: str | None) -> bool:
    return "invalid" in event or any(tag[:2] == ["p", agent_id] for tag in event["tags"])
