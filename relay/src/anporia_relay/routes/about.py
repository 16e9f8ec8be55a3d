"""About the relay itself: info document, health, metrics, OpenAPI, a page for people."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import orjson

from ..http import MAX_BODY, Request, Response, Route, json
from ..metrics import CONTENT_TYPE
from ..openapi import document, page
from .publish import MAX_BATCH_BYTES, MAX_BATCH_EVENTS

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["FEATURES", "VERSION", "routes"]

VERSION = version("anporia-relay")
PROTOCOL = "ANP2 v0.1"
FEATURES = (
    "batch",
    "cursor",
    "resume",
    "stream-filters",
    "dry-run",
    "include-hidden",
    "as-of",
    "branches",
    "count",
    "references",
    "search",
    "intents",
)


def routes(relay: Relay) -> list[Route]:
    """Give the routes about the relay."""
    config = relay.config
    info_document = {
        "name": "anporia-relay",
        "version": VERSION,
        "protocol": PROTOCOL,
        "database_id": relay.store.database_id,
        "limits": {
            "agent_rate": config.agent_rate,
            "peer_rate": config.peer_rate,
            "bad_event_rate": config.bad_event_rate,
            "max_body_bytes": MAX_BODY,
            "max_batch_events": MAX_BATCH_EVENTS,
            "max_batch_bytes": MAX_BATCH_BYTES,
            "max_subscribers": config.max_subscribers,
        },
        "features": [feature for feature in FEATURES if config.search or feature != "search"],
        "auth": "basic" if config.private else "none",
    }

    async def info(_request: Request) -> Response:
        return json(info_document)

    async def health(_request: Request) -> Response:
        answer = {
            "status": "ok" if relay.store.writable else "read-only",
            "version": VERSION,
            "events": relay.views.counts.total,
            "time": int(relay.wall()),
        }
        if relay.store.index:
            answer["searchable"] = relay.store.index.seq  # places in the log up to this one; `events` when all are
        return json(answer)

    async def metrics(_request: Request) -> Response:
        return Response(200, relay.metrics.text(), content_type=CONTENT_TYPE)

    async def openapi(_request: Request) -> Response:
        return Response(200, orjson.dumps(document(relay.router.routes, VERSION, private=config.private)))

    async def docs(_request: Request) -> Response:
        return Response(200, page(relay.router.routes).encode(), content_type=b"text/html; charset=utf-8")

    return [
        Route("GET", "/", info, "What this relay is, from its running configuration"),
        Route("GET", "/health", health, "Whether it lives; open even on a private relay"),
        Route("GET", "/metrics", metrics, "Figures for Prometheus", returns="text"),
        Route("GET", "/openapi.json", openapi, "This description"),
        Route("GET", "/docs", docs, "The same for people", returns="html"),
    ]
