"""Who trusts whom: the votes (kind 6) behind `/trust/{id}` and `/trust_graph` (WIRE section 11, decision 0012).

Of each pair of voter and target only the newest vote that was not revoked counts, a score of 0 withdraws
it, and a vote for oneself counts nothing. Which votes count is kept event by event; the scores, which
depend on the clock, are worked out by `refresh` in steps of a few milliseconds.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import mul
from typing import Any, NamedTuple, Self

from ..canonical import is_id
from ..events import Event
from ..jsontext import shown
from ..kinds import REVOKE, TRUST_VOTE
from ..pow import declared_bits
from .revocations import Revocations

__all__ = ["MAX_GRAPH", "MAX_LISTED", "Scores", "Trust", "Vote"]

# trust.v1, WIRE section 11
_HALF_LIFE = 30 * 86_400  # seconds
_FULL_WEIGHT_TARGETS = 3
_MAX_PASSES = 20
_EPSILON = 1e-4
_WORK_NORM = 65_536.0

MAX_LISTED = 1_000  # votes of one answer
MAX_GRAPH = 10_000  # agents of one answer

_STEP = 5_000  # votes a step of `refresh`: some 3 ms


class Vote(NamedTuple):
    """One vote; newest last when sorted. `score` None when unreadable; `bits` of declared work, -1 without."""

    created_at: int
    id: str
    score: float | None
    bits: int


@dataclass(frozen=True, slots=True)
class Scores:
    """The outcome of one computation, at `computed_at` (Unix seconds)."""

    computed_at: int = 0
    iterations: int = 0
    weighted: Mapping[str, float] = field(default_factory=dict)
    raw: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)


class Trust:
    """Votes of each pair, about 300 bytes a vote, and the scores worked out last."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations  # which must have seen an event before this view does
        self._votes: dict[str, dict[str, list[Vote]]] = {}  # target: voter: every vote, oldest first
        self._targets: dict[str, set[str]] = {}  # voter: targets
        self._counted: dict[str, dict[str, Vote]] = {}  # target: voter: the vote that counts; filled on demand
        self.scores = Scores()
        self.version = 0
        """Grows whenever another vote may count."""

    def apply(self, event: Event) -> None:
        """Take one stored event: a vote, or a revocation of one."""
        if event.kind == TRUST_VOTE:
            targets = {target for target in event.tag_values("p") if is_id(target) and target != event.agent_id}
            vote = Vote(event.created_at, event.id, _score(event.content), _bits(event))
            for target in targets:
                votes = self._votes.setdefault(target, {}).setdefault(event.agent_id, [])
                place = bisect_left(votes, vote[:2])
                if place == len(votes) or votes[place].id != vote.id:
                    votes.insert(place, vote)
                self._targets.setdefault(event.agent_id, set()).add(target)
                self._counted.pop(target, None)
            self.version += bool(targets)
        elif event.kind == REVOKE and event.agent_id in self._targets:
            for target in self._targets[event.agent_id]:
                self._counted.pop(target, None)
            self.version += 1

    def votes_for(self, target: str) -> Mapping[str, Vote]:
        """Give the vote that counts of each voter for this target."""
        counted = self._counted.get(target)
        if counted is None:
            counted = self._counted[target] = {}
            for voter, votes in self._votes.get(target, {}).items():
                newest = next((v for v in reversed(votes) if not self._revocations.holds(voter, v.id)), None)
                if newest is not None and newest.score:
                    counted[voter] = newest
        return counted

    def refresh(self, now: int) -> Iterator[None]:
        """Work out the scores at `now`, in Unix seconds, pausing every few milliseconds; `scores` is set at the end.

        Jacobi passes of trust.v1. Votes that arrive meanwhile may count now or the next time.
        """
        edges: list[tuple[str, list[str], list[float]]] = []  # target, its voters, what each contributes
        reach: dict[str, int] = {}  # voter: distinct targets
        work: dict[str, float] = {}
        done = 0
        for target in list(self._votes):
            counted = self.votes_for(target)
            if not counted:
                continue
            for voter in counted:
                reach[voter] = reach.get(voter, 0) + 1
            decayed = [(v.score or 0.0) * math.exp2(-max(0, now - v.created_at) / _HALF_LIFE) for v in counted.values()]
            edges.append((target, list(counted), decayed))
            bits = [v.bits for v in counted.values() if v.bits >= 0]
            work[target] = math.tanh(sum(1 << b for b in bits) / _WORK_NORM) if bits else 1.0
            done += len(counted)
            if done > _STEP:
                done = 0
                yield
        damping = {voter: min(1.0, targets / _FULL_WEIGHT_TARGETS) for voter, targets in reach.items()}
        trust: dict[str, float] = {}
        passes = 0
        while edges and passes < _MAX_PASSES:
            passes += 1
            weights = {v: math.sqrt(max(0.0, trust.get(v, 0.0) + 1)) * damping[v] for v in damping}
            latest: dict[str, float] = {}
            for target, voters, contributions in edges:
                # fsum rounds once, whatever the order of the votes: so the scores do not depend on it either
                latest[target] = math.fsum(map(mul, map(weights.__getitem__, voters), contributions))
                done += len(voters)
                if done > _STEP:
                    done = 0
                    yield
            change = max(abs(score - trust.get(target, 0.0)) for target, score in latest.items())
            trust = latest
            if change < _EPSILON:
                break
        weighted = {target: score * work[target] for target, score in trust.items()}
        raw = {target: math.fsum(contributions) for target, _, contributions in edges}
        self.scores = Scores(now, passes, weighted, raw, work)

    def read(self, agent_id: str) -> dict[str, Any]:
        """Give the answer of `/trust/{id}`, its newest 1,000 votes first; an agent nobody voted for has zeros."""
        scores = self.scores
        counted = self.votes_for(agent_id)
        newest = heapq.nsmallest(MAX_LISTED, counted.items(), key=lambda item: (-item[1].created_at, item[0]))
        return {
            "agent_id": agent_id,
            "score_in": scores.raw.get(agent_id, 0.0),
            "weighted_score": scores.weighted.get(agent_id, 0.0),
            "voter_count": len(counted),
            "iterations": scores.iterations,
            "sybil_factor_pow": scores.work.get(agent_id, 1.0),
            "votes": [{"voter": voter, "score": v.score, "created_at": v.created_at} for voter, v in newest],
            "computed_at": scores.computed_at,
        }

    def received(self, target: str, since: int, least: float, limit: int) -> list[tuple[str, Vote]]:
        """Give the newest votes for an agent with their voters, unrevoked, not before `since`, of a score from `least`.

        Each vote stands for itself, also where a newer one of the same voter counts.
        """
        votes = (
            (-vote.created_at, vote.id, voter, vote)
            for voter, cast in self._votes.get(target, {}).items()
            for vote in cast
            if vote.created_at >= since and vote.score is not None and vote.score >= least
        )
        found: list[tuple[str, Vote]] = []
        for _, id_, voter, vote in sorted(votes):
            if not self._revocations.holds(voter, id_):
                found.append((voter, vote))
                if len(found) == limit:
                    break
        return found

    def graph(self) -> dict[str, Any]:
        """Give the answer of `/trust_graph`: the 10,000 highest scores, then by id."""
        scores = self.scores
        rows = heapq.nsmallest(MAX_GRAPH, scores.weighted.items(), key=lambda item: (-item[1], item[0]))
        return {
            "agents": [
                {
                    "agent_id": agent_id,
                    "weighted_score": weighted,
                    "raw_score": scores.raw[agent_id],
                    "voter_count": len(self.votes_for(agent_id)),
                    "sybil_factor_pow": scores.work[agent_id],
                }
                for agent_id, weighted in rows
            ],
            "algo": "trust.v1",
            "computed_at": scores.computed_at,
        }

    def snapshot(self) -> Any:
        """Give the state as JSON; scores are worked out anew."""
        return [
            [target, [[voter, list(map(list, votes))] for voter, votes in sorted(voters.items())]]
            for target, voters in sorted(self._votes.items())
        ]

    @classmethod
    def restore(cls, state: Any, revocations: Revocations) -> Self:
        """Make the view from a snapshot, over the revocations of the same moment."""
        view = cls(revocations)
        for target, voters in state:
            view._votes[target] = {voter: [Vote(*vote) for vote in votes] for voter, votes in voters}
            for voter, _ in voters:
                view._targets.setdefault(voter, set()).add(target)
        view.version = 1
        return view


def _score(content: str) -> float | None:
    """Read a score within -1 and 1; a vote without one withdraws, as 0 does (WIRE section 11)."""
    score = (shown(content) or {}).get("score")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not -1 <= score <= 1:
        return None
    return float(score)


def _bits(event: Event) -> int:
    """Read the work declared; how many bits the id really has was checked at the door."""
    bits = declared_bits(event.tags)
    return -1 if bits is None else bits
