"""The reader of streams: whatever the cuts between what comes."""

from __future__ import annotations

import pytest

from anporia_loadtest.frames import BadStream, Frame, StreamReader

FRAMES = b': connected\n\nid: ab-7\ndata: {"id":"x"}\n\n: ping\n\nid: ab-9\ndata: {"id":"y"}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nAnporia-Place: ab-6\r\n"
WANTED = [Frame("ab-7", b'{"id":"x"}'), Frame("ab-9", b'{"id":"y"}')]


def chunked(data: bytes, size: int) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


@pytest.mark.parametrize("step", [1, 3, 10_000])
@pytest.mark.parametrize("size", [0, 5, 10_000])
def test_frames_come_whole_however_the_stream_is_cut(step: int, size: int) -> None:
    raw = HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" + chunked(FRAMES, size) if size else b"\r\n" + FRAMES)
    reader, frames = StreamReader(), []
    for at in range(0, len(raw), step):
        frames += reader.feed(raw[at : at + step])
    assert frames == WANTED
    assert [frame.number for frame in frames] == [7, 9]
    assert (reader.status, reader.headers["anporia-place"], reader.comments) == (200, "ab-6", ["connected", "ping"])
    assert reader.ended is bool(size)


@pytest.mark.parametrize(
    "raw", [b"nonsense\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", HEAD + b"\r\ndata: 1\n\n"]
)
def test_what_is_no_stream_is_refused(raw: bytes) -> None:
    with pytest.raises(BadStream):
        StreamReader().feed(raw)
