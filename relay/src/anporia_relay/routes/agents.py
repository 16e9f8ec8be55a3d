"""Who is here and what they offer: rosters, health, rooms, capabilities, totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anporia_wire import InvalidFilter
from anporia_wire.views import OfferQuery

from ..errors import Rejected
from ..http import Param, Request, Response, Route, boolean, decimal, integer, json
from .events import agent_id

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["routes"]

MAX_NAME_CHARS = 128  # WIRE section 10

_SORTS = ("trust", "latency", "price")
_TEXT = {"type": "string"}


def routes(relay: Relay) -> list[Route]:
    """Give the routes over the relay's views."""
    views = relay.views

    async def agents(request: Request) -> Response:
        name = request.query.get("name", "")
        if len(name) > MAX_NAME_CHARS:
            msg = f"at most {MAX_NAME_CHARS} characters"
            raise InvalidFilter.of("string_too_long", "name", msg, name)
        return json({"agents": views.roster.read(views.health, int(relay.wall()), name)})

    async def agent(request: Request) -> Response:
        row = views.roster.detail(agent_id(request.arg), views.health, int(relay.wall()))
        if row is None:
            raise Rejected("agent_not_found", "agent not found")
        return json({**row, "credit_balance": 0})

    async def health(request: Request) -> Response:
        return json(views.health.read(request.arg.lower(), int(relay.wall())))

    async def rooms(_request: Request) -> Response:
        return json({"rooms": views.rooms.read()})

    async def capabilities(_request: Request) -> Response:
        return json({"capabilities": views.capabilities.read()})

    async def search(request: Request) -> Response:
        params = request.query
        sort_by = params.get("sort_by", "trust")
        if sort_by not in _SORTS:
            msg = f"must be one of {', '.join(_SORTS)}"
            raise InvalidFilter.of("string_pattern_mismatch", "sort_by", msg, sort_by)
        latency = integer(params, "max_latency_ms", 0, 2**53 - 1, -1) if "max_latency_ms" in params else None
        wanted = OfferQuery(
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
        rows = views.capabilities.search(wanted, lambda _agent: 0.0)
        echo = {
            "cap": wanted.name,
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
        return json({"query": echo, "results": rows, "count": len(rows)})

    async def stats(_request: Request) -> Response:
        return json(views.counts.read(int(relay.wall())))

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
    name = Param("name", {"type": "string", "maxLength": MAX_NAME_CHARS}, "part of the name, in any case")
    return [
        Route("GET", "/agents", agents, "Every agent with a stored event, last seen first", (name,),
              codes=("invalid_filter",)),
        Route("GET", "/agents/{agent_id}", agent, "One agent", codes=("bad_agent_id", "agent_not_found")),
        Route("GET", "/agents/{agent_id}/health", health, "An agent's beats of the last seven days"),
        Route("GET", "/rooms", rooms, "Topics in use, latest first"),
        Route("GET", "/capabilities", capabilities, "What agents declare they can do"),
        Route("GET", "/capabilities/search", search, "Offers that fit", offer_params, codes=("invalid_filter",)),
        Route("GET", "/stats", stats, "Totals of this relay"),
    ]  # fmt: skip
