"""What goes to a relay and what comes back, as plain values: no sockets, no clock. A relay is not trusted.

Requests are built here, answers are read here; `agent.py` only carries them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from anporia_wire import AnporiaError, BadSignature, Event, Filter, verify, verify_many

from .errors import BadAnswer, RelayRefused

__all__ = [
    "Frame",
    "Request",
    "SseParser",
    "as_dict",
    "parse_accepted",
    "parse_events",
    "parse_frame",
    "parse_object",
    "parse_refusal",
    "publish_request",
    "query_request",
    "stats_request",
    "stream_request",
]

MAX_FRAME = 4 * 1024 * 1024  # an event is at most 512 KiB, and each byte may be sent as \uXXXX
_MAX_DETAIL = 500  # characters of a refusal's text that are worth showing

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `path` is below the relay's address."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


def publish_request(event: Event) -> Request:
    """Ask a relay to take an event."""
    return Request("POST", "/events", headers={"content-type": "application/json"}, body=event.to_json())


def query_request(filter_: Filter, limit: int) -> Request:
    """Ask for the newest `limit` events that match, 1 to 1000; conditions that are None are not sent."""
    params = {"limit": str(limit)}
    if filter_.kinds is not None:
        params["kinds"] = ",".join(map(str, sorted(filter_.kinds)))
    if filter_.authors is not None:
        params["authors"] = ",".join(sorted(filter_.authors))
    if filter_.t is not None:
        params["t"] = filter_.t
    if filter_.since is not None:
        params["since"] = str(filter_.since)
    if filter_.until is not None:
        params["until"] = str(filter_.until)
    return Request("GET", "/events", params)


def stats_request() -> Request:
    """Ask for the relay's counts."""
    return Request("GET", "/stats")


def stream_request(filter_: Filter, last_event_id: str | None) -> Request:
    """Ask for events as they come. Raises `ValueError` for a `last_event_id` no header can carry."""
    headers = {"accept": "text/event-stream", "cache-control": "no-cache"}
    if last_event_id:
        if not (last_event_id.isascii() and last_event_id.isprintable()):
            raise ValueError("last_event_id holds characters that no relay sends")
        headers["last-event-id"] = last_event_id
    return Request("GET", "/stream", {"t": filter_.t} if filter_.t is not None else {}, headers)


def parse_object(body: bytes) -> dict[str, Any]:
    """Read an answer that is a JSON object. Raises `BadAnswer`."""
    value = _json(body)
    if not isinstance(value, dict):
        raise BadAnswer("the answer is not a JSON object; is relay_url the address of a relay?")
    return value


def parse_accepted(body: bytes, event: Event) -> dict[str, Any]:
    """Read the acknowledgement of `event`. Raises `BadAnswer` when it is not one, or of another event."""
    answer = parse_object(body)
    if answer.get("accepted") is not True or answer.get("id") != event.id:
        raise BadAnswer("the relay answered, but did not acknowledge this event")
    return answer


def parse_events(body: bytes, filter_: Filter) -> tuple[list[Event], list[AnporiaError]]:
    """Read a list of events; gives the genuine ones that were asked for, and why each other was dropped.

    Raises `BadAnswer` when the answer is no list at all.
    """
    items = _json(body)
    if not isinstance(items, list):
        raise BadAnswer("the answer is not a list of events; is relay_url the address of a relay?")
    plausible: list[Event] = []
    dropped: list[AnporiaError] = []
    for item in items:
        try:
            plausible.append(_examined(Event.from_mapping(item), filter_))
        except AnporiaError as exc:
            dropped.append(exc)
    # one call for all signatures: the compiled kernels take them in a batch
    genuine = verify_many([event.signed() for event in plausible])
    kept = [event for event, good in zip(plausible, genuine, strict=True) if good]
    return kept, dropped + [BadSignature("bad signature")] * (len(plausible) - len(kept))


def parse_frame(data: bytes, filter_: Filter) -> Event:
    """Read the event of one frame. Raises what makes it worthless: not whole, forged, not asked for."""
    event = _examined(Event.parse(data), filter_)
    if not verify(*event.signed()):
        raise BadSignature("bad signature")
    return event


def parse_refusal(status: int, headers: Mapping[str, str], body: bytes, now: int) -> RelayRefused:
    """Read an answer that is no success. `now`: Unix seconds; header names are looked up in lower case."""
    code = headers.get("anporia-code", "")
    if not _CODE.fullmatch(code):
        code = f"http_{status}"  # published relays send no code
    if 300 <= status < 400:
        detail = "the relay redirects, which is not followed: give relay_url as the address it stands for"
    else:
        detail = _detail(body) or f"the relay answered with HTTP status {status}"
    return RelayRefused(status, code, detail, _retry_at(headers.get("retry-after", ""), now))


def as_dict(event: Event) -> dict[str, Any]:
    """Give an event as its JSON reads, with lists for tags, as published clients do."""
    return {**event.to_dict(), "tags": [list(tag) for tag in event.tags]}


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event. `id`: where to resume, "" if the relay never named one; `type`: mostly "message"."""

    id: str
    type: str
    data: bytes


class SseParser:
    r"""Turns bytes into frames, however they are cut into chunks, by the rules of the HTML standard.

    Lines end at `\n`, `\r\n` and `\r` and nowhere else: published relays send U+2028 raw, and readers
    that split lines there lose those events.
    """

    def __init__(self) -> None:
        self._partial: list[bytes] = []  # the pieces of a line that has not ended
        self._size = 0  # bytes held for the frame under way
        self._after_cr = False
        self._started = False
        self._id = b""
        self._type = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take the next bytes; gives the frames they complete. Raises `BadAnswer` for one above 4 MiB."""
        if self._after_cr and chunk:
            # this line ended with the last chunk already, so that no frame waits for a byte to come
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        *lines, rest = _LINE_END.split(chunk)
        frames: list[Frame] = []
        for line in lines:
            self._hold(line)
            whole = b"".join(self._partial)
            self._partial.clear()
            if not self._started:
                self._started, whole = True, whole.removeprefix(_BOM)
            if whole:
                self._field(whole)
            else:
                frames += self._dispatch()
        self._hold(rest)
        return frames

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_FRAME:
            raise BadAnswer(f"the relay sent a frame of more than {MAX_FRAME} bytes")
        if piece:
            self._partial.append(piece)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value
        elif name == b"event":
            self._type = value
        elif not self._data:
            self._size = 0  # comments keep a quiet stream open for days: they must not add up

    def _dispatch(self) -> list[Frame]:
        given, data, type_ = bool(self._data), b"\n".join(self._data), self._type or b"message"
        self._data.clear()
        self._type, self._size = b"", 0
        # Without a data line there is no event; the id counts all the same.
        return [Frame(self._id.decode("utf-8", "replace"), type_.decode("utf-8", "replace"), data)] if given else []


def _examined(event: Event, filter_: Filter) -> Event:
    """Check all but the signature."""
    event.check_sizes()
    event.check_id()
    if not filter_.matches(event):
        raise BadAnswer("an event that was not asked for")
    return event


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadAnswer("the answer is not JSON; is relay_url the address of a relay?") from None


def _detail(body: bytes) -> str:
    """Find the text of a refusal: `detail` is text, or a list of problems (WIRE section 4)."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    detail = value.get("detail") if isinstance(value, dict) else None
    if isinstance(detail, list):
        detail = "; ".join(_problem(item) for item in detail[:8])
    if not isinstance(detail, str):
        return ""
    # a stranger wrote it, and somebody's terminal will show it
    return "".join(c if c.isprintable() else " " for c in detail[:_MAX_DETAIL]).strip()


def _problem(item: object) -> str:
    if not isinstance(item, dict):
        return ""
    loc = item.get("loc")
    place = ".".join(map(str, loc)) if isinstance(loc, Iterable) and not isinstance(loc, str) else ""
    return f"{place}: {item.get('msg', '')}"


def _retry_at(text: str, now: int) -> int | None:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return now + int(text)
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError):
        return None
