"""What a check works with: fresh keys and topics, signed events, requests, and what may be expected of an answer.

Everything a check looks for is its own: a fresh key, a topic nobody else uses. So it can run against a relay that is
in use, beside other runs, and does not care what is stored already.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from anporia_wire import Event, Keypair, canonical_bytes, event_id, pow

from .check import Failed, Skipped
from .client import Answer, Client, Stream
from .pace import Pace

__all__ = ["ENVELOPE", "Probe", "equal", "expect", "has", "holds", "near"]

T = TypeVar("T")

ENVELOPE = ("id", "agent_id", "created_at", "kind", "tags", "content", "sig")

_MINED = (0, 50)  # kinds that need proof of work
SOON_S = 3.0  # sums over everything: published relays work them out when asked, others now and then
_LONGEST_WAIT_S = 65  # for a limiter of a minute's window; the lobby's may ask for five minutes
_JSON = {"Content-Type": "application/json"}

Tag = Sequence[str]


def holds(fact: object, expected: str, got: object) -> None:
    """Fail unless `fact`."""
    if not fact:
        raise Failed(expected, got)


def equal(got: object, wanted: object, what: str) -> None:
    """Fail unless the two are equal."""
    if got != wanted:
        raise Failed(f"{what}: {wanted!r}", got)


def near(got: object, wanted: float, what: str, within: float = 0.01) -> None:
    """Fail unless `got` is a number close to `wanted`; values that decay by the second need the room."""
    if isinstance(got, bool) or not isinstance(got, (int, float)) or abs(got - wanted) > within:
        raise Failed(f"{what}: about {wanted:g}", got)


def has(value: object, names: Collection[str], what: str) -> None:
    """Fail unless `value` is an object with at least these keys."""
    if not isinstance(value, dict):
        raise Failed(f"{what}: an object", value)
    if missing := [name for name in names if name not in value]:
        raise Failed(f"{what}: the key {missing[0]!r}", sorted(value))


class Probe:
    """One run's view of a relay."""

    def __init__(self, client: Client, *, pace: Pace | None = None, skew_s: int = 0, info: object = None) -> None:
        self.client = client
        self.pace = pace
        self.info: dict[str, Any] = info if isinstance(info, dict) else {}
        self._skew_s = skew_s
        self._made: dict[Callable[[Probe], Any], Any] = {}

    @property
    def features(self) -> list[object]:
        """What the relay's info document lists; empty on a plain relay."""
        listed = self.info.get("features")
        return listed if isinstance(listed, list) else []

    # -- making

    def now(self) -> int:
        """The relay's clock, as its first answer told it."""
        return int(time.time()) + self._skew_s

    def key(self) -> Keypair:
        """A key nobody has used."""
        return Keypair.generate()

    def word(self) -> str:
        """A topic or name nobody has used."""
        return f"conf-{secrets.token_hex(8)}"

    def unused_id(self) -> str:
        """64 hex that name nothing."""
        return secrets.token_hex(32)

    def once(self, make: Callable[[Probe], T]) -> T:
        """Give what `make` makes, made once a run: for facts that several checks only look at."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made

    def event(self, kind: int = 1, content: object = "", *tags: Tag, by: Keypair | None = None, at: int = 0) -> Event:
        """Sign an event, mined where its kind needs it. Content that is no text is written as JSON."""
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        key, created_at = by or self.key(), at or self.now()
        if kind in _MINED:
            return pow.mine(key, kind, text, tags, created_at)
        return Event.create(key, kind, text, tags, created_at=created_at)

    def forge(self, by: Keypair, kind: int, content: str, tags: Sequence[Tag], at: int = 0) -> dict[str, Any]:
        """Sign what `event` refuses to make: true id and signature, any size."""
        at = at or self.now()
        id_ = event_id(canonical_bytes(by.agent_id, at, kind, tags, content))
        signature = by.sign(bytes.fromhex(id_)).hex()
        values = (id_, by.agent_id, at, kind, [list(tag) for tag in tags], content, signature)
        return dict(zip(ENVELOPE, values, strict=True))

    def id_of(self, event: Mapping[str, Any]) -> str:
        """Give the id that an event's fields hash to."""
        return event_id(canonical_bytes(*(event[name] for name in ENVELOPE[1:6])))

    # -- asking

    def get(self, path: str, **params: object) -> Answer:
        """GET; the answer, whatever it is."""
        return self.client.request("GET", path, params=params)

    def value(self, path: str, **params: object) -> Any:
        """GET the JSON of an answer that must be 200."""
        answer = self.get(path, **params)
        if answer.status != 200:
            raise Failed(f"GET {path}: status 200", f"{answer.status} {answer.text}")
        return answer.json()

    def events(self, **params: object) -> list[dict[str, Any]]:
        """GET /events; must be an array."""
        rows = self.value("/events", **params)
        holds(isinstance(rows, list), "GET /events: a bare array", rows)
        found: list[dict[str, Any]] = rows
        return found

    def ids(self, **params: object) -> list[str]:
        """Give the ids of GET /events."""
        return [row["id"] for row in self.events(**params)]

    def refused(self, path: str, *statuses: int, **params: object) -> Answer:
        """GET what must be answered with one of these statuses."""
        return expect(self.get(path, **params), f"GET {path} {params or ''}".strip(), *statuses)

    def stream(self, headers: Mapping[str, str] | None = None, **params: object) -> Stream:
        """Open /stream and read its greeting, so that what is published from now on must come."""
        stream = self.client.stream("/stream", params, headers)
        if stream.status != 200 or not (first := stream.first_line()).startswith(b":"):
            with stream:
                raise Failed("GET /stream: 200 and a comment at once", stream.status if stream.status != 200 else first)
        return stream

    def soon(self, ask: Callable[[], T], judge: Callable[[T], None], seconds: float = 0) -> T:
        """Ask until `judge` has nothing against the answer, for what a relay may work out a little later; give it."""
        deadline = time.monotonic() + (seconds or SOON_S)
        while True:
            got = ask()
            try:
                judge(got)
            except Failed:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return got

    # -- publishing

    def post(
        self,
        path: str,
        body: bytes | Mapping[str, Any],
        headers: Mapping[str, str] = _JSON,
        *,
        by: str = "",
        unpaced_key: bool = False,
        count: int = 1,
    ) -> Answer:
        """POST, paced; a 429 is waited for once."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        for again in (True, False):
            for _ in range(count if self.pace else 0):
                assert self.pace is not None
                self.pace.spend(by, unpaced_key=unpaced_key)
            answer = self.client.request("POST", path, body=data, headers=headers)
            if answer.status != 429 or not again or self.pace is None or unpaced_key:
                break
            seconds = answer.headers.get("retry-after", "")
            wait = int(seconds) if seconds.isdigit() else _LONGEST_WAIT_S
            if wait > _LONGEST_WAIT_S:
                break
            time.sleep(wait + 1)
        return answer

    def send(self, event: Event | Mapping[str, Any], *, unpaced_key: bool = False) -> Answer:
        """POST /events; the answer, whatever it is."""
        given = event.to_dict() if isinstance(event, Event) else event
        return self.post("/events", given, by=str(given.get("agent_id", "")), unpaced_key=unpaced_key)

    def publish(self, event: Event | Mapping[str, Any]) -> Answer:
        """POST /events; must be taken, and the answer name it."""
        given = event.to_dict() if isinstance(event, Event) else event
        what = f"kind {given['kind']} is accepted"
        answer = expect(self.send(given), what, 200)
        got = answer.json()
        named = isinstance(got, dict) and got.get("accepted") is True and got.get("id") == given["id"].lower()
        holds(named, f"{what}: accepted true and its id", answer.text)
        return answer

    def said(self, kind: int = 1, content: object = "", *tags: Tag, by: Keypair | None = None, at: int = 0) -> Event:
        """Sign and publish; must be taken."""
        event = self.event(kind, content, *tags, by=by, at=at)
        self.publish(event)
        return event

    def lobby(self) -> Event:
        """Publish into the lobby, which takes five at once from one address. Raises `Skipped` when it is full."""
        event = self.event(1, "a conformance run says hello", ["t", "lobby"])
        answer = self.send(event)
        if answer.status == 429:
            raise Skipped("the lobby takes no more from this address for now")
        expect(answer, "a lobby post is accepted", 200)
        return event

    def rejects(self, event: Event | Mapping[str, Any], *statuses: int) -> Answer:
        """POST /events what must be refused with one of these statuses, 400 unless given."""
        return expect(self.send(event), "this event is refused", *(statuses or (400,)))


def expect(answer: Answer, what: str, *statuses: int) -> Answer:
    """Fail unless the answer has one of these statuses."""
    if answer.status not in statuses:
        remark = " (the limits of the relay; run without --fast)" if answer.status == 429 else ""
        raise Failed(f"{what}: status {' or '.join(map(str, statuses))}", f"{answer.status}{remark} {answer.text}")
    return answer
