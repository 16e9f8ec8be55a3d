"""Who trusts whom: scores, the whole graph, and the votes an agent received."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anporia_wire import Event
from anporia_wire.jsontext import shown

from ..cached import Cached
from ..http import Param, Request, Response, Route, decimal, integer, json, serialise
from .ids import agent_id, any_agent_id

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["received_votes", "routes"]

MAX_REASON_CHARS = 120  # WIRE sections 11 and 16


def routes(relay: Relay) -> list[Route]:
    """Give the routes about trust."""
    views = relay.views
    graph_body = Cached[bytes]()

    async def trust(request: Request) -> Response:
        id_ = any_agent_id(request.arg)
        await relay.trust.fresh()
        return json(views.trust.read(id_))

    async def graph(_request: Request) -> Response:
        await relay.trust.fresh()
        version = (views.trust.scores.computed_at, views.trust.version)
        return Response(200, graph_body.get(version, lambda: serialise(views.trust.graph())))

    async def received(request: Request) -> Response:
        id_, params, now = agent_id(request.arg), request.query, int(relay.wall())
        since = integer(params, "since", 60, 7_776_000, 604_800)
        given = decimal(params, "min_score", -1, 1)
        least = 0.0 if given is None else given
        limit = integer(params, "limit", 1, 200, 50)
        votes = await received_votes(relay, id_, now - since, least, limit)
        return json(
            {
                "agent_id": id_,
                "ts": now,
                "filter": {"since_sec": since, "min_score": least, "limit": limit},
                "count": len(votes),
                "score_sum": round(sum(vote["score"] for vote in votes), 4),
                "votes": votes,
            }
        )

    window = (
        Param("since", {"type": "integer", "minimum": 60, "maximum": 7_776_000, "default": 604_800}, "seconds back"),
        Param("min_score", {"type": "number", "minimum": -1, "maximum": 1, "default": 0}, "least score"),
        Param("limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "rows"),
    )
    return [
        Route("GET", "/trust/{agent_id}", trust, "How far an agent is trusted, and the votes that count",
              codes=("bad_agent_id",)),
        Route("GET", "/trust_graph", graph, "Every agent that votes count for, most trusted first"),
        Route("GET", "/agents/{agent_id}/trust_received", received, "Votes an agent received, newest first",
              window, codes=("bad_agent_id", "invalid_filter")),
    ]  # fmt: skip


async def received_votes(relay: Relay, agent: str, since: int, least: float, limit: int) -> list[dict[str, Any]]:
    """Give the newest unrevoked votes for an agent; those without a valid score are left out."""
    votes = relay.views.trust.received(agent, since, least, limit)
    found = await relay.store.get_many([vote.id for _, vote in votes])
    rows = []
    for voter, vote in votes:
        stored = found.get(vote.id)
        reason = (shown(Event.from_stored(stored.serialised).content) or {}).get("reason") if stored else None
        rows.append(
            {
                "voter": voter,
                "score": vote.score,
                "reason": reason[:MAX_REASON_CHARS] if isinstance(reason, str) else "",
                "created_at": vote.created_at,
                "event_id": vote.id,
            }
        )
    return rows
