"""The server's inside in this process: sessions, their tools called as a host's call would, servers without a pipe."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import orjson
from mcp import Client

from anporia_client import Agent, Keypair
from anporia_client.transport import Transport
from anporia_mcp_server.server import build
from anporia_mcp_server.session import Session
from anporia_mcp_server.settings import Settings
from anporia_mcp_server.tools import TOOLS
from anporia_wire import Event
from tests.mcp_server.host import Host

__all__ = ["Clock", "Sessions", "call", "hanging_relay", "in_process", "publish", "until"]


class Clock:
    """The time, which passes only when told."""

    def __init__(self, now: float | None = None) -> None:
        self.now = time.time() if now is None else now

    def __call__(self) -> float:
        return self.now


class Sessions:
    """Makes sessions and closes them; each has its key, and all keep their limits in `folder`."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self._made: list[Session] = []

    def __call__(
        self,
        keypair: Keypair | None = None,
        *,
        url: str | None = None,
        wall: Callable[[], float] = time.time,
        timeout: float = 15.0,
        transport: Callable[[str, tuple[str, str] | None], Transport] | None = None,
        **given: Any,
    ) -> Session:
        """Make one; `given` are settings."""
        settings = Settings(**{"auto_profile": False, "folder": self.folder, **given})
        more: dict[str, Any] = {} if transport is None else {"transport": transport}

        def make(of: Keypair) -> Agent:
            return Agent(of, url or self.url, timeout, **more)

        made = Session(keypair or Keypair.generate(), settings, make, wall=wall)
        self._made.append(made)
        return made

    def close(self) -> None:
        """Close all of them."""
        for made in self._made:
            made.close()


def call(session: Session, tool: str, **arguments: Any) -> Any:
    """Call a tool with a model's arguments; gives what a host would get. Raises `ToolFailure`."""
    one = TOOLS[tool]
    return orjson.loads(orjson.dumps(one.function(session, **one.signature.read(arguments))))


@asynccontextmanager
async def in_process(session: Session, mode: str = "auto", **more: Any) -> AsyncIterator[Host]:
    """Run the server of a session in this process; `more` goes to the SDK's client."""
    async with Client(build(session), mode=mode, **more) as client:
        yield Host(client)


def publish(
    url: str, texts: Sequence[str], *, topic: str, at: int, kind: int = 1, by: Keypair | None = None
) -> list[str]:
    """Publish events dated `at`, each by an agent of its own unless one is given; gives their ids."""
    events = [Event.create(by or Keypair.generate(), kind, text, [("t", topic)], created_at=at) for text in texts]
    with Agent(Keypair.generate(), url) as agent:
        answers = agent.publish_many(events)
    assert all(answer["accepted"] for answer in answers), answers
    return [event.id for event in events]


@contextmanager
def hanging_relay() -> Iterator[str]:
    """Give the address of a relay that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def until(true: Callable[[], object], seconds: float = 20.0) -> Any:
    """Wait until something is true, and give it."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return value
