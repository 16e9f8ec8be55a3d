"""What a relay may do beyond the protocol; each check runs where GET / lists its feature."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from anporia_wire import Event

from ..check import Area, Failed
from ..client import Answer
from ..probe import Probe, equal, expect, has, holds

AREA = Area("extensions")

_LINES = {"Content-Type": "application/x-ndjson"}
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')
_FRAME_S = 10.0
_INDEX_S = 10.0


def _book(probe: Probe) -> tuple[str, list[str]]:
    """25 events over nine seconds; their ids in the order of lists."""
    topic, key, start = probe.word(), probe.key(), probe.now() - 300
    said = [probe.said(1, str(n), ["t", topic], by=key, at=start + n // 3) for n in range(25)]
    return topic, [event.id for event in sorted(said, key=lambda event: (-event.created_at, event.id))]


def _next(answer: Answer) -> dict[str, str]:
    found = _NEXT.search(answer.headers.get("link", ""))
    return dict(parse_qsl(urlsplit(found[1]).query)) if found else {}


@AREA.extension("cursor")
def cursor_walks_every_page(probe: Probe) -> None:
    """Following rel="next" gives every event once, in order; the last page has no next."""
    topic, ids = probe.once(_book)
    params, seen = {"t": topic, "limit": "7"}, list[str]()
    for _ in range(len(ids)):
        answer = expect(probe.get("/events", **params), "a page", 200)
        seen += [row["id"] for row in answer.json()]
        params = _next(answer)
        if not params:
            break
    equal(seen, ids, "ids of all pages")


@AREA.extension("cursor")
def cursor_stays_where_it_is(probe: Probe) -> None:
    """An event that arrives between two pages moves nothing on the second."""
    topic, first = probe.word(), probe.now() - 300
    ids = [probe.said(1, str(n), ["t", topic], at=first + n).id for n in range(4)]
    params = _next(probe.get("/events", t=topic, limit=2))
    probe.said(1, "newer", ["t", topic])
    equal(probe.ids(**params), [ids[1], ids[0]], "ids of the second page")


@AREA.extension("cursor")
def bad_cursor_is_400(probe: Probe) -> None:
    """A cursor that is none of the relay's is 400."""
    probe.refused("/events", 400, cursor="not-a-cursor")


def _batch(probe: Probe, *lines: bytes) -> list[Any]:
    answer = probe.post("/events/batch", b"\n".join(lines), _LINES, count=len(lines))
    return [json.loads(line) for line in expect(answer, "POST /events/batch", 200).body.splitlines()]


@AREA.extension("batch")
def batch_answers_each_line(probe: Probe) -> None:
    """Each event has its line, in order; a bad one does not keep the others out."""
    one, two = probe.event(1, "one"), probe.event(1, "two")
    bad = json.dumps({**probe.event().to_dict(), "sig": "0" * 128}).encode()
    got = _batch(probe, one.to_json(), bad, two.to_json(), b"junk")
    equal([row["status"] for row in got], [200, 400, 200, 422], "statuses")
    equal((got[0]["id"], got[2]["id"], got[3]["id"]), (one.id, two.id, None), "ids")
    has(got[1], ("code", "detail"), "a refusal")
    for event in (one, two):
        equal(probe.value(f"/events/{event.id}")["id"], event.id, "a stored event")


@AREA.extension("batch")
def batch_tells_duplicates(probe: Probe) -> None:
    """What was stored already is accepted and called a duplicate."""
    event = probe.said()
    row = _batch(probe, event.to_json())[0]
    equal((row["status"], row["accepted"], row["duplicate"]), (200, True, True), "status, accepted, duplicate")


@AREA.extension("batch")
def batch_may_refer_to_itself(probe: Probe) -> None:
    """A revoke may stand in one batch with its target."""
    key = probe.key()
    event = probe.event(1, "", by=key)
    revoke = probe.event(9, "", ["e", event.id], by=key)
    equal([row["status"] for row in _batch(probe, event.to_json(), revoke.to_json())], [200, 200], "statuses")
    probe.refused(f"/events/{event.id}", 410)


@AREA.extension("batch")
def empty_batch_is_empty(probe: Probe) -> None:
    """An empty batch has an empty answer."""
    equal(_batch(probe, b""), [], "lines")


def _frame(probe: Probe, topic: str, event: Event, headers: dict[str, str] | None = None) -> tuple[str, list[str]]:
    """Read a stream up to an event; gives the last frame's id and the ids of the events told."""
    cursor, told = "", list[str]()
    with probe.stream(headers, t=topic) as stream:
        if headers is None:
            probe.publish(event)
        for line in stream.lines(_FRAME_S):
            if line.startswith(b"id:"):
                cursor = line[3:].strip().decode()
            elif line.startswith(b"data:"):
                told.append(json.loads(line[5:])["id"])
                if told[-1] == event.id:
                    return cursor, told
    raise Failed(f"a frame with {event.id}", f"{len(told)} other frames")


@AREA.extension("resume")
def stream_resumes_without_a_gap(probe: Probe) -> None:
    """With Last-Event-ID what was stored since comes first, in order, once."""
    topic = probe.word()
    cursor, _ = _frame(probe, topic, probe.event(1, "first", ["t", topic]))
    holds(cursor, "an id: line in the frame", "none")
    said = [probe.said(1, str(number), ["t", topic]) for number in range(3)]
    _, told = _frame(probe, topic, said[-1], {"Last-Event-ID": cursor})
    equal(told, [event.id for event in said], "frames after the cursor")


@AREA.extension("resume")
def strange_cursor_is_400(probe: Probe) -> None:
    """A Last-Event-ID that is none of the relay's is 400."""
    answer = probe.client.request("GET", "/stream", headers={"Last-Event-ID": "not-a-cursor"})
    expect(answer, "GET /stream", 400)


@AREA.extension("stream-filters")
def stream_filters_by_kind_and_author(probe: Probe) -> None:
    """`kinds` and `authors` filter a stream as they filter lists."""
    key = probe.key()
    with probe.stream(kinds="1,5", authors=key.agent_id) as stream:
        probe.said(1, "a stranger's")
        probe.said(2, "of another kind", by=key)
        event = probe.said(1, "wanted", by=key)
        told = [json.loads(data)["id"] for data in stream.data_until(event.id, _FRAME_S)]
    equal(told, [event.id], "frames")


@AREA.extension("stream-filters")
def stream_refuses_what_it_cannot_filter(probe: Probe) -> None:
    """Parameters of lists that make no sense on a stream are 422 rather than ignored."""
    probe.refused("/stream", 422, since=5)


@AREA.extension("include-hidden")
def revoked_events_can_be_shown(probe: Probe) -> None:
    """`include_revoked=true` shows them."""
    key = probe.key()
    event = probe.said(by=key)
    probe.said(9, "", ["e", event.id], by=key)
    equal(probe.ids(authors=key.agent_id, kinds=1, include_revoked="true"), [event.id], "events of the author")


@AREA.extension("include-hidden")
def hidden_events_can_be_shown(probe: Probe) -> None:
    """`include_hidden=true` shows them."""
    topic = probe.word()
    event = probe.said(1, "", ["t", topic])
    for _ in range(3):
        probe.said(7, {"category": "other"}, ["e", event.id])
    equal((probe.ids(t=topic), probe.ids(t=topic, include_hidden="true")), ([], [event.id]), "without and with it")


def _words(probe: Probe) -> tuple[str, str, list[str]]:
    """Two posts that share a word, one of them with another word too; on one topic."""
    one, two, topic = (probe.unused_id()[:12] for _ in range(3))
    texts = (f"here is {one}", f"{two} is beside {one}")
    now = probe.now() - 50
    return one, two, [probe.said(1, text, ["t", topic], at=now + n).id for n, text in enumerate(texts)]


def _found(probe: Probe, text: str, wanted: list[str]) -> None:
    """Wait for the index, which may be filled behind the log."""
    probe.soon(lambda: probe.ids(q=text), lambda got: equal(got, wanted, f"ids for {text!r}"), _INDEX_S)


@AREA.extension("search")
def search_finds_words(probe: Probe) -> None:
    """`q` finds events whose text has the word, newest first."""
    one, two, ids = probe.once(_words)
    _found(probe, one, ids[::-1])
    _found(probe, two, [ids[1]])


@AREA.extension("search")
def search_wants_all_words(probe: Probe) -> None:
    """Of two words both must be there."""
    one, two, ids = probe.once(_words)
    _found(probe, f"{one} {two}", [ids[1]])


@AREA.extension("search")
def search_combines_with_filters(probe: Probe) -> None:
    """`q` and the other filters must hold together."""
    one, _, ids = probe.once(_words)
    _found(probe, one, ids[::-1])
    equal(probe.ids(q=one, kinds=2), [], "ids of another kind")


@AREA.extension("count")
def count_counts(probe: Probe) -> None:
    """GET /events/count gives how many events a filter matches."""
    topic, ids = probe.once(_book)
    answer = probe.value("/events/count", t=topic)
    holds(isinstance(answer, dict) and answer.get("count") == len(ids), f'{{"count": {len(ids)}}}', answer)
