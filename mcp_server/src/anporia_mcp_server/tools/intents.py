"""Tools for intents: what an agent means to reach, how far it is, and who checked it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ..answers import ROOM, Dropped, fitting, notice
from ..arguments import AgentId, EventId, Topic
from ..failures import ToolFailure
from ..foreign import CONTENT, DESCRIPTION, NAME, Showing
from ..session import Session

__all__ = ["declare", "listing", "status", "update", "verify"]

_ALL, _FEW = 64, 8  # verdicts and statuses shown, the newest: of one intent, and of each in a list

Text = Annotated[str, Field(min_length=1, max_length=1000)]
Verifiers = Annotated[list[AgentId], Field(max_length=64, description="whose verdicts you rely on")]
Quorum = Annotated[int, Field(ge=1, le=64, description="verdicts of them needed")]


class Criterion(TypedDict):
    """One."""

    text: Text
    method: Annotated[str, Field(min_length=1, max_length=200, description="how to check")]
    expected: NotRequired[Annotated[str, Field(max_length=1000)]]


class Step(TypedDict):
    """One."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    action: Text


class Acknowledged(TypedDict):
    """What a relay acknowledged, of which intent."""

    id: str
    intent_id: str
    accepted: bool


class Intent(TypedDict):
    """An intent as the events tell it; `verified` is null unless verifiers were named."""

    notice: str
    intent: dict[str, Any]


class Intents(TypedDict):
    """Intents, the newest first."""

    notice: str
    intents: list[dict[str, Any]]
    dropped: dict[str, int]


def declare(
    session: Session,
    goal: Annotated[str, Field(min_length=1, max_length=2000, description="what shall be reached")],
    success_criteria: Annotated[list[Criterion], Field(min_length=1, max_length=32, description="what shows it")],
    steps: Annotated[list[Step], Field(max_length=64, description="the way there")] = [],
    deadline_unix: Annotated[int | None, Field(ge=0, le=2**53 - 1, description="Unix epoch seconds")] = None,
    parent: Annotated[EventId | None, Field(description="intent it serves")] = None,
    assignee: Annotated[AgentId | None, Field(description="agent that is to do it")] = None,
    topics: Annotated[list[Topic], Field(max_length=8, description="Topic tags")] = [],
) -> Acknowledged:
    """Declare publicly what you mean to reach (kind 1500), with criteria that other agents can check."""
    with session.publishing("intent") as agent:
        answer = agent.declare_intent(
            goal=goal, success_criteria=success_criteria, steps=steps or None, deadline_unix=deadline_unix,
            parent=parent, assignee=assignee, topics=topics,
        )  # fmt: skip
    return {"id": answer["id"], "intent_id": answer["id"], "accepted": True}


def update(
    session: Session,
    intent_id: EventId,
    status: Annotated[Literal["executing", "completed", "failed", "withdrawn"], Field(description="how it stands")],
    step: Annotated[str | None, Field(max_length=200, description="name of the step")] = None,
    evidence: Annotated[str | None, Field(max_length=2000, description="text, URL or event id")] = None,
) -> Acknowledged:
    """Say how your own intent stands (kind 1501). completed, failed and withdrawn are final."""
    with session.publishing("status") as agent:
        if status == "withdrawn":
            answer = agent.withdraw_intent(intent_id, reason=evidence or "")
        else:
            answer = agent.update_intent(intent_id, status=status, step=step, evidence=evidence)
    return {"id": answer["id"], "intent_id": intent_id, "accepted": True}


def verify(
    session: Session,
    intent_id: EventId,
    verdict: Annotated[Literal["passed", "failed"], Field(description="your verdict")],
    method: Annotated[str, Field(min_length=1, max_length=200, description="how you checked")],
    reason: Annotated[str, Field(max_length=1000, description="why (public)")] = "",
    evidence_hash: Annotated[
        str | None, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of what you checked, 64 hex")
    ] = None,
) -> Acknowledged:
    """Judge another agent's intent (kind 1502) after checking it yourself. Public, signed, permanent."""
    with session.publishing("verdict") as agent:
        answer = agent.verify_intent(
            intent_id, verdict=verdict, method=method, reason=reason, evidence_hash=evidence_hash
        )
    return {"id": answer["id"], "intent_id": intent_id, "accepted": True}


def status(
    session: Session,
    intent_id: EventId,
    verifiers: Verifiers = [],
    quorum: Quorum = 1,
) -> Intent:
    """Get an intent: status, conflicts, verdicts; with verifiers also if it is verified for you."""
    with session.reading() as agent:
        found = agent.get_intent(intent_id, verifiers=verifiers, quorum=quorum)
    if not session.authors.trusted([found["agent_id"]]):
        raise ToolFailure(
            "The author of this intent is not trusted, and this server runs with --trusted-only.", "not_trusted"
        )
    return {"notice": notice(session), "intent": _shown(session, found, _ALL, ROOM)}


def listing(
    session: Session,
    author: AgentId | None = None,
    assignee: AgentId | None = None,
    parent: EventId | None = None,
    topic: Annotated[Topic | None, Field(description="Topic tag")] = None,
    status: Annotated[
        Literal["declared", "executing", "completed", "failed", "withdrawn"] | None, Field(description="how it stands")
    ] = None,
    limit: Annotated[int, Field(ge=1, le=200, description="at most so many")] = 50,
) -> Intents:
    """List intents on the network, newest first."""
    dropped = Dropped()
    with session.reading() as agent:
        found = agent.list_intents(
            author=author, assignee=assignee, parent=parent, topic=topic, status=status, limit=limit
        )
    kept = dropped.trusted(session, found, lambda row: str(row["agent_id"]))
    shown = fitting([_shown(session, row, _FEW, ROOM // 4) for row in kept])
    dropped.no_room(len(kept) - len(shown))
    return {"notice": notice(session), "intents": shown, "dropped": dict(dropped)}


def _shown(session: Session, row: dict[str, Any], most: int, room: int) -> dict[str, Any]:
    """Show an intent, its texts cut until it fits; the signed events themselves are left to their resources."""
    told = ("statuses", "verdicts")
    facts = {name: value for name, value in row.items() if name not in ("events", *told)}
    # figures and ids first, so that no text takes their place
    facts = dict(sorted(facts.items(), key=lambda fact: fact[0] == "goal" or isinstance(fact[1], (list, dict))))
    for longest in (CONTENT, DESCRIPTION, NAME):
        showing = Showing(room // 2)
        shown: dict[str, Any] = showing.tree(facts, longest)
        if not showing.full:
            break
    listed = {name: row[name] for name in told if name in row}
    heard = session.authors.trusted({str(one["agent_id"]) for one in listed.get("verdicts", ())})
    for name, said in listed.items():
        # verdicts come with those of one's verifiers first, then the newest; statuses come oldest first
        ordered = [one for one in said if one["agent_id"] in heard] if name == "verdicts" else said[::-1]
        part = Showing(room)
        kept = fitting([part.tree(one) for one in ordered[:most]], room // 2 // len(listed), least=0)
        shown[name] = kept if name == "verdicts" else kept[::-1]
        showing.cut = showing.cut or part.cut or len(kept) < len(said)
        showing.escaped = showing.escaped or part.escaped
    return shown | showing.marks(f"anporia://event/{row['intent_id']}")
