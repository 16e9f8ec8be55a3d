"""An agent without the world: its key, what it knows of its relays, and how several are asked at once.

Everything is steps (see `steps.py`). On this stand `publishing.py` (events out) and, on that, the verbs:
`speaking.py`, `reading.py`, `tasks.py`, `letters.py`. `agent.py` gives them as methods.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from anporia_wire import AnporiaError, Filter, Keypair

from . import answers, requests
from .errors import NoAnswer, RelayTimeout, Unsupported
from .steps import Send, Steps, Together
from .transport import Request, Response

__all__ = ["Clock", "Core", "Relay"]

log = logging.getLogger("anporia.client")

T = TypeVar("T")

_PLAIN_FOR_S = 60.0  # how long a relay without info document counts as a plain one
GRACE_S = 1.0  # what the slower of several relays get on top, once enough have answered


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time comes from. `wall`: Unix seconds; `steady`: seconds that only go forward."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class Relay:
    """What is known of one relay: its address, and its info document once it was read."""

    url: str
    info: dict[str, Any] | None = None
    asked: float = 0.0  # when, by the steady clock

    def has(self, feature: str) -> bool:
        """Say whether the info document, which must have been read, lists a feature."""
        return feature in (self.info or {}).get("features", ())

    def limit(self, name: str, otherwise: int) -> int:
        """Give one of the info document's limits."""
        limits = (self.info or {}).get("limits")
        value = limits.get(name) if isinstance(limits, dict) else None
        return value if type(value) is int and value > 0 else otherwise


class Core:
    """A key and one or more relays. `timeout`: seconds that a call may take at each."""

    def __init__(
        self, keypair: Keypair, urls: Sequence[str], *, timeout: float, quorum: int, clock: Clock | None = None
    ) -> None:
        if not 1 <= quorum <= len(urls):
            raise ValueError(f"quorum must be 1 to {len(urls)}, the number of relays")
        self.keypair = keypair
        self.agent_id = keypair.agent_id
        self.relays = [Relay(url) for url in urls]
        self.timeout = timeout
        self.quorum = quorum
        self.clock = clock or Clock()
        self.dropped = 0

    def ask(self, at: int, request: Request) -> Steps[Response]:
        """Ask one relay something; once more if the answer breaks off, for reading twice is harmless."""
        deadline = self.clock.steady() + self.timeout
        try:
            response = yield Send(at, request, self.timeout)
        except RelayTimeout:
            raise
        except NoAnswer:
            # most often a kept connection that the relay closed at that very moment
            response = yield Send(at, request, max(0.1, deadline - self.clock.steady()))
        return self.good(at, response)

    def everywhere(self, one: Callable[[int], Steps[T]], enough: int) -> Steps[list[T | AnporiaError | None]]:
        """Do something at every relay; gives a result each: the value, the error, None if it still goes on."""
        if len(self.relays) == 1:
            try:
                return [(yield from one(0))]
            except AnporiaError as exc:
                return [exc]
        everyone = [one(at) for at in range(len(self.relays))]
        results: list[T | AnporiaError | None] = yield Together(everyone, enough, GRACE_S)
        return results

    def gathered(self, one: Callable[[int], Steps[T]], enough: int = 1) -> Steps[list[T]]:
        """Do something at every relay; gives the values. Raises the first relay's error if there is none."""
        results = yield from self.everywhere(one, enough)
        good: list[T] = []
        errors: list[AnporiaError] = []
        for result in results:
            if isinstance(result, AnporiaError):
                errors.append(result)
            elif result is not None:
                good.append(result)
        if not good:
            raise errors[0]
        for error in errors:
            log.warning("going on without a relay: %s", error)
        return good

    def view(self, path: str, params: dict[str, str | int | None] | None = None) -> Steps[dict[str, Any]]:
        """Ask for what a relay works out; the first of the relays that answers counts, for views do not merge."""
        request = requests.view(path, params)

        return (yield from self.gathered(lambda at: self.told(at, request)))[0][0]

    def told(self, at: int, request: Request) -> Steps[tuple[dict[str, Any], str | None]]:
        """Ask one relay for what it works out, and where that goes on; events in it that do not verify are left out."""
        url = self.relays[at].url
        drop: list[AnporiaError] = []
        response = yield from self.ask(at, request)
        value: dict[str, Any] = answers.genuine(answers.object_of(response, url), drop, url)
        for reason in drop:
            self.drop(reason, url)
        return value, answers.next_cursor(response)

    def listed(self, at: int, request: Request, filter_: Filter, *, keep_invalid: bool) -> Steps[answers.Page]:
        """Ask one relay for a page of events."""
        response = yield from self.ask(at, request)
        found = answers.events(response, filter_, self.relays[at].url, keep_invalid=keep_invalid)
        for reason in found.dropped:
            self.drop(reason, self.relays[at].url)
        return answers.Page(found.items, found.received, answers.next_cursor(response))

    def informed(self, at: int) -> Steps[Relay]:
        """Make sure that a relay's info document was read."""
        relay = self.relays[at]
        # a relay that restarts behind a proxy may answer 404 for a moment
        stale = not relay.info and self.clock.steady() - relay.asked > _PLAIN_FOR_S
        if relay.info is None or stale:
            response = yield Send(at, requests.info(), self.timeout)
            if response.status not in (200, 404, 405):
                self.good(at, response)
            relay.info, relay.asked = answers.info(response), self.clock.steady()
        return relay

    def needs(self, at: int, feature: str, what: str) -> Steps[None]:
        """Make sure that a relay can do something. Raises `Unsupported`."""
        relay = yield from self.informed(at)
        if not relay.has(feature):
            kind = "keeps this turned off" if relay.info else "is a plain ANP2 relay"
            raise Unsupported(f"{what}: the relay {kind}", relay.url)

    def drop(self, reason: AnporiaError, url: str = "") -> None:
        """Count and log something that came and was no genuine event."""
        self.dropped += 1
        # the code only: the text could hold what a stranger wrote
        log.warning("dropped an event from %s: %s", url or self.relays[0].url, reason.code)

    def good(self, at: int, response: Response) -> Response:
        if 200 <= response.status < 300:
            return response
        raise answers.refusal(response, self.relays[at].url, self.clock.wall())
