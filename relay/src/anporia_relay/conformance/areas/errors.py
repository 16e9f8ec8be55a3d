"""What a refusal looks like, and that hostile input is refused instead of being a fault of the relay."""

from __future__ import annotations

from ..check import Area, Body
from ..client import Answer
from ..probe import Probe, equal, expect, has, holds

AREA = Area("errors")


def _text(answer: Answer) -> None:
    holds(isinstance(answer.detail, str) and answer.detail, '{"detail": a text}', answer.text)


def _entries(answer: Answer, *loc: str) -> None:
    """Hold a 422's detail: a list whose entries say where and what; one of them at `loc`."""
    detail = answer.detail
    holds(isinstance(detail, list) and detail, '{"detail": [a list of entries]}', answer.text)
    for entry in detail:
        has(entry, ("type", "loc", "msg"), "an entry of detail")
    holds(list(loc) in [entry["loc"][: len(loc)] for entry in detail], f"an entry at {list(loc)}", answer.text)


@AREA.core("4")
def bad_request_says_why(probe: Probe) -> None:
    """400 has a text as detail."""
    _text(probe.rejects({**probe.event().to_dict(), "sig": "0" * 128}))


@AREA.core("4")
def not_found_says_why(probe: Probe) -> None:
    """404 has a text as detail."""
    _text(probe.refused(f"/events/{probe.unused_id()}", 404))


@AREA.core("4")
def wrong_method_says_why(probe: Probe) -> None:
    """405 has a text as detail."""
    _text(expect(probe.client.request("DELETE", "/events"), "DELETE /events", 405))


@AREA.core("4")
def malformed_event_names_the_field(probe: Probe) -> None:
    """422 on a body lists the bad field at ["body", field]."""
    _entries(probe.rejects({**probe.event().to_dict(), "kind": "post"}, 422), "body", "kind")


@AREA.core("4")
def every_bad_field_is_named(probe: Probe) -> None:
    """422 has one entry for each bad field."""
    answer = probe.rejects({**probe.event().to_dict(), "kind": "post", "sig": "x", "content": 5}, 422)
    for field in ("kind", "sig", "content"):
        _entries(answer, "body", field)


@AREA.core("4")
def bad_parameter_is_named(probe: Probe) -> None:
    """422 on a query lists the parameter at ["query", name]."""
    _entries(probe.refused("/events", 422, limit=0), "query", "limit")


@AREA.core("4")
def broken_json_is_422(probe: Probe) -> None:
    """A body that is no JSON is 422 with a list of entries."""
    answer = expect(probe.post("/events", b"{not json"), "a body that is no JSON", 422)
    _entries(answer, "body")


@AREA.spec("4")
def body_that_is_not_utf8_is_400(probe: Probe) -> None:
    """A body that is not UTF-8 is 400 with a text, or 422."""
    body = probe.event(1, "@").to_json().replace(b"@", b"\xff\xfe")
    expect(probe.post("/events", body), "a body that is not UTF-8", 400, 422)


def _posted(body: bytes) -> Body:
    def check(probe: Probe) -> None:
        expect(probe.post("/events", body), "POST /events", 400, 413, 422)

    return check


def _got(path: str, *statuses: int) -> Body:
    def check(probe: Probe) -> None:
        answer = probe.refused(path, *statuses)
        holds(answer.status != 200 or isinstance(answer.json(), list), "an array, where it is 200", answer.text)

    return check


# Each made some published relay answer 500. Events that poison a view for everybody are not sent: this may be
# somebody's relay.
for _name, _claim, _body in [
    ("deep-nesting", "Nesting of 5,000 levels is refused.", _posted(b"[" * 5_000 + b"]" * 5_000)),
    ("deep-tags", "Tags nested in tags are refused.", _posted(b'{"tags":' + b"[" * 500 + b"]" * 500 + b"}")),
    ("huge-number", "A number of a thousand digits is refused.", _posted(b'{"kind":' + b"9" * 1_000 + b"}")),
    ("not-a-number", "NaN is refused.", _posted(b'{"kind":NaN}')),
    ("lone-surrogate-in-a-key", "A lone surrogate in a key is refused.", _posted(b'{"\\ud800":1}')),
    ("nul-in-a-path", "A path with an escaped NUL is no fault.", _got("/events/%00", 400, 404)),
    ("text-that-is-not-utf8-in-a-path", "A path that is not UTF-8 is no fault.", _got("/events/%ff%fe", 400, 404)),
    (
        "text-that-is-not-utf8-in-a-query",
        "A query that is not UTF-8 is no fault.",
        _got("/events?t=%ff%fe", 200, 400, 422),
    ),
    ("repeated-parameter", "A parameter given twice is no fault.", _got("/events?limit=1&limit=2", 200, 422)),
    (
        "many-authors",
        "300 authors are answered or refused.",
        _got(f"/events?authors={','.join(['ab'] * 300)}", 200, 400, 414, 422),
    ),
]:
    AREA.add(f"{_name}-is-no-fault", "spec", "22", _claim, _body)


@AREA.spec("22")
def cbor_sent_as_json_is_refused(probe: Probe) -> None:
    """CBOR under a +cbor or JSON content type is refused by /events."""
    for kind in ("application/json", "application/anp2+cbor"):
        answer = probe.post("/events", b"\xa1\x62id\x63abc", {"Content-Type": kind})
        expect(answer, f"CBOR as {kind}", 400, 415, 422)


@AREA.core("3")
def relay_lives_after_all_that(probe: Probe) -> None:
    """After hostile input the relay takes events still."""
    for body in (b"", b"\x00" * 100, b"[" * 5_000, b'{"kind":1e999}'):
        probe.post("/events", body)
    event = probe.said(1, "still here")
    equal(probe.value(f"/events/{event.id}")["content"], "still here", "content")
