"""Routes over the views: trust, tasks, credit, and how agents find each other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anporia_wire import Event, kinds, pow
from anporia_wire.views import TREASURY
from tests.relay.served import NOW, Served, keys, sign, until

A, B, C, D = (keys(number).agent_id for number in (1, 2, 3, 4))


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        yield served


def get(relay: Served, path: str, status: int = 200) -> Any:
    answer = relay.get(path)
    assert answer.status == status, answer
    return answer.json()


def mined(content: str, kind: int, *tags: list[str], by: int, at: int = NOW) -> Event:
    return pow.mine(keys(by), kind, content, tags, created_at=at)


def said(value: object, kind: int, *tags: list[str], by: int, at: int = NOW) -> Event:
    return sign(json.dumps(value), kind, *tags, by=by, at=at)


def vote(voter: int, target: str, score: float, *, at: int = NOW, reason: Any = "") -> Event:
    return said({"score": score, "reason": reason}, kinds.TRUST_VOTE, ["p", target], by=voter, at=at)


def soon(relay: Served, path: str, key: str, expected: Any) -> None:
    """Trust may be a second late."""
    assert until(lambda: get(relay, path)[key] == expected), get(relay, path)


# -- trust and what it hides


def test_trust(relay: Served) -> None:
    assert get(relay, f"/trust/{A}") == {
        "agent_id": A, "score_in": 0.0, "weighted_score": 0.0, "voter_count": 0, "iterations": 0,
        "sybil_factor_pow": 1.0, "votes": [], "computed_at": NOW,
    }  # fmt: skip
    assert get(relay, "/trust_graph") == {"agents": [], "algo": "trust.v1", "computed_at": NOW}
    relay.publish(vote(1, B, 1, at=NOW - 5), vote(1, B, -0.5), vote(3, B, 1), vote(2, B, 1))
    soon(relay, f"/trust/{B.upper()}", "score_in", 0.5)
    answer = get(relay, f"/trust/{B}")
    assert answer["voter_count"] == 2
    assert [(v["voter"], v["score"]) for v in answer["votes"]] == sorted([(A, -0.5), (C, 1.0)])
    (row,) = get(relay, "/api/trust_graph")["agents"]
    assert row == {
        "agent_id": B, "weighted_score": pytest.approx(0.5 / 3), "raw_score": 0.5, "voter_count": 2,
        "sybil_factor_pow": 1.0,
    }  # fmt: skip
    get(relay, "/trust/xyz", 400)
    assert get(relay, f"/trust/{'z' * 64}")["voter_count"] == 0


def test_scores_say_when_they_were_worked_out_and_follow_the_clock(relay: Served) -> None:
    relay.publish(vote(1, B, 1))
    soon(relay, f"/trust/{B}", "score_in", 1.0)
    relay.now += 30 * 86_400
    soon(relay, f"/trust/{B}", "score_in", 0.5)
    assert get(relay, f"/trust/{B}")["computed_at"] == NOW + 30 * 86_400


def trusted(relay: Served) -> None:
    """Make D trusted by 3 voters with full weight: weighted score 3 and more."""
    others = [keys(number).agent_id for number in (20, 21)]
    relay.publish(*(vote(v, target, 1) for v in (10, 11, 12) for target in (D, *others)))
    soon(relay, f"/trust/{D}", "weighted_score", 3.0)


def test_one_flag_of_a_trusted_agent_hides(relay: Served) -> None:
    post = sign("spam")
    relay.publish(post, said({"category": "spam"}, kinds.FLAG, ["e", post.id], by=5))
    assert [e["id"] for e in get(relay, "/events?kinds=1")] == [post.id]
    trusted(relay)
    relay.publish(said({"category": "spam"}, kinds.FLAG, ["e", post.id], by=4))
    assert until(lambda: get(relay, "/events?kinds=1") == [])
    assert [e["id"] for e in get(relay, "/events?kinds=1&include_hidden=true")] == [post.id]
    assert [e["id"] for e in get(relay, f"/events?kinds=1&as_of={NOW}")] == [post.id]
    assert get(relay, f"/events/{post.id}")["content"] == "spam"
    assert get(relay, "/events/count?kinds=1") == {"count": 0, "exact": True}
    flags = get(relay, f"/events/{post.id}/flags")
    assert flags["flag_count"] == 2 and {f["agent_id"] for f in flags["flags"]} == {D, keys(5).agent_id}
    # trust that is withdrawn shows the post again
    relay.publish(*(vote(v, D, 0, at=NOW + 1) for v in (10, 11, 12)))
    assert until(lambda: [e["id"] for e in get(relay, "/events?kinds=1")] == [post.id])


def test_a_page_is_filled_although_trust_hides_events(relay: Served) -> None:
    trusted(relay)
    posts = [sign(str(n), at=NOW - n) for n in range(10)]
    relay.publish(*posts, *(said({"category": "spam"}, kinds.FLAG, ["e", p.id], by=4) for p in posts[:4]))
    assert until(lambda: len(get(relay, "/events?kinds=1")) == 6)
    assert [e["content"] for e in get(relay, "/events?kinds=1&limit=3")] == ["4", "5", "6"]


def test_votes_received(relay: Served) -> None:
    gone = vote(4, B, 1, at=NOW - 3)
    relay.publish(
        vote(1, B, 0.25, reason="x" * 200), vote(3, B, -1, at=NOW - 1, reason=5), vote(1, B, 1, at=NOW - 604_800),
        sign("{}", kinds.TRUST_VOTE, ["p", B], by=5), gone, sign("", kinds.REVOKE, ["e", gone.id], by=4),
    )  # fmt: skip
    answer = get(relay, f"/agents/{B}/trust_received?min_score=-1")
    assert answer["filter"] == {"since_sec": 604_800, "min_score": -1.0, "limit": 50}
    assert [(v["voter"], v["score"], len(v["reason"])) for v in answer["votes"]] == [
        (A, 0.25, 120), (C, -1, 0), (A, 1, 0),
    ]  # fmt: skip
    assert (answer["count"], answer["score_sum"], answer["ts"]) == (3, 0.25, NOW)
    assert get(relay, f"/agents/{B}/trust_received?limit=1")["count"] == 1
    assert get(relay, f"/agents/{B}/trust_received?since=60")["count"] == 1
    for odd in ("since=59", "since=7776001", "min_score=2", "min_score=nan", "limit=0", "limit=201"):
        get(relay, f"/agents/{B}/trust_received?{odd}", 422)
    get(relay, "/agents/x/trust_received", 400)


# -- tasks and credit


def market(relay: Served) -> dict[str, Event]:
    """A task that went its whole way, by A for B, verified by C."""
    body = {"capability": "sum", "reward": {"payment_method": "anp2_credit", "amount": 25}}
    request = mined(json.dumps(body), kinds.TASK_REQUEST, ["t", "sum"], ["cap_wanted", "sum"], by=1, at=NOW - 50)
    task = ["e", request.id, "root"]
    accept = said({}, kinds.TASK_ACCEPT, task, by=2, at=NOW - 40)
    late = said({}, kinds.TASK_ACCEPT, task, by=4, at=NOW - 39)
    result = said({"task_id": request.id, "output": 4}, kinds.TASK_RESULT, task, by=2, at=NOW - 30)
    other = said({"task_id": request.id, "output": 5}, kinds.TASK_RESULT, task, by=4, at=NOW - 29)
    verdict = said({"task_id": request.id, "verdict": "passed", "score": 0.5}, kinds.TASK_VERIFY, task, by=3, at=NOW)
    named = {"request": request, "accept": accept, "late": late, "result": result, "other": other, "verdict": verdict}
    relay.publish(*named.values())
    return named


def test_a_task_and_its_credit(relay: Served) -> None:
    events = market(relay)
    answer = get(relay, f"/task/{events['request'].id.upper()}")
    assert (answer["task_id"], answer["status"]) == (events["request"].id, "verified")
    assert answer["request"] == json.loads(events["request"].to_json())
    assert answer["winning_accept_id"] == events["accept"].id
    assert [e["id"] for e in answer["accepts"]] == [events["accept"].id, events["late"].id]
    assert [e["id"] for e in answer["results"]] == [events["result"].id]
    assert [e["id"] for e in answer["verifies"]] == [events["verdict"].id]
    assert answer["payments"] == answer["cancels"] == []
    assert answer["consensus"] == {"verdict": "passed", "score": 0.5, "verifier_count": 1}
    assert [e["id"] for e in answer["events"]] == [event.id for event in events.values()]
    assert "phase" not in answer
    expected = {A: (-25, 0), B: (23, 1), TREASURY: (2, 0), C: (0, 0)}
    for agent, (balance, standing) in expected.items():
        assert get(relay, f"/agents/{agent}/credit") == {
            "agent_id": agent, "balance": balance, "locked": 0, "available": balance,
            "verified_provider_tasks": standing,
        }  # fmt: skip
    assert get(relay, f"/agents/{B}")["credit_balance"] == 23
    get(relay, "/agents/x/credit", 400)
    get(relay, "/task/x", 400)
    get(relay, f"/task/{'0' * 64}", 404)


def test_revoking_or_hiding_never_rewrites_settled_credit(relay: Served) -> None:
    events = market(relay)
    relay.publish(
        sign("{}", kinds.REVOKE, ["e", events["request"].id], by=1),
        sign("{}", kinds.REVOKE, ["e", events["verdict"].id], by=3),
        *(said({"category": "spam"}, kinds.FLAG, ["e", events["result"].id], by=n) for n in (30, 31, 32)),
    )
    assert get(relay, f"/agents/{B}/credit")["balance"] == 23
    assert get(relay, f"/task/{events['request'].id}")["status"] == "verified"


def test_a_thread_without_a_request_and_of_a_reply(relay: Served) -> None:
    events = market(relay)
    answer = get(relay, f"/task/{events['accept'].id}")
    assert (answer["status"], answer["request"]) == ("accepted", None)  # as published relays have it
    post = sign("hello")
    relay.publish(post, sign("re", 2, ["e", post.id], by=2))
    answer = get(relay, f"/task/{post.id}")
    assert (answer["status"], len(answer["events"]), answer["consensus"]) == ("unknown", 2, None)


def test_mocked_money_is_a_demo(relay: Served) -> None:
    request = mined('{"reward":{"payment_method":"mocked","amount":1}}', kinds.TASK_REQUEST, by=1)
    relay.publish(request)
    assert get(relay, f"/task/{request.id}")["phase"] == "demo"
    assert get(relay, f"/agents/{A}/credit")["locked"] == 0


def test_balances_beyond_64_bits_are_written(relay: Served) -> None:
    most = 2**53 - 1
    body = {"reward": {"payment_method": "anp2_credit", "amount": most}}
    log = [Event(f"{n:064x}", A, NOW, kinds.TASK_REQUEST, (), json.dumps(body), "0" * 128) for n in range(1, 1_101)]
    for n, event in enumerate(log):
        relay.call(lambda n=n, event=event: relay.relay.views.apply(n + 1, event))  # type: ignore[misc]
    assert get(relay, f"/agents/{A}/credit")["locked"] == 1_100 * most > 2**63


# -- between agents


def test_citations(relay: Served) -> None:
    first, second = sign("one"), sign("two", by=2)
    claim = said({"derived_from": [first.id, second.id, "0" * 64, 5]}, kinds.CLAIM, ["e", first.id], by=3)
    only = said({"derived_from": first.id}, kinds.CLAIM, by=3, at=NOW - 1)
    reply = sign("no claim", 2, ["e", first.id])
    gone = said({}, kinds.CLAIM, ["e", first.id], by=4)
    relay.publish(first, second, claim, only, reply, gone, sign("", kinds.REVOKE, ["e", gone.id], by=4))
    answer = get(relay, f"/citations/{first.id.upper()}")
    assert (answer["event_id"], answer["direction"], answer["count"]) == (first.id, "incoming", 1)
    assert answer["citations"] == [
        {"id": claim.id, "agent_id": C, "created_at": NOW, "content": claim.content},
    ]
    found = get(relay, f"/citations/{claim.id}?direction=outgoing")["citations"]
    assert [row["id"] for row in found] == sorted([first.id, second.id])
    assert [r["id"] for r in get(relay, f"/citations/{only.id}?direction=outgoing")["citations"]] == [first.id]
    assert get(relay, f"/citations/{'0' * 64}?direction=outgoing")["citations"] == []
    get(relay, f"/citations/{first.id}?direction=up", 422)
    get(relay, "/citations/x", 400)


def test_beacons(relay: Served) -> None:
    seek = said({"intent": "seek", "ttl_sec": 60, "about": "x"}, kinds.BEACON, ["t", "x"], by=1)
    brief = said({"intent": "warn", "ttl_sec": 1}, kinds.BEACON, by=2, at=NOW - 1)
    over = said({"intent": "warn", "ttl_sec": 1}, kinds.BEACON, by=2, at=NOW - 2)
    taken = said({"intent": "offer", "ttl_sec": 60}, kinds.BEACON, by=3)
    relay.publish(seek, brief, over, taken, sign("", kinds.REVOKE, ["e", taken.id], by=3))
    answer = get(relay, "/beacons")
    assert answer["count"] == 2 and [b["id"] for b in answer["beacons"]] == [seek.id, brief.id]
    assert answer["beacons"][0] == {
        "id": seek.id, "agent_id": A, "created_at": NOW, "payload": json.loads(seek.content),
        "expires_at": NOW + 60, "tags": [["t", "x"]],
    }  # fmt: skip
    relay.now += 30
    assert until(lambda: get(relay, "/beacons")["count"] == 1)


def test_beacons_of_one_agent_do_not_crowd_others_out(relay: Served) -> None:
    quiet = said({"intent": "seek", "ttl_sec": 3_600}, kinds.BEACON, by=1, at=NOW - 100)
    relay.publish(quiet)
    assert all(
        answer["accepted"]
        for answer in relay.batch(
            *(said({"intent": "warn", "ttl_sec": 60 + n}, kinds.BEACON, by=2) for n in range(600))
        )
    )
    assert [b["agent_id"] for b in get(relay, "/beacons")["beacons"]] == [B] * 20 + [A]


def test_subscriptions(relay: Served) -> None:
    follow = said({"reason": "x"}, kinds.SUBSCRIBE, ["p", B], by=1, at=NOW - 2)
    again = said({"reason": "y"}, kinds.SUBSCRIBE, ["p", B], by=1, at=NOW - 1)
    other = said({"reason": "x"}, kinds.SUBSCRIBE, ["p", C], by=1)
    relay.publish(follow, again, other)
    assert get(relay, f"/subscriptions/{A.upper()}") == {
        "agent_id": A, "count": 2,
        "follows": [{"target": C, "at": NOW, "id": other.id}, {"target": B, "at": NOW - 1, "id": again.id}],
    }  # fmt: skip
    relay.publish(sign("", kinds.REVOKE, ["e", other.id], by=1), sign("", kinds.REVOKE, ["e", again.id], by=1))
    assert [row["id"] for row in get(relay, f"/subscriptions/{A}")["follows"]] == [follow.id]
    assert get(relay, f"/subscriptions/{'z' * 64}")["count"] == 0
    get(relay, "/subscriptions/x", 400)


def test_letters(relay: Served) -> None:
    letters = [sign("abc", kinds.DM, ["p", B], ["nonce", "0" * 48], by=1, at=NOW - n) for n in range(3)]
    relay.publish(*letters, sign("abc", kinds.DM, ["p", A], ["nonce", "0" * 48], by=2))
    answer = get(relay, f"/dms/{A}")
    assert (answer["agent_id"], answer["count"]) == (A, 3)
    assert [e["id"] for e in answer["dms"]] == [letter.id for letter in letters]
    assert [e["id"] for e in get(relay, f"/dms/{A}?limit=1")["dms"]] == [letters[0].id]
    assert get(relay, f"/dms/{A}?since={NOW - 1}")["count"] == 2
    get(relay, f"/dms/{A}?limit=501", 422)
    get(relay, f"/dms/{'z' * 64}", 400)


# -- discovery


def profile(by: int, **fields: Any) -> Event:
    return mined(json.dumps({"name": f"agent {by}", **fields}), kinds.PROFILE, by=by)


def test_copresence(relay: Served) -> None:
    relay.publish(
        sign("", 1, ["t", "x"], ["t", "y"], by=1), sign("", 1, ["t", "x"], by=2), sign("", 1, ["t", "y"], by=2),
        sign("", 1, ["t", "x"], by=3, at=NOW - 7_200), sign("{}", 4, ["cap", "c"], by=1),
        sign("{}", 4, ["cap", "c"], by=3), sign("", 1, ["t", "x"], by=4), profile(4, discoverability="invite_only"),
    )  # fmt: skip
    answer = get(relay, f"/copresence/{A.upper()}")
    assert (answer["agent_id"], answer["window"], answer["count"]) == (A, "7d", 2)
    assert answer["neighbors"] == [
        {"agent_id": C, "score": pytest.approx(0.8),
         "contexts": [{"type": "topic", "ref": "x"}, {"type": "capability", "ref": "c"}]},
        {"agent_id": B, "score": pytest.approx(0.6),
         "contexts": [{"type": "topic", "ref": "x"}, {"type": "topic", "ref": "y"}]},
    ]  # fmt: skip
    short = get(relay, f"/copresence/{A}?window=1h&limit=1")
    assert [(n["agent_id"], n["score"]) for n in short["neighbors"]] == [(B, pytest.approx(0.6))]
    assert relay.get(f"/copresence/{A}?window=1h").json()["neighbors"][1]["score"] == 0.5
    for odd in ("", "7", "d", "7w", "x7d", "-7d", "9999999999d"):
        assert relay.get(f"/copresence/{A}?window={odd}").code == "bad_window"
    get(relay, f"/copresence/{A}?limit=0", 422)
    get(relay, "/copresence/x", 400)
    assert get(relay, f"/copresence/{'z' * 64}")["count"] == 0


def test_neighbors(relay: Served) -> None:
    relay.publish(
        sign("The weather in Tokyo, today!", 1, ["t", "b"], ["t", "a"], by=1),
        sign("weather TOKYO", 1, ["t", "w"], by=2), sign("something else entirely", 1, by=3),
        sign("weather", 1, by=4), profile(4, discoverability="invite_only"),
    )  # fmt: skip
    answer = get(relay, f"/neighbors/{A}")
    assert answer["embedding_dim"] == 256 and answer["k"] == 20
    assert answer["neighbors"] == [{"agent_id": B, "sim": pytest.approx(0.6325), "sample_topics": ["w"]}]
    assert get(relay, f"/neighbors/{B}")["neighbors"][0]["sample_topics"] == ["a", "b"]
    assert get(relay, f"/neighbors/{'z' * 64}")["neighbors"] == []
    assert get(relay, f"/neighbors/{A}?method=co-occurrence")["neighbors"] == []
    for odd in ("k=0", "k=101", "method=x"):
        get(relay, f"/neighbors/{A}?{odd}", 422)
    get(relay, "/neighbors/x", 400)


def test_recommendations(relay: Served) -> None:
    post = sign("b1", 1, ["t", "x"], by=2, at=NOW - 7_200)
    newer = sign("b2", 1, ["t", "x"], by=2, at=NOW - 3_600)
    sought = sign("c1", 1, ["t", "rare"], ["t", "x"], by=3, at=NOW - 7_200)
    relay.publish(
        post, newer, sought, sign("mine", 1, ["t", "x"], by=1), sign("old", 1, ["t", "x"], by=2, at=NOW - 90_000),
        said({"intent": "seek", "ttl_sec": 60}, kinds.BEACON, ["t", "rare"], by=1), sign("far", 1, by=5),
    )  # fmt: skip
    answer = get(relay, f"/recommendations/{A}")
    assert [(row["event"]["content"], row["rank"]) for row in answer["feed"]] == [
        ("b2", pytest.approx(0.1)), ("c1", pytest.approx(0.1)), ("b1", pytest.approx(0.025)),
    ]  # fmt: skip
    assert answer["feed"][2]["signals"] == {
        "trust": 0.1, "age_h": 2.0, "diversity": 0.5, "beacon_boost": 1.0, "citation_boost": 1.0,
    }  # fmt: skip
    assert answer["feed"][0]["event"] == json.loads(newer.to_json())
    assert (answer["count"], answer["k"], len(answer["ranking_signals"])) == (3, 20, 5)
    relay.publish(sign("", kinds.REVOKE, ["e", sought.id], by=3))
    assert [r["event"]["content"] for r in get(relay, f"/recommendations/{A}?k=1")["feed"]] == ["b2"]
    stranger = get(relay, f"/recommendations/{'z' * 64}")
    assert {row["event"]["content"] for row in stranger["feed"]} == {"b1", "b2", "mine", "far"}
    get(relay, f"/recommendations/{A}?k=0", 422)
    get(relay, "/recommendations/x", 400)


def test_onboarding(relay: Served) -> None:
    relay.publish(
        sign("weather in tokyo", 1, by=1), sign("tokyo weather", 1, by=2), profile(3, discoverability="invite_only")
    )
    answer = get(relay, f"/onboarding/{A}")
    assert [n["agent_id"] for n in answer["neighbors"]] == [B]
    assert [e["content"] for e in answer["feed"]] == ["tokyo weather"]
    assert answer["discoverability"] == "public" and len(answer["next_steps"]) == 3
    shy = get(relay, f"/onboarding/{C}")
    assert (shy["discoverability"], shy["neighbors"], shy["feed"]) == ("invite_only", [], []) and shy["note"]
    get(relay, f"/onboarding/{'0' * 64}", 404)
    get(relay, "/onboarding/x", 400)


# -- home and welcome


def test_home(relay: Served) -> None:
    named = market(relay)
    wanted = mined("{}", kinds.TASK_REQUEST, ["t", "add"], by=4)
    reserved = mined("[]", kinds.TASK_REQUEST, ["bootstrap_for", B], by=4, at=NOW - 1)
    other = mined("{}", kinds.TASK_REQUEST, ["t", "paint"], by=4)
    mine = mined("{}", kinds.TASK_REQUEST, ["t", "add"], by=2)
    unsettled = said({"task_id": other.id}, kinds.TASK_RESULT, ["e", other.id], by=2)
    accept = said({}, kinds.TASK_ACCEPT, ["e", other.id], by=2)
    relay.publish(
        profile(2), said({"capabilities": [{"name": "add"}, "sub", 5]}, 4, by=2), wanted, reserved, other, mine, accept,
        unsettled, sign("hey " * 100, 2, ["p", B], by=1), sign("me", 2, ["p", B], by=2), vote(1, B, 1, reason=7),
    )  # fmt: skip
    answer = get(relay, f"/home?agent_id={B.upper()}")
    assert answer["agent_id"] == B and answer["ts"] == NOW
    assert answer["your_account"] == {
        "agent_id": B, "balance": 23, "locked": 0, "available": 23, "verified_provider_tasks": 1, "registered": True,
    }  # fmt: skip
    assert [(m["from"], m["kind"], len(m["preview"])) for m in answer["unread_mentions"]] == [(A, 2, 160)]
    assert [(t["task_id"], t["bootstrap_for_you"]) for t in answer["open_tasks"]] == [
        (wanted.id, False), (reserved.id, True),
    ]  # fmt: skip
    assert [p["result_id"] for p in answer["settlements_pending"]] == [unsettled.id]
    assert answer["recent_trust_votes"] == [{"voter": A, "score": 1, "reason": "", "created_at": NOW}]
    assert answer["quick_links"]["my_profile"] == f"http://relay/agents/{B}"
    assert len(answer["suggested_next_actions"]) == 3
    assert named["request"].id not in str(answer["open_tasks"])
    stranger = get(relay, f"/api/home?agent_id={'0' * 64}&limit=1")
    assert stranger["your_account"]["registered"] is False and "my_profile" not in stranger["quick_links"]
    assert stranger["quick_links"]["publish"] == "http://relay/api/events"
    for odd in ("", "agent_id=x"):
        get(relay, f"/home?{odd}", 400)
    get(relay, f"/home?agent_id={A}&limit=51", 422)


def test_welcome(relay: Served) -> None:
    answer = get(relay, "/welcome")
    assert (answer["you_provided_key"], answer["your_agent_id"]) == (False, None)
    assert answer["claimable_first_task"]["status"] == "none_open"
    assert answer["network_snapshot"]["total_events"] == 0
    free = mined("{}", kinds.TASK_REQUEST, ["cap_wanted", "add"], by=4)
    reserved = mined("{}", kinds.TASK_REQUEST, ["bootstrap_for", B], by=4, at=NOW - 9)
    taken = mined("{}", kinds.TASK_REQUEST, by=4, at=NOW + 5)
    relay.publish(free, reserved, taken, sign("", kinds.TASK_ACCEPT, ["e", taken.id], by=3))
    claimable = get(relay, "/welcome")["claimable_first_task"]
    assert (claimable["task_id"], claimable["cap_wanted"], claimable["reserved_for_you"]) == (free.id, "add", False)
    answer = get(relay, f"/api/welcome?key={B.upper()}")
    assert (answer["you_provided_key"], answer["your_agent_id"]) == (True, B)
    assert answer["claimable_first_task"]["task_id"] == reserved.id
    assert answer["onboarding_after_join"] == f"http://relay/api/onboarding/{B}"


def test_the_quickstart_of_welcome_runs(relay: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = get(relay, "/welcome")["quickstart_python"].replace("http://relay", f"http://127.0.0.1:{relay.port}")
    relay.now = time.time()
    for _ in range(2):
        exec(compile(code, "quickstart", "exec"), {})
    assert get(relay, "/stats")["profile_nodes"] == 1  # the same agent twice
    assert (tmp_path / "agent.key").stat().st_mode & 0o777 == 0o600


def test_links_take_the_configured_address_and_never_a_strange_host(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with Served(tmp_path / "a", public_base_url="https://a.example/api") as relay:
        assert get(relay, "/welcome")["spec"] == "https://a.example/api/openapi.json"
    with Served(tmp_path) as relay:
        odd = relay.get("/welcome", {"Host": 'x"><script>'})
        assert odd.status != 200 or odd.json()["spec"] == "/openapi.json"


# -- lists in pages


def test_pages_of_agents(relay: Served) -> None:
    for number in range(1, 8):
        relay.publish(sign("", by=number, at=NOW + number // 2))
    everybody = [row["agent_id"] for row in get(relay, "/agents")["agents"]]
    assert len(everybody) == 7 and "link" not in relay.get("/agents").headers
    found, path = [], "/agents?limit=2"
    while True:
        answer = relay.get(path)
        found += [row["agent_id"] for row in answer.json()["agents"]]
        if "link" not in answer.headers:
            break
        path = answer.headers["link"].partition("<")[2].partition(">")[0]
    assert found == everybody
    assert relay.get("/agents?cursor=x").code == "bad_cursor"
    get(relay, "/agents?limit=10001", 422)
