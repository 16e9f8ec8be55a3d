"""Where a task stands: the thread of a request (kind 50) and what refers to it (WIRE section 12).

`TaskThread` folds one thread, `Tasks` all of them. Every fact is kept such that the order of arrival
does not matter: the request may come last.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Self

from ..canonical import MAX_INTEGER, is_id
from ..events import Event
from ..jsontext import shown
from ..kinds import TASK_ACCEPT, TASK_CANCEL, TASK_PAYMENT, TASK_REQUEST, TASK_RESULT, TASK_VERIFY

__all__ = ["MAX_VERDICTS", "TaskThread", "Tasks", "deadline"]

MAX_VERDICTS = 32  # of one verifier in one thread, the earliest: more of them only repeat him

_VERDICTS = ("passed", "failed", "disputed")
_REFERRING = frozenset({TASK_ACCEPT, TASK_RESULT, TASK_VERIFY, TASK_PAYMENT, TASK_CANCEL})


Verdict = tuple[int, str, str, float | None]  # created_at, id, verdict, score


@dataclass(slots=True)
class TaskThread:
    """What is known of one thread. Times with ids are (created_at, id, ...), so the smallest is the earliest."""

    request: tuple[str, int | None, bool] | None = None  # author, deadline, paid by `mocked`
    accept: tuple[int, str, str] | None = None  # the earliest: created_at, id, agent
    payment: tuple[int, str, str | None, bool] | None = None  # the latest: created_at, id, disposition, mocked
    results: set[str] | None = None  # agents
    verdicts: dict[str, list[Verdict]] | None = None  # agent: the earliest ones, in order
    cancels: dict[str, int] | None = None  # agent: earliest created_at
    _counted: tuple[dict[str, Any] | None] | None = field(default=None, compare=False)  # consensus, until events come

    def apply(self, event: Event, task_id: str) -> None:
        """Take one event of the thread of `task_id`."""
        agent, at = event.agent_id, event.created_at
        self._counted = None
        if event.kind == TASK_REQUEST and event.id == task_id:
            body = shown(event.content) or {}
            self.request = (agent, _display_deadline(body), _is_mocked(body.get("reward")))
        elif event.kind == TASK_ACCEPT:
            accept = (at, event.id, agent)
            self.accept = accept if self.accept is None else min(self.accept, accept)
        elif event.kind == TASK_RESULT:
            self.results = self.results or set()
            self.results.add(agent)
        elif event.kind == TASK_VERIFY:
            self._verify(event)
        elif event.kind == TASK_PAYMENT:
            body = shown(event.content) or {}
            disposition = body.get("disposition")
            known = disposition if disposition in ("release", "refund") else None
            payment = (at, event.id, known, _is_mocked(body))
            self.payment = payment if self.payment is None or payment[:2] > self.payment[:2] else self.payment
        elif event.kind == TASK_CANCEL:
            self.cancels = self.cancels or {}
            self.cancels[agent] = min(at, self.cancels.get(agent, at))

    def _verify(self, event: Event) -> None:
        body = shown(event.content) or {}
        verdict, score = body.get("verdict"), body.get("score")
        if verdict not in _VERDICTS:
            return
        number = float(score) if isinstance(score, (int, float)) and not isinstance(score, bool) else None
        self.verdicts = self.verdicts or {}
        said = self.verdicts.setdefault(event.agent_id, [])
        place = bisect_left(said, (event.created_at, event.id))
        if place == len(said) or said[place][1] != event.id:
            said.insert(place, (event.created_at, event.id, str(verdict), number))
            del said[MAX_VERDICTS:]

    @property
    def provider(self) -> str | None:
        """The author of the winning accept."""
        return self.accept[2] if self.accept else None

    @property
    def mocked(self) -> bool:
        """Whether the request or the payment that decides says `mocked` (PROTOCOL 18.8)."""
        return bool((self.request and self.request[2]) or (self.payment and self.payment[3]))

    def consensus(self) -> dict[str, Any] | None:
        """Count the verdicts of those who are neither requester nor provider: plurality, a tie is `disputed`."""
        if self._counted is None:  # of 10,000 verifiers it takes 5 ms
            self._counted = (self._count(),)
        return self._counted[0]

    def _count(self) -> dict[str, Any] | None:
        sides = {self.request[0] if self.request else None, self.provider}
        neutral = [v for agent, said in (self.verdicts or {}).items() if agent not in sides for v in said]
        if not neutral:
            return None
        tally = {verdict: sum(v[2] == verdict for v in neutral) for verdict in _VERDICTS}
        first = [verdict for verdict, count in tally.items() if count == max(tally.values())]
        scores = [v[3] for v in neutral if v[3] is not None]
        return {
            "verdict": first[0] if len(first) == 1 else "disputed",
            "score": _mean(scores) if scores else None,
            "verifier_count": len(neutral),
        }

    def status(self, now: int) -> str:
        """Name the state at `now`, in Unix seconds; the first rule of WIRE section 12 that holds."""
        requester, due, _ = self.request or (None, None, False)
        cancelled_at = (self.cancels or {}).get(requester) if requester else None
        if cancelled_at is not None and (self.accept is None or cancelled_at < self.accept[0]):
            return "cancelled"
        if self.payment and self.payment[2]:
            return {"release": "paid", "refund": "refunded"}[self.payment[2]]
        consensus = self.consensus()
        if consensus:
            return "disputed" if consensus["verdict"] == "disputed" else "verified"
        if self.provider is not None and self.provider in (self.results or ()):
            return "completed"
        if self.accept is None and self.request is None:
            return "unknown"
        if due is not None and now > due:
            return "timed_out"
        return "accepted" if self.accept else "pending"

    @property
    def is_untouched(self) -> bool:
        """Whether nobody accepted or answered the request yet."""
        return self.accept is None and not self.results


class Tasks:
    """All threads by task id; about 4 kB for a task that went its whole way."""

    def __init__(self) -> None:
        self._threads: dict[str, TaskThread] = {}

    def apply(self, event: Event) -> None:
        """Take one stored event into its own thread and into each that an `e` tag of it names."""
        if event.kind == TASK_REQUEST:
            self._thread(event.id).apply(event, event.id)
        elif event.kind in _REFERRING:
            for task_id in set(event.tag_values("e")):
                if is_id(task_id):
                    self._thread(task_id).apply(event, task_id)

    def read(self, task_id: str) -> TaskThread | None:
        """Give the thread of a stored request, or None when no kind 50 of this id is stored."""
        thread = self._threads.get(task_id)
        return thread if thread is not None and thread.request is not None else None

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [[task_id, _listed(thread)] for task_id, thread in sorted(self._threads.items())]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        for task_id, (request, accept, payment, results, verdicts, cancels) in state:
            view._threads[task_id] = TaskThread(
                tuple(request) if request else None,
                tuple(accept) if accept else None,
                tuple(payment) if payment else None,
                set(results) if results else None,
                {agent: [tuple(v) for v in said] for agent, said in verdicts} if verdicts else None,
                dict(cancels) if cancels else None,
            )
        return view

    def _thread(self, task_id: str) -> TaskThread:
        thread = self._threads.get(task_id)
        if thread is None:
            thread = self._threads[task_id] = TaskThread()
        return thread


def deadline(body: dict[str, Any]) -> object:
    """Give `constraints.deadline_unix` as it stands, of whatever type, or None."""
    constraints = body.get("constraints")
    return constraints.get("deadline_unix") if isinstance(constraints, dict) else None


def _display_deadline(body: dict[str, Any]) -> int | None:
    """Read the deadline for the status: numbers and numeric strings; whatever else counts as none."""
    given = deadline(body)
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        return None
    try:
        due = int(given)
    except (ValueError, OverflowError):  # no number, 5,000 digits, infinite
        return None
    return due if abs(due) <= MAX_INTEGER else None


def _is_mocked(reward: object) -> bool:
    return isinstance(reward, dict) and reward.get("payment_method") == "mocked"


def _mean(scores: list[float]) -> float | None:
    # Divided before adding: huge scores must not overflow. fsum rounds once, in whatever order they came.
    mean = math.fsum(score / len(scores) for score in scores)
    return mean if math.isfinite(mean) else None


def _listed(thread: TaskThread) -> list[Any]:
    return [
        thread.request,
        thread.accept,
        thread.payment,
        sorted(thread.results) if thread.results else None,
        sorted(thread.verdicts.items()) if thread.verdicts else None,
        sorted(thread.cancels.items()) if thread.cancels else None,
    ]
