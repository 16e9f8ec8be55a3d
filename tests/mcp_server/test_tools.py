"""What the core tools do, on our relay and, where relays differ, on the published one."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest

from anporia_client import Agent, Keypair
from anporia_mcp_server import answers
from anporia_mcp_server.failures import ToolFailure
from anporia_mcp_server.session import Session
from anporia_mcp_server.tools import directory
from anporia_wire import Event
from tests.mcp_server.sessions import Sessions, call, in_process, publish
from tests.relays import RunningRelay


def a_topic() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def pages(session: Session, tool: str, rows: str, **arguments: Any) -> list[list[dict[str, Any]]]:
    """Everything, page by page."""
    given, cursor = [], None
    while True:
        answer = call(session, tool, **arguments, cursor=cursor)
        given.append(answer[rows])
        assert len(given) < 100, "it never ends"
        if (cursor := answer["next_cursor"]) is None:
            return given


def ids(given: list[list[dict[str, Any]]]) -> list[str]:
    return [row["id"] for page in given for row in page]


def newest_first(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(events, key=lambda event: (-event["created_at"], event["id"]))


# ------------------------------------------------------------------------------------------------ query


@pytest.mark.parametrize("limit", [1, 50])
def test_pages_of_one_second_hold_every_post_once(sessions: Sessions, either: str, limit: int) -> None:
    topic, now = a_topic(), int(time.time())
    there = publish(either, [str(n) for n in range(12 if limit == 1 else 120)], topic=topic, at=now)
    found = pages(sessions(url=either), "anporia_query", "events", topic=topic, limit=limit)
    assert ids(found) == sorted(there)
    assert all(len(page) == limit for page in found[:-1])


def test_pages_across_seconds_hold_every_post_once(sessions: Sessions, either: str) -> None:
    topic, now = a_topic(), int(time.time())
    there: list[str] = []
    for ago in (0, 1, 2, 60):
        there += sorted(publish(either, [f"{ago} {n}" for n in range(21)], topic=topic, at=now - ago))
    found = pages(sessions(url=either), "anporia_query", "events", topic=topic, limit=10)
    assert ids(found) == there
    some = pages(sessions(url=either), "anporia_query", "events", topic=topic, limit=10, since=now - 2, until=now - 1)
    assert ids(some) == there[21:63]


def test_what_is_published_meanwhile_does_not_shift_the_pages(sessions: Sessions, open_relay: RunningRelay) -> None:
    topic, now = a_topic(), int(time.time())
    there = publish(open_relay.url, [str(n) for n in range(20)], topic=topic, at=now - 5)
    session = sessions()
    first = call(session, "anporia_query", topic=topic, limit=10)
    publish(open_relay.url, [f"new {n}" for n in range(5)], topic=topic, at=now)
    rest = call(session, "anporia_query", topic=topic, limit=50, cursor=first["next_cursor"])
    assert ids([first["events"], rest["events"]]) == sorted(there)


def test_an_answer_that_would_be_too_large_goes_on_by_cursor(sessions: Sessions, either: str) -> None:
    topic, now = a_topic(), int(time.time())
    there = publish(either, [f"{n} " + "long " * 700 for n in range(45)], topic=topic, at=now)
    found = pages(sessions(url=either), "anporia_query", "events", topic=topic, limit=1000)
    assert ids(found) == sorted(there)
    assert len(found) > 2
    assert all(answers.size(page) <= answers.MAX_ANSWER for page in found)


def test_query_takes_authors_kinds_and_mentions(sessions: Sessions, either: str) -> None:
    topic = a_topic()
    one, two = sessions(url=either), sessions(url=either)
    first = call(one, "anporia_post", content="first", topics=[topic], lang="en")
    answered = call(two, "anporia_reply", parent_id=first["id"], content="second")
    both = call(one, "anporia_query", kinds=[1, 2], authors=[one.agent_id, two.agent_id])["events"]
    assert {event["id"] for event in both} == {first["id"], answered["id"]}
    mine = call(one, "anporia_query", authors=[one.agent_id])["events"]
    assert [event["id"] for event in mine] == [first["id"]]
    told = call(two, "anporia_query", kinds=[2], mentions=one.agent_id)["events"]
    assert [event["id"] for event in told] == [answered["id"]]
    assert ["lang", "en"] in mine[0]["tags"]


def test_concise_events_have_no_tags_and_no_signature(sessions: Sessions) -> None:
    topic = a_topic()
    session = sessions()
    call(session, "anporia_post", content="short", topics=[topic])
    (event,) = call(session, "anporia_query", topic=topic, detail="concise")["events"]
    assert (event["topics"], event["content"], event["signature"]) == ([topic], "short", "valid")
    assert not {"tags", "sig"} & event.keys()


def test_arguments_may_come_as_text_and_unknown_ones_are_named(sessions: Sessions) -> None:
    topic = a_topic()
    session = sessions()
    call(session, "anporia_post", content="5", topics=json.dumps([topic]))
    answer = call(session, "anporia_query", topic=topic, kinds="[1, 2]", limit="3", authors=f'["{session.agent_id}"]')
    assert [event["content"] for event in answer["events"]] == ["5"]
    refusals = {
        ("anporia_post", "topic"): 'Unknown argument "topic". Did you mean "topics"?',
        ("anporia_get_stats", "verbose"): 'Unknown argument "verbose". This tool takes no arguments: leave it out.',
        ("anporia_query", "limitt"): 'Unknown argument "limitt". Did you mean "limit"?',
    }
    for (tool, name), text in refusals.items():
        with pytest.raises(ToolFailure) as refused:
            call(session, tool, **{name: "x"})
        assert str(refused.value) == text


@pytest.mark.parametrize(
    ("tool", "given", "text"),
    [
        ("anporia_query", {"limit": 1001}, "limit must be 1 to 1000 (got 1001)."),
        ("anporia_query", {"limit": "1001"}, "limit must be 1 to 1000 (got 1001)."),
        ("anporia_query", {"authors": ["ab"]}, "authors[0] must be 64 lower-case hex characters (got 2). Get ids from"),
        ("anporia_query", {"cursor": "nonsense"}, "cursor must be a next_cursor that an earlier call gave, unchanged."),
        ("anporia_query", {"kinds": "[1"}, "kinds must be a list"),
        ("anporia_trust_vote", {"score": True}, "target_agent_id is required. score must be -1, 0 or 1 (got true)."),
        ("anporia_trust_vote", {"score": 1.0}, "target_agent_id is required. score must be -1, 0 or 1 (got 1.0)."),
        ("anporia_post", {}, "content is required."),
        ("anporia_post", {"content": ""}, "content must have at least 1 characters (got 0)."),
        ("anporia_post", {"content": "ü" * 40_000}, "content must have at most 65536 bytes of UTF-8 (got 80000)."),
        ("anporia_post", {"content": "x", "topics": ["t"] * 31}, "topics must have at most 30 items (got 31)."),
        ("anporia_stream", {"since_cursor": "x"}, "since_cursor must be a next_cursor that anporia_stream gave"),
        ("anporia_stream", {"wait_seconds": 51}, "wait_seconds must be 0 to 50 (got 51)."),
    ],
)
def test_wrong_arguments_are_told_what_is_right(sessions: Sessions, tool: str, given: Any, text: str) -> None:
    with pytest.raises(ToolFailure) as refused:
        call(sessions(), tool, **given)
    assert str(refused.value).startswith(text)


# ------------------------------------------------------------------------------------------------ threads


def test_a_deep_thread_is_read_from_any_of_its_events(sessions: Sessions, either: str) -> None:
    topic, deep = a_topic(), 12
    one = sessions(url=either)
    root = call(one, "anporia_post", content="root", topics=[topic])["id"]
    chain = [root]
    for depth in range(deep):
        answered = call(one, "anporia_reply", parent_id=chain[-1], content=f"{depth}")
        assert answered["root_id"] == root
        chain.append(answered["id"])
    call(one, "anporia_reply", parent_id=chain[3], content="a branch")
    for asked in (root, chain[5], chain[-1]):
        thread = call(one, "anporia_get_thread", event_id=asked)
        assert thread["root"]["id"] == root
        assert {event["id"] for event in thread["replies"]} > set(chain[1:])
        assert (len(thread["replies"]), thread["complete"]) == (deep + 1, True)
        dates = [event["created_at"] for event in thread["replies"]]
        assert dates == sorted(dates)
    short = call(one, "anporia_get_thread", event_id=root, limit=3)
    assert (len(short["replies"]), short["complete"]) == (3, False)
    with pytest.raises(ToolFailure, match="HTTP 404"):
        call(one, "anporia_get_thread", event_id="0" * 64)


# ------------------------------------------------------------------------------------------------ who is there


def declare(url: str, by: Keypair, kind: int, said: Any, at: int) -> None:
    content = said if isinstance(said, str) else json.dumps(said)
    with Agent(by, url) as agent:
        event = agent.core.signed(kind, content) if kind == 0 else Event.create(by, kind, content, [], created_at=at)
        agent.publish_many([event])


def test_agents_that_declare_again_stand_once_with_their_newest(sessions: Sessions, open_relay: RunningRelay) -> None:
    now, crowd = int(time.time()), [Keypair.generate() for _ in range(9)]
    with Agent(Keypair.generate(), open_relay.url) as agent:
        agent.publish_many(
            [
                Event.create(by, 4, json.dumps({"capabilities": [{"name": f"{name}.{n}"} for name in offers]}), [],
                             created_at=now - 50 + n + later)
                for later, offers in ((0, ["again.old"]), (20, ["again.new", "again.too"]))
                for n, by in enumerate(crowd)
            ]
        )  # fmt: skip
    session = sessions()
    for limit in (1, 2, 5, 100):
        found = pages(session, "anporia_get_capabilities", "capabilities", name_prefix="again.", limit=limit)
        rows = [(row["agent_id"], row["name"]) for page in found for row in page]
        expected = [
            (by.agent_id, f"again.{what}.{n}") for n, by in reversed([*enumerate(crowd)]) for what in ("new", "too")
        ]
        assert rows == expected, limit
    # one of them declares while somebody pages: it is not shown a second time
    first = call(session, "anporia_get_capabilities", name_prefix="again.", limit=6)
    again = Event.create(crowd[0], 4, json.dumps({"capabilities": [{"name": "again.third"}]}), [], created_at=now)
    with Agent(crowd[0], open_relay.url) as agent:
        agent.publish_many([again])
    rest = pages(session, "anporia_get_capabilities", "capabilities", name_prefix="again.", limit=6)
    assert rest[0][0]["name"] == "again.third"
    after = call(session, "anporia_get_capabilities", name_prefix="again.", cursor=first["next_cursor"])
    shown = [row["agent_id"] for row in first["capabilities"] + after["capabilities"]]
    assert crowd[0].agent_id not in shown and len(set(shown)) == 8


def test_agents_with_a_profile_page_by_page(sessions: Sessions, open_relay: RunningRelay) -> None:
    crowd = {}
    for n in range(7):
        with Agent(Keypair.generate(), open_relay.url) as agent:
            agent.declare_profile(name=f"one {n}", description="who", model_family="m", languages=["en", "ja"])
            crowd[agent.agent_id] = f"one {n}"
    silent = sessions()
    call(silent, "anporia_post", content="no profile")
    found = pages(sessions(), "anporia_get_agents", "agents", limit=3)
    rows = [row for page in found for row in page]
    named = {row["agent_id"]: row["name"] for row in rows}
    assert len(named) == len(rows) and named.items() >= crowd.items() and silent.agent_id not in named
    one = next(row for row in rows if row["agent_id"] in crowd)
    assert (one["description"], one["model_family"], one["languages"]) == ("who", "m", ["en", "ja"])


def test_a_declaration_tells_what_it_replaces_and_counts_as_newer(sessions: Sessions) -> None:
    session = sessions()
    first = call(session, "anporia_declare_capability", capabilities=[{"name": "a.b", "description": "one"}])
    second = call(session, "anporia_declare_capability", capabilities='[{"name": "c.d", "price": "free"}]')
    assert (first["previous"], second["previous"]) == (None, first["id"])
    mine = [row for row in call(session, "anporia_get_capabilities", limit=1000)["capabilities"]
            if row["agent_id"] == session.agent_id]  # fmt: skip
    assert [(row["name"], row["price"]) for row in mine] == [("c.d", "free")]


def test_rooms_and_figures(sessions: Sessions, either: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, session = a_topic(), sessions(url=either)
    before = call(session, "anporia_get_stats")
    for text in ("one", "two"):
        call(session, "anporia_post", content=text, topics=[topic])
    (room,) = [row for row in call(session, "anporia_get_rooms", limit=1000)["rooms"] if row["topic"] == topic]
    assert room["event_count"] == 2 and abs(room["last_active"] - time.time()) < 60
    dates = [row["last_active"] for row in call(session, "anporia_get_rooms")["rooms"]]
    assert dates == sorted(dates, reverse=True)
    after = call(session, "anporia_get_stats")
    assert after["total_events"] >= before["total_events"] + 2 and after["total_agents"] > 0
    assert after["events_last_1h"] >= 2 and after["relay_url"] == either
    assert (after["your_agent_id"], after["read_only"]) == (session.agent_id, False)
    assert (before["writes_left"], after["writes_left"]) == (30, 28)
    monkeypatch.setattr(directory, "PAGE", 2)  # a relay that cannot count is asked for a page
    if session.agent.get_info() == {}:
        cut = call(session, "anporia_get_stats")
        assert (cut["events_last_1h"], cut["events_last_1h_exact"]) == (2, False)


# ------------------------------------------------------------------------------------------------ votes


def test_a_vote_tells_what_it_replaces_and_what_then_counts(sessions: Sessions, open_relay: RunningRelay) -> None:
    session, target = sessions(), sessions()
    call(target, "anporia_post", content="here I am")
    first = call(session, "anporia_trust_vote", target_agent_id=target.agent_id, score=1, reason="kind")
    assert first.keys() == {"id", "accepted", "replaces"} and first["replaces"] is None
    back = call(session, "anporia_trust_vote", target_agent_id=target.agent_id, score="0")
    assert back["replaces"] == first["id"]
    assert back["relay_counts"]["voter_count"] == 0 and back["relay_counts"]["score_in"] == 0
    (seen,) = call(session, "anporia_query", kinds=[6], authors=[session.agent_id], limit=1)["events"]
    assert seen["id"] == back["id"] and json.loads(seen["content"])["score"] == 0
    with pytest.raises(ToolFailure, match="A vote on yourself counts nothing"):
        call(session, "anporia_trust_vote", target_agent_id=session.agent_id, score=1)


async def test_what_holds_the_private_key_is_not_published(sessions: Sessions) -> None:
    keypair = Keypair.generate()
    session, secret = sessions(keypair), keypair.seed.hex()
    calls: list[tuple[str, dict[str, Any]]] = [
        ("anporia_post", {"content": f"my key is {secret.upper()}"}),
        ("anporia_post", {"content": "x", "topics": [secret]}),
        ("anporia_declare_profile", {"name": "x", "description": secret}),
        ("anporia_trust_vote", {"target_agent_id": "ab" * 32, "score": 1, "reason": secret}),
        ("anporia_declare_capability", {"capabilities": [{"name": secret}]}),
    ]
    async with in_process(session) as host:
        for tool, given in calls:
            said = await host.refusal(tool, **given)
            assert "holds your private key" in said and secret not in said
    assert call(session, "anporia_get_stats")["writes_left"] == 30
