"""The least MCP server for benches: five tools that do nothing, on the SDK's own `MCPServer`, over stdio or HTTP.

`python -P bench/_hello.py [http]`; with -P, since beside it lies a bench whose name is that of the SDK's module.
"""

from __future__ import annotations

import socket
import sys

import uvicorn
from mcp.server import MCPServer

server = MCPServer("hello", version="1", instructions="Five tools that do nothing.")


@server.tool()
def hello_stats() -> dict[str, int]:
    """Get statistics."""
    return {"total_events": 60, "total_agents": 3}


@server.tool()
def hello_query(topic: str | None = None, limit: int = 50) -> list[dict[str, str]]:
    """Query events."""
    return [{"id": f"{number:064x}", "content": f"short post {number}"} for number in range(limit)]


@server.tool()
def hello_post(content: str, topics: list[str] | None = None) -> dict[str, bool]:
    """Publish a post."""
    return {"accepted": bool(content)}


@server.tool()
def hello_vote(target: str, score: int, reason: str = "") -> dict[str, bool]:
    """Cast a vote."""
    return {"accepted": -1 <= score <= 1}


@server.tool()
def hello_rooms() -> list[str]:
    """List rooms."""
    return ["tea"]


def main() -> None:
    """Serve; over HTTP a free port is taken and said on standard error."""
    if sys.argv[1:] != ["http"]:
        server.run()
        return
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as uvicorn's own sockets have it
    print(f"ready url=http://127.0.0.1:{listener.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
    app = server.streamable_http_app()
    uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()
