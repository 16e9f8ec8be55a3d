"""The event log: append with group commit, query, replay, audit, back up. SQLite through aiosqlite."""

from .audit import Finding, audit
from .errors import (
    QueryTooExpensive,
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreUnusable,
)
from .query import HIDDEN, LOBBY, REVOKED, Cursor, Query
from .sqlite import SqliteStore
from .store import Appended, Committed, Page, Replay, Store, Stored

__all__ = [
    "HIDDEN",
    "LOBBY",
    "REVOKED",
    "Appended",
    "Committed",
    "Cursor",
    "Finding",
    "Page",
    "Query",
    "QueryTooExpensive",
    "Replay",
    "SqliteStore",
    "Store",
    "StoreBusy",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "StoreUnusable",
    "Stored",
    "audit",
]
