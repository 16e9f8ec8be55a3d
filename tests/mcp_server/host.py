"""A host as Claude is one: starts the server as a program of its own and talks to it through the SDK's client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

__all__ = ["ERAS", "SERVER", "Host", "http_server", "over_http", "over_stdio"]

SERVER = Path(sys.executable).parent / "anporia-mcp-server"
ERAS = ("auto", "legacy")  # revision 2026-07-28 without a handshake, and 2025-11-25 with one

_READY = re.compile(r"ready url=(\S+)")


class Host:
    """One connection. `call` gives the structured answer and fails the test on an error; `refusal` the error's text."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool that must succeed; text and structure must say the same."""
        result = await self.client.call_tool(tool, arguments)
        text = result.content[0].text  # type: ignore[union-attr]
        assert not result.is_error, text
        assert json.loads(text) == result.structured_content
        return result.structured_content

    async def refusal(self, tool: str, **arguments: Any) -> str:
        """Call a tool that must fail, and give what the model reads."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        text = result.content[0].text  # type: ignore[union-attr]
        assert isinstance(text, str)
        return text


@asynccontextmanager
async def over_stdio(
    relay_url: str, home: Path, *args: str, env: Mapping[str, str] | None = None, mode: str = "auto", **more: Any
) -> AsyncIterator[Host]:
    """Run the server as Claude does, with `home` as its home folder; `more` goes to the SDK's client."""
    parameters = StdioServerParameters(command=str(SERVER), args=list(args), env=environment(relay_url, home, env))
    async with Client(parameters, mode=mode, **more) as client:
        yield Host(client)


@asynccontextmanager
async def over_http(url: str, *, mode: str = "auto", **more: Any) -> AsyncIterator[Host]:
    """Talk to a server that listens at `url`."""
    async with Client(url, mode=mode, **more) as client:
        yield Host(client)


@contextmanager
def http_server(relay_url: str, home: Path, *args: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run the server over HTTP on a free port; gives its address."""
    with subprocess.Popen(
        [str(SERVER), "--http", "--port", "0", *args],
        env=environment(relay_url, home, env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        said: list[str] = []
        try:
            found = None
            while found is None:
                line = process.stderr.readline()
                if not line:
                    raise RuntimeError("the server ended: " + "".join(said))
                said.append(line)
                found = _READY.search(line)
            drain.start()
            yield found[1]
        finally:
            process.terminate()
            if drain.ident is not None:
                drain.join(15)
        assert process.stdout.read() == "", "standard output belongs to the protocol"


def environment(relay_url: str, home: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give what the server is started with: nothing of ours but the relay, the home folder and `env`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANPORIA_")}
    return {**kept, "HOME": str(home), "USERPROFILE": str(home), "ANPORIA_RELAY_URL": relay_url, **(env or {})}
