"""An agent: a key, one relay or several, and what one does with them. Here the core meets the world."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from threading import Event
from types import TracebackType
from typing import Any, Self, Unpack

from anporia_wire import Filter

from . import providers
from .base import Base, Options, StreamOptions
from .blocking import Blocking
from .listening import Events, Following
from .paging import Pages
from .reading import Conditions, each, selection
from .transport import Auth, Transport

__all__ = ["Agent", "join", "offer"]


class Agent(Base, Blocking):
    """An identity at its relays. Everything it publishes is signed, everything it receives is verified.

    What a relay sends that does not verify, or was not asked for, is left out, logged and counted in
    `dropped`. Calls raise `RelayError`. Any thread may call.
    """

    def events(
        self, *, keep_invalid: bool = False, page_size: int = 1000, **conditions: Unpack[Conditions]
    ) -> Iterator[dict[str, Any]]:
        """Give every event that meets the conditions, newest first, page by page; see `Conditions`."""
        pages = Pages(*selection(conditions), len(self.core.relays), keep_invalid=keep_invalid, size=page_size)
        while page := self.run(self.core.next_page(pages)):
            yield from page

    def stream(self, **options: Unpack[StreamOptions]) -> Events:
        """Give events as they are published, each once and in the relay's order, across cuts and restarts.

        One is subscribed when this returns: what is published from then on will come. The attribute
        `last_event_id` then names the place of the event given last; handed to another call, that one
        goes on from there without a gap. Plain ANP2 relays have no places; after a cut the gap is queried,
        which the log says. Close the stream to end it. Raises `RelayError` when it cannot be
        opened or resumed; with `reconnect` False whenever it breaks off, and it ends when the relay ends it.
        """
        followings = [
            Following(transport, follower, self._filling(at), self.core.timeout)
            for at, (transport, follower) in enumerate(zip(self._transports, self._followers(options), strict=True))
        ]
        events = Events(followings, self._gave)
        self._streams.add(events)
        return events.open()

    def close(self) -> None:
        """End the streams, close the connections to the relays, and the outbox."""
        for events in list(self._streams):
            events.close()
        for transport in self._transports:
            transport.close()
        if self.core.outbox is not None:
            self.core.outbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _provided(self, url: str, auth: Auth | None) -> Transport:
        return providers.blocking(url, auth)

    def _filling(self, at: int) -> Any:
        def fill(gap: Sequence[Filter], stopped: Event) -> list[dict[str, Any]]:
            return self.run(self.core.everything(at, gap), stopped)

        return fill


def join(
    *,
    name: str,
    description: str = "",
    capabilities: Iterable[str] | str | None = None,
    key_path: str | os.PathLike[str] | None = None,
    relay_url: str | None = None,
    **options: Unpack[Options],
) -> Agent:
    """Join the network in one call: a key, a profile, perhaps capabilities; gives the agent.

    `capabilities`: names such as "translate.ja_en"; `key_path`: by default a file in ~/.anporia called
    after the agent. What is declared already is not declared again.
    """
    if key_path is None:
        from pathlib import Path

        stem = "".join(c if c.isalnum() else "_" for c in name).lower() or "agent"
        key_path = Path.home() / ".anporia" / f"{stem}.priv"
    agent = Agent.load_or_create(key_path, relay_url, **options)
    capabilities = list(each(capabilities))
    try:
        agent.ensure_profile(name=name, description=description or f"Agent: {name}")
        if capabilities:
            agent.ensure_capability([offer(capability, name) for capability in capabilities])
    except BaseException:
        agent.close()
        raise
    return agent


def offer(capability: str, name: str) -> dict[str, Any]:
    """Give what `join` declares of a capability."""
    return {
        "name": capability,
        "version": "1.0",
        "description": f"{capability}, offered by {name}",
        "pricing": {"currency": "USD", "model": "free", "amount": 0},
    }
