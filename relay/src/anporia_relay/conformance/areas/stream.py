"""GET /stream: what is stored is told at once, once, in the order in which it was taken."""

from __future__ import annotations

import json
from typing import Any

from anporia_wire import Event

from ..check import Area
from ..client import Stream
from ..probe import Probe, equal, holds

AREA = Area("stream")

_PING_S = 15  # of silence
_FRAME_S = 10.0


def _told(stream: Stream, last: Event) -> list[dict[str, Any]]:
    """Give the events told up to `last`."""
    return [json.loads(data) for data in stream.data_until(last.id, _FRAME_S)]


def _ids(stream: Stream, last: Event) -> list[str]:
    return [event["id"] for event in _told(stream, last)]


@AREA.core("14")
def is_an_event_stream(probe: Probe) -> None:
    """The answer is 200 text/event-stream."""
    with probe.stream() as stream:
        kind = stream.headers.get("content-type", "")
        equal(kind.partition(";")[0].strip(), "text/event-stream", "content type")


@AREA.core("14")
def is_not_cached(probe: Probe) -> None:
    """The answer says Cache-Control: no-cache."""
    with probe.stream() as stream:
        holds("no-cache" in stream.headers.get("cache-control", ""), "Cache-Control: no-cache", stream.headers)


@AREA.core("14")
def asks_proxies_not_to_buffer(probe: Probe) -> None:
    """The answer says X-Accel-Buffering: no, unless a proxy has taken that already."""
    with probe.stream() as stream:
        holds(stream.headers.get("x-accel-buffering", "no") == "no", "X-Accel-Buffering: no", stream.headers)


@AREA.core("14")
def greets_at_once(probe: Probe) -> None:
    """The first bytes are the comment `: connected`."""
    with probe.client.stream("/stream") as stream:
        equal(stream.first_line(), b": connected", "first line")


@AREA.core("14")
def tells_what_is_published(probe: Probe) -> None:
    """A published event comes as one frame that holds its envelope."""
    topic = probe.word()
    with probe.stream(t=topic) as stream:
        event = probe.said(1, "told", ["t", topic])
        equal(_told(stream, event), [event.to_dict() | {"tags": [["t", topic]]}], "frames")


@AREA.core("14")
def frames_end_with_an_empty_line(probe: Probe) -> None:
    """A frame is ended by an empty line."""
    topic = probe.word()
    with probe.stream(t=topic) as stream:
        event = probe.said(1, "", ["t", topic])
        stream.data_until(event.id, _FRAME_S)
        equal(stream.first_line(), b"", "line after the data")


@AREA.core("14")
def unfiltered_tells_everything(probe: Probe) -> None:
    """Without a filter all kinds come, with and without tags."""
    with probe.stream() as stream:
        said = [probe.said(1), probe.said(0, {"name": "conf"}), probe.said(9876, "", ["x", "y"])]
        told = _ids(stream, said[-1])
        equal([id_ for id_ in told if id_ in {event.id for event in said}], [event.id for event in said], "our frames")


@AREA.core("14")
def topic_leaves_out_the_rest(probe: Probe) -> None:
    """`t` is exact: other topics and events without one do not come."""
    topic, key = probe.word(), probe.key()
    with probe.stream(t=topic) as stream:
        probe.said(1, "", by=key)
        probe.said(1, "", ["t", f"{topic}x"], by=key)
        probe.said(1, "", ["x", topic], by=key)
        last = probe.said(1, "last", ["t", topic], by=key)
        equal(_ids(stream, last), [last.id], "frames")


@AREA.core("14")
def order_is_that_of_acceptance(probe: Probe) -> None:
    """Frames come in the order in which events were taken, whatever their created_at."""
    topic, key, now = probe.word(), probe.key(), probe.now()
    with probe.stream(t=topic) as stream:
        said = [probe.said(1, str(back), ["t", topic], by=key, at=now - back) for back in (5, 50, 0, 500, 20)]
        equal(_ids(stream, said[-1]), [event.id for event in said], "ids of frames")


@AREA.core("14")
def duplicates_are_told_once(probe: Probe) -> None:
    """The same event again is not told again."""
    topic = probe.word()
    with probe.stream(t=topic) as stream:
        first = probe.said(1, "first", ["t", topic])
        probe.publish(first)
        last = probe.said(1, "last", ["t", topic])
        equal(_ids(stream, last), [first.id, last.id], "frames")


@AREA.core("14")
def refused_events_are_not_told(probe: Probe) -> None:
    """What is refused does not come."""
    topic = probe.word()
    with probe.stream(t=topic) as stream:
        probe.rejects({**probe.event(1, "", ["t", topic]).to_dict(), "sig": "0" * 128})
        last = probe.said(1, "last", ["t", topic])
        equal(_ids(stream, last), [last.id], "frames")


@AREA.core("14")
def beats_are_not_told(probe: Probe) -> None:
    """Beats do not come."""
    topic = probe.word()
    with probe.stream(t=topic) as stream:
        probe.said(11, {"latency_ms": 1}, ["t", topic])
        last = probe.said(1, "last", ["t", topic])
        equal(_ids(stream, last), [last.id], "frames")


@AREA.core("14")
def old_events_are_not_told(probe: Probe) -> None:
    """A new stream begins now: what was stored before does not come."""
    topic = probe.word()
    probe.said(1, "before", ["t", topic])
    with probe.stream(t=topic) as stream:
        last = probe.said(1, "last", ["t", topic])
        equal(_ids(stream, last), [last.id], "frames")


@AREA.core("14")
def revokes_and_flags_are_told(probe: Probe) -> None:
    """Kinds 9 and 7 come like any other event."""
    topic, key = probe.word(), probe.key()
    event = probe.said(by=key)
    with probe.stream(t=topic) as stream:
        revoke = probe.said(9, "", ["e", event.id], ["t", topic], by=key)
        flag = probe.said(7, {"category": "other"}, ["e", event.id], ["t", topic])
        equal(_ids(stream, flag), [revoke.id, flag.id], "frames")


@AREA.core("14")
def every_reader_is_told(probe: Probe) -> None:
    """Two streams are told the same."""
    topic = probe.word()
    with probe.stream(t=topic) as one, probe.stream(t=topic) as other:
        event = probe.said(1, "", ["t", topic])
        equal((_ids(one, event), _ids(other, event)), ([event.id], [event.id]), "frames of both")


@AREA.core("14")
def a_frame_is_one_line(probe: Probe) -> None:
    """Line breaks in the content do not break the frame."""
    topic = probe.word()
    with probe.stream(t=topic) as stream:
        event = probe.said(1, "a\nb\r\nc\rd\n\ndata: x", ["t", topic])
        equal(_told(stream, event)[0]["content"], event.content, "content")


@AREA.spec("14")
def line_separators_are_escaped(probe: Probe) -> None:
    """U+0085, U+2028 and U+2029 are escaped: readers of the published clients split lines there."""
    topic = probe.word()
    with probe.stream(t=topic) as stream:
        event = probe.said(1, "a\u2028b\u2029c\u0085d", ["t", topic])
        data = stream.data_until(event.id, _FRAME_S)[0]
        equal(len(data.decode().splitlines()), 1, "lines of the frame, as such a reader counts")
        equal(json.loads(data)["content"], event.content, "content")


@AREA.core("14")
def the_lobby_is_told(probe: Probe) -> None:
    """Unlike lists, the unfiltered stream carries the lobby."""
    with probe.stream() as stream:
        event = probe.lobby()
        holds(event.id in _ids(stream, event), "the lobby post", "no such frame")


@AREA.core("14", slow=True)
def silence_is_filled_with_pings(probe: Probe) -> None:
    """After 15 s without an event comes a comment, so that a dead connection is noticed."""
    with probe.stream(t=probe.word()) as stream:
        comments = (line for line in stream.lines(_PING_S + 10) if line.startswith(b":"))
        holds(next(comments, None), f"a comment within {_PING_S + 10} s", "silence")
