"""Reading JSON that a stranger wrote: bodies, payloads that rules judge, payloads that views pass on."""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Any

import orjson

__all__ = ["MAX_CONTAINERS", "MAX_DEPTH", "BadJson", "parse", "payload", "shown"]

MAX_DEPTH = 32  # settled limit for request bodies; an event needs 3
MAX_CONTAINERS = 2_000  # of one payload that a view reads: 64 KiB of nothing but "[]," took 5 ms and 2 MB

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

    Whatever comes through can be written as JSON again, so that one event never breaks a listing (WIRE section 22,
    row 4): numbers that are not finite or beyond 64 bits and texts with lone surrogates count as null in their
    place, and more than `MAX_CONTAINERS` arrays and objects, or more than `MAX_DEPTH` levels, as no object at all.
    """
    try:
        data = content.encode()
    except UnicodeEncodeError:
        return None
    brackets = data.count(b"[") + data.count(b"{")
    if brackets > MAX_DEPTH and ((brackets > MAX_CONTAINERS and _too_many(data)) or _depth(data) > MAX_DEPTH):
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _mended(content)
    return value if isinstance(value, dict) else None


def _mended(content: str) -> Any:
    """Read what is JSON but for single values, as Python writes NaN or half of an emoji."""
    try:
        value = json.loads(content, parse_float=_finite, parse_int=_within_64_bits, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return _writable(value)


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return value if _is_unicode(value) else None
    if isinstance(value, list):
        return [_writable(one) for one in value]
    if isinstance(value, dict):
        return {key: _writable(one) for key, one in value.items() if _is_unicode(key)}
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _within_64_bits(text: str) -> int | None:
    number = int(text) if len(text) <= 20 else 2**64  # 20 characters hold every number of 64 bits
    return number if -(2**63) <= number < 2**64 else None


def _too_many(data: bytes) -> bool:
    """Say whether there are too many arrays and objects, not counting brackets inside strings."""
    bare = _STRING.sub(b"", data)
    return bare.count(b"[") + bare.count(b"{") > MAX_CONTAINERS


def _depth(data: bytes) -> int:
    # Without its strings, and then without all else but brackets, a body of 1 MiB takes some 50 ms at worst.
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)
