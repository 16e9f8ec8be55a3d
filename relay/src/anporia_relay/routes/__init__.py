"""The table of routes; each module holds the routes of one subject. HTTP to domain, no decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..http import Route
from . import about, agents, events, publish, stream

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["table"]


def table(relay: Relay) -> list[Route]:
    """Give every route of a relay; each is served under `/` and under `/api`."""
    return [
        *publish.routes(relay),
        *events.routes(relay),
        *stream.routes(relay),
        *agents.routes(relay),
        *about.routes(relay),
    ]
