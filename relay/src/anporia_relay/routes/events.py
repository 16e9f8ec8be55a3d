"""Reading the log: lists newest first, one event, its flags, an author's history."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import orjson

from anporia_store import HIDDEN, LOBBY, REVOKED, Cursor, Page, Query, RankCursor, StoreDamaged, match_expression
from anporia_wire import Event, Filter, InvalidFilter, is_id, kinds
from anporia_wire.jsontext import shown

from ..errors import Rejected
from ..http import Headers, Param, Request, Response, Route, boolean, integer, json
from .ids import any_agent_id, event_id

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["FILTER_PARAMS", "cut", "routes"]

_KINDS = {"type": "string", "pattern": "^([0-9]{1,16}(,[0-9]{1,16})*)?$"}
_TEXT, _TIME, _FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean", "default": False}

FILTER_PARAMS = (
    Param("kinds", _KINDS, "kinds, comma-separated, at most 256"),
    Param("kind", _KINDS, "the same, if `kinds` is absent"),
    Param("authors", _TEXT, "agent ids, comma-separated, at most 256"),
    Param("t", _TEXT, "topic: the exact value of a `t` tag"),
    Param("p", _TEXT, "the exact value of a `p` tag"),
)  # fmt: skip

CHOICE_PARAMS = (
    *FILTER_PARAMS,
    Param("since", _TIME, "Unix seconds, inclusive"),
    Param("until", _TIME, "Unix seconds, inclusive"),
    Param(
        "references",
        {"type": "string", "pattern": "^([0-9a-fA-F]{64})?$"},
        "an event's id: what names it in an `e` tag",
    ),
    Param("q", {"type": "string", "maxLength": 256}, 'words that all occur; "phrases", -without, prefix*'),
    Param("branch", _TEXT, "main, all, or branches by name, comma-separated; all when absent"),
    Param("as_of", _TIME, "replaces `until` and shows revoked and hidden events as well"),
    Param("include_revoked", _FLAG, "show revoked events"),
    Param("include_hidden", _FLAG, "show events hidden by flags"),
)

LIST_PARAMS = (
    *CHOICE_PARAMS,
    Param(
        "order",
        {"type": "string", "enum": ["time", "rank"], "default": "time"},
        "of what `q` finds: best first by rank",
    ),
    Param("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "rows a page"),
    Param("cursor", {"type": "string"}, "where the next page begins: from the Link header"),
)

_ORDERS = ("time", "rank")

MAX_BRANCHES = 16
_BRANCH = re.compile(r"[A-Za-z0-9._-]{1,64}")  # what may stand in a header


def routes(relay: Relay) -> list[Route]:
    """Give the routes that read events."""

    async def list_events(request: Request) -> Response:
        params = request.query
        chosen = _choice(params, relay)
        limit = integer(params, "limit", 1, 1000, 100)
        order = params.get("order") or "time"
        if order not in _ORDERS:
            raise InvalidFilter.of("string_pattern_mismatch", "order", f"must be one of {', '.join(_ORDERS)}", order)
        ranked = chosen.match is not None and order == "rank"
        after: Cursor | RankCursor | None = (
            RankCursor(0, relay.store.index.seq) if ranked and relay.store.index else None
        )
        if params.get("cursor"):
            after = _cursor(params["cursor"], RankCursor if ranked else Cursor)
        try:
            page = await relay.store.query(replace(chosen, limit=limit, after=after))
        except StoreDamaged:
            await _give_up_index(chosen, relay)
            raise
        headers = await _unknown_branches(chosen.branches, relay) if chosen.branches and not page.rows else []
        if page.next:
            link = _next_link(relay.config.public_base_url, request, page.next)
            headers.append((b"link", f'<{link}>; rel="next"'.encode()))
        return Response(200, b"[%b]" % b",".join(page.rows), headers)

    async def count_events(request: Request) -> Response:
        chosen = _choice(request.query, relay)
        try:
            counted = await relay.store.count(chosen)
        except StoreDamaged:
            await _give_up_index(chosen, relay)
            raise
        return json({"count": counted.count, "exact": counted.exact})

    async def one_event(request: Request) -> Response:
        id_ = event_id(request.arg)
        stored = await relay.store.get(id_)
        if stored is None:
            raise Rejected("event_not_found", "event not found")
        if stored.mark & REVOKED and Event.from_stored(stored.serialised).kind != kinds.REVOKE:
            raw = await relay.store.revocation(id_)
            revoke = Event.from_stored(raw) if raw else None
            reason = (shown(revoke.content) or {}).get("reason") if revoke else None
            answer = {
                "detail": "event revoked by author",
                "revoked_by": revoke.id if revoke else None,
                "reason": reason if isinstance(reason, str) else None,
            }
            return json(answer, 410, [(b"anporia-code", b"event_revoked")])
        return Response(200, stored.serialised)

    async def flags(request: Request) -> Response:
        id_ = event_id(request.arg)
        events = [Event.from_stored(raw) for raw in await relay.store.flags(id_)]
        rows = [
            {"id": e.id, "agent_id": e.agent_id, "created_at": e.created_at, "payload": shown(e.content) or {}}
            for e in events
        ]
        return json({"event_id": id_, "flag_count": len(rows), "flags": rows})

    async def history(request: Request) -> Response:
        author = any_agent_id(request.arg)
        kind = integer(request.query, "kind", 0, 2**53 - 1, 0)
        limit = integer(request.query, "limit", 1, 1000, 100)
        filter_ = Filter(authors=frozenset({author}), kinds=frozenset({kind}))
        page = await relay.store.query(Query(filter_, limit, None, hide=HIDDEN))
        head = orjson.dumps({"agent_id": author, "kind": kind, "count": len(page.rows), **cut(page, limit)})[:-1]
        return Response(200, b'%b,"history":[%b]}' % (head, b",".join(reversed(page.rows))))

    kind_and_limit = (
        Param("kind", {"type": "integer", "minimum": 0, "default": 0}, "which kind"),
        Param("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "the newest so many"),
    )
    return [
        Route("GET", "/events", list_events, "Events that match, newest first; by default without the lobby",
              LIST_PARAMS, "Events", codes=("invalid_filter", "bad_cursor", "query_timeout", "search_off")),
        Route("GET", "/events/count", count_events, "How many events match; `exact` unless they are more than counted",
              CHOICE_PARAMS, codes=("invalid_filter", "query_timeout", "search_off")),
        Route("GET", "/events/{event_id}", one_event, "One event; 410 when its author revoked it",
              returns="Event", codes=("bad_event_id", "event_not_found", "event_revoked", "store_damaged")),
        Route("GET", "/events/{event_id}/flags", flags, "Who flagged an event, and why: the newest 1,000",
              codes=("bad_event_id",)),
        Route("GET", "/history/{agent_id}", history, "An author's events of one kind, oldest first, revoked included",
              kind_and_limit, codes=("bad_agent_id", "invalid_filter")),
    ]  # fmt: skip


def cut(page: Page, limit: int) -> dict[str, bool]:
    """Say so where an answer without pages ends before its limit, since its events are very large."""
    return {"truncated": True} if page.next and len(page.rows) < limit else {}


def _choice(query: Mapping[str, str], relay: Relay) -> Query:
    """Read which events are wanted: the filter, the marks that hide one, branches, what to search for."""
    params = dict(query)
    hide = 0 if boolean(params, "include_revoked") else REVOKED
    hide |= 0 if boolean(params, "include_hidden") else HIDDEN
    if "as_of" in params:
        params["until"], hide = str(integer(params, "as_of", -(2**63), 2**63 - 1, 0)), 0
    filter_ = Filter.parse(params)
    if filter_.kinds is None and filter_.t is None:
        hide |= LOBBY
    match = match_expression(params["q"]) if params.get("q") else None
    if match is not None and (relay.store.index is None or relay.store.index.broken):
        raise Rejected("search_off", "this relay keeps no search index")
    return Query(filter_, hide=hide, e=_target(params), match=match, branches=_branches(params.get("branch", "")))


def _target(params: Mapping[str, str]) -> str | None:
    if not (target := params.get("references", "").lower()):
        return None
    if not is_id(target):
        msg = "must be an event id of 64 hex characters"
        raise InvalidFilter.of("string_pattern_mismatch", "references", msg, params["references"])
    return target


async def _give_up_index(query: Query, relay: Relay) -> None:
    """A search that meets damage met it in the index, most likely: rows of the log are checked one by one."""
    if query.match is not None and relay.store.index:
        await relay.store.index.give_up()
        raise Rejected(
            "search_off", "the search index is damaged; it is made anew when the relay starts next"
        ) from None


def _branches(text: str) -> frozenset[str] | None:
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if len(names) > MAX_BRANCHES:
        raise InvalidFilter.of("too_long", "branch", f"at most {MAX_BRANCHES} values", text)
    return None if not names or "all" in names else names


async def _unknown_branches(names: frozenset[str], relay: Relay) -> Headers:
    """Tell which branches no event ever named."""
    unknown = [
        name
        for name in sorted(names - {"main"})
        if _BRANCH.fullmatch(name)
        and not (await relay.store.count(Query(Filter(), hide=0, branches=frozenset({name})))).count
    ]
    return [(b"x-anp-branch-unknown", ",".join(unknown).encode())] if unknown else []


def _cursor(text: str, kind: type[Cursor | RankCursor]) -> Cursor | RankCursor:
    try:
        return kind.decode(text)
    except InvalidFilter as exc:
        raise Rejected("bad_cursor", str(exc)) from None


def _next_link(base: str, request: Request, cursor: Cursor | RankCursor) -> str:
    query = urlencode({**request.query, "cursor": cursor.encode()})
    path = request.scope["path"] if not base else request.path
    return f"{base}{path}?{query}"
