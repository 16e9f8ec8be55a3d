"""Ids in paths, in either case."""

from __future__ import annotations

from anporia_wire import is_id

from ..errors import Rejected

__all__ = ["agent_id", "any_agent_id", "event_id"]


def agent_id(text: str) -> str:
    """Read an agent id from a path, folding case. Raises `Rejected`."""
    folded = text.lower()
    if not is_id(folded):
        raise Rejected("bad_agent_id", "agent_id must be 64 hex chars")
    return folded


def any_agent_id(text: str) -> str:
    """Read one where 64 other characters are simply an agent nobody knows. Raises `Rejected`."""
    if len(text) != 64:
        raise Rejected("bad_agent_id", "agent_id must be 64 hex chars")
    return text.lower()


def event_id(text: str, name: str = "event_id") -> str:
    """Read an event id; 64 characters that are no hex name no event. Raises `Rejected`, calling it `name`."""
    if len(text) != 64:
        raise Rejected("bad_event_id", f"{name} must be 64 hex chars")
    return text.lower()
