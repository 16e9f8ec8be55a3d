"""What broke a view once, here or at published relays: each by name. The rest is tried in tests/fuzz/test_poison.py."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from anporia_relay import snapshot
from anporia_store.words import indexed
from anporia_wire import Event
from anporia_wire.views import Views
from tests.fuzz.bystanders import ask
from tests.relay.served import NOW, Served, keys, sign, until
from tests.store.samples import event

DEEP = '{"a":' * 5_000 + "1" + "}" * 5_000
CREDIT = {"payment_method": "anp2_credit", "amount": 1_000}
PAGE = 9 * 1024 * 1024  # what an answer may weigh: 8 MiB of events, and what stands around them
LETTER = "abcdefghij"


def agent(number: int) -> str:
    """An agent without a key: the store asks for no signature."""
    return f"{number:064x}"


def store(relay: Served, *events: Event) -> None:
    """Past the door: as an import brings what it refuses."""
    relay.run(relay.relay.store.append(events))


def answer(relay: Served, path: str) -> Any:
    got = relay.get(path)
    assert got.status == 200, (path, got)
    return got.json()


def work_out_trust(relay: Served) -> None:
    relay.call(lambda: list(relay.relay.views.trust.refresh(NOW)))


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as running:
        yield running


@pytest.fixture
def credited(relay: Served) -> str:
    """Somebody asked, somebody did it, a third approved: 1,000 moved. Gives the id of the task."""
    request = sign(json.dumps({"reward": CREDIT}), 50, by=1, at=NOW - 9)
    said = {"task_id": request.id, "verdict": "passed"}
    done = [
        sign(json.dumps(said), kind, ["e", request.id], by=by, at=NOW - 8) for kind, by in ((51, 2), (52, 2), (53, 3))
    ]
    store(relay, request, *done)
    return request.id


# -- published relays answer 500 to these questions and events (WIRE section 22, rows 1 to 3)


@pytest.mark.parametrize(
    "path",
    [
        "/events?kinds=abc",
        "/events?kinds=1,",
        "/events?kinds=9223372036854775808",
        "/events?since=9223372036854775808",
        "/events?until=-9223372036854775809",
        "/history/{}?kind=9223372036854775808",
        "/copresence/{}?window=",
        "/copresence/{}?window=9999999999d",
        "/neighbors/{}?k=x",
        "/agents/{}/trust_received?since=9223372036854775808",
        "/dms/{}?since=9223372036854775808",
        "/home?agent_id={}&limit=9223372036854775808",
    ],
)
def test_odd_numbers_in_questions_are_refused(relay: Served, path: str) -> None:
    assert relay.get(path.format(keys(1).agent_id)).status in (400, 422)


def test_odd_envelopes_are_refused(relay: Served) -> None:
    whole = sign("x").to_json()
    for body in (
        whole.replace(b'"kind":1', b'"kind":9007199254740992'),
        whole.replace(b'"content":"x"', b'"content":"\\ud800"'),
        whole.replace(str(NOW).encode(), b"9007199254740992"),
        b"\xff\x00",
    ):
        for path in ("/events", "/events/dry-run"):
            assert relay.post(path, body).status in (400, 422)
            assert relay.post(path, body, {"Content-Type": "application/x+cbor"}).status in (400, 415, 422)


def test_odd_payloads_are_refused(relay: Served) -> None:
    fields = {"checkpoint_id": "x", "state_hash": 5, "event_count": 1, "as_of": 1}
    refused = relay.post("/events", sign(json.dumps(fields), 12, *[["cosign", "a", "b"]] * 3).to_json())
    assert (refused.status, refused.code) == (400, "bad_shape")
    reward = '{"reward":{"payment_method":"anp2_credit","amount":1e400}}'
    assert relay.post("/events", sign(reward, 50).to_json()).status == 400


# -- one stored event breaks a view for everybody at published relays (row 4)


@pytest.mark.parametrize("content", ["null", "[1]", "5", '"x"', DEEP, '{"name":[1],"discoverability":{}}', "{", ""])
def test_a_profile_that_is_none(relay: Served, content: str) -> None:
    store(relay, sign(content, 0, by=1), sign("the same words", by=1), sign("the same words", by=2))
    for path in ("/neighbors/{}", "/onboarding/{}", "/agents/{}", "/recommendations/{}", "/home?agent_id={}"):
        answer(relay, path.format(keys(2).agent_id))
        answer(relay, path.format(keys(1).agent_id))
    assert [row["agent_id"] for row in answer(relay, f"/neighbors/{keys(2).agent_id}")["neighbors"]] == [
        keys(1).agent_id
    ]
    assert len(answer(relay, "/agents")["agents"]) == 2
    assert len(answer(relay, "/agents?name=x")["agents"]) == 0


@pytest.mark.parametrize("content", ["5", "null", '"x"', '{"derived_from":5}', '{"derived_from":[1,{},null,""]}', DEEP])
def test_a_claim_that_is_none(relay: Served, content: str) -> None:
    claim = sign(content, 5, by=1)
    store(relay, claim, sign('{"score":1}', 6, ["p", keys(1).agent_id], by=2))
    work_out_trust(relay)
    assert answer(relay, f"/recommendations/{keys(2).agent_id}")["count"] == 1
    assert answer(relay, f"/citations/{claim.id}?direction=outgoing")["citations"] == []


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        '{"capabilities":5}',
        '{"capabilities":{"name":"x"}}',
        '{"capabilities":[{"name":{}},{"name":5},5,null,["x"]]}',
        '{"capabilities":[{"name":"x","constraints":5,"tags":5,"pricing":[],"extensions":{},"version":[]}]}',
        '{"capabilities":[{"name":"x","constraints":{"p95_latency_ms":"1","supported_languages":{"en":1}}}]}',
        '{"capabilities":[{"name":"x","tags":[[],{}],"extensions":[5,{"uri":{}}],"pricing":{"amount":"1"}}]}',
        '{"capabilities":' + "[" * 40 + "]" * 40 + "}",
    ],
)
def test_a_declaration_of_nonsense(relay: Served, content: str) -> None:
    honest = '{"capabilities":[{"name":"honest","pricing":{"amount":2},"constraints":{"p95_latency_ms":9}}]}'
    store(relay, sign(honest, 4, by=1), sign(content, 4, by=2))
    for query in ("", "sort_by=price", "sort_by=latency", "supported_language=en", "tag=x", "extension_uri=x"):
        answer(relay, f"/capabilities/search?{query}")
    for query in ("max_latency_ms=9", "max_price_usd=2", "cap=honest"):
        rows = answer(relay, f"/capabilities/search?{query}")["results"]
        assert [row["provider_agent_id"] for row in rows] == [keys(1).agent_id]


@pytest.mark.parametrize("due", ["1e400", "NaN", "-Infinity", "9" * 5_000, '"9e99"', "[]", "true", "1e308"])
def test_a_deadline_that_is_none(relay: Served, credited: str, due: str) -> None:
    """Neither others' credit suffers nor the request's own: only the deadline counts as absent."""
    body = f'{{"reward":{json.dumps(CREDIT)},"constraints":{{"deadline_unix":{due}}}}}'
    request = sign(body, 50, by=4)
    store(relay, request)
    assert answer(relay, f"/agents/{keys(2).agent_id}/credit")["balance"] == 900
    assert answer(relay, f"/agents/{keys(1).agent_id}")["credit_balance"] == -1_000
    assert answer(relay, f"/task/{credited}")["status"] == "verified"
    assert answer(relay, f"/task/{request.id}")["status"] == "pending"
    assert answer(relay, f"/agents/{keys(4).agent_id}/credit")["locked"] == 1_000


@pytest.mark.parametrize("reason", ["5", "[]", "null", "1e400", r'"\ud83d"', "NaN"])
def test_a_vote_with_a_reason_that_is_none(relay: Served, reason: str) -> None:
    """A cut emoji is enough, as Python writes it: the score counts all the same."""
    target = keys(1).agent_id
    relay.publish(sign(f'{{"score":1,"reason":{reason}}}', 6, ["p", target], by=2))
    work_out_trust(relay)
    assert answer(relay, f"/trust/{target}")["score_in"] == 1
    assert [vote["reason"] for vote in answer(relay, f"/agents/{target}/trust_received")["votes"]] == [""]
    assert len(answer(relay, f"/home?agent_id={target}")["recent_trust_votes"]) == 1


@pytest.mark.parametrize("content", ["5", "null", "[]", '{"reward":5}', '{"reward":{"payment_method":[]}}', DEEP])
def test_a_request_that_is_none(relay: Served, credited: str, content: str) -> None:
    request = sign(content, 50, by=4)
    store(relay, request)
    assert answer(relay, f"/task/{request.id}")["status"] == "pending"
    assert answer(relay, f"/agents/{keys(4).agent_id}/credit")["locked"] == 0
    assert answer(relay, f"/agents/{keys(2).agent_id}/credit")["balance"] == 900
    answer(relay, "/welcome")


# -- what broke here


@pytest.mark.parametrize("ttl", [2**64 - 1, 2**63, -(2**63)])
def test_a_beacon_without_end_keeps_no_snapshot_from_being_written(relay: Served, ttl: int) -> None:
    store(relay, sign(f'{{"intent":"seek","ttl_sec":{ttl}}}', 15))
    path = snapshot.path_of(relay.config.db)
    relay.run(snapshot.write(relay.relay.store, relay.relay.views, path))
    assert relay.run(snapshot.load(relay.relay.store, path)) is not None
    assert answer(relay, "/beacons")["count"] == 0


def test_a_thread_is_not_buried_under_what_is_no_part_of_it(relay: Served, credited: str) -> None:
    store(relay, *(event(1, str(n), [("e", credited)], agent=agent(9), at=NOW - 600_000) for n in range(1_000)))
    task = answer(relay, f"/task/{credited}")
    assert task["request"] is not None
    assert [len(task[name]) for name in ("accepts", "results", "verifies")] == [1, 1, 1]


def test_votes_are_not_buried_under_those_without_a_score(relay: Served) -> None:
    target = keys(1).agent_id
    store(relay, sign('{"score":1}', 6, ["p", target], by=2, at=NOW - 60))
    store(relay, *(event(6, "{}", [("p", target), ("n", str(n))], agent=agent(9), at=NOW) for n in range(1_000)))
    assert answer(relay, f"/agents/{target}/trust_received")["count"] == 1
    assert len(answer(relay, f"/home?agent_id={target}")["recent_trust_votes"]) == 1


def test_citing_often_weighs_as_much_as_citing_once(relay: Served) -> None:
    posts = [sign("once", by=1), sign("often", by=1)]
    cited = [posts[0].id] + [posts[1].id] * 900
    store(relay, *posts, sign(json.dumps({"derived_from": cited}), 5, by=2, at=NOW - 90_000))
    store(relay, sign('{"score":1}', 6, ["p", keys(2).agent_id], by=3))
    work_out_trust(relay)
    feed = answer(relay, f"/recommendations/{keys(4).agent_id}")["feed"]
    assert len({row["signals"]["citation_boost"] for row in feed if row["event"]["content"] in ("once", "often")}) == 1


def test_no_page_is_lost_in_a_crowded_second(relay: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_store.search.MAX_RANKED", 10)  # the same with 10,000 and more in earnest
    store(relay, *(event(1, f"crowded {n}", agent=agent(n)) for n in range(30)))
    assert until(lambda: answer(relay, "/health")["searchable"] == 30)
    found: set[str] = set()
    path = "/events?q=crowded&limit=5"
    while path:
        got = relay.get(path)
        found |= {row["id"] for row in got.json()}
        path = got.headers.get("link", "").partition(">")[0].lstrip("<")
    assert len(found) == 30


def test_a_negative_latency_or_price_is_none(relay: Served) -> None:
    for number, odd in enumerate(("-1e308", "5e-324", "1e308", "40")):
        offer = f'{{"name":"x","constraints":{{"p95_latency_ms":{odd}}},"pricing":{{"amount":{odd}}}}}'
        store(relay, sign(f'{{"capabilities":[{offer}]}}', 4, by=number + 1, at=NOW + number))
    for order in ("latency", "price"):
        rows = answer(relay, f"/capabilities/search?sort_by={order}")["results"]
        assert all(isinstance(row["score"], float) and 0 <= row["score"] <= 1 for row in rows), order
        assert rows[-1]["provider_agent_id"] == keys(1).agent_id  # what has none comes last


def test_a_view_that_fails_fails_alone(relay: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is known to; but what it cannot take is then missing there, not in every view and for all who came after."""
    views = relay.relay.views
    apply = views._of_kind[1]

    def fail(event: Event) -> None:
        if event.content == "bad":
            raise ZeroDivisionError

    monkeypatch.setitem(views._of_kind, 1, (fail, *apply))
    store(relay, sign("good", by=1), sign("bad", by=2), sign("as good", by=3), sign("good too", by=4))
    store(relay, sign("good after all", by=5))
    assert answer(relay, "/stats")["total_events"] == 5
    assert len(answer(relay, f"/neighbors/{keys(1).agent_id}")["neighbors"]) == 3
    relay.call(views.snapshot)


# -- what one event or question may cost


def test_marks_upon_marks_are_indexed_in_time() -> None:
    """Unicode's order of combining marks is found by insertion: 32,000 of them took more than a second."""
    marks = "".join(mark * 10_900 for mark in "\u0315\u0300\u0327")
    started = time.thread_time()
    indexed(sign("a" + marks[:32_700]))
    assert time.thread_time() - started < 0.2


def test_flags_fill_no_more_than_a_page(relay: Served) -> None:
    post = sign("flagged")
    content = json.dumps({"category": "spam", "x": "x" * 65_000})
    store(relay, post, *(event(7, content, [("e", post.id)], agent=agent(n)) for n in range(200)))
    got = relay.get(f"/events/{post.id}/flags")
    assert got.status == 200 and len(got.body) < PAGE


def test_profiles_fill_no_more_than_a_page(relay: Served) -> None:
    content = json.dumps({"name": "x" * 65_000})
    store(relay, *(event(0, content, agent=agent(n)) for n in range(200)))
    got = relay.get("/agents")
    assert got.status == 200 and len(got.body) < PAGE


def test_offers_fill_no_more_than_a_page(relay: Served) -> None:
    content = json.dumps({"capabilities": [{"name": "x", "version": "x" * 65_000}]})
    store(relay, *(event(4, content, agent=agent(n)) for n in range(200)))
    got = relay.get("/capabilities/search?limit=200")
    assert got.status == 200 and len(got.body) < PAGE


def test_a_declaration_takes_little_more_memory_than_its_bytes() -> None:
    content = '{"capabilities":[' + ",".join(['{"name":"a"}'] * 5_000) + "]}"
    assert grown(Views(), [event(4, content, agent=agent(n)) for n in range(10)]) < 10 * 8 * len(content)


def test_words_that_are_no_words_are_not_kept() -> None:
    posts = [event(1, chr(0x10000 + n) * 4_096, agent=agent(n % 3), at=NOW + n) for n in range(300)]
    assert grown(Views(), posts) < 300 * 4_096


def test_words_are_hashed_in_small_steps() -> None:
    """Whoever waits for his turn waits milliseconds, whatever the words are."""
    views = Views()
    for number in range(1_000):
        words = " ".join(f"{number:x}{LETTER[n % 10]}{n:x}" for n in range(511))
        views.apply(number + 1, event(1, words, agent=agent(number // 50), at=NOW - number))
    started = time.thread_time()
    views.neighbors.settle(1_000)
    assert time.thread_time() - started < 0.1


@pytest.mark.parametrize(
    ("kind", "number", "by_many"), [(53, 6_000, True), (52, 15_000, True), (55, 15_000, True), (6, 15_000, False)]
)
def test_the_thousandth_costs_what_the_first_did(kind: int, number: int, by_many: bool) -> None:
    """Everybody judges one task, or one agent votes for another again and again."""
    request = event(50, json.dumps({"reward": CREDIT}), agent=agent(1))
    content = json.dumps({"task_id": request.id, "verdict": "passed", "score": 1})
    tags = [("e", request.id), ("p", agent(2))]
    log = [event(kind, content, tags, agent=agent(n if by_many else 9), at=NOW + n) for n in range(3, number)]
    views = Views()
    started = time.thread_time()
    for seq, one in enumerate([request, *reversed(log)], start=1):
        views.apply(seq, one)
    assert time.thread_time() - started < 0.75


def test_neighbours_of_long_standing_cost_as_little_as_new_ones() -> None:
    views, seq = Views(), 0
    for writer in range(200):
        texts = [event(1, "long ago", agent=agent(writer), at=NOW - 40 * 86_400)]
        words = " ".join(f"{LETTER[writer % 10]}{n % 97}" for n in range(512))
        texts += [event(1, words, agent=agent(writer), at=NOW - n) for n in range(99)]
        for text in texts:
            seq += 1
            views.apply(seq, text)
    while not views.neighbors.settle(1_000_000):
        pass
    views.neighbors.read(agent(0), NOW, 20, lambda _: True)
    started = time.thread_time()
    assert len(views.neighbors.read(agent(0), NOW, 20, lambda _: True)) == 20
    assert time.thread_time() - started < 0.05


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home?agent_id={}", 6), ("/agents/{}/trust_received", 6), ("/task/{}", 53), ("/events/{}/flags", 7)],
)
def test_nobody_waits_while_nested_lists_are_read(relay: Served, path: str, kind: int) -> None:
    target = agent(1)
    lists = '{"score":1,"category":"spam","verdict":"passed","x":[' + ",".join(["[]"] * 21_000) + "]}"
    store(relay, *(event(kind, lists, [("p", target), ("e", target)], agent=agent(n)) for n in range(2, 130)))
    assert longest_wait(relay, path.format(target)) < 0.15


def longest_wait(relay: Served, path: str) -> float:
    """Ask, and give how much of its time the relay gave to it at a stretch."""

    async def asked() -> float:
        work = asyncio.create_task(ask(relay, *path.split("?")))
        longest, last = 0.0, time.thread_time()
        while not work.done():
            await asyncio.sleep(0.001)
            last, before = time.thread_time(), last
            longest = max(longest, last - before)
        assert work.result().status == 200
        return longest

    return relay.run(asked())


def grown(views: Views, events: Sequence[Event]) -> int:
    """Give by how many bytes taking these events made memory grow."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for seq, one in enumerate(events, start=1):
            views.apply(seq, one)
        views.neighbors.settle(len(events))
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
