"""Who is here and what they offer: rosters, health, rooms, capabilities, totals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson

from anporia_wire import InvalidFilter
from anporia_wire.views import OfferQuery

from ..cached import Cached
from ..errors import Rejected
from ..http import Headers, Param, Request, Response, Route, boolean, decimal, integer, json, serialise
from .ids import agent_id

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["routes"]

MAX_NAME_CHARS = 128  # WIRE section 10
MAX_AGENTS = 10_000  # rows of one answer: 3.5 MB; published relays give all, so the first page must be large
MAX_SEARCHES = 256  # answers of `/capabilities/search` kept
MAX_KEPT_BYTES = 100_000  # of one of them
MAX_ANSWER_BYTES = 8 * 1024 * 1024  # rows end there, as events of a page do

_SORTS = ("trust", "latency", "price")
_TEXT = {"type": "string"}


def routes(relay: Relay) -> list[Route]:
    """Give the routes over the relay's views."""
    views, beats = relay.views, relay.health
    everybody = Cached[tuple[bytes, dict[str, Any] | None]]()
    rooms_body, names_body = Cached[bytes](), Cached[bytes]()

    async def agents(request: Request) -> Response:
        params, now = request.query, int(relay.wall())
        name = params.get("name", "")
        if len(name) > MAX_NAME_CHARS:
            msg = f"at most {MAX_NAME_CHARS} characters"
            raise InvalidFilter.of("string_too_long", "name", msg, name)
        limit = integer(params, "limit", 1, MAX_AGENTS, MAX_AGENTS)
        after = _place(params["cursor"]) if params.get("cursor") else None

        def make() -> tuple[bytes, dict[str, Any] | None]:
            rows, more = views.roster.read(beats, now, name, limit, after)
            return serialise({"agents": rows}), rows[-1] if more else None

        whole = not name and limit == MAX_AGENTS and after is None
        body, last = everybody.get((views.seq, beats.version, now), make) if whole else make()
        return Response(200, body, _next_page(relay, request, name, limit, last) if last else [])

    async def agent(request: Request) -> Response:
        id_ = agent_id(request.arg)
        row = views.roster.detail(id_, beats, int(relay.wall()))
        if row is None:
            raise Rejected("agent_not_found", "agent not found")
        return json({**row, "credit_balance": views.credit.balance(id_)})

    async def health(request: Request) -> Response:
        return json(beats.read(request.arg.lower(), int(relay.wall())))

    async def rooms(_request: Request) -> Response:
        return Response(200, rooms_body.get(views.seq, lambda: serialise({"rooms": views.rooms.read()})))

    async def capabilities(_request: Request) -> Response:
        def make() -> bytes:
            return serialise({"capabilities": views.capabilities.read()})

        return Response(200, names_body.get(views.capabilities.version, make))

    searches: dict[tuple[OfferQuery, str | None, int, int], bytes] = {}

    async def search(request: Request) -> Response:
        await relay.trust.fresh()
        wanted = _offer_query(request)
        key = (wanted, request.query.get("cap"), views.capabilities.version, views.trust.scores.computed_at)
        body = searches.get(key)
        if body is None:
            trust = views.trust.scores.weighted
            rows = views.capabilities.search(wanted, lambda agent: trust.get(agent, 0.0))
            kept: list[orjson.Fragment] = []
            size = 0
            for row in map(serialise, rows):
                size += len(row)
                if kept and size > MAX_ANSWER_BYTES:
                    break
                kept.append(orjson.Fragment(row))
            body = serialise({"query": _echo(request, wanted), "results": kept, "count": len(kept)})
            if len(body) <= MAX_KEPT_BYTES:
                while len(searches) >= MAX_SEARCHES:
                    del searches[next(iter(searches))]
                searches[key] = body
        return Response(200, body)

    async def stats(_request: Request) -> Response:
        return json(views.counts.read(views.roster, int(relay.wall())))

    offer_params = (
        Param("cap", _TEXT, "capability name, or what stands before a dot of it"),
        Param("q", _TEXT, "the same, if `cap` is absent"),
        Param("min_trust", {"type": "number", "minimum": -1e9, "maximum": 1e9}, "least trust of the provider"),
        Param("max_latency_ms", {"type": "integer", "minimum": 0}, "most 95th percentile latency"),
        Param("max_price_usd", {"type": "number", "minimum": 0, "maximum": 1e12}, "most price in USD"),
        Param("supported_language", _TEXT, "language the offer names"),
        Param("tag", _TEXT, "tag the offer names"),
        Param("extension_uri", _TEXT, "URI of an extension the offer names"),
        Param("sort_by", {"type": "string", "enum": list(_SORTS), "default": "trust"}, "best first by"),
        Param(
            "include_conflicts",
            {"type": "boolean", "default": True},
            "also offers of a name declared earlier by others",
        ),
        Param("limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "rows"),
    )
    page = (
        Param("name", {"type": "string", "maxLength": MAX_NAME_CHARS}, "part of the name, in any case"),
        Param("limit", {"type": "integer", "minimum": 1, "maximum": MAX_AGENTS, "default": MAX_AGENTS}, "rows a page"),
        Param("cursor", _TEXT, "where the next page begins: from the Link header"),
    )
    return [
        Route("GET", "/agents", agents, "Every agent with a stored event, last seen first", page,
              codes=("invalid_filter", "bad_cursor")),
        Route("GET", "/agents/{agent_id}", agent, "One agent", codes=("bad_agent_id", "agent_not_found")),
        Route("GET", "/agents/{agent_id}/health", health, "An agent's beats of the last seven days"),
        Route("GET", "/rooms", rooms, "Topics in use, latest first"),
        Route("GET", "/capabilities", capabilities, "What agents declare they can do"),
        Route("GET", "/capabilities/search", search, "Offers that fit", offer_params, codes=("invalid_filter",)),
        Route("GET", "/stats", stats, "Totals of this relay"),
    ]  # fmt: skip


def _offer_query(request: Request) -> OfferQuery:
    params = request.query
    sort_by = params.get("sort_by", "trust")
    if sort_by not in _SORTS:
        msg = f"must be one of {', '.join(_SORTS)}"
        raise InvalidFilter.of("string_pattern_mismatch", "sort_by", msg, sort_by)
    latency = integer(params, "max_latency_ms", 0, 2**53 - 1, -1) if "max_latency_ms" in params else None
    return OfferQuery(
        name=params.get("cap") or params.get("q") or None,
        min_trust=decimal(params, "min_trust", -1e9, 1e9),
        max_latency_ms=latency,
        max_price_usd=decimal(params, "max_price_usd", 0, 1e12),
        language=params.get("supported_language") or None,
        tag=params.get("tag") or None,
        extension_uri=params.get("extension_uri") or None,
        sort_by=sort_by,
        include_conflicts=boolean(params, "include_conflicts", default=True),
        limit=integer(params, "limit", 1, 200, 50),
    )


def _echo(request: Request, wanted: OfferQuery) -> dict[str, Any]:
    return {
        "cap": request.query.get("cap", wanted.name),
        "min_trust": wanted.min_trust,
        "max_latency_ms": wanted.max_latency_ms,
        "max_price_usd": wanted.max_price_usd,
        "supported_language": wanted.language,
        "tag": wanted.tag,
        "extension_uri": wanted.extension_uri,
        "sort_by": wanted.sort_by,
        "include_conflicts": wanted.include_conflicts,
        "limit": wanted.limit,
    }


def _place(text: str) -> tuple[int, str]:
    """Read where a page of agents begins: after (last_seen, agent_id)."""
    last_seen, _, agent = text.partition("-")
    if not (last_seen.isascii() and last_seen.isdigit() and len(last_seen) <= 16):
        raise Rejected("bad_cursor", "not a cursor of this relay; take it from the Link header of the page before")
    return int(last_seen), agent


def _next_page(relay: Relay, request: Request, name: str, limit: int, last: dict[str, Any]) -> Headers:
    query = {"limit": limit, "cursor": f"{last['last_seen']}-{last['agent_id']}"}
    base = relay.config.public_base_url
    path = f"{base}{request.path}" if base else request.scope["path"]
    return [(b"link", f'<{path}?{urlencode({**query, "name": name} if name else query)}>; rel="next"'.encode())]
