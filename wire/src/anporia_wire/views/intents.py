"""Where intents stand (kinds 1500 to 1502): what its author says of it, and what others found.

Every fact is kept such that the order of arrival does not matter: the intent may come last. There is no "verified"
for everybody, since a crowd of made-up agents would reach it; a reader names the verifiers it trusts.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from ..events import Event
from ..intents import FINAL, INTENT_DECLARE, INTENT_STATUS, INTENT_VERIFY, STATUSES, broken_rule, is_ours
from ..jsontext import shown
from .delegations import Delegations
from .revocations import Revocations

__all__ = [
    "ALL_STATUSES",
    "MAX_SCANNED",
    "MAX_STATUSES",
    "MAX_VERDICTS",
    "MAX_VERDICTS_SHOWN",
    "IntentQuery",
    "Intents",
]

MAX_STATUSES = 256  # of one intent, four for each of 64 steps: more are a conflict, since what they crowd out is lost
MAX_VERDICTS = 32  # of one verifier on one intent, the latest: only the last one unrevoked counts
MAX_VERDICTS_SHOWN = 100  # of one intent in an answer: those of the reader's verifiers first, then the latest
MAX_SCANNED = 10_000  # intents looked at for one page: 30 ms where their statuses are asked for

ALL_STATUSES = ("declared", *STATUSES, "withdrawn")

_RANKS = {"executing": 1, "completed": 2, "failed": 2}
_LAST = 2**53  # after all dates
_FLIP = str.maketrans("0123456789abcdef", "fedcba9876543210")


class _Declared(NamedTuple):
    author: str
    created_at: int
    deadline: int | None
    parent: str | None
    assignee: str | None
    topics: tuple[str, ...]


class _Status(NamedTuple):
    rank: int
    created_at: int
    id: str
    status: str
    prev: str


class _Verdict(NamedTuple):
    created_at: int
    id: str
    verdict: str


_Place = tuple[int, str]  # created_at, and the id with its digits turned round: descending, it is the order of lists


@dataclass(frozen=True, slots=True)
class IntentQuery:
    """Which intents are wanted; None is any. `status`: one of `ALL_STATUSES`."""

    author: str | None = None
    assignee: str | None = None
    parent: str | None = None
    topic: str | None = None
    status: str | None = None


@dataclass(slots=True)
class _Intent:
    declared: _Declared | None = None
    statuses: dict[str, list[_Status]] = field(default_factory=dict)  # by author; of the intent's only, once it is here
    verdicts: dict[tuple[str, str], list[_Verdict]] = field(default_factory=dict)  # by verifier and `p`; the same

    def settle(self) -> None:
        """Drop what cannot count, once the intent is here."""
        self.statuses = {agent: said for agent, said in self.statuses.items() if self.counts(agent)}
        self.verdicts = {who: said for who, said in self.verdicts.items() if self.counts(*who)}

    def counts(self, agent: str, about: str | None = None) -> bool:
        """Say whether a status, or a verdict `about` an author, can count: one is by the author, the other is not."""
        author = self.declared.author if self.declared else None
        return author is None or (agent == author if about is None else about == author != agent)

    @property
    def crowded(self) -> bool:
        """Whether there are more statuses than count: the one beyond is kept to show it, so order plays no part."""
        return any(len(said) > MAX_STATUSES for said in self.statuses.values())


class Intents:
    """All intents by id; about 1.5 kB for one that went its whole way. Texts stay in the events."""

    def __init__(self, revocations: Revocations, delegations: Delegations) -> None:
        self._revocations = revocations
        self._delegations = delegations
        self._intents: dict[str, _Intent] = {}
        self._places: dict[tuple[str, str], list[_Place]] = {}  # by (field, value); ("", "") holds all

    def apply(self, event: Event) -> None:
        """Take one stored event."""
        if not INTENT_DECLARE <= event.kind <= INTENT_VERIFY or not is_ours(event) or broken_rule(event) is not None:
            return
        fields = shown(event.content) or {}
        intent = self._intents.setdefault(_intent_of(event), _Intent())
        if event.kind == INTENT_DECLARE:
            if intent.declared is None:
                intent.declared = _Declared(
                    event.agent_id,
                    event.created_at,
                    fields.get("deadline_unix"),
                    fields.get("parent"),
                    fields.get("assignee"),
                    tuple(dict.fromkeys(event.tag_values("t"))),
                )
                self._index(event.id, intent.declared)
                intent.settle()
        elif event.kind == INTENT_STATUS:
            said = fields["status"]
            status = _Status(_RANKS[said], event.created_at, event.id, said, event.tag_values("prev")[0])
            if intent.counts(event.agent_id):
                _keep(intent.statuses.setdefault(event.agent_id, []), status, MAX_STATUSES + 1)
        else:
            verdict = _Verdict(event.created_at, event.id, fields["verdict"])
            who = (event.agent_id, event.tag_values("p")[0])
            if intent.counts(*who):
                _keep(intent.verdicts.setdefault(who, []), verdict, MAX_VERDICTS)

    def find(
        self, wanted: IntentQuery, now: int, limit: int, after: tuple[int, str] | None = None
    ) -> tuple[list[str], tuple[int, str] | None]:
        """Give ids of intents, newest first, then by id, and where the next page begins, or None when there is none.

        Looks at `MAX_SCANNED` at most, so that a page may hold fewer than `limit`. `after`: (created_at, id).
        """
        asked = {"author": wanted.author, "assignee": wanted.assignee, "parent": wanted.parent, "topic": wanted.topic}
        lists = [self._places.get((name, value), []) for name, value in asked.items() if value is not None]
        places = min(lists, key=len) if lists else self._places.get(("", ""), [])
        end = bisect_left(places, (now + 1, ""))
        if after is not None:
            end = min(end, bisect_left(places, (after[0], after[1].translate(_FLIP))))
        found: list[str] = []
        for looked, at in enumerate(range(end - 1, -1, -1)):
            if len(found) == limit or looked == MAX_SCANNED:
                created_at, turned = places[at + 1]
                return found, (created_at, turned.translate(_FLIP))
            intent_id = places[at][1].translate(_FLIP)
            if self._meets(intent_id, wanted, now):
                found.append(intent_id)
        return found, None

    def mentioned(self, intent_id: str, now: int, verifiers: Collection[str] = (), *, whole: bool = True) -> list[str]:
        """Name the events that `read` needs, `whole` or not; empty when it is not here, or not due.

        Whoever cannot read them all reads the first: the intent, what the reader's verifiers found, what its author
        says (the greatest status, those that none follows, the others from the greatest down), what others found.
        So neither crowds out the other, nor one of two stories.
        """
        intent = self._due(intent_id, now)
        if intent is None:
            return []
        said = self._statuses(intent, _LAST if whole and intent.crowded else now)[::-1]
        ordered = [*said[:1], *(_heads(said) + said if whole else ())]
        statuses = dict.fromkeys(status.id for status in ordered)
        trusted = frozenset(verifiers)
        verdicts = _most_telling(self._verdicts(intent, now), trusted)
        found = [one.id for _, one in verdicts]
        own = sum(agent in trusted for agent, _ in verdicts)
        return [intent_id, *found[:own], *statuses, *found[own:]]

    def read(
        self,
        intent_id: str,
        now: int,
        events: Mapping[str, Event],
        verifiers: Collection[str] = (),
        quorum: int = 1,
        *,
        whole: bool = True,
    ) -> dict[str, Any] | None:
        """Give a row of `/intents`, and if `whole` its statuses; None when the intent is not here, or not yet due.

        `events`: those that `mentioned` names, by id; what is missing among them is left out. `now`: Unix seconds.
        """
        intent, event = self._due(intent_id, now), events.get(intent_id)
        if intent is None or intent.declared is None or event is None:
            return None
        declared, fields = intent.declared, shown(event.content) or {}
        statuses = self._statuses(intent, now)
        status = self._status(intent_id, intent, now)
        decides = events.get(statuses[-1].id) if statuses else None
        conflict = intent.crowded or len(_heads(statuses)) > 1
        verdicts = list(self._verdicts(intent, now))
        trusted = frozenset(verifiers)
        passes = sum(one.verdict == "passed" for agent, one in verdicts if agent in trusted)
        row: dict[str, Any] = {
            "intent_id": intent_id,
            "agent_id": declared.author,
            "created_at": declared.created_at,
            "goal": fields.get("goal"),
            "success_criteria": fields.get("success_criteria"),
            "steps": fields.get("steps", []),
            "deadline_unix": declared.deadline,
            "parent": declared.parent,
            "assignee": declared.assignee,
            "topics": list(declared.topics),
            "status": status,
            "step": (shown(decides.content) or {}).get("step") if decides else None,
            "conflict": conflict,
            "overdue": declared.deadline is not None and declared.deadline < now and status not in FINAL,
            "authority": self._delegations.authority(event),
            "verdicts": [
                self._found(agent, one, events[one.id])
                for agent, one in _most_telling(verdicts, trusted)
                if one.id in events
            ],
            "verified": (status == "completed" and not conflict and passes >= quorum) if verifiers else None,
            "passes": passes if verifiers else None,
            "quorum": quorum,
        }
        if whole:
            told = sorted((one for one in statuses if one.id in events), key=_by_date)
            row["statuses"] = [self._said(one, events[one.id]) for one in told]
        return row

    def head(self, intent_id: str, now: int) -> str:
        """Name what the next status follows on: of the statuses that none follows the greatest, or the intent."""
        intent = self._due(intent_id, now)
        heads = _heads(self._statuses(intent, now)) if intent is not None else []
        return max(heads).id if heads else intent_id

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [
            [
                intent_id,
                list(intent.declared) if intent.declared else None,
                [[agent, list(map(list, said))] for agent, said in sorted(intent.statuses.items())],
                [[*who, list(map(list, said))] for who, said in sorted(intent.verdicts.items())],
            ]
            for intent_id, intent in sorted(self._intents.items())
        ]

    @classmethod
    def restore(cls, state: Any, revocations: Revocations, delegations: Delegations) -> Self:
        """Make the view from a snapshot, over the other views of the same moment."""
        view = cls(revocations, delegations)
        for intent_id, declared, statuses, verdicts in state:
            intent = view._intents[intent_id] = _Intent()
            if declared:
                author, created_at, deadline, parent, assignee, topics = declared
                intent.declared = _Declared(author, created_at, deadline, parent, assignee, tuple(topics))
                view._index(intent_id, intent.declared)
            intent.statuses = {agent: [_Status(*one) for one in said] for agent, said in statuses}
            intent.verdicts = {(agent, about): [_Verdict(*one) for one in said] for agent, about, said in verdicts}
        return view

    def _index(self, intent_id: str, declared: _Declared) -> None:
        place = (declared.created_at, intent_id.translate(_FLIP))
        named = {"": "", "author": declared.author, "assignee": declared.assignee, "parent": declared.parent}
        keys = [(name, value) for name, value in named.items() if value is not None]
        for key in [*keys, *(("topic", topic) for topic in declared.topics)]:
            insort(self._places.setdefault(key, []), place)

    def _meets(self, intent_id: str, wanted: IntentQuery, now: int) -> bool:
        intent = self._intents[intent_id]
        declared = intent.declared
        return (
            declared is not None
            and wanted.author in (None, declared.author)
            and wanted.assignee in (None, declared.assignee)
            and wanted.parent in (None, declared.parent)
            and (wanted.topic is None or wanted.topic in declared.topics)
            and (wanted.status is None or wanted.status == self._status(intent_id, intent, now))
        )

    def _due(self, intent_id: str, now: int) -> _Intent | None:
        intent = self._intents.get(intent_id)
        return intent if intent is not None and intent.declared and intent.declared.created_at <= now else None

    def _statuses(self, intent: _Intent, now: int) -> list[_Status]:
        """Give the author's statuses that are due, the greatest last; revoked ones stay in the chain."""
        return [one for statuses in intent.statuses.values() for one in statuses if one.created_at <= now]

    def _status(self, intent_id: str, intent: _Intent, now: int) -> str:
        if intent.declared and self._revocations.holds(intent.declared.author, intent_id):
            return "withdrawn"
        due = (one.status for said in intent.statuses.values() for one in reversed(said) if one.created_at <= now)
        return next(due, "declared")

    def _verdicts(self, intent: _Intent, now: int) -> Iterator[tuple[str, _Verdict]]:
        """Yield each verifier's last verdict that is due and not revoked."""
        for (agent, _), said in intent.verdicts.items():
            for one in reversed(said):
                if one.created_at <= now and not self._revocations.holds(agent, one.id):
                    yield agent, one
                    break

    def _said(self, one: _Status, event: Event) -> dict[str, Any]:
        fields = shown(event.content) or {}
        return {
            "id": one.id,
            "status": one.status,
            "step": fields.get("step"),
            "evidence": fields.get("evidence"),
            "prev": one.prev,
            "created_at": one.created_at,
            "authority": self._delegations.authority(event),
        }

    def _found(self, agent_id: str, one: _Verdict, event: Event) -> dict[str, Any]:
        fields = shown(event.content) or {}
        return {
            "id": one.id,
            "agent_id": agent_id,
            "verdict": one.verdict,
            "method": fields.get("method"),
            "evidence_hash": fields.get("evidence_hash"),
            "reason": fields.get("reason"),
            "created_at": one.created_at,
            "authority": self._delegations.authority(event),
        }


def _intent_of(event: Event) -> str:
    return event.id if event.kind == INTENT_DECLARE else event.tag_values("e")[0]


def _most_telling(verdicts: Iterable[tuple[str, _Verdict]], trusted: Set[str]) -> list[tuple[str, _Verdict]]:
    """Give the verdicts of an answer: of the reader's verifiers first, then the newest."""
    return heapq.nsmallest(
        MAX_VERDICTS_SHOWN, verdicts, key=lambda pair: (pair[0] not in trusted, -pair[1].created_at, pair[1].id)
    )


def _heads(statuses: list[_Status]) -> list[_Status]:
    """Give the statuses that none follows: two mean that the author told two stories."""
    followed = {one.prev for one in statuses}
    return [one for one in statuses if one.id not in followed]


def _by_date(one: _Status) -> tuple[int, int, str]:
    return one.created_at, one.rank, one.id


def _keep(said: list[Any], one: Any, most: int) -> None:
    """Put one into its place, once, and keep the greatest."""
    place = bisect_left(said, one)
    if place == len(said) or said[place].id != one.id:
        said.insert(place, one)
        del said[:-most]
