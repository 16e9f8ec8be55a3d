"""Where one is in the lists of several relays, newest first: what to ask next, and what comes next of all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from anporia_wire import Filter

from .answers import Page
from .errors import BadAnswer
from .follow import Seen

__all__ = ["MOST", "Pages", "Place", "newest_first"]

log = logging.getLogger("anporia.client")

MOST = 1000  # events a page (protocol section 8)
_MOST_BARREN = 20  # pages in a row: more than hidden or strangers' events ever fill


@dataclass(slots=True)
class Place:
    """Where one is in one relay's list. `ahead`: fetched and not yet given, the next one last."""

    filter: Filter
    more: dict[str, str]
    size: int
    ahead: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False
    _seen: Seen = field(default_factory=Seen)
    _barren: int = 0  # pages in a row that gave nothing
    _limit: int = 0  # events asked for now, where not `size`
    _known: frozenset[str] = frozenset()  # ids of the page before, which the next one repeats in part

    @property
    def limit(self) -> int:
        """How many events to ask for."""
        return self._limit or self.size

    def take(self, page: Page, *, plain: bool, url: str) -> None:
        """Take the page that was asked for, and go on. `plain`: the relay knows no cursors.

        Raises `BadAnswer` for a list that goes on and on without giving anything.
        """
        # what does not verify is marked apart: a forged event must not take the place of the true one
        self.ahead = [
            event for event in page.items if self._seen.first(f"{event.get('invalid', '')} {event.get('id')}")
        ]
        self.ahead.reverse()
        self._barren = 0 if self.ahead else self._barren + 1
        if self._barren > _MOST_BARREN:
            raise BadAnswer("the list goes on without giving anything", url)
        if page.cursor is not None:
            self.more = {**self.more, "cursor": page.cursor}
        elif plain and self.more.get("order") != "rank":
            self._go_back(page, url)
        else:
            self.ended = True

    def _go_back(self, page: Page, url: str) -> None:
        """Go on from the oldest second, which comes again (WIRE section 8).

        A short page is not the last: published relays leave hidden events out after they cut the page.
        """
        fresh = any(id_ not in self._known for _, id_ in page.received)
        oldest = min((at for at, _ in page.received), default=None)
        if fresh and oldest is not None:
            self._limit = 0
            self._known = frozenset(id_ for _, id_ in page.received)
        elif self.limit < MOST:
            self._limit = MOST  # this second may hold more than a page
            return
        elif oldest is not None and len(page.received) >= MOST:
            log.warning("%s holds more than %d events of one second; some of them cannot be read", url, MOST)
            oldest -= 1
        else:
            self.ended = True
            return
        self.filter = replace(self.filter, until=oldest)


class Pages:
    """A walk through everything that matches, at every relay; `Reading.next_page` goes on with it."""

    def __init__(
        self, filter_: Filter, more: dict[str, str], relays: int, *, keep_invalid: bool = False, size: int = MOST
    ) -> None:
        if not 1 <= size <= MOST:
            raise ValueError(f"a page has 1 to {MOST} events, got {size}")
        self.keep_invalid = keep_invalid
        self.places = [Place(filter_, more, size) for _ in range(relays)]
        self._given = Seen()

    @property
    def ended(self) -> bool:
        """Whether there is nothing more."""
        return all(place.ended and not place.ahead for place in self.places)

    def ready(self) -> Iterator[dict[str, Any]]:
        """Give what is certain to come next of all relays' events, each once, as far as that is fetched."""
        while open_ := [place for place in self.places if place.ahead]:
            first = min(open_, key=lambda place: newest_first(place.ahead[-1])) if len(open_) > 1 else open_[0]
            event = first.ahead.pop()
            if "invalid" in event or self._given.first(event["id"]):
                yield event
            if not first.ahead and not first.ended:
                return  # its next event may be newer than those of the others


def newest_first(event: dict[str, Any]) -> tuple[int, str]:
    """Order events as relays do: by date, the newest first, then by id; what is no event may have any."""
    at = event.get("created_at")
    return -at if isinstance(at, int) else 0, str(event.get("id"))
