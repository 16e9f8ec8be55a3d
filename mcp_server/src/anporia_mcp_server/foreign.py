"""Text that strangers wrote, made fit to be read by a model and a person: nothing invisible, nothing endless.

What a relay hands on may try to steer whoever reads it. Here such text is cut to a length, and characters that
nobody sees, or that change how others look, become visible: U+202E reads `<U+202E>`. It stays text: what it says
is not judged. The exact characters are in the resource of the event.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import orjson

__all__ = [
    "CONTENT",
    "DESCRIPTION",
    "NAME",
    "REASON",
    "Showing",
    "Text",
    "event_view",
    "one_line",
    "plain_name",
    "size",
]

# characters shown of each field (design of the tools: what a reader needs to decide whether to read on)
CONTENT, DESCRIPTION, REASON, NAME = 4_000, 300, 300, 80
_TAG_MEMBER = 200  # a topic, an id, a short value
_MEMBERS = 64  # of a list or an object of theirs
_DEPTH = 6  # of lists and objects of theirs
_TAGS = 32  # as many as an event may have (protocol section 3)
_CONTENT_ROOM = 33_000  # bytes as `size` counts: 4,000 of any character that is shown as it is
_TAGS_ROOM = 12_000  # an event may hold 500 kB of tags

# what needs no look: ASCII but control characters, and the letters, signs and CJK in which nearly all text is written
_HARMLESS = re.compile(
    r"[\n\t -~¡-¬®-\u02ff\u0370-\u0373\u0376-\u0377\u037a-\u037f\u0384-\u038a\u03a3-\u03ff\u0400-\u0482"
    r"\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u3001-\u303f\u3041-\u3096\u30a0-\u30ff\u4e00-\u9fff\uac00-\ud7a3"
    r"\uff01-\uff9f]*"
)
_HIDDEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0\U00016fe4\U0001d159"
)  # letters that show nothing
_UNSEEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_PICTURES = range(0x1F000, 0x1FB00)  # kept for emoji: those of later Unicode than this Python's are seen too
_JOINERS = "\u200c\u200d"
_STYLES = "\ufe0e\ufe0f"  # text or emoji style of the sign before it
_STYLED = frozenset("‼⁉〰ℹ")  # signs with an emoji style that are no symbols by their category
_KEYS = frozenset("0123456789#*")
_KEYCAP = "\u20e3"
# where scripts lie whose letters are joined or kept apart by U+200C and U+200D: Arabic to Myanmar, Khmer and
# Mongolian, Tai Tham to Vedic, Indic ones further on, forms of Arabic, scripts of old
_JOINED_SCRIPTS = (
    range(0x0600, 0x10A0), range(0x1780, 0x18B0), range(0x1A00, 0x1D00), range(0xA800, 0xAC00),
    range(0xFB50, 0xFE00), range(0xFE70, 0xFEFF), range(0x10A00, 0x12000),
)  # fmt: skip
_PLAIN_NAME = re.compile(r"[\w.:/+#@-]{1,64}")


class Text(str):
    """A shown text; `cut` and `escaped` say what was done to it."""

    __slots__ = ("cut", "escaped")
    cut: bool
    escaped: bool

    @classmethod
    def of(cls, value: object, most: int = CONTENT) -> Text:
        """Show a stranger's value, which may be of any type: text at most `most` characters long, else empty."""
        given = value if isinstance(value, str) else ""
        kept = given[:most]
        shown = kept if _HARMLESS.fullmatch(kept) else _visible(kept)
        text = cls(shown)
        text.cut, text.escaped = len(given) > most, shown != kept
        return text


def one_line(value: object, most: int) -> Text:
    """Show a name or another short text, line ends and runs of spaces as one space."""
    return Text.of(" ".join(value.split()) if isinstance(value, str) else value, most)


def plain_name(value: object) -> bool:
    """Say whether a name is one of letters, digits and few signs: no room for a sentence."""
    return isinstance(value, str) and _PLAIN_NAME.fullmatch(value) is not None and not Text.of(value).escaped


def size(value: object) -> int:
    """Give the bytes that a value takes of an answer, in which it stands twice: as structure, and as text in JSON."""
    raw = orjson.dumps(value)
    return len(raw) + len(orjson.dumps(raw.decode()))


class Showing:
    """Shows what strangers say in one row of an answer, in bytes (`size`) at most `room`, but for what is around it.

    `cut`, `escaped`: what was done to any text of it; `full`: whether there was too little room.
    """

    def __init__(self, room: int) -> None:
        self.left = room
        self.cut = self.escaped = self.full = False

    def text(self, value: object, most: int, *, line: bool = False) -> Text:
        """Show a text, or as much of it as there is room for."""
        make = one_line if line else Text.of
        shown = make(value, most)
        while (weight := size(shown)) > self.left and shown:
            self.full = True
            most = min(most, len(str(value))) * max(self.left, 0) // weight
            shown = make(value, most)
        self.left -= weight
        self.cut, self.escaped = self.cut or shown.cut, self.escaped or shown.escaped
        return shown

    def tree(self, value: Any, most: int = DESCRIPTION, depth: int = _DEPTH) -> Any:
        """Show a JSON value: each text in it cut to `most` characters, lists and objects to 64 members."""
        if isinstance(value, str):
            return self.text(value, most)
        if isinstance(value, list):
            return [self.tree(one, most, depth - 1) for one in self._members(value, depth)]
        if isinstance(value, dict):
            members = self._members(list(value.items()), depth)
            # a key must be of the very type str to become JSON
            return {str(self.text(key, NAME, line=True)): self.tree(one, most, depth - 1) for key, one in members}
        self.left -= 48
        # what is beyond 64 bits cannot be written as JSON again
        known = isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**64)
        return value if known else None

    def marks(self, resource: str) -> dict[str, Any]:
        """Say what was done, if anything was: `truncated`, `sanitized`, and `resource`, where the exact words are."""
        told = {"truncated": self.cut, "sanitized": self.escaped}
        return {name: True for name, true in told.items() if true} | (
            {"resource": resource} if self.cut or self.escaped else {}
        )

    def _members(self, of: list[Any], depth: int) -> Any:
        """Give as many members as are shown."""
        for number, one in enumerate(of):
            if number == _MEMBERS or self.left <= 0 or not depth:
                self.cut, self.full = True, self.full or self.left <= 0
                return
            self.left -= 8
            yield one


def event_view(event: Mapping[str, Any], *, author_name: str | None, concise: bool = False) -> dict[str, Any]:
    """Give a verified event as a tool answers it: the envelope, what was checked, and what was done to its texts.

    `truncated` and `sanitized` stand there when they are true, with `resource`, where the exact event is.
    """
    showing = Showing(_CONTENT_ROOM)
    content = showing.text(event["content"], CONTENT)
    showing.left = _TAGS_ROOM
    tags = []
    for tag in event["tags"][:_TAGS]:
        if showing.left <= 0:
            showing.cut = True
            break
        tags.append([showing.text(member, _TAG_MEMBER) for member in tag[:_TAGS]])
        showing.cut = showing.cut or len(tag) > _TAGS
    view: dict[str, Any] = {"id": event["id"], "agent_id": event["agent_id"], "author_name": author_name}
    view |= {"created_at": event["created_at"], "kind": event["kind"]}
    if concise:
        topics = [tag[1] for tag in tags if len(tag) > 1 and tag[0] == "t"]
        view |= {"topics": topics} if topics else {}
        view["content"] = content
    else:
        view |= {"tags": tags, "content": content, "sig": event["sig"]}
    view["signature"] = "valid"
    return view | showing.marks(f"anporia://event/{event['id']}")


def _visible(text: str) -> str:
    shown: list[str] = []
    before = ""  # the character before, if it was kept: what is escaped joins nothing
    for at, char in enumerate(text):
        kept = _is_seen(char) or _joins(before, char, text[at + 1 : at + 2])
        shown.append(char if kept else f"<U+{ord(char):04X}>")
        before = char if kept else ""
    return "".join(shown)


def _is_seen(char: str) -> bool:
    if char in "\n\t":
        return True
    if char in _HIDDEN or "\ufe00" <= char <= "\ufe0f" or "\U000e0000" <= char <= "\U000e0fff":
        return False
    category = unicodedata.category(char)
    return category not in _UNSEEN or (category == "Cn" and ord(char) in _PICTURES)


def _joins(before: str, char: str, after: str) -> bool:
    """Say whether an invisible character does what it is for: inside an emoji, or between letters of a script."""
    if not before:
        return False
    if char in _STYLES:
        return before in _STYLED or _is_picture(before) or (before in _KEYS and after == _KEYCAP)
    if char not in _JOINERS:
        return False
    # between Latin letters, or signs of CJK, it would only hide
    if any(ord(before) in script for script in _JOINED_SCRIPTS):
        return unicodedata.category(before) in ("Lo", "Lm", "Mn", "Mc")
    begun = before in _STYLES or _is_picture(before) or unicodedata.category(before) == "Sk"
    return char == "\u200d" and begun and after != "" and _is_picture(after)


def _is_picture(char: str) -> bool:
    category = unicodedata.category(char)
    return category == "So" or (category == "Sm" and char >= "\u2190") or ord(char) in _PICTURES
