"""The two events by which one key hands over to another: each names the other, so neither can be claimed alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from anporia_wire.intents import KEY_ROTATION, SCHEMAS

__all__ = ["KEY_ROTATION", "SCHEMA", "Draft", "announced", "confirmed", "named"]

SCHEMA = SCHEMAS[KEY_ROTATION]  # kinds 1000 to 1999 say by one tag `s` what they mean

Draft = tuple[int, str, list[tuple[str, str]]]


def announced(new_id: str) -> Draft:
    """Give kind, content and tags of what the old key signs: `new_id` is its successor."""
    return _draft("successor", new_id)


def confirmed(old_id: str) -> Draft:
    """Give kind, content and tags of what the new key signs: it follows on `old_id`, its predecessor."""
    return _draft("predecessor", old_id)


def named(event: Mapping[str, Any], role: Literal["successor", "predecessor"]) -> str | None:
    """Say whom an event of this kind names in a role; None when it names nobody."""
    if event.get("kind") != KEY_ROTATION or ["s", SCHEMA] not in [list(tag) for tag in event.get("tags", ())]:
        return None
    try:
        content = json.loads(event.get("content", ""))
    except ValueError:
        return None
    name = content.get(role) if isinstance(content, dict) else None
    return name if isinstance(name, str) else None


def _draft(role: str, agent_id: str) -> Draft:
    return KEY_ROTATION, json.dumps({role: agent_id}, separators=(",", ":")), [("s", SCHEMA), ("p", agent_id)]
