"""How much an event may hold: content, tags, tag members, all counted in bytes of UTF-8."""

from __future__ import annotations

from collections.abc import Sequence

from ..check import Area, Body
from ..probe import Probe, equal

AREA = Area("sizes")

_CONTENT, _TAGS, _MEMBER = 65_536, 32, 1_024  # the protocol's, section 5 there

Tags = Sequence[Sequence[str]]


def _fits(content: str, tags: Tags) -> Body:
    def body(probe: Probe) -> None:
        event = probe.said(1, content, *tags)
        row = probe.value(f"/events/{event.id}")
        equal(len(row["content"]), len(content), "characters of content")
        equal(row["tags"], [list(tag) for tag in tags], "tags")

    return body


def _too_large(content: str, tags: Tags) -> Body:
    def body(probe: Probe) -> None:
        probe.rejects(probe.forge(probe.key(), 1, content, tags))

    return body


_FITS: list[tuple[str, str, str, Tags]] = [
    ("content-of-65536-bytes", "Content of 65,536 bytes is taken.", "a" * _CONTENT, ()),
    ("content-of-wide-characters", "21,845 characters of three bytes are taken.", "€" * (_CONTENT // 3), ()),
    ("32-tags", "32 tags are taken.", "", [("x", str(n)) for n in range(_TAGS)]),
    ("tag-value-of-1024-bytes", "A tag value of 1,024 bytes is taken.", "", [("x", "a" * _MEMBER)]),
    ("tag-value-of-wide-characters", "A tag value of 256 emoji is taken.", "", [("x", "😀" * (_MEMBER // 4))]),
    ("tag-name-of-1024-bytes", "A tag name of 1,024 bytes is taken.", "", [("a" * _MEMBER, "x")]),
    ("many-large-members", "A tag of many members, each 1,024 bytes, is taken.", "", [("x", *["a" * _MEMBER] * 20)]),
]
_TOO_LARGE: list[tuple[str, str, str, Tags]] = [
    ("content-of-65537-bytes", "Content of 65,537 bytes is 400.", "a" * (_CONTENT + 1), ()),
    ("content-is-counted-in-bytes", "21,846 characters of three bytes are 400.", "€" * (_CONTENT // 3 + 1), ()),
    ("33-tags", "33 tags are 400.", "", [("x", str(n)) for n in range(_TAGS + 1)]),
    ("33-empty-tags", "33 tags without members are 400.", "", [()] * (_TAGS + 1)),
    ("tag-value-of-1025-bytes", "A tag value of 1,025 bytes is 400.", "", [("x", "a" * (_MEMBER + 1))]),
    ("tag-value-is-counted-in-bytes", "A tag value of 257 emoji is 400.", "", [("x", "😀" * (_MEMBER // 4 + 1))]),
    ("tag-name-of-1025-bytes", "A tag name of 1,025 bytes is 400.", "", [("a" * (_MEMBER + 1), "x")]),
    ("third-member-of-1025-bytes", "Every member counts, not only the value.", "", [("x", "y", "a" * (_MEMBER + 1))]),
]

for _name, _claim, _content, _tags in _FITS:
    AREA.add(f"{_name}-fits", "core", "3", _claim, _fits(_content, _tags))
for _name, _claim, _content, _tags in _TOO_LARGE:
    AREA.add(f"{_name}-refused" if _name[0].isdigit() else _name, "core", "3", _claim, _too_large(_content, _tags))
