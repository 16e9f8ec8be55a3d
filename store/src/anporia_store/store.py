"""What a store promises, whatever engine keeps it. Implementations pass the same tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from anporia_wire import Event, Filter

from .cursor import Cursor, RankCursor
from .query import Query

__all__ = ["Appended", "Committed", "Counted", "Page", "Replay", "Store", "Stored"]


@dataclass(frozen=True, slots=True)
class Appended:
    """The durable place of an event: `seq` counts from 1 in commit order; `new` is False for a known id."""

    seq: int
    new: bool


@dataclass(frozen=True, slots=True)
class Committed:
    """One new event as it went to disk: what live subscribers and views are fed with, in seq order."""

    seq: int
    event: Event
    serialised: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """One event read back by id. `mark` is a union of REVOKED, FLAGGED, DISTRUSTED and LOBBY."""

    seq: int
    serialised: bytes
    mark: int


@dataclass(frozen=True, slots=True)
class Page:
    """Serialised events, newest first, and where the next page begins (None on the last).

    `next` alone says whether there is more: damaged or very large events make a page shorter than asked for.
    """

    rows: list[bytes]
    next: Cursor | RankCursor | None


@dataclass(frozen=True, slots=True)
class Replay:
    """Part of the log: (seq, serialised) in seq order, and the seq up to which it is complete."""

    rows: list[tuple[int, bytes]]
    complete_to: int


@dataclass(frozen=True, slots=True)
class Counted:
    """How many events match; when not `exact`, at least so many."""

    count: int
    exact: bool


class Store(Protocol):
    """An append-only log of events that are already known to be valid."""

    database_id: str
    """8 hex, drawn when the database was made: stream cursors name it."""
    first_seq: int
    """The oldest seq that is still here, 1 as long as nothing is ever removed."""
    last_seq: int
    """The newest committed seq, 0 when empty."""
    writable: bool
    """Whether the last transaction succeeded; a full disk makes it False until one does again."""
    on_commit: Callable[[Sequence[Committed]], None]
    """Called on the event loop with each batch once it is durable and before `append` returns."""

    async def append(self, events: Sequence[Event]) -> list[Appended]:
        """Keep events; returns once all are durable. Raises `StoreFull`; then none of them is acknowledged."""
        ...

    async def get(self, event_id: str) -> Stored | None:
        """Read one event by its full lower-case id. Raises `StoreDamaged` if its bytes changed on disk."""
        ...

    async def get_many(self, event_ids: Collection[str]) -> dict[str, Stored]:
        """Read events by their full lower-case ids; what is not here, not whole, or beyond one answer is left out."""
        ...

    async def author_and_kind(self, event_id: str) -> tuple[str, int] | None:
        """Say who wrote an event and its kind, also for one that is being committed right now."""
        ...

    async def query(self, query: Query) -> Page:
        """Read a page, newest first (`created_at` descending, then id ascending). Damaged rows are left out."""
        ...

    async def count(self, query: Query) -> Counted:
        """Count what matches, whatever the query's limit and cursor; stops at `MAX_COUNT`."""
        ...

    async def thread(self, event_id: str, limit: int) -> tuple[list[bytes], bool]:
        """Read the event itself and those with an `e` tag of it, oldest first, hidden and revoked included.

        At most `limit` events and what one answer may hold; says whether that is all of them.
        """
        ...

    async def distrust(self, targets: Set[str]) -> int:
        """Mark exactly these events DISTRUSTED, also those that come later; gives how many changed."""
        ...

    async def replay(self, after: int, filter_: Filter, limit: int) -> Replay:
        """Read at most `limit` matching events with seq > after, in seq order, hidden and revoked included."""
        ...

    async def revocation(self, event_id: str) -> bytes | None:
        """Give the first stored kind 9 by the author that revokes the event."""
        ...

    async def flags(self, event_id: str) -> list[bytes]:
        """Give the newest 1,000 kind-7 events that flag this one, newest first."""
        ...

    async def close(self) -> None:
        """Finish what is queued and release the files."""
        ...
