"""Edits of JSON text that leave every other byte as it is: one member set or taken out, in its neighbours' style.

What came of an edit is read again: if that is not what was meant, nothing is changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["parsed", "with_item", "with_member", "without_item", "without_member"]

_SPACE = re.compile(r"[ \t\n\r]*")
_INDENTED = re.compile(r"\n([ \t]+)\S")
_DECODER = json.JSONDecoder()

Path = Sequence[str]  # the keys that lead to an object or a list


@dataclass(frozen=True, slots=True)
class _Part:
    """A member of an object or an item of a list: where it begins, where its value begins, and where both end."""

    key: str | None
    start: int
    value: int
    end: int


def parsed(text: str) -> dict[str, Any]:
    """Read an object; no text at all is an empty one. Raises `ValueError` for comments, trailing commas and the like.

    A key that stands twice in one object is refused: nobody knows which of the two its owner means.
    """
    found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number) if text.strip() else {}
    if not isinstance(found, dict):
        raise ValueError("it holds no object")  # noqa: TRY004  # one kind of error for all that the text may be
    return found


def with_member(text: str, path: Path, name: str, value: Any) -> str:
    """Set a member of the object at `path`, which is made if it is not there.

    Raises `ValueError` as `parsed` does, and where something else than an object stands on the way.
    """
    wanted = parsed(text)
    _inside(wanted, path, dict)[name] = value
    return _checked(_with_member(text if text.strip() else "{}\n", path, name, value), wanted)


def with_item(text: str, path: Path, value: Any) -> str:
    """Add an item to the list at `path`, which is made if it is not there. Raises `ValueError` as `with_member`."""
    wanted = parsed(text)
    _inside(wanted, path, list).append(value)
    text = text if text.strip() else "{}\n"
    if not _has(text, path):
        return _checked(_with_member(text, path[:-1], path[-1], [value]), wanted)
    at = _place(text, path)
    return _checked(_inserted(text, at, *_parts(text, at), "", value), wanted)


def without_member(text: str, path: Path, name: str) -> str:
    """Take a member out of the object at `path`; one that is not there is no error."""
    wanted = parsed(text)
    found = _inside(wanted, path, dict)
    if name not in found:
        return text
    del found[name]
    return _checked(_without(text, path, lambda part: part.key == name), wanted)


def without_item(text: str, path: Path, unwanted: Callable[[Any], bool]) -> str:
    """Take the first item that is not wanted out of the list at `path`."""
    wanted = parsed(text)
    found = _inside(wanted, path, list)
    number = next((number for number, one in enumerate(found) if unwanted(one)), None)
    if number is None:
        return text
    del found[number]
    return _checked(_without(text, path, lambda part: unwanted(_DECODER.raw_decode(text, part.value)[0])), wanted)


def _inside(wanted: dict[str, Any], path: Path, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
    """Give what a document that was read holds at `path`, and make it where it is not there."""
    found: Any = wanted
    for number, key in enumerate(path, 1):
        one = kind if number == len(path) else dict
        found = found.setdefault(key, one())
        if not isinstance(found, one):
            # one kind of error for all that the text may be
            raise ValueError(f"{key!r} in it is no {'list' if one is list else 'object'}")  # noqa: TRY004
    return found


def _checked(text: str, wanted: dict[str, Any]) -> str:
    try:
        found = parsed(text)
    except ValueError:
        found = None
    if found != wanted:
        raise ValueError("it is written in a way that is not changed by itself")
    return text


def _with_member(text: str, path: Path, name: str, value: Any) -> str:
    if path and not _has(text, path):
        return _with_member(text, path[:-1], path[-1], {name: value})
    at = _place(text, path)
    parts, close = _parts(text, at)
    there = next((part for part in parts if part.key == name), None)
    if there is not None:
        return text[: there.value] + _written(text, value, _indent_at(text, there.start)) + text[there.end :]
    return _inserted(text, at, parts, close, f"{json.dumps(name, ensure_ascii=False)}: ", value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} in it is no JSON")


def _has(text: str, path: Path) -> bool:
    try:
        _place(text, path)
    except KeyError:
        return False
    return True


def _place(text: str, path: Path) -> int:
    """Find where the object or list at `path` begins. Raises `KeyError` if it is not there."""
    at = _after_space(text, 0)
    for key in path:
        parts, _ = _parts(text, at)
        at = next((part.value for part in parts if part.key == key), -1)
        if at < 0:
            raise KeyError(key)
    return at


def _parts(text: str, at: int) -> tuple[list[_Part], int]:
    """Give what the object or list at `at` holds, and where it closes. The text must be JSON."""
    found: list[_Part] = []
    named = text[at] == "{"
    at = _after_space(text, at + 1)
    while text[at] not in "}]":
        start, key = at, None
        if named:
            key, at = _DECODER.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        found.append(_Part(key, start, at, end))
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return found, at


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _inserted(text: str, at: int, parts: list[_Part], close: int, key: str, value: Any) -> str:
    line = _line_end(text)
    if parts:
        end = parts[-1].end
        if "\n" not in text[at : parts[0].start]:  # all on one line: so is what comes to it
            return f"{text[:end]}, {key}{json.dumps(value, ensure_ascii=False)}{text[end:]}"
        indent = _indent_at(text, parts[0].start)
        return f"{text[:end]},{line}{indent}{key}{_written(text, value, indent)}{text[end:]}"
    around = _indent_at(text, at)
    indent = around + _unit(text)
    opening, closing = text[at], text[close]
    inside = f"{key}{_written(text, value, indent)}"
    return f"{text[:at]}{opening}{line}{indent}{inside}{line}{around}{closing}{text[close + 1 :]}"


def _without(text: str, path: Path, unwanted: Callable[[_Part], bool]) -> str:
    at = _place(text, path)
    parts, close = _parts(text, at)
    number = next(number for number, part in enumerate(parts) if unwanted(part))
    if len(parts) == 1:
        return text[: at + 1] + text[close:]
    if number:
        return text[: parts[number - 1].end] + text[parts[number].end :]
    return text[: parts[0].start] + text[parts[1].start :]


def _written(text: str, value: Any, indent: str) -> str:
    lines = json.dumps(value, indent=_unit(text), ensure_ascii=False).split("\n")
    return f"{_line_end(text)}{indent}".join(lines)


def _unit(text: str) -> str:
    found = _INDENTED.search(text)
    return found[1] if found else "  "


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _indent_at(text: str, at: int) -> str:
    """Give the white space that the line of this place begins with."""
    begin = text.rfind("\n", 0, at) + 1
    found = re.compile(r"[ \t]*").match(text, begin)
    return found[0] if found else ""
