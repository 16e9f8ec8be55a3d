"""Who owes whom: balances in `anp2_credit`, derived from tasks alone (WIRE section 12, PROTOCOL 18.11).

Each settled task moves its amount from the requester to the provider, less a tenth for the treasury, so
all balances together are always 0. Revoking or hiding an event afterwards changes nothing (settled A7).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from ..canonical import MAX_INTEGER, is_id
from ..events import Event
from ..jsontext import shown
from ..kinds import TASK_ACCEPT, TASK_CANCEL, TASK_REQUEST, TASK_RESULT, TASK_VERIFY, credit_amount
from .tasks import deadline

__all__ = ["TREASURY", "Credit"]

TREASURY = "53f0e3e0485ccdf48ba1854908a8460e13fe0e078d9066ac65aa2b597c9d7916"  # WIRE section 12
_FEE_DIVISOR = 10  # the treasury's tenth, rounded down

_PASSED, _FAILED = 1, 2


class _Request(NamedTuple):
    author: str
    amount: int
    deadline: int | None


class _Outcome(NamedTuple):
    """What a task does to accounts: amounts moved, or the amount locked until a deadline (None: for ever)."""

    payer: str
    payee: str | None  # None: nothing moved
    amount: int
    locked: bool
    until: int | None


@dataclass(slots=True)
class _Task:
    request: _Request | None = None
    accepted: bool = False
    result: tuple[int, str, str] | None = None  # the earliest: created_at, id, agent
    verdicts: dict[str, int] | None = None  # agent: _PASSED, _FAILED or both
    passed: int = 0  # agents among them, of whatever side
    failed: int = 0
    cancelled_by: set[str] | None = None

    def judge(self, agent: str, verdict: int) -> None:
        """Take a verdict; whoever says both counts on both sides."""
        self.verdicts = self.verdicts or {}
        known = self.verdicts.get(agent, 0)
        self.verdicts[agent] = known | verdict
        self.passed += verdict & ~known & _PASSED != 0
        self.failed += verdict & ~known & _FAILED != 0

    def outcome(self) -> _Outcome | None:
        """Say what the task does to accounts as things stand; None when nothing."""
        if self.request is None:
            return None
        author, amount, due = self.request
        provider = self.result[2] if self.result else None
        # those with a side do not count: subtracted, so that a task with 10,000 verifiers costs no more than one
        partial = [(self.verdicts or {}).get(side, 0) for side in {author, provider or author, TREASURY}]
        passed = self.passed - sum(verdict & _PASSED != 0 for verdict in partial)
        failed = self.failed - sum(verdict & _FAILED != 0 for verdict in partial)
        said = _PASSED * (passed > 0) | _FAILED * (failed > 0)
        if said == _PASSED and provider is not None:
            return _Outcome(author, provider, amount, locked=False, until=None)
        cancelled = author in (self.cancelled_by or ()) and not self.accepted
        if said & _FAILED or cancelled:
            return None
        return _Outcome(author, None, amount, locked=True, until=None if self.result else due)


@dataclass(slots=True)
class _Account:
    balance: int = 0
    standing: int = 0  # passed tasks of others that this agent provided
    open: dict[str, tuple[int, int | None]] = field(default_factory=dict)  # task: amount, until


class Credit:
    """Accounts of all agents; about 1 kB a task, 300 bytes an account."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Task] = {}
        self._accounts: dict[str, _Account] = {}

    def apply(self, event: Event) -> None:
        """Take one stored event and settle anew the task it belongs to."""
        kind = event.kind
        if kind == TASK_REQUEST:
            self._change(event.id, event)
        elif kind == TASK_ACCEPT:
            self._change(event.first_tag("e"), event)
        elif kind in (TASK_RESULT, TASK_VERIFY, TASK_CANCEL):
            self._change((shown(event.content) or {}).get("task_id"), event)

    def read(self, agent_id: str, now: int) -> dict[str, Any]:
        """Give the answer of `/agents/{id}/credit`; an agent without tasks has zeros."""
        account = self._accounts.get(agent_id) or _Account()
        locked = sum(amount for amount, until in account.open.values() if until is None or until >= now)
        return {
            "agent_id": agent_id,
            "balance": account.balance,
            "locked": locked,
            "available": account.balance - locked,
            "verified_provider_tasks": account.standing,
        }

    def balance(self, agent_id: str) -> int:
        """Give what an agent earned less what it spent."""
        account = self._accounts.get(agent_id)
        return account.balance if account else 0

    def snapshot(self) -> Any:
        """Give the state as JSON; accounts follow from the tasks."""
        return [
            [
                task_id,
                list(task.request) if task.request else None,
                task.accepted,
                task.result,
                sorted((task.verdicts or {}).items()),
                sorted(task.cancelled_by or ()),
            ]
            for task_id, task in sorted(self._tasks.items())
        ]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        for task_id, request, accepted, result, verdicts, cancelled_by in state:
            task = view._tasks[task_id] = _Task(
                _Request(*request) if request else None,
                accepted,
                tuple(result) if result else None,
                cancelled_by=set(cancelled_by) or None,
            )
            for agent, verdict in verdicts:
                task.judge(agent, verdict)
            view._book(task_id, task.outcome(), 1)
        return view

    def _change(self, task_id: object, event: Event) -> None:
        if not isinstance(task_id, str) or not is_id(task_id):
            return
        task = self._tasks.get(task_id)
        if task is None:
            task = self._tasks[task_id] = _Task()
        before = task.outcome()
        _add(task, event)
        after = task.outcome()
        if after != before:
            self._book(task_id, before, -1)
            self._book(task_id, after, 1)

    def _book(self, task_id: str, outcome: _Outcome | None, sign: int) -> None:
        """Enter an outcome into the accounts, or with sign -1 take it out again."""
        if outcome is None:
            return
        payer = self._account(outcome.payer)
        if outcome.locked:
            if sign > 0:
                payer.open[task_id] = (outcome.amount, outcome.until)
            else:
                del payer.open[task_id]
        elif outcome.payee is not None:
            fee = outcome.amount // _FEE_DIVISOR
            payer.balance -= sign * outcome.amount
            payee = self._account(outcome.payee)
            payee.balance += sign * (outcome.amount - fee)
            if outcome.payee != outcome.payer and outcome.amount > 0:
                payee.standing += sign
            self._account(TREASURY).balance += sign * fee

    def _account(self, agent_id: str) -> _Account:
        account = self._accounts.get(agent_id)
        if account is None:
            account = self._accounts[agent_id] = _Account()
        return account


def _add(task: _Task, event: Event) -> None:
    if event.kind == TASK_REQUEST:
        task.request = _request(event)
    elif event.kind == TASK_ACCEPT:
        task.accepted = True
    elif event.kind == TASK_RESULT:
        result = (event.created_at, event.id, event.agent_id)
        task.result = result if task.result is None else min(task.result, result)
    elif event.kind == TASK_VERIFY:
        verdict = {"passed": _PASSED, "failed": _FAILED}.get(str((shown(event.content) or {}).get("verdict")))
        if verdict:
            task.judge(event.agent_id, verdict)
    elif event.kind == TASK_CANCEL:
        task.cancelled_by = task.cancelled_by or set()
        task.cancelled_by.add(event.agent_id)


def _request(event: Event) -> _Request | None:
    body = shown(event.content) or {}
    amount = credit_amount(body)
    if amount is None:
        return None
    due = deadline(body)
    # Numbers only: a deadline written as text never times out a lock (WIRE section 12).
    number = not isinstance(due, bool) and isinstance(due, (int, float)) and abs(due) <= MAX_INTEGER
    return _Request(event.agent_id, amount, int(due) if number else None)  # type: ignore[call-overload]
