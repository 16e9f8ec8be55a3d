"""Edits of TOML text that leave every other line as it is: one table of `[mcp_servers]` set or taken out.

The standard library reads TOML and does not write it. So the lines are changed, and what came of it is read again: if
that is not what was meant, nothing is changed.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

__all__ = ["parsed", "with_table", "without_table"]

_SERVERS = "mcp_servers"  # what Codex calls them
_HEADER = re.compile(r"^[ \t]*\[")
_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def parsed(text: str) -> dict[str, Any]:
    """Read it. Raises `ValueError` for what is no TOML."""
    return tomllib.loads(text)


def with_table(text: str, name: str, table: dict[str, Any]) -> str:
    """Set the table of a server, at the end of the text. Raises `ValueError` if that cannot be done by lines."""
    wanted = parsed(text)
    servers = wanted.setdefault(_SERVERS, {})
    if not isinstance(servers, dict):
        raise ValueError(f"{_SERVERS!r} in it is no table")  # noqa: TRY004  # as in json_edits
    servers[name] = table
    rest = _cut(text, name)
    lines = [f"[{_SERVERS}.{name}]", *(f"{_key(key)} = {_value(value)}" for key, value in table.items())]
    line = "\r\n" if "\r\n" in text else "\n"
    before = rest.rstrip()
    return _checked((before + 2 * line if before else "") + line.join(lines) + line, wanted)


def without_table(text: str, name: str) -> str:
    """Take the table of a server out. Raises `ValueError` if that cannot be done by lines."""
    wanted = parsed(text)
    if name not in wanted.get(_SERVERS, {}):
        return text
    del wanted[_SERVERS][name]
    if not wanted[_SERVERS]:
        del wanted[_SERVERS]
    return _checked(_cut(text, name), wanted)


def _cut(text: str, name: str) -> str:
    ours = re.compile(rf"^[ \t]*\[[ \t]*{_SERVERS}[ \t]*\.[ \t]*([\"']?){re.escape(name)}\1[ \t]*[.\]]")
    kept: list[str] = []
    held: list[str] = []  # blank lines and comments below our table may speak of the next one
    inside = False
    for line in text.splitlines(keepends=True):
        if _HEADER.match(line):
            inside = ours.match(line) is not None
        if not inside:
            kept += [*_apart(kept, held), line]
            held = []
        elif not line.strip() or line.lstrip().startswith("#"):
            held.append(line)
        else:
            held = []
    kept += _apart(kept, held)
    while inside and kept and not kept[-1].strip():  # the blank lines above a table that was the last
        kept.pop()
    return "".join(kept)


def _apart(kept: list[str], held: list[str]) -> list[str]:
    """Leave one blank line where our table stood between two."""
    at = 0
    while kept and not kept[-1].strip() and at < len(held) and not held[at].strip():
        at += 1
    return held[at:]


def _checked(text: str, wanted: dict[str, Any]) -> str:
    try:
        found = parsed(text)
    except ValueError:
        found = None
    if found != wanted:
        raise ValueError("its tables are written in a way that is not changed by itself")
    return text


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool() | int() | float():
            return json.dumps(value)
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            inside = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items())
            return f"{{ {inside} }}" if inside else "{}"
    raise ValueError(f"a {type(value).__name__} in it is not written by itself")
