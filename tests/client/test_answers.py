"""Requests and answers as plain values: what is sent, and what is believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_client import (
    BadAnswer,
    ClockSkew,
    NotARelay,
    RateLimited,
    RelayFailing,
    Response,
    Unauthorized,
    answers,
    requests,
)
from anporia_wire import AnporiaError, BadId, BadSignature, Filter, InvalidEvent, MalformedEvent
from tests.wire.samples import ALICE, BOB, NOW, signed

ANY = Filter()
URL = "http://relay.test"


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def test_a_query_sends_what_was_asked_for() -> None:
    filter_ = Filter(frozenset({4, 1}), frozenset({BOB.agent_id, ALICE.agent_id}), "tea & cake", None, 0, 9)
    request = requests.query(filter_, 7)
    assert (request.method, request.path) == ("GET", "/events")
    assert Filter.parse(request.params) == filter_
    assert request.params["limit"] == "7" and request.params["kinds"] == "1,4"
    assert requests.query(ANY, 100).params == {"limit": "100"}


@pytest.mark.parametrize("bad", ["a\nb", "a\0", "é", "\r"])
def test_a_place_to_resume_from_must_fit_a_header(bad: str) -> None:
    with pytest.raises(ValueError, match="last_event_id"):
        requests.stream(ANY, bad)


def test_only_genuine_events_that_were_asked_for_come_through() -> None:
    good, other = signed(content="good", tags=[("t", "tea")]), signed(content="other room")
    altered = replace(good, content="altered")
    forged = replace(signed(content="forged", tags=[("t", "tea")]), sig=good.sig)
    items = [good.to_dict(), altered.to_dict(), forged.to_dict(), other.to_dict(), {"id": "x"}, None, "text"]
    found = answers.events(answer(items), Filter(t="tea"), URL)
    assert found.items == [answers.as_dict(good)]
    assert [id_ for _, id_ in found.received] == [good.id, altered.id, forged.id, other.id]
    codes = ["bad_id", "bad_signature", "bad_answer", "malformed", "malformed", "malformed"]
    assert [exc.code for exc in found.dropped] == codes
    marked = answers.events(answer(items), Filter(t="tea"), URL, keep_invalid=True)
    assert [item.get("invalid") for item in marked.items] == [None, *codes[:4]]


def test_events_within_what_a_relay_works_out_are_verified_too() -> None:
    good = answers.as_dict(signed(content="good"))
    altered = {**good, "content": "altered"}  # of the same id as a good one
    drop: list[AnporiaError] = []
    view: Any = {
        "thread": [good, altered, {"why": "no event"}],
        "latest": altered,
        "first": {**good, "rank": 1},
        "n": 3,
    }
    read = answers.genuine(view, drop, URL)
    assert read == {"thread": [good, {"why": "no event"}], "latest": None, "first": {**good, "rank": 1}, "n": 3}
    assert [exc.code for exc in drop] == ["bad_id", "bad_id"]
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(BadAnswer):
        answers.genuine(deep, drop, URL)


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
            answers.frame_event(data, ANY)
    with pytest.raises(BadAnswer):
        answers.frame_event(good.to_json(), Filter(t="tea"))


def test_an_acknowledgement_is_of_the_very_event() -> None:
    event = signed()
    good = {"id": event.id, "accepted": True}
    assert answers.accepted(answer(good), event, URL) == good
    lies: list[object] = [{**good, "accepted": False}, {**good, "id": "0" * 64}, {}, [], "yes", None]
    for lie in lies:
        with pytest.raises(BadAnswer):
            answers.accepted(answer(lie), event, URL)
    with pytest.raises(NotARelay, match="not JSON"):
        answers.accepted(answer(b"<html>"), event, URL)


def test_a_batch_is_answered_line_by_line() -> None:
    one, two = signed(content="1"), signed(content="2")
    good = json.dumps({"id": one.id, "status": 200, "accepted": True, "duplicate": False}).encode()
    late = json.dumps({"id": two.id, "status": 429, "code": "rate_agent", "detail": "slow\x1b", "retry_at": 7}).encode()
    lines = answers.batch_lines(answer(good + b"\n" + late + b"\n"), [one, two], URL, NOW)
    assert [(line.status, line.code, line.retry_at) for line in lines] == [
        (200, "http_200", None),
        (429, "rate_agent", 7),
    ]
    assert lines[1].detail == "slow"
    for lie in (good, good + b"\n" + good, good + b"\n{}", good + b"\n[]", good + b"\nyes"):
        with pytest.raises(BadAnswer):
            answers.batch_lines(answer(lie), [one, two], URL, NOW)


def test_a_list_must_be_a_list() -> None:
    for body in (b"{}", b"null", b"<html>", b""):
        with pytest.raises(NotARelay):
            answers.events(answer(body), ANY, URL)


def test_a_refusal_tells_status_code_text_and_time() -> None:
    headers = {"anporia-code": "rate_agent", "retry-after": "12"}
    refused = answers.refusal(answer({"detail": "slow down"}, 429, headers), URL, NOW)
    assert isinstance(refused, RateLimited)
    assert (refused.status, refused.code, refused.detail, refused.retry_at) == (
        429,
        "rate_agent",
        "slow down",
        NOW + 12,
    )
    assert str(refused) == "slow down (relay http://relay.test). Next allowed in 12 s; the event was not stored."


def test_a_refusal_of_a_published_relay_has_a_code_too() -> None:
    detail = [{"type": "missing", "loc": ["body", "sig"], "msg": "Field required", "input": {}}]
    refused = answers.refusal(answer({"detail": detail}, 422), URL, NOW)
    assert (refused.code, refused.detail, refused.retry_at) == ("http_422", "body.sig: Field required", None)


@pytest.mark.parametrize(
    ("given", "retry_at"),
    [("Thu, 01 Jan 1970 00:01:00 GMT", 60), ("0", NOW), ("soon", None), ("-5", None), ("9" * 30, None), ("", None)],
)
def test_retry_after_is_seconds_or_a_date(given: str, retry_at: int | None) -> None:
    refused = answers.refusal(answer(b"", 503, {"retry-after": given}), URL, NOW)
    assert isinstance(refused, RelayFailing) and refused.retry_at == retry_at


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["detail", "loc", "msg"]), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_refusal_is_too_odd_to_read(body: bytes) -> None:
    refused = answers.refusal(answer(body, 500, {"anporia-code": "Not\x1b[31m a code"}), URL, NOW)
    assert refused.code == "http_500"
    assert str(refused).isprintable() and 0 < len(refused.detail) <= 500


def test_a_redirect_says_what_to_do() -> None:
    assert "give relay_url" in str(answers.refusal(answer(b"", 308), URL, NOW))


def test_a_password_is_asked_for_by_relays_and_by_proxies() -> None:
    page = {"content-type": "text/html"}
    assert isinstance(answers.refusal(answer({"detail": "no"}, 401), URL, NOW), Unauthorized)
    assert isinstance(answers.refusal(answer(b"<h1>Forbidden</h1>", 403, page), URL, NOW), Unauthorized)
    banned = answers.refusal(answer({"detail": "banned"}, 403, {"content-type": "application/json"}), URL, NOW)
    assert not isinstance(banned, Unauthorized) and banned.code == "http_403"


@pytest.mark.parametrize(("ahead", "word"), [(412, "412 s ahead of"), (-3_600, "3600 s behind")])
def test_a_wrong_clock_is_recognised(ahead: int, word: str) -> None:
    theirs = {"date": "Thu, 01 Jan 1970 12:00:00 GMT"}  # 43,200
    refusal = answer({"detail": f"created_at too far in future ({ahead}s)"}, 400, theirs)
    error = answers.refusal(refusal, URL, 43_200 + ahead)
    assert isinstance(error, ClockSkew) and (error.skew, error.code) == (ahead, "clock_skew") and word in str(error)
    # an old event, published late by a clock that is right, is no such case
    assert not isinstance(answers.refusal(refusal, URL, 43_200), ClockSkew)
    assert not isinstance(answers.refusal(answer({"detail": "too many tags"}, 400, theirs), URL, 0), ClockSkew)


def test_the_next_page_is_named_by_a_link() -> None:
    def cursor(link: str) -> str | None:
        return answers.next_cursor(answer([], 200, {"link": link}))

    assert cursor('<http://r/events?limit=2&cursor=a%2Fb-1>; rel="next"') == "a/b-1"
    assert cursor("<?cursor=x>; rel=next") == "x"
    assert (
        cursor('<http://r/events>; rel="next"') is None
        and cursor('<?cursor=x>; rel="prev"') is None
        and cursor("") is None
    )


def test_a_plain_relay_has_no_info_document() -> None:
    assert answers.info(answer({"features": ["batch"]})) == {"features": ["batch"]}
    for body in (b"<html>", b"[]", b'{"name":"ANP2"}'):
        assert answers.info(answer(body)) == {}
    assert answers.info(answer({"features": ["batch"]}, 404)) == {}


def test_tags_are_lists_as_json_reads_them() -> None:
    event = signed(tags=[("t", "tea"), ("pow", "12")])
    assert answers.as_dict(event) == json.loads(event.to_json())
