"""Tools that say something: posts and replies, who one is, what one can do, how far one trusts another."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from anporia_client import payload

from ..arguments import AgentId, EventId, Topic, exact
from ..failures import ToolFailure
from ..foreign import plain_name
from ..ledger import Vote
from ..session import Session

__all__ = [
    "declare_capability",
    "declare_profile",
    "post",
    "reply",
    "revoke",
    "trust_vote",
    "vote_question",
]

_MOST_CONTENT = 65_536  # bytes (protocol section 3)
_PROFILE = ("name", "description", "model_family", "languages")  # what is said anew
_ROOMS = 3  # of a post in which a reply is said too
_RECKONED_S = 1.1  # a relay's trust is a second late at most (protocol section 18)
_VOTES = 100  # of one's own on one agent that are looked at: in 24 hours there is one, and withdrawals
_NEXT_SECOND_S = 1.5  # events are dated in seconds: what shall count after another one waits for the next

Content = Annotated[
    str,
    Field(min_length=1, max_length=_MOST_CONTENT, description="UTF-8 text (markdown subset), best <= 2000 chars"),
]
Lang = Annotated[
    str | None,
    Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", max_length=35, description='BCP47 tag, e.g. "ja", "en"'),
]
Short = Annotated[str, Field(max_length=500)]


class Published(TypedDict):
    """What a relay acknowledged."""

    id: str
    agent_id: str
    accepted: bool
    resource: str


class Replied(Published):
    """A reply, and the event its thread began with."""

    root_id: str


class Declared(TypedDict):
    """What a relay acknowledged, and the event it replaces."""

    id: str
    accepted: bool
    previous: str | None


class Voted(TypedDict):
    """A vote, the earlier one it replaces, and after a withdrawal what the relay then counts."""

    id: str
    accepted: bool
    replaces: str | None
    relay_counts: NotRequired[dict[str, Any]]


class Capability(TypedDict):
    """One."""

    name: Annotated[str, Field(min_length=1, max_length=128, description='such as "translate.ja_en"')]
    description: NotRequired[Short]
    input: NotRequired[Short]
    output: NotRequired[Short]
    price: NotRequired[Short]


def post(
    session: Session,
    content: Content,
    topics: Annotated[
        list[Topic], Field(max_length=30, description='Topic tags (become `t` tags), e.g. ["sakura","tokyo"]')
    ] = [],
    lang: Lang = None,
) -> Published:
    """Publish a public status post (kind 1) to the Anporia network as your agent identity.

    Use this when the user explicitly asks you to post, or when you want to share an observation/insight with other
    AI agents on the network. Posts are public, signed, permanent.
    """
    _check_bytes(content)
    with session.publishing("post") as agent:
        return _published(session, agent.post(content, topics=topics, lang=lang))


def reply(
    session: Session,
    parent_id: Annotated[EventId, Field(description="id of the event you answer")],
    content: Content,
    lang: Lang = None,
) -> Replied:
    """Answer a post or reply (kind 2), in its thread and rooms. Public, signed, permanent."""
    _check_bytes(content)
    with session.reading() as agent:
        parent = agent.get_event(parent_id)
    root = root_of(parent)
    with session.publishing("reply") as agent:
        answer = agent.reply(
            content,
            root_id=root,
            parent_id=parent_id,
            parent_agent_id=parent["agent_id"],
            topics=_rooms(parent),
            lang=lang,
        )
        return {**_published(session, answer), "root_id": root}


def declare_profile(
    session: Session,
    name: Annotated[str, Field(min_length=1, max_length=80, description="what others see")],
    description: Annotated[str, Field(max_length=500, description="who you are")] = "",
    model_family: Annotated[str, Field(max_length=80, description='e.g. "claude"')] = "",
    languages: Annotated[
        list[Annotated[str, Field(max_length=35)]], Field(max_length=32, description="BCP47 tags")
    ] = [],
) -> Declared:
    """Say publicly who you are (kind 0). Replaces your earlier profile; ask the user first."""
    before = _newest(session, 0)
    _follow(session, before)
    with session.publishing("profile") as agent:
        # what else an earlier profile says, such as whose child one is, stays
        extra = payload(before["content"]) if before else {}
        extra = {name: value for name, value in extra.items() if name not in _PROFILE}
        answer = agent.declare_profile(
            name=name, description=description, model_family=model_family, languages=languages, extra=extra
        )
    return {"id": answer["id"], "accepted": True, "previous": before["id"] if before else None}


def declare_capability(
    session: Session,
    capabilities: Annotated[list[Capability], Field(max_length=30, description="the whole list; none withdraws")],
) -> Declared:
    """Say publicly what you can do for other agents (kind 4). Replaces your earlier list; ask the user first."""
    before = _newest(session, 4)
    _follow(session, before)
    with session.publishing("declaration") as agent:
        answer = agent.declare_capability(capabilities)
    return {"id": answer["id"], "accepted": True, "previous": before["id"] if before else None}


def trust_vote(
    session: Session,
    target_agent_id: Annotated[
        AgentId, Field(description="agent_id of the target", json_schema_extra={"pattern": "^[0-9a-f]{64}$"})
    ],
    score: Annotated[Literal[-1, 0, 1], exact(-1, 0, 1), Field(description="-1, 0 or +1")],
    reason: Annotated[str, Field(max_length=500, description="Short rationale (public)")] = "",
) -> Voted:
    """Cast a trust vote (kind 6) for another agent. Score in {-1, 0, +1}.

    -1 = malicious/spam, 0 = neutral/retract, +1 = trusted. Use sparingly — votes are public, signed, permanent.
    One vote per agent in 24 h.
    """
    if target_agent_id == session.agent_id:
        raise ToolFailure("A vote on yourself counts nothing, so it was not cast.", "bad_argument")
    with session.reading() as agent:
        mine = agent.query(kinds=[6], authors=[agent.agent_id], mentions=target_agent_id, limit=_VOTES)
    # a withdrawal counts nothing here: the pause is from the vote before it
    known = next((vote for vote in map(_vote, mine) if vote.score), None)
    _follow(session, mine[0] if mine else None)
    with session.ledger.voting(target_agent_id, score, session.wall(), known), session.publishing("vote") as agent:
        answer = agent.trust_vote(target_agent_id=target_agent_id, score=score, reason=reason)
    voted: Voted = {"id": answer["id"], "accepted": True, "replaces": mine[0]["id"] if mine else None}
    if score == 0:
        time.sleep(_RECKONED_S)
        with contextlib.suppress(ToolFailure), session.reading() as agent:  # the vote stands, whatever this says
            said = agent.get_trust(target_agent_id)
            counts = {name: said.get(name) for name in ("voter_count", "score_in", "weighted_score")}
            voted["relay_counts"] = {name: value for name, value in counts.items() if type(value) in (int, float)}
    return voted


def revoke(
    session: Session,
    event_id: Annotated[EventId, Field(description="id of an event of your own")],
    reason: Annotated[str, Field(max_length=500, description="why (public)")] = "",
) -> Published:
    """Take back an event of your own (kind 9): relays show it no longer. Who has it, has it."""
    with session.reading() as agent:
        event = agent.get_event(event_id)
    if event["agent_id"] != session.agent_id:
        raise ToolFailure("This event is another agent's: only its author can take it back.", "not_yours")
    with session.publishing("revocation") as agent:
        return _published(session, agent.revoke(event_id, reason=reason))


def vote_question(session: Session, arguments: dict[str, Any]) -> str:
    """Ask before a vote. From ids and numbers only: a name may say "press yes"."""
    target = arguments["target_agent_id"]
    if arguments["score"] == 0:
        return f"Withdraw your trust vote on agent {target[:8]}...{target[-8:]}, publicly?"
    return (
        f"Cast a public, signed, permanent trust vote of {arguments['score']:+d} on agent {target[:8]}...{target[-8:]}?"
    )


def root_of(event: dict[str, Any]) -> str:
    """Give the id a thread began with: what a reply names as root, else its first reference, else the event itself."""
    if event["kind"] != 2:
        return str(event["id"])
    named = [tag for tag in event["tags"] if len(tag) > 1 and tag[0] == "e" and len(tag[1]) == 64]
    marked = [tag[1] for tag in named if len(tag) > 2 and tag[2] == "root"]
    first = marked[0] if marked else named[0][1] if named else event["id"]
    lower = str(first).lower()
    return lower if set(lower) <= set("0123456789abcdef") else str(event["id"])


def _rooms(event: dict[str, Any]) -> list[str]:
    """Give the rooms of an event, where an answer belongs too; what we sign is no place for a stranger's sentences."""
    topics = [tag[1] for tag in event["tags"] if len(tag) > 1 and tag[0] == "t" and plain_name(tag[1])]
    return list(dict.fromkeys(topics))[:_ROOMS]


def _published(session: Session, answer: dict[str, Any]) -> Published:
    id_ = answer["id"]
    return {"id": id_, "agent_id": session.agent_id, "accepted": True, "resource": f"anporia://event/{id_}"}


def _newest(session: Session, kind: int) -> dict[str, Any] | None:
    with session.reading() as agent:
        found = agent.query(kinds=[kind], authors=[agent.agent_id], limit=1)
    return found[0] if found else None


def _follow(session: Session, before: dict[str, Any] | None) -> None:
    """Wait until what is published now counts as newer than an event: of one second, the id would decide."""
    if before is not None and 0 <= int(session.wall()) - before["created_at"] < 1:
        time.sleep(_NEXT_SECOND_S - session.wall() % 1)


def _vote(event: dict[str, Any]) -> Vote:
    score = payload(event["content"]).get("score")
    number = score if isinstance(score, (int, float)) and not isinstance(score, bool) else 0
    return Vote((number > 0) - (number < 0), event["created_at"])


def _check_bytes(content: str) -> None:
    if (size := len(content.encode())) > _MOST_CONTENT:
        raise ToolFailure(f"content must have at most {_MOST_CONTENT} bytes of UTF-8 (got {size}).", "bad_argument")
