"""Requests and answers as plain values: what is sent, what is believed, and server-sent events in any pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_client import BadAnswer, _http
from anporia_client._http import Frame, SseParser
from anporia_wire import BadId, BadSignature, Filter, InvalidEvent, MalformedEvent
from tests.wire.samples import ALICE, BOB, NOW, signed

ANY = Filter()

# what the standard gives a meaning, and what careless readers take for a line's end
stream_bytes = st.lists(
    st.sampled_from(
        [b"data", b"id", b"event", b"retry", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"x", b"\0"]
        + [
            "\ufeff".encode(),
            "\u2028".encode(),
            "\u0085".encode(),
            b"data: x\n\n",
            b"id: 7\n",
            b"\xff",
            b"\x0b",
            b"\x0c",
        ]
    ),
    max_size=40,
).map(b"".join)


def frames_by_the_standard(stream: bytes) -> list[Frame]:
    """The algorithm of the HTML standard, read aloud: slow, whole input at once."""
    *lines, _unfinished = re.split(rb"\r\n|\n|\r", stream.removeprefix("\ufeff".encode()))
    data, type_, id_ = b"", b"", b""
    frames = []
    for line in lines:
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if not line:
            if data:
                frames.append(
                    Frame(id_.decode("utf-8", "replace"), (type_ or b"message").decode(errors="replace"), data[:-1])
                )
            data, type_ = b"", b""
        elif field == b"data":
            data += value + b"\n"
        elif field == b"event":
            type_ = value
        elif field == b"id" and b"\0" not in value:
            id_ = value
    return frames


def fed(chunks: Sequence[bytes]) -> list[Frame]:
    parser = SseParser()
    return [frame for chunk in chunks for frame in parser.feed(chunk)]


@given(stream_bytes, st.lists(st.integers(0, 200)))
def test_frames_do_not_depend_on_where_the_chunks_end(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in pairwise(places)]
    expected = frames_by_the_standard(stream)
    assert fed(chunks) == expected
    assert fed([bytes([byte]) for byte in stream]) == expected
    assert fed([stream]) == expected


def test_lines_end_at_line_ends_only() -> None:
    event = signed(content="a\u2028b\u2029c\u0085d\x0be\x0cf")
    (frame,) = fed([b"data: " + event.to_json() + b"\n\n"])
    assert _http.parse_frame(frame.data, ANY) == event


def test_a_frame_ending_in_a_carriage_return_does_not_wait_for_more() -> None:
    assert fed([b"data: x\r\r"]) == [Frame("", "message", b"x")]


def test_an_unfinished_frame_is_none() -> None:
    assert fed([b"data: x\n\ndata: y\n"]) == [Frame("", "message", b"x")]


def test_the_id_stays_until_another_comes() -> None:
    frames = fed([b"id: a-1\ndata: x\n\ndata: y\n\nid: a-2\n\ndata: z\n\n"])
    assert [frame.id for frame in frames] == ["a-1", "a-1", "a-2"]


def test_an_endless_frame_ends_the_patience() -> None:
    with pytest.raises(BadAnswer, match="more than 4194304 bytes"):
        fed([b"x" * 1_000_000] * 5)
    with pytest.raises(BadAnswer):
        fed([b"data: " + b"x" * 100_000 + b"\n"] * 50)


def test_pings_never_add_up() -> None:
    parser = SseParser()
    for _ in range(6):
        assert parser.feed(b": ping" + b"." * 1_000_000 + b"\n\n") == []
    assert parser.feed(b"data: x\n\n") == [Frame("", "message", b"x")]


def test_a_query_sends_what_was_asked_for() -> None:
    filter_ = Filter(frozenset({4, 1}), frozenset({BOB.agent_id, ALICE.agent_id}), "tea & cake", None, 0, 9)
    request = _http.query_request(filter_, 7)
    assert (request.method, request.path) == ("GET", "/events")
    assert Filter.parse(request.params) == filter_
    assert request.params["limit"] == "7" and request.params["kinds"] == "1,4"
    assert _http.query_request(ANY, 100).params == {"limit": "100"}


@pytest.mark.parametrize("bad", ["a\nb", "a\0", "é", "\r"])
def test_a_place_to_resume_from_must_fit_a_header(bad: str) -> None:
    with pytest.raises(ValueError, match="last_event_id"):
        _http.stream_request(ANY, bad)


def test_only_genuine_events_that_were_asked_for_come_through() -> None:
    good, other = signed(content="good", tags=[("t", "tea")]), signed(content="other room")
    altered = replace(good, content="altered")
    forged = replace(signed(content="forged", tags=[("t", "tea")]), sig=good.sig)
    items = [good.to_dict(), altered.to_dict(), forged.to_dict(), other.to_dict(), {"id": "x"}, None, "text"]
    kept, dropped = _http.parse_events(json.dumps(items).encode(), Filter(t="tea"))
    assert kept == [good]
    assert sorted(exc.code for exc in dropped) == sorted(
        ["bad_id", "bad_answer", "bad_signature", "malformed", "malformed", "malformed"]
    )


def test_a_frame_must_hold_a_genuine_event() -> None:
    good = signed(content="good")
    forged = replace(signed(content="forged"), sig=good.sig)
    expected: list[tuple[bytes, type[InvalidEvent]]] = [
        (b"", MalformedEvent),
        (b"[1]", MalformedEvent),
        (replace(good, content="x").to_json(), BadId),
        (forged.to_json(), BadSignature),
    ]
    for data, error in expected:
        with pytest.raises(error):
            _http.parse_frame(data, ANY)
    with pytest.raises(BadAnswer):
        _http.parse_frame(good.to_json(), Filter(t="tea"))


def test_an_acknowledgement_is_of_the_very_event() -> None:
    event = signed()
    good = {"id": event.id, "accepted": True}
    assert _http.parse_accepted(json.dumps(good).encode(), event) == good
    answers: list[object] = [{**good, "accepted": False}, {**good, "id": "0" * 64}, {}, [], "yes", None]
    for answer in answers:
        with pytest.raises(BadAnswer):
            _http.parse_accepted(json.dumps(answer).encode(), event)
    with pytest.raises(BadAnswer, match="not JSON"):
        _http.parse_accepted(b"<html>", event)


def test_a_list_must_be_a_list() -> None:
    for body in (b"{}", b"null", b"<html>", b""):
        with pytest.raises(BadAnswer):
            _http.parse_events(body, ANY)


def test_a_refusal_tells_status_code_text_and_time() -> None:
    headers = {"anporia-code": "rate_agent", "retry-after": "12"}
    refused = _http.parse_refusal(429, headers, b'{"detail":"slow down"}', NOW)
    assert (refused.status, refused.code, str(refused), refused.retry_at) == (429, "rate_agent", "slow down", NOW + 12)


def test_a_refusal_of_a_published_relay_has_a_code_too() -> None:
    detail = [{"type": "missing", "loc": ["body", "sig"], "msg": "Field required", "input": {}}]
    refused = _http.parse_refusal(422, {}, json.dumps({"detail": detail}).encode(), NOW)
    assert (refused.code, str(refused), refused.retry_at) == ("http_422", "body.sig: Field required", None)


@pytest.mark.parametrize(
    ("given", "retry_at"),
    [("Thu, 01 Jan 1970 00:01:00 GMT", 60), ("0", NOW), ("soon", None), ("-5", None), ("9" * 30, None), ("", None)],
)
def test_retry_after_is_seconds_or_a_date(given: str, retry_at: int | None) -> None:
    assert _http.parse_refusal(503, {"retry-after": given}, b"", NOW).retry_at == retry_at


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["detail", "loc", "msg"]), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_refusal_is_too_odd_to_read(body: bytes) -> None:
    refused = _http.parse_refusal(500, {"anporia-code": "Not\x1b[31m a code"}, body, NOW)
    assert refused.code == "http_500"
    assert str(refused).isprintable() and 0 < len(str(refused)) <= 500


def test_a_redirect_says_what_to_do() -> None:
    assert "give relay_url" in str(_http.parse_refusal(308, {}, b"", NOW))


def test_tags_are_lists_as_json_reads_them() -> None:
    event = signed(tags=[("t", "tea"), ("pow", "12")])
    assert _http.as_dict(event) == json.loads(event.to_json())
