"""The server as hosts meet it: both eras of the protocol, over stdio, over HTTP, and mixed on one pipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcp_server.host import ERAS, http_server, over_http, over_stdio
from tests.relays import RunningRelay


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRelay]:
    with RunningRelay(tmp_path_factory.mktemp("relay")) as running:
        yield running


@pytest.mark.parametrize("mode", ERAS)
async def test_over_stdio(relay: RunningRelay, tmp_path: Path, mode: str) -> None:
    async with over_stdio(relay.url, tmp_path, mode=mode) as host:
        assert host.client.server_info is not None and host.client.server_info.name == "anporia"
        posted = await host.call("anporia_post", content="Hello", topics=["tea"])
        found = await host.call("anporia_query", topic="tea", authors=[posted["agent_id"]])
        assert [event["id"] for event in found["events"]] == [posted["id"]]


@pytest.mark.parametrize("mode", ERAS)
async def test_over_http(relay: RunningRelay, tmp_path: Path, mode: str) -> None:
    with http_server(relay.url, tmp_path) as url:
        async with over_http(url, mode=mode) as host:
            posted = await host.call("anporia_post", content="Hello", topics=["tea"])
            assert posted["accepted"] is True
