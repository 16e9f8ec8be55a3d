"""Reading JSON that a stranger wrote: depth bounded, one error type, no floats beyond range."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

__all__ = ["MAX_DEPTH", "BadJson", "parse", "payload"]

MAX_DEPTH = 32  # settled limit for request bodies; an event needs 3

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class BadJson(ValueError):
    """The text is not JSON, or nests deeper than `MAX_DEPTH`."""


def parse(data: bytes) -> Any:
    """Parse UTF-8 JSON; NaN, byte order marks, lone surrogates and deep nesting are `BadJson`."""
    # Counting brackets is far cheaper than following strings, and settles nearly every event.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise BadJson(f"nested deeper than {MAX_DEPTH} levels")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise BadJson(str(exc)) from None


def payload(content: str) -> dict[str, Any]:
    """Read an event's content as a JSON object; anything else counts as `{}` (WIRE section 5).

    NaN and infinities come through as floats, as published relays read them, so that a rule can
    refuse them by name instead of taking the field for absent.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _depth(data: bytes) -> int:
    deepest = level = 0
    for token in _TOKEN.finditer(data):
        first = token.group()[:1]
        if first in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif first != b'"':
            level -= 1
    return deepest
