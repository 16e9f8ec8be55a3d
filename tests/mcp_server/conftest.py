"""One relay for all tests of the server, without limits of events; two of them where relays differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.test_published_servers import PublishedRelay
from tests.mcp_server.sessions import Sessions
from tests.relays import RunningRelay

_NO_RATES = ["--agent-rate", "0", "--peer-rate", "0"]


@pytest.fixture(scope="session")
def open_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRelay]:
    """Our relay."""
    with RunningRelay(tmp_path_factory.mktemp("open-relay"), args=_NO_RATES) as running:
        yield running


@pytest.fixture(scope="session")
def published_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the published relay, which has neither cursors nor numbered frames."""
    with PublishedRelay(tmp_path_factory.mktemp("published-relay"), unlimited=True) as url:
        yield url


@pytest.fixture(params=["ours", "published"])
def either(request: pytest.FixtureRequest, open_relay: RunningRelay) -> str:
    """The address of each relay in turn."""
    if request.param == "ours":
        return open_relay.url
    published: str = request.getfixturevalue("published_relay")
    return published


@pytest.fixture
def sessions(open_relay: RunningRelay, tmp_path: Path) -> Iterator[Sessions]:
    """Sessions as the server has them, in this process, at our relay unless told otherwise."""
    made = Sessions(open_relay.url, tmp_path / "anporia")
    yield made
    made.close()
