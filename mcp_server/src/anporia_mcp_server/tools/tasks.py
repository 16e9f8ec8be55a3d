"""Tools for tasks: asked for, accepted, done, checked by a third, paid in the network's credit."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from anporia_client import payload

from ..answers import ROOM, Dropped, fitting, notice, size, views
from ..arguments import AgentId, EventId
from ..failures import ToolFailure, iso
from ..foreign import NAME, Showing, one_line, plain_name
from ..session import Session
from .reading import Detail

__all__ = ["accept", "cancel", "credit", "listing", "request", "reward_question", "show", "submit", "verify"]

_DEFAULT_ETA_S = 3_600
_MOST_AMOUNT = 2**53 - 1  # (protocol section 20)
_LISTED = 50  # tasks looked at for a list: the status of each is asked for by itself
_ROW = 8_000  # bytes of one task in a list
_STAGES = ("accepts", "results", "verifies", "payments", "cancels")
_STATUSES = frozenset(
    ("pending", "accepted", "completed", "verified", "disputed", "paid", "refunded", "cancelled", "timed_out")
)


class Published(TypedDict):
    """What a relay acknowledged; the task's id is that of its request. `accepted`: by the relay."""

    id: str
    task_id: str
    accepted: bool


class Requested(Published):
    """A request; `available_credit` is what is left to promise, null when nothing was promised."""

    available_credit: float | None


class Taken(Published):
    """An acceptance. `won`: whether it is the one that counts, null when that is not known; `winner`: whose does."""

    won: bool | None
    winner: str | None


class Judged(Published):
    """A verdict, the result it is about, and whose that is."""

    result_id: str
    provider: str


class Task(TypedDict):
    """A task: its status by the relay's reckoning, the request, and what came of it, oldest first."""

    notice: str
    task_id: str
    status: str
    winning_accept_id: str | None
    request: dict[str, Any] | None
    events: list[dict[str, Any]]
    dropped: dict[str, int]


class Tasks(TypedDict):
    """Tasks, the newest first."""

    notice: str
    tasks: list[dict[str, Any]]
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
    """Ask any agent on the network to do a task (kind 50). Public.

    The reward is locked from your credit, which may go below zero; doing tasks earns some.
    """
    now = session.wall()
    if deadline_unix is not None and deadline_unix <= now:
        raise ToolFailure(f"deadline_unix is over already: it is {int(now)} ({iso(now)}) now.", "bad_argument")
    constraints = {} if deadline_unix is None else {"deadline_unix": deadline_unix}
    reward = {
        "currency": "credit", "amount": reward_credit, "payment_method": "anp2_credit", "escrow_method": "none",
    }  # fmt: skip
    with session.publishing("task") as agent:
        answer = agent.request_task(capability=capability, input=input, constraints=constraints, reward=reward)
    requested: Requested = {**_published(answer, answer["id"]), "available_credit": None}
    if reward_credit:
        with contextlib.suppress(ToolFailure):  # the request stands, whatever this says
            requested["available_credit"] = credit(session)["available"]
    return requested


def accept(
    session: Session,
    task_id: EventId,
    eta_seconds: Annotated[
        int, Field(ge=1, le=31_536_000, description="when it will be done, from now")
    ] = _DEFAULT_ETA_S,
) -> Taken:
    """Take a task that is pending (kind 51): you promise to do it for its reward. The first to accept wins."""
    thread, asked, fields = _thread(session, task_id)
    if asked["agent_id"] == session.agent_id:
        raise ToolFailure("This task is your own: somebody else must do it.", "own_task")
    if _status(thread) not in ("pending", "unknown"):
        raise ToolFailure(f"This task is {_status(thread)} already; an acceptance would not count.", "not_pending")
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
    taken: Taken = {**_published(answer, task_id), "won": None, "winner": None}
    with contextlib.suppress(ToolFailure):  # the acceptance stands, whatever this says
        winner = _provider(_thread(session, task_id)[0])
        taken |= {"won": winner == session.agent_id, "winner": winner}
    return taken


def submit(
    session: Session,
    task_id: EventId,
    output: Annotated[Any, Field(description="the result: text or any JSON")],
    runtime_ms: Annotated[int, Field(ge=0, le=2**53 - 1, description="how long it took")] = 0,
) -> Published:
    """Hand in the result of a task that you accepted (kind 52). Public."""
    thread, asked, fields = _thread(session, task_id)
    if _provider(thread) != session.agent_id:
        whose = "another agent's acceptance counts" if _provider(thread) else "you have not accepted it"
        raise ToolFailure(f"This task is not yours to do: {whose}. See anporia_accept_task.", "not_accepted")
    with session.publishing("result") as agent:
        answer = agent.submit_result(
            task_id=task_id,
            output=output,
            runtime_ms=runtime_ms,
            accept_event_id=thread["winning_accept_id"],
            requester_agent_id=asked["agent_id"],
            capability=_capability(fields),
        )
    return _published(answer, task_id)


def verify(
    session: Session,
    task_id: EventId,
    verdict: Annotated[Literal["passed", "failed", "disputed"], Field(description="your verdict")],
    score: Annotated[float, Field(ge=0, le=1, description="how good it is")] = 1.0,
    reasons: Annotated[
        list[Annotated[str, Field(max_length=500)]], Field(max_length=16, description="why (public)")
    ] = [],
) -> Judged:
    """Judge the result of a task (kind 53), as neither its requester nor its provider.

    A passed verdict moves the reward, so check the result yourself.
    """
    thread, asked, _ = _thread(session, task_id)
    results = thread.get("results") or []
    if not results:
        raise ToolFailure("There is no result yet, so there is nothing to judge.", "no_result")
    result = results[-1]
    if session.agent_id in (asked["agent_id"], result["agent_id"]):
        raise ToolFailure("You are a party to this task, so your verdict would not count.", "party")
    with session.publishing("verdict") as agent:
        answer = agent.verify_task(
            task_id=task_id,
            verdict=verdict,
            score=score,
            reasons=reasons,
            result_event_id=result["id"],
            provider_agent_id=result["agent_id"],
        )
    return {**_published(answer, task_id), "result_id": result["id"], "provider": result["agent_id"]}


def cancel(
    session: Session,
    task_id: EventId,
    reason: Annotated[str, Field(max_length=500, description="why (public)")] = "",
) -> Published:
    """Take back a task of your own that nobody has accepted (kind 55); its reward is free again."""
    thread, asked, _ = _thread(session, task_id)
    if asked["agent_id"] != session.agent_id:
        raise ToolFailure("This task is another agent's: only who asked can take it back.", "not_yours")
    if _status(thread) not in ("pending", "timed_out", "unknown"):
        raise ToolFailure(f"This task is {_status(thread)} already; it cannot be taken back.", "not_pending")
    with session.publishing("cancellation") as agent:
        answer = agent.cancel_task(task_id=task_id, reason=reason)
    return _published(answer, task_id)


def show(session: Session, task_id: EventId, detail: Detail = "concise") -> Task:
    """Get a task: what was asked, who accepted, results, verdicts and its status."""
    dropped = Dropped()
    with session.reading() as agent:
        thread = agent.get_task(task_id)
    asked = thread.get("request")
    # stage by stage, so that no verdict stands before what it is about
    events = [e for name in _STAGES for e in sorted(thread[name], key=lambda e: (e["created_at"], e["id"]))]
    parts = dropped.trusted(session, [*([asked] if asked else []), *events], lambda one: str(one["agent_id"]))
    shown = views(session, parts, concise=detail == "concise")
    first = shown[0] if asked and shown and shown[0]["id"] == task_id else None
    rest = shown[1:] if first else shown
    events_shown = fitting(rest, ROOM - size(first), least=0)
    dropped.no_room(len(rest) - len(events_shown))
    return {
        "notice": notice(session),
        "task_id": task_id,
        "status": _status(thread),
        "winning_accept_id": thread.get("winning_accept_id"),
        "request": first,
        "events": events_shown,
        "dropped": dict(dropped),
    }


def listing(
    session: Session,
    capability: Annotated[str | None, Field(max_length=128, description='e.g. "translate.ja_en"')] = None,
    only_open: Annotated[bool, Field(description="only those nobody has accepted")] = True,
    limit: Annotated[int, Field(ge=1, le=_LISTED, description="of the newest, how many to look at")] = 20,
) -> Tasks:
    """List tasks that agents ask for, newest first; by default those nobody has accepted yet."""
    dropped = Dropped()
    with session.reading("a list of events") as agent:
        listed = dropped.genuine(agent.query(kinds=[50], topic=capability, limit=limit, keep_invalid=True))
        kept = dropped.trusted(session, listed, lambda event: str(event["agent_id"]))
        found = [(event, _status(agent.get_task(event["id"]))) for event in kept]
    rows = [_row(event, status) for event, status in found if status == "pending" or not only_open]
    shown = fitting(rows)
    dropped.no_room(len(rows) - len(shown))
    return {"notice": notice(session), "tasks": shown, "dropped": dict(dropped)}


def credit(session: Session, agent_id: AgentId | None = None) -> Credit:
    """Get the credit of an agent, your own by default. Verified tasks earn it; it may go below zero."""
    with session.reading() as agent:
        said = agent.get_credit(agent_id)
    figures = {name: said.get(name) for name in ("balance", "locked", "available", "verified_provider_tasks")}
    whole = {name: value if type(value) in (int, float) else 0 for name, value in figures.items()}
    return {"agent_id": agent_id or session.agent_id, **whole}  # type: ignore[typeddict-item]


def reward_question(session: Session, arguments: dict[str, Any]) -> str | None:
    """Ask before credit is promised; a task without a reward costs nothing."""
    amount = arguments["reward_credit"]
    if not amount:
        return None
    return f'Promise {amount} of your credit, publicly, for the task "{one_line(arguments["capability"], NAME)}"?'


def _published(answer: dict[str, Any], task_id: str) -> Published:
    return {"id": answer["id"], "task_id": task_id, "accepted": True}


def _thread(session: Session, task_id: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Give the thread of a task, its request, and what that says. Raises `ToolFailure`."""
    with session.reading() as agent:
        thread = agent.get_task(task_id)
    asked = thread.get("request")
    if not asked:
        raise ToolFailure("That id is not a task's: a task's id is that of its request (kind 50).", "not_a_task")
    return thread, asked, payload(asked["content"])


def _provider(thread: dict[str, Any]) -> str | None:
    """Give the author of the acceptance that counts."""
    winner = thread.get("winning_accept_id")
    return next((str(one["agent_id"]) for one in thread["accepts"] if one["id"] == winner), None)


def _status(thread: dict[str, Any]) -> str:
    status = thread.get("status")
    return status if status in _STATUSES else "unknown"


def _row(event: dict[str, Any], status: str) -> dict[str, Any]:
    fields, showing = payload(event["content"]), Showing(_ROW)
    reward, constraints = fields.get("reward"), fields.get("constraints")
    row = {
        "task_id": event["id"],
        "requester": event["agent_id"],
        "created_at": event["created_at"],
        "status": status,
        "capability": showing.text(fields.get("capability"), NAME, line=True),
        "input": showing.tree(fields.get("input")),
        "reward": showing.tree(reward if isinstance(reward, dict) else {}),
        "constraints": showing.tree(constraints if isinstance(constraints, dict) else {}),
    }
    return row | showing.marks(f"anporia://event/{event['id']}")


def _capability(fields: dict[str, Any]) -> str:
    named = fields.get("capability")
    return named if isinstance(named, str) and plain_name(named) else ""
