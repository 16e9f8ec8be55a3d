"""Misdeeds, and the refusal that each must meet (protocol, section 5.1 and 33). Pure: nothing is sent here."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Self

from anporia_wire import MAX_CONTENT_BYTES, MAX_TAG_MEMBER_BYTES, MAX_TAGS, Event, Keypair, event_id, kinds

from .posts import AGES, date

__all__ = ["FORGERIES", "MISDEEDS", "Deed", "Flood", "make_deed", "make_flood"]

JSON, NDJSON = "application/json", "application/x-ndjson"
BEYOND = 15  # events of a flood past what the agent is allowed


class Deed(NamedTuple):
    """One request that is wrong in one way. `pad`: so many spaces are sent before the body."""

    name: str
    method: str
    path: str
    body: bytes
    status: int
    code: str
    type: str = JSON
    pad: int = 0

    def to_json(self) -> list[Any]:
        """Give plain values."""
        return [*self[:3], self.body.decode("latin-1"), *self[4:]]

    @classmethod
    def from_json(cls, value: list[Any]) -> Self:
        """Read back what `to_json` gave."""
        return cls._make([*value[:3], value[3].encode("latin-1"), *value[4:]])


class Flood(NamedTuple):
    """More events of one agent than its minute allows."""

    agent_id: str
    ids: list[str]
    events: list[bytes]

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        return {"agent_id": self.agent_id, "ids": self.ids, "events": [event.decode() for event in self.events]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read back what `to_json` gave."""
        return cls(value["agent_id"], value["ids"], [event.encode() for event in value["events"]])


def make_flood(rate: int) -> Flood:
    """Sign `BEYOND` events more than the relay allows an agent a minute."""
    agent = Keypair.generate()
    topic = [("t", "load-flood")]
    events = [Event.create(agent, 1, f"flood {at}", topic, created_at=date()) for at in range(rate + BEYOND)]
    return Flood(agent.agent_id, [event.id for event in events], [event.to_json() for event in events])


def make_deed(choose: random.Random) -> Deed:
    """Make one misdeed, half of them forgeries."""
    name = choose.choice(sorted(FORGERIES) if choose.random() < 0.5 else sorted(MISDEEDS))
    return {**FORGERIES, **MISDEEDS}[name](name)


def _post(content: str = "nothing to see", **more: Any) -> Event:
    return Event.create(
        Keypair.generate(), kinds.POST, content, [("t", "load-deeds")], created_at=more.get("at", date())
    )


def _publish(name: str, event: Event, code: str, status: int = 400) -> Deed:
    return Deed(name, "POST", "/events", event.to_json(), status, code)


def _changed(name: str, code: str, status: int = 400, **fields: Any) -> Deed:
    """Change fields after signing, by hand: a value of `Event` cannot be that wrong."""
    return Deed(name, "POST", "/events", json.dumps({**_post().to_dict(), **fields}).encode(), status, code)


def _resealed(event: Event, by: Keypair) -> Event:
    """Give an event the id it should have, and another's signature."""
    id_ = event_id(event.canonical())
    return replace(event, id=id_, sig=by.sign(bytes.fromhex(id_)).hex())


def _foreign_signature(name: str) -> Deed:
    event = _post()
    return _publish(name, replace(event, sig=Keypair.generate().sign(bytes.fromhex(event.id)).hex()), "bad_signature")


def _stolen_name(name: str) -> Deed:
    return _publish(
        name, _resealed(replace(_post(), agent_id=Keypair.generate().agent_id), Keypair.generate()), "bad_signature"
    )


def _null_signature(name: str) -> Deed:
    return _publish(name, replace(_post(), sig="0" * 128), "bad_signature")


def _altered_words(name: str) -> Deed:
    return _publish(name, replace(_post(), content="what I never said"), "bad_id")


def _altered_tags(name: str) -> Deed:
    return _publish(name, replace(_post(), tags=(("t", "load-0"),)), "bad_id")


def _altered_date(name: str) -> Deed:
    event = _post()
    return _publish(name, replace(event, created_at=event.created_at - 1), "bad_id")


def _borrowed_id(name: str) -> Deed:
    return _publish(name, replace(_post(), id=_post("another").id), "bad_id")


def _foreign_revoke(name: str) -> Deed:
    revoke = Event.create(Keypair.generate(), kinds.REVOKE, "", [("e", "0" * 64)], created_at=date())
    return _publish(name, revoke, "target_missing")


FORGERIES: dict[str, Callable[[str], Deed]] = {
    "signature of another key": _foreign_signature,
    "in another's name": _stolen_name,
    "signature of zeros": _null_signature,
    "words altered": _altered_words,
    "tags altered": _altered_tags,
    "date altered": _altered_date,
    "id of another event": _borrowed_id,
    "revoke of what is not there": _foreign_revoke,
}


def _work(name: str) -> Deed:
    agent = Keypair.generate()
    return _publish(name, Event.create(agent, kinds.PROFILE, "{}", [], created_at=date()), "bad_pow")


def _shape(name: str) -> Deed:
    vote = Event.create(Keypair.generate(), kinds.TRUST_VOTE, '{"score":2}', [("p", "0" * 64)], created_at=date())
    return _publish(name, vote, "bad_shape")


def _raw(name: str, body: bytes, status: int, code: str, **more: Any) -> Deed:
    return Deed(name, "POST", "/events", body, status, code, **more)


def _get(name: str, path: str, status: int, code: str, method: str = "GET") -> Deed:
    return Deed(name, method, path, b"", status, code)


MISDEEDS: dict[str, Callable[[str], Deed]] = {
    "content over 64 KiB": lambda n: _changed(n, "too_large", content="x" * (MAX_CONTENT_BYTES + 1)),
    "33 tags": lambda n: _changed(n, "too_large", tags=[["t", "x"]] * (MAX_TAGS + 1)),
    "a tag over 1 KiB": lambda n: _changed(n, "too_large", tags=[["t", "x" * (MAX_TAG_MEMBER_BYTES + 1)]]),
    "body over 1 MiB": lambda n: _raw(n, b"{}", 413, "body_too_large", pad=1024 * 1024 + 1),
    "batch of 1,001": lambda n: Deed(n, "POST", "/events/batch", b"{}\n" * 1_001, 413, "batch_too_large", NDJSON),
    "from the future": lambda n: _publish(n, _post(at=date() + kinds.MAX_AHEAD + AGES), "bad_time"),
    "from long ago": lambda n: _publish(n, _post(at=date() - kinds.MAX_AGE - AGES), "bad_time"),
    "no proof of work": _work,
    "a vote of 2": _shape,
    "no JSON": lambda n: _raw(n, b'{"id": ', 422, "malformed"),
    "an array": lambda n: _raw(n, b"[]", 422, "malformed"),
    "no fields": lambda n: _raw(n, b"{}", 422, "malformed"),
    "nested too deep": lambda n: _raw(n, b"[" * 40 + b"]" * 40, 422, "malformed"),
    "a kind that is no number": lambda n: _changed(n, "malformed", 422, kind="post"),
    "not UTF-8": lambda n: _raw(n, b'{"content":"\xff\xfe"}', 400, "bad_text"),
    "sent as text/plain": lambda n: _raw(n, _post().to_json(), 422, "malformed", type="text/plain"),
    "limit of 0": lambda n: _get(n, "/events?limit=0", 422, "invalid_filter"),
    "kinds that are none": lambda n: _get(n, "/events?kinds=abc", 422, "invalid_filter"),
    "a made-up cursor": lambda n: _get(n, "/events?cursor=zzz", 400, "bad_cursor"),
    "an id that is none": lambda n: _get(n, "/events/xyz", 400, "bad_event_id"),
    "no such event": lambda n: _get(n, f"/events/{'0' * 64}", 404, "event_not_found"),
    "no such route": lambda n: _get(n, "/no/such/route", 404, "not_found"),
    "another method": lambda n: _get(n, "/events", 405, "method_not_allowed", "DELETE"),
}
