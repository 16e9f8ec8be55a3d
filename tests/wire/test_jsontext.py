"""Strangers' JSON: one error type, bounded depth, nothing that cannot be written again."""

from __future__ import annotations

import contextlib
import json
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_wire.jsontext import MAX_DEPTH, BadJson, parse, payload, shown
from tests.wire.samples import json_values


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nul",
        b"{'a':1}",
        b"[1,]",
        b"\x00",
        b'"\n"',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"\xef\xbb\xbf{}",
        b'"\\ud800"',
        b'"\xff"',
        b"[" * 33 + b"]" * 33,
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b"[" * 1_000_000,
        b'"' + b"[" * 40,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_refused(data: bytes) -> None:
    with pytest.raises(BadJson):
        parse(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 32 + b"]" * 32,
        b"[[]," + b"[" * 31 + b"]" * 32,
        b" [[],[]]\n",
        b'["' + b"[" * 99 + b'"]',
        b'["\\"' + b"{" * 99 + b'\\\\"]',
        b'{"a":{},"a":1}',
        b"[" + b",".join([b"[]"] * 500) + b"]",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_taken(data: bytes) -> None:
    assert parse(data) == json.loads(data)


@given(
    st.binary(max_size=60)
    | st.text(alphabet='[]{}"\\:, 1e\ud800', max_size=120).map(lambda t: t.encode(errors="surrogatepass"))
)
def test_nothing_but_bad_json(data: bytes) -> None:
    with contextlib.suppress(BadJson):
        parse(data)


@given(st.integers(0, 2 * MAX_DEPTH), st.text(max_size=5))
def test_depth_is_that_of_brackets_outside_strings(depth: int, text: str) -> None:
    data = (
        orjson.dumps([text + "[{" * 40]).join([b"[" * (depth - 1), b"]" * (depth - 1)])
        if depth
        else orjson.dumps("[" * 99)
    )
    if depth > MAX_DEPTH:
        with pytest.raises(BadJson):
            parse(data)
    else:
        assert parse(data) == json.loads(data)


@pytest.mark.parametrize(
    "content", ["", "x", "null", "5", "[1]", '"{}"', "{", "[" * 100_000, '{"a":' * 5_000, "9" * 5_000]
)
def test_content_that_is_no_object_counts_as_empty(content: str) -> None:
    assert payload(content) == {}
    assert shown(content) is None


def test_payload_lets_nan_through_and_shown_does_not() -> None:
    assert math.isnan(payload('{"a":NaN}')["a"])
    assert payload('{"a":1e400}') == {"a": math.inf}
    for odd in ("NaN", "-Infinity", "1e400", "9" * 5_000, '"\\ud800"', '["x",NaN]'):
        value = shown(f'{{"b":1,"a":{odd}}}')
        assert value == {"b": 1, "a": ["x", None] if odd.startswith("[") else None}
    assert shown('{"a":18446744073709551615,"\\ud800":1}') == {"a": 2**64 - 1}
    assert shown('"\\ud800"') is shown("{NaN}") is shown("\ud800") is None


def test_a_payload_of_brackets_is_none() -> None:
    assert shown(json.dumps({"a": [[]] * 1_990})) is not None
    assert shown(json.dumps({"a": [[]] * 2_001})) is None
    assert shown(json.dumps({"a": "[" * 60_000})) is not None
    assert shown('{"a":{"b":[1]}}') == {"a": {"b": [1]}}


@given(json_values | st.dictionaries(st.text(max_size=5), json_values), st.booleans())
def test_what_is_shown_can_be_written_again(value: object, ascii_only: bool) -> None:
    content = json.dumps(value, ensure_ascii=ascii_only)
    assert isinstance(payload(content), dict)
    orjson.dumps(shown(content))
