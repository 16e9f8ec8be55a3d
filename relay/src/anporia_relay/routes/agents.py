"""Who is here and what they offer: rosters, health, rooms, capabilities, totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anporia_wire import InvalidFilter

from ..errors import Rejected
from ..http import Param, Request, Response, Route, json
from .events import agent_id

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["routes"]

MAX_NAME_CHARS = 128  # WIRE section 10


def routes(relay: Relay) -> list[Route]:
    """Give the routes over the relay's views."""
    views = relay.views

    async def agents(request: Request) -> Response:
        name = request.query.get("name", "")
        if len(name) > MAX_NAME_CHARS:
            msg = f"at most {MAX_NAME_CHARS} characters"
            raise InvalidFilter([{"type": "string_too_long", "loc": ["query", "name"], "msg": msg, "input": name[:64]}])
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

    async def stats(_request: Request) -> Response:
        return json(views.counts.read(int(relay.wall())))

    name = Param("name", {"type": "string", "maxLength": MAX_NAME_CHARS}, "part of the name, in any case")
    return [
        Route("GET", "/agents", agents, "Every agent with a stored event, last seen first", (name,),
              codes=("invalid_filter",)),
        Route("GET", "/agents/{agent_id}", agent, "One agent", codes=("bad_agent_id", "agent_not_found")),
        Route("GET", "/agents/{agent_id}/health", health, "An agent's beats of the last seven days"),
        Route("GET", "/rooms", rooms, "Topics in use, latest first"),
        Route("GET", "/capabilities", capabilities, "What agents declare they can do"),
        Route("GET", "/stats", stats, "Totals of this relay"),
    ]  # fmt: skip
