"""Serves MCP over streamable HTTP: on this machine unless told otherwise, and elsewhere only behind a token.

One process is one identity: whoever may call it may sign as its owner. So a token is needed for any address but
loopback, and the headers Host and Origin are checked, against pages that a browser was lured to.
"""

from __future__ import annotations

import hmac
import socket
from dataclasses import dataclass
from typing import Any

import click
import uvicorn
from mcp.server import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..settings import BadSetting

__all__ = ["LOOPBACK", "Http", "application", "serve"]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

_IDLE_S = 1_800.0  # until a silent session of the old era ends
_SESSIONS = 100  # of the old era at once
_MAX_BODY = 1024 * 1024  # bytes; a post of 64 KiB, escaped as it may be, and room
_CONNECTIONS = 1_000  # at once, an open stream each at most
_KEEP_ALIVE_S = 60


@dataclass(frozen=True, slots=True)
class Http:
    """Where and for whom to serve. `hosts`: further values of the header Host that are taken; `token`: who may call."""

    host: str = "127.0.0.1"
    port: int = 8765
    path: str = "/mcp"
    token: str | None = None
    hosts: tuple[str, ...] = ()
    stateless: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None


def application(server: Server[Any], http: Http, port: int) -> ASGIApp:
    """Make the ASGI application. `port`: the one that is really listened on."""
    scheme = "https" if http.tls_cert else "http"
    named = {*LOOPBACK, *http.hosts, *({http.host} - {"0.0.0.0", "::"})}  # noqa: S104, RUF100  # a comparison
    hosts = sorted({f"[{name}]" if ":" in name and not name.startswith("[") else name for name in named})
    allowed = [f"{name}:{port}" for name in hosts] + [name for name in hosts if name in http.hosts]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=allowed,
        allowed_origins=[f"{scheme}://{name}" for name in allowed],
    )

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    app = server.streamable_http_app(
        streamable_http_path=http.path,
        stateless_http=http.stateless,
        host=http.host,
        transport_security=security,
        max_request_body_size=_MAX_BODY,
        # a stateless server keeps no sessions that could be idle
        session_idle_timeout=None if http.stateless else _IDLE_S,
        max_sessions=None if http.stateless else _SESSIONS,
        custom_starlette_routes=[Route("/health", health)],
    )
    return app if http.token is None else _Guard(app, http.token)


def serve(server: Server[Any], http: Http) -> None:
    """Serve until SIGINT or SIGTERM; says on standard error when it is ready. Raises `BadSetting`."""
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    try:
        listener = socket.create_server((http.host, http.port), family=family, backlog=128)
    except OSError as exc:
        raise BadSetting(f"cannot listen on {http.host}:{http.port}: {exc.strerror or exc}") from None
    # asyncio asks for this on its own sockets only; without it an answer's second packet waits 40 ms for a receipt
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        application(server, http, port),
        # httptools, where it is installed, leaves blanks around a header's value, and Mcp-Name is compared
        http="h11",
        log_config=None,  # its access log would go to standard output
        access_log=False,
        ssl_certfile=http.tls_cert,
        ssl_keyfile=http.tls_key,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=3,
        server_header=False,
        ws="none",
    )
    try:
        config.load()
    except OSError as exc:  # ssl.SSLError is one
        raise BadSetting(f"--tls-cert {http.tls_cert}, --tls-key {http.tls_key}: {exc.strerror or exc}") from None
    scheme, host = "https" if http.tls_cert else "http", f"[{http.host}]" if ":" in http.host else http.host
    click.echo(f"anporia-mcp: ready url={scheme}://{host}:{port}{http.path}", err=True)
    uvicorn.Server(config).run(sockets=[listener])


class _Guard:
    """Lets through who brings the token; `/health` is open."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health" or self._admits(scope):
            await self._app(scope, receive, send)
            return
        text = "A bearer token is needed: the server was started with ANPORIA_MCP_TOKEN or --token-file."
        refusal = PlainTextResponse(text, 401, {"www-authenticate": 'Bearer realm="anporia-mcp"'})
        await refusal(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        # constant time, so that a token cannot be guessed letter by letter
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)
