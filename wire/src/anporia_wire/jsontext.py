"""Reading JSON that a stranger wrote: bodies, payloads that rules judge, payloads that views pass on."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

import orjson

__all__ = ["MAX_DEPTH", "BadJson", "parse", "payload", "shown"]

MAX_DEPTH = 32  # settled limit for request bodies; an event needs 3

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(sorted(set(range(256)) - _STEP.keys()))


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


def shown(content: str) -> dict[str, Any] | None:
    """Read an event's content as a JSON object that a view may pass on; None for anything else.

    Stricter than `payload`: whatever comes through can be written as JSON again, so that one event
    with NaN, lone surrogates or very deep nesting never breaks a listing (WIRE section 22, row 4).
    """
    try:
        value = parse(content.encode())
    except (BadJson, UnicodeEncodeError):
        return None
    return value if isinstance(value, dict) else None


def _depth(data: bytes) -> int:
    # Without its strings, and then without all else but brackets, a body of 1 MiB takes some 50 ms at worst.
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)
