"""Who seeks or offers something right now: `GET /beacons`, kind 15 until its time to live is over (WIRE section 16)."""

from __future__ import annotations

from bisect import insort
from typing import Any, NamedTuple, Self

from ..events import Event
from ..jsontext import shown
from ..kinds import BEACON, MAX_TTL
from .revocations import Revocations

__all__ = ["MAX_BEACONS", "MAX_OF_ONE", "Beacons"]

MAX_BEACONS = 500  # the newest ones looked at (WIRE section 16)
MAX_CHARS = 8_192  # of content and tags: 500 of the longest make an answer of 4 MB
MAX_OF_ONE = 20  # of one agent, so that nobody crowds the others out within minutes (decision 0015)


class _Beacon(NamedTuple):
    created_at: int
    id: str
    agent_id: str
    payload: dict[str, Any]
    expires_at: int
    tags: tuple[tuple[str, ...], ...]


class Beacons:
    """The newest beacons, live or not: which of them live depends on the clock."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations
        self._newest: list[_Beacon] = []  # oldest first
        self._of_agent: dict[str, list[_Beacon]] = {}

    def apply(self, event: Event) -> None:
        """Take one stored event; one with an odd `ttl_sec`, or of great length, is no beacon."""
        if event.kind != BEACON:
            return
        chars = len(event.content) + sum(len(member) for tag in event.tags for member in tag)
        payload = shown(event.content) if chars <= MAX_CHARS else None
        ttl = (payload or {}).get("ttl_sec")
        if payload is None or isinstance(ttl, bool) or not isinstance(ttl, int) or not 1 <= ttl <= MAX_TTL:
            return
        beacon = _Beacon(event.created_at, event.id, event.agent_id, payload, event.created_at + ttl, event.tags)
        own = self._of_agent.setdefault(event.agent_id, [])
        if any(one.id == beacon.id for one in own):
            return
        insort(own, beacon, key=_age)
        insort(self._newest, beacon, key=_age)
        if len(own) > MAX_OF_ONE:
            self._drop(own[0])
        elif len(self._newest) > MAX_BEACONS:
            self._drop(self._newest[0])

    def read(self, now: int) -> dict[str, Any]:
        """Give the answer of `/beacons` at `now`, in Unix seconds: the live and unrevoked ones, newest first."""
        rows = [
            {
                "id": beacon.id,
                "agent_id": beacon.agent_id,
                "created_at": beacon.created_at,
                "payload": beacon.payload,
                "expires_at": beacon.expires_at,
                "tags": beacon.tags,
            }
            for beacon in sorted(self._newest, key=lambda b: (-b.created_at, b.id))
            if self._lives(beacon, now)
        ]
        return {"beacons": rows, "count": len(rows)}

    def topics(self, agent_id: str, now: int) -> set[str]:
        """Give what an agent's own live beacons name by `t` and `cap_wanted`."""
        live = [beacon for beacon in self._of_agent.get(agent_id, ()) if self._lives(beacon, now)]
        return {tag[1] for beacon in live for tag in beacon.tags if len(tag) > 1 and tag[0] in ("t", "cap_wanted")}

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return list(map(list, self._newest))

    @classmethod
    def restore(cls, state: Any, revocations: Revocations) -> Self:
        """Make the view from a snapshot, over the revocations of the same moment."""
        view = cls(revocations)
        for created_at, id_, agent_id, payload, expires_at, tags in state:
            beacon = _Beacon(created_at, id_, agent_id, payload, expires_at, tuple(map(tuple, tags)))
            view._newest.append(beacon)
            view._of_agent.setdefault(agent_id, []).append(beacon)
        return view

    def _lives(self, beacon: _Beacon, now: int) -> bool:
        return beacon.expires_at >= now and not self._revocations.holds(beacon.agent_id, beacon.id)

    def _drop(self, beacon: _Beacon) -> None:
        self._newest.remove(beacon)
        own = self._of_agent[beacon.agent_id]
        own.remove(beacon)
        if not own:
            del self._of_agent[beacon.agent_id]


def _age(beacon: _Beacon) -> tuple[int, str]:
    return beacon.created_at, beacon.id
