"""The canonical bytes against the vectors and an RFC 8785 writer of a few lines; splicing against both."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_wire import Event, canonical_bytes, event_id, id_of_serialised, splice_canonical
from tests.wire.published import vectors
from tests.wire.samples import ALICE, NOW, integers, nasty, signed, tags_of_strangers

JCS = vectors("jcs")
_SHORT = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 0x22: '\\"', 0x5C: "\\\\"}


def rfc8785(value: Any) -> str:
    """RFC 8785 for what events hold: arrays, strings, integers."""
    if isinstance(value, str):
        escaped = (_SHORT.get(ord(c)) or (f"\\u{ord(c):04x}" if ord(c) < 0x20 else c) for c in value)
        return f'"{"".join(escaped)}"'
    if isinstance(value, int):
        return str(value)
    return f"[{','.join(rfc8785(item) for item in value)}]"


def content_of(content: str) -> bytes:
    return canonical_bytes("a", 0, 0, [], content).removeprefix(b'["a",0,0,[],').removesuffix(b"]")


@pytest.mark.parametrize("case", JCS["strings"], ids=lambda case: case["codepoint"])
def test_each_code_point_is_escaped_as_published(case: dict[str, str]) -> None:
    assert content_of(chr(int(case["codepoint"][2:], 16))).hex() == case["canonical_hex"]


@pytest.mark.parametrize("case", JCS["integers"], ids=lambda case: case["canonical"])
def test_integers(case: dict[str, Any]) -> None:
    assert canonical_bytes("a", case["value"], 0, [], "") == f'["a",{case["canonical"]},0,[],""]'.encode()


@pytest.mark.parametrize("case", [c for c in JCS["out_of_domain"] if "'" in c["value"]], ids=lambda case: case["value"])
def test_lone_surrogates_have_no_canonical_form(case: dict[str, str]) -> None:
    text = case["value"].strip("'").encode().decode("unicode_escape")
    with pytest.raises(TypeError):
        canonical_bytes("a", 0, 0, [], text)
    with pytest.raises(TypeError):
        canonical_bytes("a", 0, 0, [["t", text]], "")


def test_payload() -> None:
    case = JCS["payload"]
    assert canonical_bytes(*case["value"]).hex() == case["canonical_hex"]


@given(nasty, integers, integers, tags_of_strangers, nasty)
def test_agrees_with_a_plain_writer(agent: str, at: int, kind: int, tags: list[list[str]], content: str) -> None:
    written = rfc8785([agent, at, kind, tags, content]).encode()
    assert canonical_bytes(agent, at, kind, tags, content) == written
    assert event_id(written) == hashlib.sha256(written).hexdigest()


@given(integers, integers, tags_of_strangers, nasty)
def test_splicing_gives_the_canonical_bytes(at: int, kind: int, tags: list[list[str]], content: str) -> None:
    event = Event.create(ALICE, kind, content, tags, created_at=at)
    serialised = event.to_json()
    assert splice_canonical(serialised) == event.canonical()
    assert id_of_serialised(serialised) == event.id


@given(nasty.filter(bool), st.data())
def test_a_flipped_byte_of_the_content_is_seen(content: str, data: st.DataObject) -> None:
    serialised = signed(content=content, tags=[["t", ',"content":']]).to_json()
    start = serialised.index(b',"content":') + len(b',"content":"')
    end = len(serialised) - len(f'","sig":"{"0" * 128}"}}')
    assert is_noticed(serialised, data.draw(st.integers(start, end - 1)), data.draw(st.integers(1, 255)))


def test_a_flipped_byte_is_seen_everywhere_but_in_the_signature() -> None:
    serialised = signed(content="hello, world", tags=[["t", "lobby"], [], [""]]).to_json()
    signature = range(len(serialised) - 130, len(serialised) - 2)
    unnoticed = {at for at in range(len(serialised)) for bit in range(8) if not is_noticed(serialised, at, 1 << bit)}
    assert unnoticed == set(signature)


def is_noticed(serialised: bytes, at: int, mask: int) -> bool:
    damaged = bytearray(serialised)
    damaged[at] ^= mask
    return id_of_serialised(bytes(damaged)) is None


@given(st.binary(max_size=600))
def test_any_bytes_are_judged_without_error(data: bytes) -> None:
    assert id_of_serialised(data) is None


def test_truncation_is_seen() -> None:
    serialised = signed(content="x", at=NOW).to_json()
    assert [length for length in range(len(serialised)) if id_of_serialised(serialised[:length])] == []
