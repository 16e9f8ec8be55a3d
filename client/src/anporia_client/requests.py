"""What goes to a relay, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from anporia_wire import Event, Filter, is_id

from .transport import Request

__all__ = ["an_id", "batch", "count", "info", "publish", "query", "stream", "view"]


_ONE_EVENT_BYTES = 4 * 1024 * 1024  # the largest event, with each byte escaped as \uXXXX, and room
_BYTES_EACH = 128 * 1024  # of many: the largest content, and as much of tags


def publish(event: Event) -> Request:
    """Ask a relay to take an event."""
    return Request("POST", "/events", headers={"content-type": "application/json"}, body=event.to_json())


def batch(events: Iterable[Event]) -> Request:
    """Ask a relay to take several, a line each (protocol section 5.2)."""
    body = b"\n".join(event.to_json() for event in events)
    return Request("POST", "/events/batch", headers={"content-type": "application/x-ndjson"}, body=body)


def query(filter_: Filter, limit: int, more: Mapping[str, str] | None = None, *, path: str = "/events") -> Request:
    """Ask for the newest `limit` events that match, 1 to 1000; conditions that are None are not sent."""
    params = {"limit": str(limit), **_conditions(filter_), **(more or {})}
    return Request("GET", path, params, most=_ONE_EVENT_BYTES + limit * _BYTES_EACH)


def count(filter_: Filter, more: Mapping[str, str]) -> Request:
    """Ask how many events match."""
    return Request("GET", "/events/count", {**_conditions(filter_), **more})


def info() -> Request:
    """Ask what the relay can do (protocol section 31)."""
    return Request("GET", "/", headers={"accept": "application/json"})


def view(path: str, params: Mapping[str, str | int | None] | None = None) -> Request:
    """Ask for something a relay works out; parameters that are None are not sent."""
    given = {name: str(value) for name, value in (params or {}).items() if value is not None}
    return Request("GET", path, given)


def stream(filter_: Filter, last_event_id: str | None) -> Request:
    """Ask for events as they come. Raises `ValueError` for a `last_event_id` no header can carry."""
    headers = {"accept": "text/event-stream", "cache-control": "no-cache"}
    if last_event_id:
        if not (last_event_id.isascii() and last_event_id.isprintable()):
            raise ValueError("last_event_id holds characters that no relay sends")
        headers["last-event-id"] = last_event_id
    return Request("GET", "/stream", _conditions(filter_), headers)


def an_id(id_: str) -> str:
    """Give a caller's id in lower case. Raises `ValueError` unless it is 64 characters of hex."""
    lower = id_.lower()
    if not is_id(lower):
        raise ValueError(f"an id is 64 hex characters, got {len(id_)} characters")
    return lower


def _conditions(filter_: Filter) -> dict[str, str]:
    params: dict[str, str] = {}
    if filter_.kinds is not None:
        params["kinds"] = ",".join(map(str, sorted(filter_.kinds)))
    if filter_.authors is not None:
        params["authors"] = ",".join(sorted(filter_.authors))
    if filter_.t is not None:
        params["t"] = filter_.t
    if filter_.p is not None:
        params["p"] = filter_.p
    if filter_.since is not None:
        params["since"] = str(filter_.since)
    if filter_.until is not None:
        params["until"] = str(filter_.until)
    return params
