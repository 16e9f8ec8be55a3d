"""What comes back from a relay, read with distrust: nothing unverified passes as an event."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from anporia_wire import AnporiaError, BadSignature, Event, Filter, verify, verify_many
from anporia_wire.jsontext import shown

from .errors import BadAnswer, ClockSkew, NotARelay, RateLimited, RelayFailing, RelayRefused, Unauthorized
from .transport import Response

__all__ = [
    "Found",
    "Line",
    "Page",
    "accepted",
    "as_dict",
    "batch_lines",
    "claimed",
    "clock_ahead",
    "events",
    "examined",
    "frame_event",
    "genuine",
    "info",
    "is_envelope",
    "next_cursor",
    "object_of",
    "one_event",
    "payload",
    "refusal",
    "skewed",
]

SKEW_S = 300  # relays take events up to this far ahead of their clock (protocol section 5.1)

_MAX_DETAIL = 500  # characters of a refusal's text that are worth showing
_MAX_DEPTH = 32  # of an answer's JSON, as for every input (settled 15)
_MOST_RETRY_S = 10 * 365 * 86_400  # ten years: beyond it nobody waits
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_NEXT = re.compile(r'<([^<>]{1,4096})>\s*;\s*rel="?next"?', re.ASCII)


@dataclass(slots=True)
class Found:
    """Events of an answer: the genuine ones as dicts in its order, and why each other one is not.

    `items`: what the caller sees; with `keep_invalid` the others too, each with a key `invalid`; `received`:
    date and id of each item that has them, genuine or not.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[AnporiaError] = field(default_factory=list)
    received: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    `received`: date and id of each item the relay sent, genuine or not; `cursor`: of the next page, if it said.
    """

    items: list[dict[str, Any]]
    received: list[tuple[int, str]]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """What a batch says of one event. `status` 200 is an acknowledgement."""

    status: int
    code: str
    detail: str
    retry_at: int | None
    ahead: int | None  # seconds by which our clock is ahead of the relay's, if it said


def as_dict(event: Event) -> dict[str, Any]:
    """Give an event as its JSON reads, with lists for tags, as published clients do."""
    return {**event.to_dict(), "tags": [list(tag) for tag in event.tags]}


def object_of(response: Response, url: str) -> dict[str, Any]:
    """Read an answer that is a JSON object. Raises `NotARelay`."""
    value = _json(response.body, url)
    if not isinstance(value, dict):
        raise NotARelay("the answer is not a JSON object", url)
    return value


def accepted(response: Response, event: Event, url: str) -> dict[str, Any]:
    """Read the acknowledgement of `event`. Raises `BadAnswer` when it is not one, or of another event."""
    answer = object_of(response, url)
    if answer.get("accepted") is not True or answer.get("id") != event.id:
        raise BadAnswer("the relay answered, but did not acknowledge this event", url)
    return answer


def batch_lines(response: Response, sent: Sequence[Event], url: str, now: float) -> list[Line]:
    """Read what a batch says of each event, in the order sent. Raises `BadAnswer` when it says too little."""
    lines = response.body.splitlines()
    if len(lines) != len(sent):
        raise BadAnswer(f"the relay answered {len(lines)} lines for {len(sent)} events", url)
    ahead = clock_ahead(response, now)
    return [_line(_json(line, url), event, url, ahead, now) for line, event in zip(lines, sent, strict=True)]


def events(response: Response, filter_: Filter, url: str, *, keep_invalid: bool = False) -> Found:
    """Read a list of events; an event is kept if it is genuine and was asked for. Raises `NotARelay`."""
    listed = _json(response.body, url)
    if not isinstance(listed, list):
        raise NotARelay("the answer is not a list of events", url)
    return examined(listed, filter_, keep_invalid=keep_invalid)


def examined(listed: Sequence[Any], filter_: Filter, *, keep_invalid: bool = False) -> Found:
    """Verify what claims to be events."""
    found = Found(received=[(item["created_at"], item["id"]) for item in listed if _is_dated(item)])
    for item, verdict in zip(listed, _verdicts(listed, filter_), strict=True):
        if isinstance(verdict, Event):
            found.items.append(as_dict(verdict))
            continue
        found.dropped.append(verdict)
        if keep_invalid and isinstance(item, dict):
            found.items.append({**item, "invalid": verdict.code})
    return found


def frame_event(data: bytes, filter_: Filter) -> Event:
    """Read the event of one frame. Raises what makes it worthless: not whole, forged, not asked for."""
    event = Event.parse(data)
    _hold(event, filter_)
    if not verify(*event.signed()):
        raise BadSignature("bad signature")
    return event


def one_event(response: Response, event_id: str, url: str) -> Event:
    """Read an answer that is one event. Raises `BadAnswer` when it is not genuine, or another one."""
    try:
        event = frame_event(response.body, Filter())
    except AnporiaError as exc:
        raise BadAnswer(f"the relay answered with what is no genuine event ({exc.code})", url) from None
    if event.id != event_id:
        raise BadAnswer("the relay answered with another event", url)
    return event


def payload(content: str) -> dict[str, Any]:
    """Read an event's content as the JSON object it should be, with the same eyes as views do; else an empty one."""
    return shown(content) or {}


def claimed(data: bytes) -> dict[str, Any]:
    """Give what a frame holds as it came, for readers who asked for what is not genuine too."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {}


def genuine(value: Any, drop: list[AnporiaError], url: str, depth: int = 0) -> Any:
    """Take events that do not verify out of what a relay worked out, wherever in it they stand.

    What stands beside an envelope's fields, such as why the event is listed, stays. In place of a single
    event that does not verify there is None. Raises `BadAnswer` for nesting beyond any sense.
    """
    if depth > _MAX_DEPTH:
        raise BadAnswer("the answer is nested too deeply", url)
    if isinstance(value, list):
        verdicts = iter(_verdicts([item for item in value if is_envelope(item)], Filter()))
        kept = [_judged(item, next(verdicts), drop) if is_envelope(item) else item for item in value]
        return [genuine(item, drop, url, depth + 1) for item in kept if item is not None]
    if isinstance(value, dict):
        alone = {name: item for name, item in value.items() if is_envelope(item)}
        verdicts = iter(_verdicts(list(alone.values()), Filter()))
        single = {name: _judged(item, next(verdicts), drop) for name, item in alone.items()}
        return {name: genuine(single.get(name, item), drop, url, depth + 1) for name, item in value.items()}
    return value


def info(response: Response) -> dict[str, Any]:
    """Read the info document; a plain ANP2 relay has none, which gives `{}`."""
    try:
        value = orjson.loads(response.body) if response.status == 200 else None
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) and isinstance(value.get("features"), list) else {}


def next_cursor(response: Response) -> str | None:
    """Find where the next page begins: the `cursor` in `Link: <...>; rel="next"` (protocol section 1)."""
    found = _NEXT.search(response.headers.get("link", ""))
    if found is None:
        return None
    from urllib.parse import parse_qs, urlsplit

    cursors = parse_qs(urlsplit(found[1]).query).get("cursor")
    return cursors[0] if cursors else None


def clock_ahead(response: Response, now: float) -> int | None:
    """Say by how many seconds our clock, `now`, is ahead of the relay's `Date`; None without one."""
    theirs = _date(response.headers.get("date", ""))
    return None if theirs is None else int(now - theirs)


def refusal(response: Response, url: str, now: float) -> RelayRefused:
    """Read an answer that is no success. `now`: Unix seconds. Raises `NotARelay` for what no relay says."""
    status, headers = response.status, response.headers
    code = headers.get("anporia-code", "")
    if not _CODE.fullmatch(code):
        code = f"http_{status}"  # published relays send no code
    detail = _detail(response.body) or f"the relay answered with HTTP status {status}"
    if 300 <= status < 400:
        advice = "It redirects, which is not followed: give relay_url as the address it stands for."
        return RelayRefused(status, code, detail, None, url, advice)
    retry_at = _retry_at(headers.get("retry-after", ""), now)
    if status in (404, 405, 501) and code.startswith("http_") and not _detail(response.body):
        error = NotARelay(f"something answers there, and knows no relay's routes (HTTP {status})", url)
        error.status = status
        raise error
    if status in (401, 407) or (status == 403 and "json" not in headers.get("content-type", "")):
        return Unauthorized(status, "unauthorized", detail, None, url)
    if status == 429:
        return RateLimited(status, code, detail, retry_at, url, _wait_until(retry_at, now))
    if status >= 500 and code not in ("search_off",):
        return RelayFailing(status, code, detail, retry_at, url)
    if code == "bad_time" or (code == "http_400" and detail.startswith("created_at too far")):
        ahead = clock_ahead(response, now)
        if ahead is not None and abs(ahead) > SKEW_S:
            return skewed(status, detail, ahead, url)
    gone = "It is not there, or was taken back; asking again will not help." if status in (404, 410) else None
    return RelayRefused(status, code, detail, retry_at, url, gone)


def skewed(status: int, detail: str, ahead: int, url: str) -> ClockSkew:
    """Say that our clock is wrong, by `ahead` seconds."""
    which = "ahead of" if ahead > 0 else "behind"
    advice = f"This machine's clock is {abs(ahead)} s {which} the relay's: set it (NTP), then publish again."
    error = ClockSkew(status, "clock_skew", detail, None, url, advice)
    error.skew = ahead
    return error


def _wait_until(retry_at: int | None, now: float) -> str:
    if retry_at is None:
        return "Wait a minute; the event was not stored."
    return f"Next allowed in {max(0, round(retry_at - now))} s; the event was not stored."


def _line(value: Any, event: Event, url: str, ahead: int | None, now: float) -> Line:
    status = value.get("status") if isinstance(value, dict) else None
    if not isinstance(status, int):
        raise BadAnswer("a line of the relay's answer says nothing of its event", url)
    good = value.get("accepted") is True and value.get("id") == event.id
    if status == 200 and not good:
        raise BadAnswer("the relay answered, but did not acknowledge this event", url)
    code, retry_at = value.get("code"), value.get("retry_at")
    return Line(
        status,
        code if isinstance(code, str) and _CODE.fullmatch(code) else f"http_{status}",
        _shown(value.get("detail")),
        _sane(retry_at, now) if type(retry_at) is int else None,
        ahead,
    )


def _verdicts(listed: Sequence[Any], filter_: Filter) -> list[Event | AnporiaError]:
    """Give, for each, the event it is, or why it is none."""
    verdicts: list[Event | AnporiaError] = []
    for item in listed:
        try:
            event = Event.from_mapping(item)
            _hold(event, filter_)
        except AnporiaError as exc:
            verdicts.append(exc)
        else:
            verdicts.append(event)
    # one call for all signatures: the compiled kernels take them in a batch
    good = iter(verify_many([event.signed() for event in verdicts if isinstance(event, Event)]))
    forged = BadSignature("bad signature")
    return [v if not isinstance(v, Event) or next(good) else forged for v in verdicts]


def _judged(item: Mapping[str, Any], verdict: Event | AnporiaError, drop: list[AnporiaError]) -> Any:
    if isinstance(verdict, Event):
        return {**item, **as_dict(verdict)}
    drop.append(verdict)
    return None


def _hold(event: Event, filter_: Filter) -> None:
    """Check all but the signature."""
    event.check_sizes()
    event.check_id()
    if not filter_.matches(event):
        raise BadAnswer("an event that was not asked for")


def _is_dated(item: Any) -> bool:
    return isinstance(item, dict) and type(item.get("created_at")) is int and isinstance(item.get("id"), str)


def is_envelope(value: Any) -> bool:
    """Say whether a part of an answer claims to be an event."""
    return isinstance(value, dict) and {"id", "agent_id", "kind", "created_at", "sig"} <= value.keys()


def _json(body: bytes, url: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NotARelay("the answer is not JSON", url) from None


def _detail(body: bytes) -> str:
    """Find the text of a refusal: `detail` is text, or a list of problems (WIRE section 4)."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    detail = value.get("detail") if isinstance(value, dict) else None
    if isinstance(detail, list):
        detail = "; ".join(_problem(item) for item in detail[:8])
    return _shown(detail)


def _shown(text: Any) -> str:
    # a stranger wrote it, and somebody's terminal will show it
    return "".join(c if c.isprintable() else " " for c in text[:_MAX_DETAIL]).strip() if isinstance(text, str) else ""


def _problem(item: object) -> str:
    if not isinstance(item, dict):
        return ""
    loc = item.get("loc")
    # what is nested more deeply than a place and a text is no refusal that anybody wrote
    place = ".".join(str(part) for part in loc if isinstance(part, (str, int))) if isinstance(loc, list) else ""
    msg = item.get("msg")
    return f"{place}: {msg if isinstance(msg, str) else ''}"


def _retry_at(text: str, now: float) -> int | None:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return _sane(int(now) + int(text), now)
    date = _date(text)
    return None if date is None else _sane(date, now)


def _sane(retry_at: int, now: float) -> int | None:
    """Pass over a time that no clock or calendar of the caller could take."""
    return retry_at if 0 <= retry_at < now + _MOST_RETRY_S else None


def _date(text: str) -> int | None:
    from email.utils import parsedate_to_datetime  # needed for refusals only, and slow to import

    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError, TypeError):
        return None
