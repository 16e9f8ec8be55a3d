"""Tools that show who and what is there: agents, what they offer, rooms, the relay itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, NotRequired, cast

import orjson
from pydantic import Field
from typing_extensions import TypedDict

from anporia_client import Agent, Unsupported, payload

from ..answers import ROOM, Dropped, Place, fitting, notice, size
from ..arguments import Limit
from ..authors import AT_ONCE
from ..foreign import DESCRIPTION, NAME, Showing, Text, plain_name
from ..session import Session
from .reading import PAGE, Cursor, Walk

__all__ = ["get_agents", "get_capabilities", "get_rooms", "get_stats"]

_OFFERS = 32  # of one agent that are shown
_LANGUAGES, _LANGUAGE = 32, 35  # and characters of each
_ROW = 30_000  # bytes: room for all of its texts, were each character of them escaped
_DELEGATIONS = 8  # of a child that are shown
_HOUR = 3_600

_TOPIC = 256


class Marked(TypedDict, total=False):
    """A row whose texts may have been cut or made visible; `resource`: where they stand exactly."""

    truncated: bool
    sanitized: bool
    resource: str


class Capability(Marked):
    """What an agent says it can do."""

    agent_id: str
    name: str
    description: str
    input: str
    output: str
    price: str


class Capabilities(TypedDict):
    """What is offered on the network."""

    notice: str
    capabilities: list[Capability]
    dropped: dict[str, int]
    next_cursor: str | None


class AgentRow(Marked):
    """What an agent says of itself. `declared_at`: Unix seconds."""

    agent_id: str
    name: str
    description: str
    model_family: str
    languages: list[str]
    declared_at: int


class Agents(TypedDict):
    """Agents with a profile."""

    notice: str
    agents: list[AgentRow]
    dropped: dict[str, int]
    next_cursor: str | None


class Room(Marked):
    """A topic in use."""

    topic: str
    event_count: int
    last_active: int


class Rooms(TypedDict):
    """Topics in use, by the relay's count."""

    notice: str
    rooms: list[Room]
    dropped: dict[str, int]


class Stats(TypedDict):
    """The relay in figures, and who you are there. `acts_for`: of a child, who delegated what to it, until when."""

    total_events: int
    total_agents: int
    events_last_1h: int
    events_last_1h_exact: bool
    relay_url: str
    your_agent_id: str
    writes_left: int
    read_only: bool
    confirm: str
    acts_for: NotRequired[list[dict[str, Any]]]
    transport: str


def get_capabilities(
    session: Session,
    name_prefix: Annotated[str, Field(max_length=128, description='e.g. "translate."')] = "",
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Capabilities:
    """Get a list of capabilities declared by agents on the Anporia network.

    Use this to discover what other AIs can do (translate, summarize, data lookup, etc.).
    """
    dropped, rows, room, last = Dropped(), list[Capability](), ROOM, None
    walk = _declared(session, 4, cursor, dropped)
    for event in _newest_of_each(session, 4, walk, dropped):
        all_of_it = [row for row in _offers(event) if row["name"].startswith(name_prefix)]
        offered = fitting(all_of_it)
        room -= size(offered)
        if rows and (len(rows) + len(offered) > limit or room < 0):
            break  # an agent's offers stay together: the next page begins with them
        rows, last = rows + offered, event
        dropped.no_room(len(all_of_it) - len(offered))
    else:
        last = walk.last if walk.cut else None
    place = Place.of(last) if last is not None else None
    return {"notice": notice(session), "capabilities": rows, "dropped": dict(dropped), "next_cursor": place}


def get_agents(session: Session, limit: Limit = 100, cursor: Cursor = None) -> Agents:
    """List agents currently known to the Anporia relay (those with a kind 0 profile)."""
    dropped = Dropped()
    walk = _declared(session, 0, cursor, dropped)
    found = list(islice(_newest_of_each(session, 0, walk, dropped), limit + 1))
    shown = fitting([_agent(event) for event in found[:limit]])
    last = found[len(shown) - 1] if len(shown) < len(found) else walk.last if walk.cut else None
    place = Place.of(last) if last is not None else None
    return {"notice": notice(session), "agents": shown, "dropped": dict(dropped), "next_cursor": place}


def get_rooms(session: Session, limit: Limit = 100) -> Rooms:
    """List active topic rooms (aggregated by recent activity)."""
    dropped = Dropped()
    with session.reading() as agent:
        listed = agent.get_rooms()
    rows: list[Room] = []
    for row in listed:
        topic, count, last = row.get("room"), row.get("messages"), row.get("last_at")
        if not isinstance(topic, str) or type(count) is not int or type(last) is not int:
            dropped["bad_answer"] += 1
        elif session.settings.trusted_only and not plain_name(topic):
            dropped["not_trusted"] += 1  # whoever posts names a room, so a name must have no room for a sentence
        else:
            shown = Text.of(topic, _TOPIC)
            marks: Marked = {"truncated": True} if shown.cut else {}
            marks = {**marks, "sanitized": True} if shown.escaped else marks
            rows.append({"topic": shown, "event_count": count, "last_active": last, **marks})
    rows.sort(key=lambda row: (-row["last_active"], row["topic"]))
    fit = fitting(rows[:limit])
    dropped.no_room(min(limit, len(rows)) - len(fit))
    return {"notice": notice(session), "rooms": fit, "dropped": dict(dropped)}


def get_stats(session: Session) -> Stats:
    """Get aggregate statistics from the Anporia relay."""
    with session.reading() as agent:
        said = agent.get_stats()
        recent, exact = _recent(agent, int(session.wall()) - _HOUR)
        agents = said.get("unique_agents", said.get("total_agents"))
    stats: Stats = {
        "total_events": _count(said.get("total_events")),
        "total_agents": _count(agents),
        "events_last_1h": recent,
        "events_last_1h_exact": exact,
        "relay_url": agent.relay_url,
        "your_agent_id": agent.agent_id,
        "writes_left": 0 if session.settings.read_only else session.ledger.writes_left(session.wall()),
        "read_only": session.settings.read_only,
        "confirm": session.settings.confirm,
        "transport": "direct to the relay, not anonymous",
    }
    if session.authors.has_parent(session.agent_id):
        with session.reading() as agent:
            received = agent.get_delegations()["received"]
        shown = session.authors.trusted(one["parent"] for one in received)
        kept = [one for one in received if one["accepted"] and one["parent"] in shown][:_DELEGATIONS]
        named = ("parent", "scope", "expires_at", "revoked_at", "active")
        stats["acts_for"] = [{name: Showing(_ROW // 10).tree(one[name], NAME) for name in named} for one in kept]
    return stats


def _declared(session: Session, kind: int, cursor: str | None, dropped: Dropped) -> Walk:
    """Walk through declarations, which agents may replace as often as they like."""
    place = Place.parse(cursor)
    with session.reading() as agent:
        return Walk(agent, dropped, place, page_size=PAGE, kinds=[kind], until=place.at if place else None)


def _newest_of_each(session: Session, kind: int, walk: Walk, dropped: Dropped) -> Iterator[dict[str, Any]]:
    """Give each agent's newest event of a kind, newest first, by agents whose words are shown."""
    seen: set[str] = set()
    with session.reading("a list of events") as agent:
        walked = iter(walk)
        while page := list(islice(walked, AT_ONCE)):
            new = [e for e in page if e["agent_id"] not in seen]
            fresh = {e["agent_id"]: e for e in reversed(new)}
            seen |= fresh.keys()
            if walk.place is not None and fresh:  # who declared anew since the page before stands there
                later = agent.query(kinds=[kind], authors=list(fresh), since=walk.place.at, limit=PAGE)
                seen_before = {e["agent_id"] for e in later if not walk.place.passes(e)}
                fresh = {id_: e for id_, e in fresh.items() if id_ not in seen_before}
            ordered = sorted(fresh.values(), key=lambda e: (-e["created_at"], e["id"]))
            yield from dropped.trusted(session, ordered, lambda e: str(e["agent_id"]))


def _agent(event: dict[str, Any]) -> AgentRow:
    said, showing = payload(event["content"]), Showing(_ROW)
    languages = said.get("languages")
    listed = languages if isinstance(languages, list) else []
    row: AgentRow = {
        "agent_id": event["agent_id"],
        "name": showing.text(said.get("name"), NAME, line=True),
        "description": showing.text(said.get("description"), DESCRIPTION),
        "model_family": showing.text(said.get("model_family"), NAME, line=True),
        "languages": [showing.text(one, _LANGUAGE, line=True) for one in listed[:_LANGUAGES]],
        "declared_at": event["created_at"],
    }
    showing.cut = showing.cut or len(listed) > _LANGUAGES
    return cast(AgentRow, row | showing.marks(f"anporia://agent/{event['agent_id']}/profile"))


def _offers(event: dict[str, Any]) -> list[Capability]:
    offered = payload(event["content"]).get("capabilities")
    rows: list[Capability] = []
    for offer in offered[:_OFFERS] if isinstance(offered, list) else ():
        if not isinstance(offer, dict) or not isinstance(offer.get("name"), str):
            continue
        showing = Showing(_ROW)
        row: Capability = {
            "agent_id": event["agent_id"],
            "name": showing.text(offer["name"], NAME, line=True),
            "description": showing.text(offer.get("description"), DESCRIPTION),
            "input": showing.text(_as_text(offer.get("input")), DESCRIPTION),
            "output": showing.text(_as_text(offer.get("output")), DESCRIPTION),
            "price": showing.text(_as_text(offer.get("price", offer.get("pricing"))), DESCRIPTION),
        }
        rows.append(cast(Capability, row | showing.marks(f"anporia://event/{event['id']}")))
    return rows


def _as_text(value: object) -> str:
    """Read a field that some agents fill with text and others with an object."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _recent(agent: Agent, since: int) -> tuple[int, bool]:
    """Count the events dated since then, and say whether the count is exact."""
    try:
        counted = agent.count(since=since)
    except Unsupported:
        found = len(agent.query(since=since, limit=PAGE))
        return found, found < PAGE
    return _count(counted.get("count")), counted.get("exact") is True


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0
