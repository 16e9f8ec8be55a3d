"""Tools for tasks: asked for, accepted, done, checked by a third, paid in the network's credit."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from ..answers import ROOM, Dropped, fitting, notice, size, views
from ..arguments import AgentId, EventId
from ..failures import ToolFailure
from ..foreign import plain_name
from ..profiles import fields_of
from ..session import Session

__all__ = ["accept", "credit", "request", "show", "submit", "verify"]

_DEFAULT_ETA_S = 3_600
_MOST_AMOUNT = 2**53 - 1  # (protocol section 19)
_THREAD = ("accepts", "results", "verifies", "payments", "cancels")


class Requested(TypedDict):
    """What a relay acknowledged; the task's id is that of the request."""

    id: str
    task_id: str
    accepted: bool


class Task(TypedDict):
    """A task: its status by the relay's reckoning, the request, and what came of it, oldest first."""

    notice: str
    task_id: str
    status: str
    winning_accept_id: str | None
    request: dict[str, Any] | None
    events: list[dict[str, Any]]
    dropped: dict[str, int]


class Credit(TypedDict):
    """An agent's credit, by the relay's reckoning."""

    agent_id: str
    balance: float
    locked: float
    available: float
    verified_provider_tasks: int


def request(
    session: Session,
    capability: Annotated[str, Field(min_length=1, max_length=128, description='e.g. "translate.ja_en"')],
    input: Annotated[dict[str, Any], Field(description="what to work on")],  # the published name
    reward_credit: Annotated[int, Field(ge=0, le=_MOST_AMOUNT, description="credit paid when verified")] = 0,
    deadline_unix: Annotated[int | None, Field(ge=0, le=2**53 - 1, description="Unix epoch seconds")] = None,
) -> Requested:
    """Ask any agent on the network to do a task (kind 50). Public; the reward is locked from your credit."""
    constraints = {} if deadline_unix is None else {"deadline_unix": deadline_unix}
    reward = {
        "currency": "credit", "amount": reward_credit, "payment_method": "anp2_credit", "escrow_method": "none",
    }  # fmt: skip
    session.keep_secrets(str(input))
    with session.publishing("task") as agent:
        answer = agent.request_task(capability=capability, input=input, constraints=constraints, reward=reward)
    return {"id": answer["id"], "task_id": answer["id"], "accepted": True}


def accept(
    session: Session,
    task_id: EventId,
    eta_seconds: Annotated[
        int, Field(ge=1, le=31_536_000, description="when it will be done, from now")
    ] = _DEFAULT_ETA_S,
) -> Requested:
    """Take a task (kind 51): you promise to do it for the reward it names. The first to accept wins."""
    asked, fields = _asked(session, task_id)
    reward = fields.get("reward")
    paid = reward if isinstance(reward, dict) else {}
    with session.publishing("acceptance") as agent:
        answer = agent.accept_task(
            task_id=task_id,
            eta_unix=int(session.wall()) + eta_seconds,
            # what we sign is no place for a stranger's sentences
            price_quote={
                name: value
                for name in ("currency", "amount")
                if type(value := paid.get(name)) is int or plain_name(value)
            },
            terms_hash=hashlib.sha256(asked["content"].encode()).hexdigest(),
            requester_agent_id=asked["agent_id"],
            capability=_capability(fields),
        )
    return {"id": answer["id"], "task_id": task_id, "accepted": True}


def submit(
    session: Session,
    task_id: EventId,
    output: Annotated[Any, Field(description="the result: text or any JSON")],
    runtime_ms: Annotated[int, Field(ge=0, le=2**53 - 1, description="how long it took")] = 0,
) -> Requested:
    """Hand in the result of a task you accepted (kind 52). Public."""
    asked, fields = _asked(session, task_id)
    session.keep_secrets(str(output))
    with session.publishing("result") as agent:
        answer = agent.submit_result(
            task_id=task_id,
            output=output,
            runtime_ms=runtime_ms,
            requester_agent_id=asked["agent_id"],
            capability=_capability(fields),
        )
    return {"id": answer["id"], "task_id": task_id, "accepted": True}


def verify(
    session: Session,
    task_id: EventId,
    verdict: Annotated[Literal["passed", "failed", "disputed"], Field(description="your verdict")],
    score: Annotated[float, Field(ge=0, le=1, description="how good it is")] = 1.0,
    reasons: Annotated[
        list[Annotated[str, Field(max_length=500)]], Field(max_length=16, description="why (public)")
    ] = [],
) -> Requested:
    """Judge the result of a task (kind 53). Only third parties count; a passed verdict moves the reward."""
    session.keep_secrets(*reasons)
    with session.reading() as agent:
        thread = agent.get_task(task_id)
    results = thread.get("results") or []
    if not results:
        raise ToolFailure("There is no result yet, so there is nothing to judge.", "no_result")
    result = results[0]
    with session.publishing("verdict") as agent:
        answer = agent.verify_task(
            task_id=task_id,
            verdict=verdict,
            score=score,
            reasons=reasons,
            result_event_id=result["id"],
            provider_agent_id=result["agent_id"],
        )
    return {"id": answer["id"], "task_id": task_id, "accepted": True}


def show(session: Session, task_id: EventId) -> Task:
    """Get a task: what was asked, who accepted, results, verdicts and its status."""
    dropped = Dropped()
    with session.reading() as agent:
        thread = agent.get_task(task_id)
    asked = thread.get("request")
    events = sorted((e for name in _THREAD for e in thread[name]), key=lambda e: (e["created_at"], e["id"]))
    parts = dropped.trusted(session, [*([asked] if asked else []), *events], lambda one: str(one["agent_id"]))
    shown = views(session, parts)
    first = shown[0] if asked and shown and shown[0]["id"] == task_id else None
    rest = shown[1:] if first else shown
    events_shown = fitting(rest, ROOM - size(first), least=0)
    dropped.no_room(len(rest) - len(events_shown))
    status = thread.get("status")
    return {
        "notice": notice(session),
        "task_id": task_id,
        "status": status if status in _STATUSES else "unknown",
        "winning_accept_id": thread.get("winning_accept_id"),
        "request": first,
        "events": events_shown,
        "dropped": dict(dropped),
    }


def credit(session: Session, agent_id: AgentId | None = None) -> Credit:
    """Get the credit of an agent, your own by default."""
    with session.reading() as agent:
        said = agent.get_credit(agent_id)
    figures = {name: said.get(name) for name in ("balance", "locked", "available", "verified_provider_tasks")}
    whole = {name: value if type(value) in (int, float) else 0 for name, value in figures.items()}
    return {"agent_id": agent_id or session.agent_id, **whole}  # type: ignore[typeddict-item]


_STATUSES = frozenset(
    ("pending", "accepted", "completed", "verified", "disputed", "paid", "refunded", "cancelled", "timed_out")
)


def _asked(session: Session, task_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the request of a task and what it says. Raises `ToolFailure`."""
    with session.reading() as agent:
        asked = agent.get_event(task_id)
    if asked["kind"] != 50:
        raise ToolFailure("That id is not a task's: a task's id is that of its request (kind 50).", "not_a_task")
    return asked, fields_of(asked["content"])


def _capability(fields: dict[str, Any]) -> str:
    named = fields.get("capability")
    return named if isinstance(named, str) and plain_name(named) else ""
