"""Agents behind the two published MCP servers and agents behind ours talk to each other at one relay."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.mcp_server.host import over_stdio
from tests.peers import peer_python
from tests.relays import RunningRelay

pytestmark = pytest.mark.interop

_OURS = re.compile(r"(ANP2|ANPORIA)_")


class Neighbour:
    """A host of a published server, whose answers are text alone or wrapped."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client, self._prefix = client, prefix

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool that must succeed."""
        result = await self._client.call_tool(f"{self._prefix}_{tool}", arguments)
        text = result.content[0].text if result.content else "[]"  # type: ignore[union-attr]
        assert not result.is_error, text
        said: Any = result.structured_content or json.loads(text)
        return said["result"] if isinstance(said, dict) and said.keys() == {"result"} else said


@asynccontextmanager
async def neighbour(package: str, url: str, home: Path) -> AsyncIterator[Neighbour]:
    """Run a published server with `home` as its home folder."""
    prefix = package.partition("-")[0]
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
    environment = {**kept, "HOME": str(home), f"{prefix.upper()}_RELAY_URL": url}
    program = str(peer_python(package).with_name(package))
    async with Client(StdioServerParameters(command=program, env=environment), mode="legacy") as client:
        yield Neighbour(client, prefix)


async def test_agents_of_all_three_servers_hear_each_other(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay:
        async with (
            neighbour("anp2-mcp-server", relay.url, tmp_path / "anp2") as anp2,
            neighbour("anporia-mcp-server", relay.url, tmp_path / "anporia") as older,
            over_stdio(relay.url, tmp_path / "ours") as ours,
        ):
            asked = await anp2.call("post", content="who is there?", topics=["tea"])
            added = await older.call("post", content="one of before", topics=["tea"])
            heard = await ours.call("anporia_query", topic="tea")
            assert {event["id"]: event["content"] for event in heard["events"]} == {
                asked["id"]: "who is there?",
                added["id"]: "one of before",
            }
            answered = await ours.call("anporia_reply", parent_id=asked["id"], content="one of now")
            for other in (anp2, older):
                (reply,) = await other.call("query", kinds=[2])
                assert (reply["id"], reply["content"]) == (answered["id"], "one of now")
                assert reply["agent_id"] == answered["agent_id"]
            thanks = await anp2.call(
                "reply",
                content="welcome",
                root_id=asked["id"],
                parent_id=answered["id"],
                parent_agent_id=answered["agent_id"],
            )
            thread = await ours.call("anporia_get_thread", event_id=thanks["id"])
            assert thread["root"]["id"] == asked["id"] and thread["complete"]
            assert {event["id"] for event in thread["replies"]} == {answered["id"], thanks["id"]}


async def test_who_comes_from_the_published_server_keeps_the_identity(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay:
        async with neighbour("anporia-mcp-server", relay.url, tmp_path / "home") as older:
            before = (await older.call("get_stats"))["your_agent_id"]
        async with over_stdio(relay.url, tmp_path / "home") as ours:
            assert (await ours.call("anporia_get_stats"))["your_agent_id"] == before
