"""What agents say of and to each other: citations, beacons, follows, letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anporia_store import HIDDEN, REVOKED, Query
from anporia_wire import Event, Filter, InvalidFilter, kinds
from anporia_wire.jsontext import shown

from ..cached import Cached
from ..http import Param, Request, Response, Route, integer, json, serialise
from .events import cut
from .ids import agent_id, any_agent_id, event_id

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["derived_from", "routes"]

MAX_CITATIONS = 200  # WIRE section 16
_DIRECTIONS = ("incoming", "outgoing")


def routes(relay: Relay) -> list[Route]:
    """Give the routes between agents."""
    views = relay.views
    beacons_body = Cached[bytes]()

    async def citations(request: Request) -> Response:
        id_ = event_id(request.arg)
        direction = request.query.get("direction", "incoming")
        if direction not in _DIRECTIONS:
            msg = f"must be one of {', '.join(_DIRECTIONS)}"
            raise InvalidFilter.of("string_pattern_mismatch", "direction", msg, direction)
        rows = await (_citing(id_) if direction == "incoming" else _cited_by(id_))
        found = [
            {"id": e.id, "agent_id": e.agent_id, "created_at": e.created_at, "content": e.content}
            for e in map(Event.from_stored, rows)
        ]
        return json({"event_id": id_, "direction": direction, "count": len(found), "citations": found})

    async def _citing(id_: str) -> list[bytes]:
        claims = Filter(kinds=frozenset({kinds.CLAIM}))
        return (await relay.store.query(Query(claims, MAX_CITATIONS, hide=REVOKED, e=id_))).rows

    async def _cited_by(id_: str) -> list[bytes]:
        source = await relay.store.get(id_)
        if source is None or source.mark & REVOKED:
            return []
        named = derived_from(Event.from_stored(source.serialised))[:MAX_CITATIONS]
        found = await relay.store.get_many(named)
        return [found[one].serialised for one in sorted(found) if not found[one].mark & REVOKED]

    async def beacons(_request: Request) -> Response:
        now = int(relay.wall())
        return Response(200, beacons_body.get((views.seq, now), lambda: serialise(views.beacons.read(now))))

    async def subscriptions(request: Request) -> Response:
        return json(views.subscriptions.read(any_agent_id(request.arg)))

    async def letters(request: Request) -> Response:
        id_, params = agent_id(request.arg), request.query
        since = integer(params, "since", -(2**63), 2**63 - 1, 0) if "since" in params else None
        limit = integer(params, "limit", 1, 500, 100)
        wanted = Filter(kinds=frozenset({kinds.DM}), authors=frozenset({id_}), since=since)
        page = await relay.store.query(Query(wanted, limit, hide=REVOKED | HIDDEN))
        head = serialise({"agent_id": id_, "count": len(page.rows), **cut(page, limit)})[:-1]
        return Response(200, b'%b,"dms":[%b]}' % (head, b",".join(page.rows)))

    direction = Param("direction", {"type": "string", "enum": list(_DIRECTIONS), "default": "incoming"}, "which way")
    since = Param("since", {"type": "integer"}, "Unix seconds, inclusive")
    limit = Param("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 100}, "rows")
    return [
        Route("GET", "/citations/{event_id}", citations, "Claims that cite an event, or what it cites", (direction,),
              codes=("bad_event_id", "invalid_filter")),
        Route("GET", "/beacons", beacons, "Beacons whose time is not over, newest first"),
        Route("GET", "/subscriptions/{agent_id}", subscriptions, "Whom an agent follows", codes=("bad_agent_id",)),
        Route("GET", "/dms/{agent_id}", letters, "Encrypted letters an agent wrote, newest first", (since, limit),
              codes=("bad_agent_id", "invalid_filter")),
    ]  # fmt: skip


def derived_from(event: Event) -> list[str]:
    """Read which events a claim says it is derived from, each once."""
    said: Any = (shown(event.content) or {}).get("derived_from")
    named = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    return list(dict.fromkeys(one for one in named if isinstance(one, str)))
