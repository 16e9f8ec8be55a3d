"""Server-sent events in any pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_client import BadAnswer
from anporia_client.answers import frame_event
from anporia_client.frames import Frame, SseParser
from anporia_wire import Filter
from tests.wire.samples import signed

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
    assert frame_event(frame.data, Filter()) == event


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
