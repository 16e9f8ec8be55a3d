"""What strangers wrote, made fit to be read: held against an oracle from Unicode's tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_mcp_server.answers import MAX_ANSWER, fitting, size
from anporia_mcp_server.foreign import CONTENT, Showing, Text, event_view, one_line, plain_name
from anporia_wire import Event
from tests.mcp_server.hostile.corpus import HOSTILE, ORDINARY
from tests.mcp_server.hostile.oracle import unseen
from tests.wire.samples import ALICE, json_values, tags_of_strangers

_ENDLESS = 10**9
# what joins and hides, beside what may be joined by it
_SLY = st.text(
    alphabet="a1#\u0645\u0915\u094d\u4e2d\uac00\u2764\U0001f600\U0001f3fd\U0001f3f3\u2194\u3030\u2139\u20e3!\n\t \r"
    "\u200b\u200c\u200d\ufe0e\ufe0f\u202e\u2066\u3164\u180f\ufeff\U000e0041\U000e0101\x1b\x7f\x9b\u2028\ud800",
    max_size=40,
)
_ANY = st.one_of(
    _SLY, st.text(max_size=60), st.text(st.characters(codec=None), max_size=30), st.sampled_from([*HOSTILE.values()])
)


@given(_ANY, st.integers(0, 50))
def test_nothing_unseen_and_never_too_much(text: str, most: int) -> None:
    shown = Text.of(text, most)
    assert unseen(shown) == []
    assert shown.cut == (len(text) > most) and shown.escaped == (str(shown) != text[:most])
    assert len(shown) <= most * len("<U+10FFFF>")
    # every character of the source is there as it is, or as its number, and no other
    rest = str(shown)
    for char in text[:most]:
        escape = f"<U+{ord(char):04X}>"
        whole = char if rest.startswith(char) else escape
        assert rest.startswith(whole)
        rest = rest[len(whole) :]
    assert rest == ""


@given(_ANY)
def test_shown_again_nothing_changes(text: str) -> None:
    shown = Text.of(text, _ENDLESS)
    again = Text.of(str(shown), _ENDLESS)
    assert str(again) == str(shown) and not again.escaped and not again.cut


@given(_ANY, st.integers(0, 50))
def test_a_name_is_one_line(text: str, most: int) -> None:
    shown = one_line(text, most)
    assert unseen(shown) == [] and "\n" not in shown and "\t" not in shown
    assert str(one_line(str(shown), _ENDLESS)) == " ".join(shown.split())


@given(_ANY)
def test_a_plain_name_hides_nothing(text: str) -> None:
    if plain_name(text):
        assert unseen(text) == [] and len(text) <= 64 and not any(char.isspace() for char in text)


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_text_stays(name: str) -> None:
    shown = Text.of(ORDINARY[name])
    assert str(shown) == ORDINARY[name] and not shown.escaped and not shown.cut
    assert unseen(ORDINARY[name]) == [], "the oracle takes it for hostile"


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Sm", "Sc", "Zs"]), max_size=60))
def test_letters_of_any_script_stay(text: str) -> None:
    if not unseen(text):
        assert str(Text.of(text)) == text


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_told(name: str) -> None:
    shown = Text.of(HOSTILE[name])
    assert unseen(shown) == [] and shown.escaped == (str(shown) != HOSTILE[name])
    assert shown.escaped == bool(unseen(HOSTILE[name]))


@pytest.mark.parametrize("value", [None, 7, 1.5, True, [], {}, b"x"])
def test_what_is_no_text_is_empty(value: Any) -> None:
    assert Text.of(value) == one_line(value, 9) == "" and not plain_name(value)


@given(json_values | _SLY | st.dictionaries(_SLY, _SLY, max_size=5), st.integers(0, 2_000))
def test_a_value_keeps_to_its_room(value: Any, room: int) -> None:
    showing = Showing(room)
    shown = showing.tree(value)
    raw = json.dumps(shown)
    json.loads(raw)
    assert unseen(json.dumps(shown, ensure_ascii=False)) == []
    # what is left out is told; empty lists, names and figures take a little more than they were counted for
    assert size(shown) <= room + 200
    if not showing.cut and not showing.escaped and isinstance(value, str):
        assert shown == value


@given(st.text(max_size=30) | _SLY, tags_of_strangers)
def test_an_event_says_what_was_done_to_it(content: str, tags: list[list[str]]) -> None:
    event = {"id": "0" * 64, "agent_id": ALICE.agent_id, "created_at": 1, "kind": 1, "sig": "0" * 128}
    view = event_view({**event, "content": content, "tags": tags}, author_name=None)
    same = view["content"] == content and view["tags"] == tags
    assert same == ("resource" not in view) == (not view.get("truncated") and not view.get("sanitized"))


@pytest.mark.parametrize("char", ["x", "\u4e2d", "\U0001f600", '"', "\\", "\n", "\x00", "\U000e0041", "\u200b"])
@pytest.mark.parametrize("tags", [[], [["x", *["%" * 250] * 12]] * 31, [["", ""] * 400] * 20, [[]] * 32])
def test_the_largest_event_leaves_room(char: str, tags: list[list[str]]) -> None:
    wide = [[member.replace("%", char)[: 1_000 // len(char.encode())] for member in tag] for tag in tags]
    event = Event.create(ALICE, 1, char * (65_536 // len(char.encode())), wide, created_at=1).to_dict()
    view = event_view(event, author_name="x" * 80)
    assert size(view) <= MAX_ANSWER // 1.6
    assert view["truncated"] is True
    if char in 'x\u4e2d\U0001f600"\\\n' and not tags:
        assert view["content"] == char * CONTENT
    assert fitting([view] * 50) == [view] * ((MAX_ANSWER - 4_000) // size(view))
