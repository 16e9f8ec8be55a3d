"""The event log: append with group commit, query, replay, audit, back up. SQLite through aiosqlite."""

from .audit import Finding, audit
from .cursor import Cursor, RankCursor
from .errors import (
    QueryTooExpensive,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreUnusable,
)
from .index import SearchIndex
from .query import DISTRUSTED, FLAGGED, HIDDEN, LOBBY, REVOKED, Query
from .sqlite import SqliteStore
from .store import Appended, Committed, Counted, Page, Replay, Store, Stored
from .words import MAX_QUESTION_CHARS, SEARCHED, match_expression

__all__ = [
    "DISTRUSTED",
    "FLAGGED",
    "HIDDEN",
    "LOBBY",
    "MAX_QUESTION_CHARS",
    "REVOKED",
    "SEARCHED",
    "Appended",
    "Committed",
    "Counted",
    "Cursor",
    "Finding",
    "Page",
    "Query",
    "QueryTooExpensive",
    "RankCursor",
    "Replay",
    "SearchIndex",
    "SqliteStore",
    "Store",
    "StoreBusy",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "StoreUnusable",
    "Stored",
    "audit",
    "match_expression",
]
