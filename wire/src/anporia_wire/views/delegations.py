"""What agents may do in others' names (kind 1503), and whether an act of a child was covered.

An agent is somebody's child when its own newest profile names that `parent`; else a stranger could make anybody
his child by delegating to it.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import orjson

from ..canonical import is_id
from ..events import Event
from ..intents import CAPABILITY_KINDS, DELEGATION, broken_rule, is_ours
from ..jsontext import shown
from ..kinds import PROFILE, REVOKE
from .revocations import Revocations, pair
from .successors import Successors

__all__ = ["MAX_DELEGATIONS", "MAX_LISTED", "MAX_SCOPE_BYTES", "Delegations"]

MAX_DELEGATIONS = 400  # of one parent for one child, the latest: one renewed daily stays for longer than a year
MAX_LISTED = 1_000  # given or received, of one answer: 300 kB
MAX_SCOPE_BYTES = 4 * 1024 * 1024  # of all scopes listed so: the longest have 51 kB, and strangers give them too

_REASONS = ("no_delegation", "out_of_scope", "expired", "revoked")  # the later, the more telling
_WRITTEN = 4  # fields of a delegation that stand in a snapshot; the others follow from them
_CAPABILITY_TAGS = ("cap", "cap_wanted", "t")


class _Delegation(NamedTuple):
    created_at: int
    id: str
    scope: tuple[int | str, ...]
    expires_at: int
    covers: frozenset[int | str]  # the scope; this and the next are worked out once, or judging 256 acts took seconds
    pair: bytes  # by which `Revocations` knows it

    @classmethod
    def of(cls, parent: str, created_at: int, id_: str, scope: Sequence[int | str], expires_at: int) -> Self:
        return cls(created_at, id_, tuple(scope), expires_at, frozenset(scope), pair(parent, id_))


class Delegations:
    """Delegations by child and parent, and each agent's parent; some 700 bytes each."""

    def __init__(self, revocations: Revocations, successors: Successors) -> None:
        self._revocations = revocations
        self._successors = successors
        self._profiles: dict[str, tuple[int, str, str | None]] = {}  # newest: created_at, id, parent
        self._received: dict[str, dict[str, list[_Delegation]]] = {}  # child: parent: oldest first
        self._children: dict[str, set[str]] = {}  # parent: those it delegated to

    def apply(self, event: Event) -> None:
        """Take one stored event."""
        if event.kind == PROFILE:
            named = (shown(event.content) or {}).get("parent")
            parent = named if isinstance(named, str) and is_id(named) and named != event.agent_id else None
            profile = (event.created_at, event.id, parent)
            if profile[:2] > self._profiles.get(event.agent_id, (-1, ""))[:2]:
                self._profiles[event.agent_id] = profile
        elif event.kind == DELEGATION and is_ours(event) and broken_rule(event) is None:
            fields = shown(event.content) or {}
            self._delegate(event, fields["child"], tuple(dict.fromkeys(fields["scope"])), fields["expires_at"])

    def _delegate(self, event: Event, child: str, scope: tuple[int | str, ...], expires_at: int) -> None:
        given = self._received.setdefault(child, {}).setdefault(event.agent_id, [])
        self._children.setdefault(event.agent_id, set()).add(child)
        if all(one.id != event.id for one in given):
            one = _Delegation.of(event.agent_id, event.created_at, event.id, scope, expires_at)
            insort(given, one, key=lambda one: one[:2])
            del given[:-MAX_DELEGATIONS]

    def parent(self, agent_id: str) -> str | None:
        """Give the parent that an agent's newest profile names, or None."""
        return self._profiles.get(agent_id, (0, "", None))[2]

    def authority(self, event: Event) -> dict[str, Any] | None:
        """Say whether an act was within what its author's parent delegated; None when the author is nobody's child.

        Gives `parent`, `delegated`, `reason` (None, or no_delegation, out_of_scope, expired or revoked: the most
        telling of all delegations) and `delegation_id` of the latest that covers, or that gives the reason.
        """
        parent = self.parent(event.agent_id)
        if parent is None:
            return None
        found: tuple[int, str | None] = (0, None)
        if event.kind in (PROFILE, REVOKE):  # whoever may not speak may still leave, and take back
            found = (len(_REASONS), None)
        given = self._received.get(event.agent_id, {}).get(parent, [])
        due = bisect_right(given, event.created_at, key=lambda one: one.created_at)
        asked = _asked(event)
        for one in reversed(given[:due]):  # of several the latest
            if found[0] == len(_REASONS):
                break
            judged = self._judged(one, asked, event.created_at)
            if judged > found[0]:
                found = (judged, one.id)
        covered = found[0] == len(_REASONS)
        return {
            "parent": parent,
            "delegated": covered,
            "reason": None if covered else _REASONS[found[0]],
            "delegation_id": found[1],
        }

    def _judged(self, one: _Delegation, asked: frozenset[int | str], at: int) -> int:
        """Give the place in `_REASONS` of why a delegation does not cover an act, or beyond them when it does."""
        if one.covers.isdisjoint(asked):
            return 1
        revoked = self._revocations.since_of(one.pair)
        if revoked is not None and revoked <= at:
            return 3
        return 2 if at > one.expires_at else len(_REASONS)

    def read(self, agent_id: str, now: int) -> dict[str, Any]:
        """Give the answer of `/agents/{id}/delegations`; `now` in Unix seconds.

        Rows that count first (the child names the giver as its parent), then newest first; at most `MAX_LISTED` each,
        and so many that their scopes have `MAX_SCOPE_BYTES`.
        """
        given = ((agent_id, child) for child in self._children.get(agent_id, ()))
        received = ((parent, agent_id) for parent in self._received.get(agent_id, ()))
        return {
            "agent_id": agent_id,
            "parent": self.parent(agent_id),
            "successor": self._successors.read(agent_id),
            "given": self._rows(given, now),
            "received": self._rows(received, now),
        }

    def _rows(self, pairs: Iterator[tuple[str, str]], now: int) -> list[dict[str, Any]]:
        places = (
            (self.parent(child) != parent, -one.created_at, one.id, parent, child, one)
            for parent, child in pairs
            for one in self._received[child][parent]
        )
        rows: list[dict[str, Any]] = []
        size = 0
        for *_, parent, child, one in heapq.nsmallest(MAX_LISTED, places):
            size += len(orjson.dumps(one.scope))
            if size > MAX_SCOPE_BYTES:
                break
            rows.append(self._row(parent, child, one, now))
        return rows

    def _row(self, parent: str, child: str, one: _Delegation, now: int) -> dict[str, Any]:
        accepted, revoked = self.parent(child) == parent, self._revocations.since_of(one.pair)
        in_force = one.created_at <= now <= one.expires_at and (revoked is None or now < revoked)
        return {
            "id": one.id,
            "parent": parent,
            "child": child,
            "scope": list(one.scope),
            "created_at": one.created_at,
            "expires_at": one.expires_at,
            "revoked_at": revoked,
            "accepted": accepted,
            "active": accepted and in_force,
        }

    def backing(self, event: Event) -> list[str]:
        """Name the events from which `authority` of an act follows, the revoking one excepted."""
        judged = self.authority(event)
        if judged is None:
            return []
        delegation = judged["delegation_id"]
        return [self._profiles[event.agent_id][1], *([delegation] if delegation else [])]

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        received = [
            [child, [[parent, [list(one[:_WRITTEN]) for one in given]] for parent, given in sorted(parents.items())]]
            for child, parents in sorted(self._received.items())
        ]
        return [sorted(self._profiles.items()), received]

    @classmethod
    def restore(cls, state: Any, revocations: Revocations, successors: Successors) -> Self:
        """Make the view from a snapshot, over the other views of the same moment."""
        view = cls(revocations, successors)
        profiles, received = state
        view._profiles = {agent: (at, id_, parent) for agent, (at, id_, parent) in profiles}
        for child, parents in received:
            for parent, given in parents:
                rows = [_Delegation.of(parent, *one) for one in given]
                view._received.setdefault(child, {})[parent] = rows
                view._children.setdefault(parent, set()).add(child)
        return view


def _asked(event: Event) -> frozenset[int | str]:
    """Give what covers an act: each of these in a scope does."""
    if event.kind not in CAPABILITY_KINDS:
        return frozenset({event.kind})
    return frozenset({event.kind, *(value for name in _CAPABILITY_TAGS for value in event.tag_values(name))})
