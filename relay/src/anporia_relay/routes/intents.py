"""Intents, and who may act for whom. What is said of an intent follows from events that stand beside it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson

from anporia_store import Query
from anporia_wire import Event, Filter, InvalidFilter, is_id, kinds
from anporia_wire.views import IntentQuery
from anporia_wire.views.intents import ALL_STATUSES

from ..errors import Rejected
from ..http import Headers, Param, Request, Response, Route, boolean, integer, json, serialise
from .ids import agent_id, event_id

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["routes"]

MAX_ROWS = 200
MAX_VERIFIERS = 64  # as many ids as fit into a request's address
MAX_READ_BYTES = 8 * 1024 * 1024  # of events for one page, as in a page of `/events`

_TEXT = {"type": "string"}
_ID = {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}


def routes(relay: Relay) -> list[Route]:
    """Give the routes about intents and delegations."""
    views = relay.views

    async def intents(request: Request) -> Response:
        params, now = request.query, int(relay.wall())
        wanted = IntentQuery(
            author=_id_param(request, "author"),
            assignee=_id_param(request, "assignee"),
            parent=_id_param(request, "parent"),
            topic=params.get("topic") or None,
            status=_status_param(request),
        )
        verifiers, quorum = _trusted(request)
        limit = integer(params, "limit", 1, MAX_ROWS, 50)
        with_events = boolean(params, "events")
        after = _place(params["cursor"]) if params.get("cursor") else None
        ids, following = views.intents.find(wanted, now, limit, after)
        rows: list[orjson.Fragment] = []
        size = 0
        for id_ in ids:
            # without its evidence a row follows from few of its events
            row, events = await _read(relay, id_, now, verifiers, quorum, told=with_events, whole=False)
            if row is not None:
                evidence = await _evidence(relay, id_, events) if with_events else None
                size += sum(map(len, evidence or events.values()))
                rows.append(orjson.Fragment(_written(row, evidence)))
                if size > MAX_READ_BYTES and id_ != ids[-1]:
                    following = (row["created_at"], id_)
                    break
        headers = _next_page(relay, request, following) if following else []
        return Response(200, serialise({"intents": rows}), headers)

    async def intent(request: Request) -> Response:
        id_, now = event_id(request.arg, "intent_id"), int(relay.wall())
        verifiers, quorum = _trusted(request)
        row, events = await _read(relay, id_, now, verifiers, quorum)
        if row is None:
            raise Rejected("intent_not_found", "intent not found, or dated in the future")
        return Response(200, _written(row, await _evidence(relay, id_, events)))

    async def delegations(request: Request) -> Response:
        return json(views.delegations.read(agent_id(request.arg), int(relay.wall())))

    choice = (
        Param("verifiers", _TEXT, f"agents the reader trusts, comma-separated, at most {MAX_VERIFIERS}"),
        Param("quorum", {"type": "integer", "minimum": 1, "maximum": MAX_VERIFIERS, "default": 1}, "how many of them"),
    )
    page = (
        Param("author", _ID, "who declared it"),
        Param("assignee", _ID, "who shall do it"),
        Param("parent", _ID, "the intent it is a part of"),
        Param("topic", _TEXT, "value of a `t` tag"),
        Param("status", {"type": "string", "enum": list(ALL_STATUSES)}, "where it stands"),
        *choice,
        Param("events", {"type": "boolean", "default": False}, "also the events from which each row follows"),
        Param("limit", {"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": 50}, "rows"),
        Param("cursor", _TEXT, "where the next page begins: from the Link header"),
    )
    return [
        Route("GET", "/intents", intents, "Intents, newest first", page, codes=("invalid_filter", "bad_cursor")),
        Route("GET", "/intents/{intent_id}", intent, "An intent, and what came of it", choice,
              codes=("bad_event_id", "intent_not_found", "invalid_filter")),
        Route("GET", "/agents/{agent_id}/delegations", delegations, "Whom an agent acts for, and who acts for it",
              codes=("bad_agent_id",)),
    ]  # fmt: skip


async def _read(
    relay: Relay,
    intent_id: str,
    now: int,
    verifiers: Collection[str],
    quorum: int,
    *,
    told: bool = True,
    whole: bool = True,
) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """Give an intent's row and the stored bytes of the events it tells of, or not `told` of those it needs.

    `whole`: with its statuses.
    """
    view = relay.views.intents
    stored = await relay.store.get_many(view.mentioned(intent_id, now, verifiers, whole=told))
    raw = {id_: one.serialised for id_, one in stored.items()}
    events = {id_: Event.from_stored(one) for id_, one in raw.items()}
    return view.read(intent_id, now, events, verifiers, quorum, whole=whole), raw


async def _evidence(relay: Relay, intent_id: str, told: dict[str, bytes]) -> list[bytes]:
    """Give the events a row tells of, those that decide about authority, and what took any of them back."""
    views = relay.views
    events = {id_: Event.from_stored(raw) for id_, raw in told.items()}
    backing = dict.fromkeys(id_ for event in events.values() for id_ in views.delegations.backing(event))
    more = {id_: one.serialised for id_, one in (await relay.store.get_many(backing)).items()}
    targets = [events[intent_id], *(e for e in map(Event.from_stored, more.values()) if e.kind == kinds.DELEGATION)]
    since = [(event, views.revocations.since(event.agent_id, event.id)) for event in targets]
    revokes = [await _revoking(relay, event, at) for event, at in since if at is not None]
    found = {raw for raw in (*told.values(), *more.values(), *revokes) if raw}
    keyed = [(event.created_at, event.id, raw) for event, raw in ((Event.from_stored(raw), raw) for raw in found)]
    return [raw for _, _, raw in sorted(keyed)]


async def _revoking(relay: Relay, event: Event, at: int) -> bytes:
    """Give the kind 9 of this date by which its author took an event back."""
    wanted = Filter(kinds=frozenset({kinds.REVOKE}), authors=frozenset({event.agent_id}), since=at, until=at)
    rows = (await relay.store.query(Query(wanted, 1, hide=0, e=event.id))).rows
    return rows[0] if rows else b""


def _written(row: dict[str, Any], events: list[bytes] | None) -> bytes:
    head = serialise(row)
    return head if events is None else b'%b,"events":[%b]}' % (head[:-1], b",".join(events))


def _trusted(request: Request) -> tuple[tuple[str, ...], int]:
    """Read whose verdicts the reader trusts, and how many of them it takes."""
    text = request.query.get("verifiers", "")
    named = tuple(dict.fromkeys(part.strip().lower() for part in text.split(","))) if text else ()
    if len(named) > MAX_VERIFIERS or not all(map(is_id, named)):
        msg = f"must be at most {MAX_VERIFIERS} agent ids, comma-separated"
        raise InvalidFilter.of("value_error", "verifiers", msg, text)
    return named, integer(request.query, "quorum", 1, MAX_VERIFIERS, 1)


def _id_param(request: Request, name: str) -> str | None:
    text = request.query.get(name, "").lower()
    if text and not is_id(text):
        msg = "must be 64 hex characters"
        raise InvalidFilter.of("value_error", name, msg, text)
    return text or None


def _status_param(request: Request) -> str | None:
    text = request.query.get("status") or None
    if text is not None and text not in ALL_STATUSES:
        msg = f"must be one of {', '.join(ALL_STATUSES)}"
        raise InvalidFilter.of("string_pattern_mismatch", "status", msg, text)
    return text


def _place(text: str) -> tuple[int, str]:
    """Read where a page of intents begins: after (created_at, id)."""
    created_at, _, id_ = text.partition("-")
    if not (created_at.isascii() and created_at.isdigit() and len(created_at) <= 16 and is_id(id_)):
        raise Rejected("bad_cursor", "not a cursor of this relay; take it from the Link header of the page before")
    return int(created_at), id_


def _next_page(relay: Relay, request: Request, following: tuple[int, str]) -> Headers:
    query = {**request.query, "cursor": f"{following[0]}-{following[1]}"}
    base = relay.config.public_base_url
    path = f"{base}{request.path}" if base else request.scope["path"]
    return [(b"link", f'<{path}?{urlencode(query)}>; rel="next"'.encode())]
