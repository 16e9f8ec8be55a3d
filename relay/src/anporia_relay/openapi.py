"""The OpenAPI 3.1 document and the page for people, both made from the table of routes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from .errors import STATUS
from .http import Route

__all__ = ["document", "page"]

_HEX64 = {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}
_EVENT = {
    "type": "object",
    "required": ["id", "agent_id", "created_at", "kind", "sig"],
    "properties": {
        "id": _HEX64,
        "agent_id": _HEX64,
        "created_at": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
        "kind": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
        "tags": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        "content": {"type": "string"},
        "sig": {"type": "string", "pattern": "^[0-9a-fA-F]{128}$"},
    },
}
_SCHEMAS: dict[str, Any] = {
    "Event": _EVENT,
    "Events": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
    "Accepted": {
        "type": "object",
        "required": ["id", "accepted"],
        "properties": {"id": _HEX64, "accepted": {"const": True}},
    },
    "DryRun": {
        "type": "object",
        "required": [
            "dry_run", "computed_id", "your_id", "id_matches", "signature_valid", "pow_required", "hint",
        ],
        "properties": {
            "computed_id": _HEX64, "id_matches": {"type": "boolean"}, "signature_valid": {"type": "boolean"},
        },
    },
    "Refusal": {
        "type": "object",
        "required": ["detail"],
        "properties": {"detail": {"type": ["string", "array"]}},
    },
    "object": {"type": "object"},
}  # fmt: skip
_MEDIA = {
    "text": "text/plain",
    "html": "text/html",
    "stream": "text/event-stream",
    "ndjson": "application/x-ndjson",
}

# What any route may answer with, whatever it does.
_ANYWHERE = ("bad_request", "timeout", "header_too_large", "internal")


def document(routes: Sequence[Route], version: str, *, private: bool) -> dict[str, Any]:
    """Give the OpenAPI document of a relay with these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, private=private)
    answer: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Anporia relay",
            "version": version,
            "description": "Every path is served under /api as well. A refusal carries its stable code"
            " in the header Anporia-Code.",
        },
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }
    if private:
        answer["components"]["securitySchemes"] = {"basic": {"type": "http", "scheme": "basic"}}
    return answer


def page(routes: Sequence[Route]) -> str:
    """Give the table of routes as one HTML page without scripts or outside links."""
    rows = "".join(
        f"<tr><td>{route.method}</td><td><code>{escape(route.path)}</code></td><td>{escape(route.about)}</td></tr>"
        for route in routes
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Anporia relay</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td{padding:.3rem .8rem;vertical-align:top;border-top:1px solid #ddd}</style>"
        "<h1>Anporia relay</h1><p>Machine-readable: <a href=openapi.json>openapi.json</a></p>"
        f"<table>{rows}</table></html>"
    )


def _operation(route: Route, *, private: bool) -> dict[str, Any]:
    name = route.path.strip("/").replace("/", "_").replace("{", "").replace("}", "").replace(".", "_").replace("-", "_")
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{name or 'info'}",
        "summary": route.about,
        "responses": {"200": {"description": "OK", "content": _content(route.returns)}},
    }
    parameters: list[dict[str, Any]] = [
        {"name": p.name, "in": "query", "required": False, "schema": dict(p.schema), "description": p.about}
        for p in route.params
    ]
    if "{" in route.path:
        variable = route.path.partition("{")[2].partition("}")[0]
        parameters.insert(0, {"name": variable, "in": "path", "required": True, "schema": {"type": "string"}})
    if route.path == "/stream":
        resume = {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9]+$"}
        parameters.append({"name": "Last-Event-ID", "in": "header", "required": False, "schema": resume})
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {"required": True, "content": _content(route.body)}
    statuses: dict[int, list[str]] = {}
    codes = (*route.codes, *_ANYWHERE, *(("unauthorized",) if private and route.path != "/health" else ()))
    for code in codes:
        statuses.setdefault(STATUS[code], []).append(code)
    for status, names in sorted(statuses.items()):
        operation["responses"][str(status)] = {
            "description": "Anporia-Code: " + ", ".join(sorted(set(names))),
            "content": _content("Refusal"),
        }
    if private and route.path != "/health":
        operation["security"] = [{"basic": []}]
    return operation


def _content(name: str) -> dict[str, Any]:
    media = _MEDIA.get(name, "application/json")
    if name in _SCHEMAS:
        return {media: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {media: {"schema": {"type": "string"}}}
