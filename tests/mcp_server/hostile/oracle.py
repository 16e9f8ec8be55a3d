"""What no reader of an answer may meet: an oracle of its own, made from Unicode's tables and not from our code."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import orjson

from anporia_mcp_server.answers import MAX_ANSWER, NOTICE
from tests.mcp_server.hostile.corpus import CANARY, Corpus

__all__ = ["clean", "of_the_whole", "unseen"]

# Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties.txt)
_IGNORABLE = [
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
]  # fmt: skip
_BLANK = "\u2800\U0001d159"
_NEW_EMOJI = (0x1F000, 0x1FAFF)

# where an invisible character does its work: inside an emoji, and after a letter of a script that is joined
_EMOJI = re.compile(
    "(?<=[\u00a9\u00ae\u203c\u2049\u2100-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])[\ufe0e\ufe0f]"
    "|(?<=[0-9#*])\ufe0f(?=\u20e3)"
    "|(?<=[\ufe0f\u2190-\u2bff\U0001f000-\U0001faff])\u200d(?=[\u2190-\u2bff\U0001f000-\U0001faff])"
)
_LETTERS = re.compile("(?<=[\u0620-\u06ff\u0900-\u0dff\u0f00-\u109f\u1780-\u17d3\u1820-\u18aa])[\u200c\u200d]")


def unseen(text: str) -> list[str]:
    """Name every character of a text that nobody sees, or that changes how others look."""
    left = _LETTERS.sub("", _EMOJI.sub("", text))
    return sorted({f"U+{ord(char):04X}" for char in left if _is_unseen(char)})


def _is_unseen(char: str) -> bool:
    code = ord(char)
    if char in "\n\t":
        return False
    if any(first <= code <= last for first, last in _IGNORABLE) or char in _BLANK:
        return True
    if _NEW_EMOJI[0] <= code <= _NEW_EMOJI[1]:
        return False
    return unicodedata.category(char) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")


def walk(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Give every text in an answer with the names it stands under, names that are a stranger's too."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for one in value:
            yield from walk(one, place)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield (*place, "a name"), name
            yield from walk(one, (*place, name))


# the fields in which strangers speak, of each list
_THEIRS = {
    "events": {"content", "tags", "topics", "author_name"},
    "root": {"content", "tags", "topics", "author_name"},
    "replies": {"content", "tags", "topics", "author_name"},
    "request": {"content", "tags", "topics", "author_name"},
    "tasks": {"capability", "input", "reward", "constraints"},
    "agents": {"name", "description", "model_family", "languages"},
    "capabilities": {"name", "description", "input", "output", "price"},
    "rooms": {"topic"},
    "intent": {"goal", "success_criteria", "steps", "topics", "step", "statuses", "verdicts"},
    "intents": {"goal", "success_criteria", "steps", "topics", "step", "verdicts"},
}
_CURSOR = re.compile(r"[0-9]{1,16}-[0-9a-f]{64}|since:[0-9]{1,12}(-[0-9a-f]{16})?|place:[0-9a-f-]{1,80}")


def clean(result: Any, corpus: Corpus) -> Any:
    """Hold a tool's result against everything that must be true of each; gives its structure."""
    of_the_whole(result)
    text, given = result.content[0].text, result.structured_content
    assert not result.is_error, text
    assert json.loads(text) == given, "text and structure differ"
    assert unseen(text) == []
    for place, one in walk(given):
        assert unseen(one) == [], place
        if CANARY in one:
            theirs = _THEIRS.get(place[0] if place else "", set())
            assert len(place) > 1 and place[1] in theirs, f"a stranger's text in {place}"
    assert given.get("notice", NOTICE) == NOTICE
    cursor = given.get("next_cursor")
    assert cursor is None or _CURSOR.fullmatch(cursor), cursor
    for row in (row for name in ("events", "replies") for row in given.get(name, [])):
        marked(row, corpus)
    for name in ("root", "request"):
        if given.get(name) is not None:
            marked(given[name], corpus)
    return given


def of_the_whole(result: Any) -> None:
    """Hold the whole JSON-RPC result against the most that an answer may have."""
    raw = orjson.dumps(result.model_dump(by_alias=True, exclude_none=True, mode="json"))
    assert len(raw) <= MAX_ANSWER, len(raw)


def marked(row: dict[str, Any], corpus: Corpus) -> None:
    """Check that a shown event is genuine, and that what was changed of it says so."""
    event = corpus.genuine[row["id"]]
    assert row["signature"] == "valid"
    assert (row["agent_id"], row["created_at"], row["kind"]) == (event.agent_id, event.created_at, event.kind)
    same = row["content"] == event.content
    if "tags" in row:
        same = same and row["tags"] == [list(tag) for tag in event.tags]
        assert row["sig"] == event.sig
    told = row.get("truncated", False) or row.get("sanitized", False)
    assert same or told, "changed, and nothing says so"
    assert ("resource" in row) == told
    if told:
        assert row["resource"] == f"anporia://event/{event.id}"
