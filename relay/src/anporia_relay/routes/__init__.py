"""The table of routes; each module holds the routes of one subject. HTTP to domain, no decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..http import Route
from . import about, agents, discovery, events, home, intents, publish, social, stream, tasks, trust

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["table"]


def table(relay: Relay) -> list[Route]:
    """Give every route of a relay; each is served under `/` and under `/api`."""
    subjects = (publish, events, stream, agents, trust, tasks, intents, social, discovery, home, about)
    return [route for subject in subjects for route in subject.routes(relay)]
