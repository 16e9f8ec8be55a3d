"""What gets in and what does not: vectors, the order of checks, budgets, and what hostile timing could bend."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from anporia_relay.config import Config, Networks
from anporia_relay.errors import STATUS, Rejected
from anporia_relay.limits import Limits, Peer, RollingWindow, TokenBucket
from anporia_relay.pipeline import MAX_CHUNK, Accepted, Pipeline, Verdict
from anporia_relay.verifier import MAX_BATCH, Verifier
from anporia_store import SqliteStore, StoreFull
from anporia_wire import AnporiaError, Event, Keypair, MalformedEvent, event_id, kinds, pow
from tests.relay.served import NOW, Served, keys, sign

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
INVALID: list[dict[str, Any]] = json.loads((VECTORS / "events_invalid.json").read_text("utf-8"))
OVER_HTTP = ("wrong_id", "sig_flipped", "missing_kind", "tags_33", "future_400s", "k0_no_pow", "k50_negative_credit")
STRANGER = Peer.of("198.51.100.7")
LOOPBACK = Peer.of("127.0.0.1")


class CountingVerifier(Verifier):
    """Counts what it is asked, and may take its time."""

    def __init__(self) -> None:
        super().__init__(threads=2)
        self.asked = 0
        self.delay = 0.0

    async def verify(self, signed: Sequence[tuple[bytes, bytes, bytes]]) -> list[bool]:
        self.asked += len(signed)
        if self.delay:
            await asyncio.sleep(self.delay)
        return await super().verify(signed)


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of the two ways in `Bench.judge` takes: most of what is said here holds for both."""
    monkeypatch.setattr(Bench, "way", getattr(request, "param", "accept"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if asyncio.iscoroutinefunction(metafunc.function):
        metafunc.parametrize("way", ["accept", "offer"], indirect=True)


class Bench:
    """A pipeline over a real store, with clocks that stand still."""

    way = "accept"

    def __init__(self, store: SqliteStore, rates: dict[str, int]) -> None:
        self.now, self.steady = float(NOW), 1_000.0
        self.beats: list[Event] = []
        self.store, self.verifier = store, CountingVerifier()
        limits = Limits(**{"agent_rate": 0, "peer_rate": 0, "bad_event_rate": 0, **rates})
        self.pipeline = Pipeline(
            store, self.verifier, limits, self.beats.append, wall=lambda: self.now, steady=lambda: self.steady
        )

    async def judge(self, *candidates: Event | AnporiaError, peer: Peer = STRANGER) -> list[Verdict]:
        if self.way == "accept":
            return await self.pipeline.accept(candidates, peer)
        return await self.offer([(candidate, peer) for candidate in candidates])

    async def offer(self, candidates: Sequence[tuple[Event | AnporiaError, Peer]]) -> list[Verdict]:
        """Offer events in one turn of the loop; each must be answered, and once."""
        told: list[list[Verdict]] = []
        missing, all_told = 0, asyncio.Event()

        def tell(answers: list[Verdict], verdict: Verdict) -> None:
            nonlocal missing
            answers.append(verdict)
            missing -= 1
            if not missing:
                all_told.set()

        for candidate, peer in candidates:
            told.append([candidate] if isinstance(candidate, AnporiaError) else [])
            if isinstance(candidate, Event):
                missing += 1
                self.pipeline.offer(candidate, peer, partial(tell, told[-1]))
        if missing:
            await all_told.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        assert {len(answers) for answers in told} <= {1}
        return [answers[0] for answers in told]

    async def code(self, event: Event, peer: Peer = STRANGER) -> str:
        """Judge one event: its refusal's code, or "new" or "duplicate"."""
        (verdict,) = await self.judge(event, peer=peer)
        return said(verdict)

    async def take(self, *events: Event) -> None:
        verdicts = await self.judge(*events)
        assert [said(verdict) for verdict in verdicts] == ["new"] * len(events)


def said(verdict: Verdict) -> str:
    if isinstance(verdict, Accepted):
        return "duplicate" if verdict.duplicate else "new"
    return verdict.code


@contextlib.asynccontextmanager
async def bench(folder: Path, **rates: int) -> AsyncIterator[Bench]:
    store = await SqliteStore.open(folder / "log.db")
    made = Bench(store, rates)
    try:
        yield made
    finally:
        await store.close()
        made.verifier.close()


def body_of(case: dict[str, Any], now: int) -> bytes:
    """Make a vector's event around any clock, as its recipe says."""
    recipe, author = case["recipe"], Keypair.from_hex(case["private_key"])
    make: Callable[..., Event] = Event.create
    tags = [tuple(tag) for tag in recipe["tags"]]
    if recipe["pow"] is not None:
        event = pow.mine(author, recipe["kind"], recipe["content"], tags, now + recipe["offset"], bits=recipe["pow"])
    else:
        try:
            event = make(author, recipe["kind"], recipe["content"], tags, created_at=now + recipe["offset"])
        except AnporiaError:  # larger than the library would make; a stranger's library does not care
            event = unchecked(author, recipe["kind"], recipe["content"], tags, now + recipe["offset"])
    fields = event.to_dict()
    for name, value in recipe["mutate"].items():
        if value == "__drop__":
            del fields[name]
        elif value == "__flip__":
            fields[name] = f"{int(fields[name][0], 16) ^ 1:x}{fields[name][1:]}"
        else:
            fields[name] = value
    return json.dumps(fields).encode()


def unchecked(author: Keypair, kind: int, content: str, tags: Sequence[Sequence[str]], at: int) -> Event:
    blank = Event("0" * 64, author.agent_id, at, kind, tuple(map(tuple, tags)), content, "0" * 128)
    return resigned(blank, author)


def resigned(event: Event, author: Keypair) -> Event:
    """Give it the id and signature that its other fields ask for."""
    id_ = event_id(event.canonical())
    return replace(event, id=id_, sig=author.sign(bytes.fromhex(id_)).hex())


def forged(event: Event) -> Event:
    return replace(event, sig=f"{int(event.sig[0], 16) ^ 1:x}{event.sig[1:]}")


# -- vectors


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case["name"])
async def test_vector_refused(case: dict[str, Any], tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        candidate: Event | AnporiaError
        try:
            candidate = Event.parse(body_of(case, NOW))
        except MalformedEvent as exc:
            candidate = exc
        (verdict,) = await b.judge(candidate)
        assert isinstance(verdict, AnporiaError)
        assert STATUS[verdict.code] in case["status"]
        assert not case["reason_any"] or any(text in str(verdict).lower() for text in case["reason_any"])
        assert b.store.last_seq == 0


@pytest.mark.parametrize("case", [c for c in INVALID if c["name"] in OVER_HTTP], ids=lambda case: case["name"])
def test_vector_refused_over_http(case: dict[str, Any], tmp_path: Path) -> None:
    with Served(tmp_path) as relay:
        answer = relay.post("/events", body_of(case, NOW))
        assert answer.status in case["status"]
        assert STATUS[answer.code or ""] == answer.status
        detail = answer.json()["detail"]
        assert isinstance(detail, list) == (answer.status == 422)
        assert not case["reason_any"] or any(text in detail.lower() for text in case["reason_any"])


async def test_valid_vectors_taken(tmp_path: Path) -> None:
    cases = json.loads((VECTORS / "events_valid.json").read_text("utf-8"))
    events = [Event.parse(json.dumps(case["event"])) for case in cases if case["publishable"]]
    async with bench(tmp_path) as b:
        for event in events:
            b.now = float(event.created_at)
            (verdict,) = await b.judge(event)
            assert isinstance(verdict, Accepted), verdict


# -- order of checks (WIRE section 3; a spent budget is found before a signature costs anything)


async def test_first_broken_rule_answers(tmp_path: Path) -> None:
    """One event that breaks everything, mended rule by rule, and what it is told at each step."""
    author, stored = keys(1), sign("a stranger's", by=2)
    async with bench(tmp_path, agent_rate=3) as b:
        await b.take(stored)
        event = Event(
            "0" * 64, author.agent_id, NOW - 10**6, kinds.TRUST_VOTE, tuple(("x", "y" * 1025) for _ in range(33)),
            "é" * 40_000, "0" * 128,
        )  # fmt: skip
        assert "content exceeds 65536 bytes" in await refusal(b, event)
        event = replace(event, content='{"score":2}')
        assert "too many tags" in await refusal(b, event)
        event = replace(event, tags=event.tags[:32])
        assert "tag value exceeds 1024 bytes" in await refusal(b, event)
        event = replace(event, tags=(("pow", "5"),))
        assert "too far in past (1000000s)" in await refusal(b, event)
        event = replace(event, created_at=NOW + 301)
        assert "too far in future (301s)" in await refusal(b, event)
        event = replace(event, created_at=NOW)
        assert "score" in await refusal(b, event)
        event = replace(event, content='{"score":1}')
        assert "event id mismatch" in await refusal(b, event)
        event = forged(resigned(event, author))
        assert "bad signature" in await refusal(b, event)
        event = resigned(event, author)
        assert "pow_below_minimum" in await refusal(b, event)
        event = resigned(replace(event, kind=kinds.REVOKE, tags=(("e", "a" * 64),)), author)
        assert "not found" in await refusal(b, event)
        event = resigned(replace(event, tags=(("e", stored.id),)), author)
        assert "your own" in await refusal(b, event)
        # none of these has cost the agent anything
        await b.take(*(sign(str(number)) for number in range(3)))
        assert await b.code(forged(sign("over"))) == "rate_agent"
        assert await b.code(replace(sign("over"), id="0" * 64)) == "bad_id"


async def refusal(b: Bench, event: Event) -> str:
    (verdict,) = await b.judge(event)
    assert isinstance(verdict, AnporiaError), verdict
    return str(verdict)


@pytest.mark.parametrize(
    ("offset", "code"), [(300, "new"), (301, "bad_time"), (-604_800, "new"), (-604_801, "bad_time")]
)
async def test_time_window_is_inclusive(offset: int, code: str, tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert await b.code(sign(at=NOW + offset)) == code


# -- duplicates


async def test_duplicates(tmp_path: Path) -> None:
    event = sign("once")
    async with bench(tmp_path) as b:
        assert [said(v) for v in await b.judge(event, sign("between"), event)] == ["new", "new", "duplicate"]
        assert await b.code(event) == "duplicate"
        answers = await asyncio.gather(*(b.judge(sign("raced")) for _ in range(20)))
        assert sorted(said(v) for (v,) in answers) == ["duplicate"] * 19 + ["new"]
        assert b.store.last_seq == 3


async def test_known_id_with_forged_signature(tmp_path: Path) -> None:
    event = sign("mine")
    async with bench(tmp_path) as b:
        assert [said(v) for v in await b.judge(forged(event), event, forged(event))] == [
            "bad_signature", "new", "bad_signature",
        ]  # fmt: skip
        assert await b.code(forged(event)) == "bad_signature"
        stored = await b.store.get(event.id)
        assert stored is not None and stored.serialised == event.to_json()


# -- kinds with a part of their own


async def test_beats_stay_in_memory(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        beat = sign("junk", kinds.BEAT)
        assert [said(v) for v in await b.judge(beat, beat)] == ["new", "new"]
        assert await b.code(forged(beat)) == "bad_signature"
        assert b.beats == [beat, beat]
        assert (b.store.last_seq, await b.store.get(beat.id)) == (0, None)
        assert await b.code(sign("", kinds.REVOKE, ["e", beat.id])) == "target_missing"


async def test_revoke_needs_an_own_stored_target(tmp_path: Path) -> None:
    mine, other = sign("mine"), sign("other", by=2)
    async with bench(tmp_path) as b:
        await b.take(mine, other)
        assert await b.code(sign("", kinds.REVOKE, ["e", "a" * 64])) == "target_missing"
        assert await b.code(sign("", kinds.REVOKE, ["e", other.id], ["e", mine.id])) == "not_yours"
        assert await b.code(sign("", kinds.REVOKE, ["e", mine.id.upper()])) == "new"


async def test_targets_within_one_batch(tmp_path: Path) -> None:
    content = json.dumps({"checkpoint_id": 1, "state_hash": "0" * 64, "event_count": 0, "as_of": 0})
    checkpoint = sign(content, kinds.CHECKPOINT, *[["cosign", who, "s"] for who in "abc"])
    post, other = sign("mine"), sign("other", by=2)

    def revoke(target: Event, nth: int = 0) -> Event:
        return sign(str(nth), kinds.REVOKE, ["e", target.id])

    def rollback(target: Event) -> Event:
        return sign('{"target_checkpoint":1,"reason":1}', kinds.ROLLBACK, ["e", target.id])

    async with bench(tmp_path) as b:  # one request: requests of one turn know nothing of each other
        verdicts = await b.pipeline.accept([
            revoke(post), rollback(checkpoint), forged(sign("f")), revoke(sign("f")),
            post, checkpoint, other, revoke(post, 1), rollback(checkpoint), rollback(post), revoke(other),
        ], STRANGER)  # fmt: skip
        assert [said(v) for v in verdicts] == [
            "target_missing", "target_missing", "bad_signature", "target_missing",
            "new", "new", "new", "new", "new", "target_missing", "not_yours",
        ]  # fmt: skip


async def test_targets_that_are_on_their_way_to_disk(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        posts = [sign(str(number)) for number in range(50)]
        revokes = [sign("", kinds.REVOKE, ["e", post.id]) for post in posts]
        first = asyncio.gather(*(b.judge(post) for post in posts))
        await asyncio.sleep(0)
        while not all([await b.store.author_and_kind(post.id) for post in posts]):  # noqa: ASYNC110  # no event tells
            await asyncio.sleep(0)
        answers = [said(v) for (v,) in await asyncio.gather(*(b.judge(revoke) for revoke in revokes))]
        assert [said(v) for (v,) in await first] == ["new"] * 50
        assert answers == ["new"] * 50


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ("-1", "bad_credit"),
        ("1e400", "bad_credit"),
        ('"x"', "bad_credit"),
        ("null", "bad_credit"),
        ('"7"', "new"),
        ("0", "new"),
    ],
)
async def test_credit_is_judged_last(amount: str, code: str, tmp_path: Path) -> None:
    content = f'{{"reward":{{"payment_method":"anp2_credit","amount":{amount}}}}}'
    event = pow.mine(keys(1), kinds.TASK_REQUEST, content, [], NOW)
    async with bench(tmp_path, agent_rate=1) as b:
        assert await b.code(event) == code
        assert await b.code(sign("after")) == "rate_agent"  # spent either way (WIRE section 3)


async def test_store_failure_acknowledges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path) as b:

        async def full(events: Sequence[Event]) -> list[Any]:
            raise StoreFull("no space")

        monkeypatch.setattr(b.store, "append", full)
        verdicts = await b.judge(sign("a"), forged(sign("b")), sign("c", kinds.BEAT), sign("d"))
        assert [said(v) for v in verdicts] == ["store_full", "bad_signature", "new", "store_full"]


# -- budgets


async def test_agent_budget(tmp_path: Path) -> None:
    async with bench(tmp_path, agent_rate=5) as b:
        verdicts = await b.judge(*(sign(str(number)) for number in range(8)))
        assert [said(v) for v in verdicts] == ["new"] * 5 + ["rate_agent"] * 3
        late = verdicts[-1]
        assert isinstance(late, Rejected) and late.retry_in == 61
        assert await b.code(sign("other", by=2)) == "new"


async def test_nobody_spends_another_agents_budget(tmp_path: Path) -> None:
    async with bench(tmp_path, agent_rate=3, peer_rate=5) as b:
        verdicts = await b.judge(*(forged(sign(str(number))) for number in range(100)))
        assert {said(v) for v in verdicts} == {"bad_signature"}
        await b.take(*(sign(str(number)) for number in range(3)))
        assert await b.code(sign("0")) == "rate_agent"  # a duplicate counts too, and 3 are spent
        await b.take(sign("", by=2), sign("", by=3))
        assert await b.code(sign("", by=4)) == "rate_peer"


async def test_window_edges(tmp_path: Path) -> None:
    async with bench(tmp_path, agent_rate=2) as b:
        await b.take(sign("a"))
        b.steady += 10
        await b.take(sign("b"))
        b.steady += 50  # the first hit is exactly 60 s old and still counts
        (verdict,) = await b.judge(sign("c"))
        assert isinstance(verdict, Rejected) and (verdict.code, verdict.retry_in) == ("rate_agent", 1)
        b.steady += 1
        await b.take(sign("c"))
        (verdict,) = await b.judge(sign("d"))
        assert isinstance(verdict, Rejected) and verdict.retry_in == 10
        b.steady += verdict.retry_in
        await b.take(sign("d"))


async def test_forged_batch_costs_no_more_than_its_budget(tmp_path: Path) -> None:
    async with bench(tmp_path, bad_event_rate=70) as b:
        verdicts = await b.judge(*(forged(sign(str(number))) for number in range(1_000)))
        assert [said(v) for v in verdicts] == ["bad_signature"] * 70 + ["rate_bad_events"] * 930
        assert b.verifier.asked == 70
        assert await b.code(sign("genuine, but from there")) == "rate_bad_events"
        assert await b.code(sign("from elsewhere"), Peer.of("203.0.113.9")) == "new"
        b.steady += 61
        assert await b.code(sign("later")) == "new"
        assert b.verifier.asked == 72


@pytest.mark.parametrize("size", [1, 7, 300])
async def test_parallel_forgers_share_one_budget(size: int, tmp_path: Path) -> None:
    async with bench(tmp_path, bad_event_rate=70) as b:
        b.verifier.delay = 0.002
        batches = [
            [forged(sign(f"{batch} {number}")) for number in range(size)] for batch in range(min(100, 6_000 // size))
        ]
        verdicts = [v for part in await asyncio.gather(*(b.judge(*batch) for batch in batches)) for v in part]
        assert sorted({said(v) for v in verdicts}) == ["bad_signature", "rate_bad_events"]
        assert sum(said(v) == "bad_signature" for v in verdicts) == b.verifier.asked == 70


async def test_honest_crowd_behind_one_address_waits_instead_of_failing(tmp_path: Path) -> None:
    async with bench(tmp_path, bad_event_rate=3) as b:
        answers = await asyncio.gather(*(b.judge(*(sign(f"{n} {m}") for m in range(4))) for n in range(64)))
        assert {said(v) for part in answers for v in part} == {"new"}
        await asyncio.gather(*b.pipeline._tasks)
        assert not b.pipeline._under_way and not b.pipeline._released


async def test_forgers_of_many_turns_share_one_budget(tmp_path: Path) -> None:
    """Offers of several turns, some of which wait; exactly the budget is verified."""
    async with bench(tmp_path, bad_event_rate=70) as b:
        for delay in (0.0, 0.002):
            b.verifier.delay, b.verifier.asked = delay, 0
            turns = []
            for turn in range(20):
                events = [forged(sign(f"{delay} {turn} {number}")) for number in range(1 + turn * 3)]
                turns.append(asyncio.ensure_future(b.judge(*events)))
                await asyncio.sleep(0)
            verdicts = [v for turn_ in turns for v in await turn_]
            assert {said(v) for v in verdicts} == {"bad_signature", "rate_bad_events"}
            assert sum(said(v) == "bad_signature" for v in verdicts) == b.verifier.asked == 70
            await asyncio.gather(*b.pipeline._tasks)
            assert not b.pipeline._under_way and not b.pipeline._released
            b.steady += 61


async def test_forgers_hold_up_nobody_from_elsewhere(tmp_path: Path) -> None:
    async with bench(tmp_path, bad_event_rate=2) as b:
        other = Peer.of("203.0.113.9")
        bad = [(forged(sign(str(n))), STRANGER) for n in range(300)]
        good = [(sign(f"good {n}"), other) for n in range(300)]
        mixed = [one for two in zip(bad, good, strict=True) for one in two]
        answers = [said(v) for v in await b.offer(mixed)]
        assert answers[1::2] == ["new"] * 300
        assert answers[::2] == ["bad_signature"] * 2 + ["rate_bad_events"] * 298


async def test_exempt_neighbour_does_not_lend_its_room(tmp_path: Path) -> None:
    """Two hosts of one /64, one of them exempt; found as a count of signatures under way that went below zero."""
    exempt = networks("2001:db8::1/128")
    free, held = Peer.of("2001:db8::1", exempt), Peer.of("2001:db8::2", exempt)
    assert free.key == held.key and free.exempt and not held.exempt
    async with bench(tmp_path, bad_event_rate=5) as b:
        b.verifier.delay = 0.002
        verdicts = await asyncio.gather(
            *(b.judge(forged(sign(f"{n}")), peer=held) for n in range(50)),
            *(b.judge(*(sign(f"{n} {m}") for m in range(9)), peer=free) for n in range(50)),
            *(b.judge(forged(sign(f"more {n}")), peer=held) for n in range(50)),
        )
        assert sum(said(v) == "bad_signature" for part in verdicts for v in part) == 5
        assert sum(said(v) == "new" for part in verdicts for v in part) == 450
        await asyncio.gather(*b.pipeline._tasks)
        assert not b.pipeline._under_way


# -- faults of ours


async def broken(*_: object) -> Any:
    raise ZeroDivisionError


async def test_a_fault_of_the_verifier_answers_everyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path, bad_event_rate=50) as b:
        events = [(sign(str(n), at=NOW + 301 if n % 10 == 0 else NOW), STRANGER) for n in range(MAX_CHUNK + 50)]
        with monkeypatch.context() as patched:
            patched.setattr(b.verifier, "verify", broken)
            answers = [said(v) for v in await b.offer(events)]
        assert answers == ["bad_time" if n % 10 == 0 else "internal" for n in range(len(events))]
        await asyncio.gather(*b.pipeline._tasks)
        assert not b.pipeline._under_way
        assert set(map(said, await b.offer(events))) == {"bad_time", "new"}


async def test_a_fault_of_the_store_answers_everyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path) as b:
        events = [sign("a"), forged(sign("b")), sign("c", kinds.BEAT), sign("d")]
        with monkeypatch.context() as patched:
            patched.setattr(b.store, "append", broken)
            verdicts = await b.offer([(event, STRANGER) for event in events])
        assert [said(v) for v in verdicts] == ["internal", "bad_signature", "new", "internal"]


@pytest.mark.parametrize("where", ["check_shape", "check_credit"])
async def test_a_fault_that_one_event_meets_is_its_own(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after its signature; those judged together with it have done nothing."""
    real = getattr(kinds, where)

    def check(event: Event) -> None:
        if event.content == "bad luck":
            raise ZeroDivisionError
        real(event)

    monkeypatch.setattr(kinds, where, check)
    async with bench(tmp_path, bad_event_rate=50) as b:
        verdicts = await b.judge(sign("a"), sign("bad luck"), sign("b"), forged(sign("c")))
        assert [said(v) for v in verdicts] == ["new", "internal", "new", "bad_signature"]
        await asyncio.gather(*b.pipeline._tasks)
        assert not b.pipeline._under_way


async def test_one_who_cannot_be_answered_changes_nothing_for_others(tmp_path: Path) -> None:
    told: list[Verdict] = []

    def fail(_: Verdict) -> None:
        raise ZeroDivisionError

    async with bench(tmp_path) as b:
        for event in (sign("a"), forged(sign("b")), sign("c", kinds.BEAT)):
            b.pipeline.offer(event, STRANGER, fail)
        (verdict,) = await b.offer([(sign("d"), STRANGER)])
        assert said(verdict) == "new" and b.store.last_seq == 2
        b.pipeline.offer(sign("e"), STRANGER, told.append)
        while not told:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert said(told[0]) == "new"


async def test_an_answer_may_bring_the_next_event(tmp_path: Path) -> None:
    """As the next request of a pipeline does."""
    async with bench(tmp_path, bad_event_rate=3) as b:
        told: list[str] = []

        def answered(verdict: Verdict) -> None:
            told.append(said(verdict))
            if len(told) < 50:
                b.pipeline.offer(sign(str(len(told)), at=NOW + 301 * (len(told) % 2)), STRANGER, answered)

        b.pipeline.offer(sign("0"), STRANGER, answered)
        while len(told) < 50:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert told == ["new", "bad_time"] * 25


@pytest.mark.parametrize(("rates", "most"), [({"agent_rate": 37}, 37), ({"peer_rate": 41}, 41)])
async def test_limits_hold_under_parallel_publishers(rates: dict[str, int], most: int, tmp_path: Path) -> None:
    async with bench(tmp_path, **rates) as b:
        answers = await asyncio.gather(*(b.judge(*(sign(f"{n} {m}") for m in range(3))) for n in range(64)))
        taken = sum(said(v) == "new" for part in answers for v in part)
        assert taken == b.store.last_seq == most


async def test_large_batch_is_verified_in_parts_and_answered_in_order(tmp_path: Path) -> None:
    events = [sign(str(number), at=NOW + 301 if number % 7 == 0 else NOW) for number in range(MAX_CHUNK * 2 + 5)]
    async with bench(tmp_path) as b:
        verdicts = await b.judge(*events)
        for number, (event, verdict) in enumerate(zip(events, verdicts, strict=True)):
            if number % 7 == 0:
                assert said(verdict) == "bad_time"
            else:
                assert isinstance(verdict, Accepted) and verdict.id == event.id


async def test_parse_errors_pass_through_in_place(tmp_path: Path) -> None:
    broken = MalformedEvent([{"type": "missing", "loc": ["body", "id"], "msg": "field required", "input": None}])
    async with bench(tmp_path) as b:
        verdicts = await b.judge(broken, sign("a"), broken)
        assert verdicts[0] is verdicts[2] is broken and said(verdicts[1]) == "new"
        assert await b.judge() == []


# -- the lobby


def lobby(number: int) -> Event:
    return sign(str(number), 1, ["t", kinds.LOBBY], by=number + 1)


async def test_lobby_bucket_of_one_address(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.take(*(lobby(number) for number in range(5)))
        (verdict,) = await b.judge(lobby(5))
        assert isinstance(verdict, Rejected) and (verdict.code, verdict.retry_in) == ("lobby_slow", 300)
        await b.take(sign("elsewhere", 1, ["t", "Lobby"]))
        b.steady += 299
        assert await b.code(lobby(5)) == "lobby_slow"
        b.steady += 1
        await b.take(lobby(5))
        assert await b.code(lobby(6)) == "lobby_slow"
        assert await b.code(lobby(7), LOOPBACK) == "new"
        assert await b.code(lobby(8), Peer.of("203.0.113.9")) == "new"


async def test_lobby_of_all_together(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        answers = [await b.code(lobby(number), Peer.of(f"203.0.113.{number}")) for number in range(61)]
        assert answers == ["new"] * 60 + ["lobby_full"]
        exempt = replace(STRANGER, exempt=True)
        assert await b.code(lobby(61), exempt) == "lobby_full"
        assert await b.code(lobby(61), LOOPBACK) == "new"
        b.steady += 61
        assert [await b.code(lobby(70 + n), exempt) for n in range(7)] == ["new"] * 7


# -- who somebody is


def networks(text: str) -> Networks:
    return Config.load({"rate_exempt": text}, {}).rate_exempt


def test_exempt_addresses_are_still_verified_and_held_to_agent_limits(tmp_path: Path) -> None:
    exempt = networks("198.51.100.0/24, 2001:db8::/32")
    assert Peer.of("198.51.100.7", exempt).exempt
    assert Peer.of("::ffff:198.51.100.7", exempt).exempt
    assert Peer.of("2001:db8:1::1", exempt).exempt
    assert not Peer.of("198.51.101.7", exempt).exempt
    with Served(tmp_path, agent_rate=2, peer_rate=1, bad_event_rate=1, rate_exempt=networks("127.0.0.1")) as relay:
        codes = [line.get("code", "new") for line in relay.batch(*(sign(str(number)) for number in range(4)))]
        assert codes == ["new", "new", "rate_agent", "rate_agent"]
        codes = [line["code"] for line in relay.batch(*(forged(sign(str(n), by=2)) for n in range(4)))]
        assert codes == ["bad_signature"] * 4


@pytest.mark.parametrize(
    ("address", "key", "is_loopback"),
    [
        ("203.0.113.9", "203.0.113.9", False),
        ("203.0.113.9:4711", "203.0.113.9", False),
        ("::ffff:203.0.113.9", "203.0.113.9", False),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002", False),
        ("2001:DB8:1:2::", "2001:0db8:0001:0002", False),
        ("[2001:db8:1:2::9]", "2001:0db8:0001:0002", False),
        ("[2001:db8:1:2::9]:4711", "2001:0db8:0001:0002", False),
        ("2001:db8:1:3::9", "2001:0db8:0001:0003", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "0000:0000:0000:0000", True),
        ("localhost", "localhost", True),
        ("unknown", "unknown", False),
        ("", "", False),
    ],
)
def test_who_a_peer_is(address: str, key: str, is_loopback: bool) -> None:
    peer = Peer.of(address)
    assert (peer.key, peer.loopback) == (key, is_loopback)


def forwarded(relay: Served, *entries: str, by: int = 1) -> str:
    """Publish with these X-Forwarded-For lines and give the code, or "new"."""
    lines = "".join(f"X-Forwarded-For: {entry}\r\n" for entry in entries)
    body = sign(f"{entries} {by} {relay.call(lambda: relay.relay.store.last_seq)}", by=by).to_json()
    with relay.one_wire() as wire:
        start = f"POST /events HTTP/1.1\r\n{lines}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = wire.ask(start.encode() + body)
    return answer.code or "new"


def test_forwarded_addresses_from_a_trusted_proxy(tmp_path: Path) -> None:
    with Served(tmp_path, peer_rate=1) as relay:
        assert forwarded(relay, "203.0.113.1") == "new"
        assert forwarded(relay, "203.0.113.1") == "rate_peer"
        # what a client writes itself stands to the left of what the proxy adds
        assert forwarded(relay, "10.0.0.1, 203.0.113.1") == "rate_peer"
        assert forwarded(relay, "10.0.0.2", "203.0.113.1") == "rate_peer"
        assert forwarded(relay, "203.0.113.1, 203.0.113.2") == "new"
        assert forwarded(relay, "2001:db8::1") == "new"
        assert forwarded(relay, "2001:db8::ffff:2") == "rate_peer"
        assert forwarded(relay) == "new"  # the proxy itself
        assert forwarded(relay) == "rate_peer"


def test_forwarded_addresses_from_anybody_else(tmp_path: Path) -> None:
    with Served(tmp_path, peer_rate=1, trusted_proxies=()) as relay:
        assert forwarded(relay, "203.0.113.1") == "new"
        assert forwarded(relay, "203.0.113.2") == "rate_peer"


def test_retry_after_header(tmp_path: Path) -> None:
    with Served(tmp_path, agent_rate=1) as relay:
        relay.publish(sign("a"))
        relay.steady += 20
        answer = relay.post("/events", sign("b").to_json())
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "rate_agent", "41")
        relay.steady += 41
        relay.publish(sign("b"))


# -- the verifier by itself


async def test_questions_of_any_size_are_answered_in_order() -> None:
    rng = random.Random(3)
    signed = [(forged(e) if n % 3 == 0 else e).signed() for n, e in enumerate(sign(str(n)) for n in range(40))]
    verifier = Verifier(threads=2)
    sizes: list[int] = []
    verifier.on_batch = lambda size, _seconds: sizes.append(size)
    try:

        async def ask(picked: list[int]) -> None:
            assert await verifier.verify([signed[n] for n in picked]) == [n % 3 != 0 for n in picked]

        questions = [[rng.randrange(40) for _ in range(rng.choice([0, 1, 4, 5, 64, 65, 200]))] for _ in range(60)]
        await asyncio.gather(*(ask(picked) for picked in questions))
        assert verifier.queued == verifier._busy == 0 and not verifier._waiting
        assert max(sizes) <= MAX_BATCH and sum(sizes) == sum(map(len, questions))
    finally:
        verifier.close()


async def test_a_question_that_fails_or_is_left_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    good = sign("good").signed()
    verifier = Verifier(threads=2)

    def verify(batch: Sequence[tuple[bytes, bytes, bytes]]) -> list[bool]:
        if any(one[0] == b"" for one in batch):
            raise ValueError("not a key")
        return [True] * len(batch)

    monkeypatch.setattr("anporia_relay.verifier.verify_many", verify)
    try:
        bad = asyncio.ensure_future(verifier.verify([good] * 150 + [(b"", b"", b"")] + [good] * 150))
        left = asyncio.ensure_future(verifier.verify([good] * 300))
        await asyncio.sleep(0)
        left.cancel()
        assert await verifier.verify([good] * 500) == [True] * 500
        with pytest.raises(ValueError, match="not a key"):
            await bad
        assert await verifier.verify([good]) == [True]
        while verifier._busy:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert verifier.queued == 0
    finally:
        verifier.close()


# -- limits by themselves


def test_rolling_window_never_exceeds(counts: Callable[..., int]) -> None:
    """Against a model that keeps every hit: any 60 s, ends included, hold at most the limit."""
    for seed in range(counts(20, soak=500)):
        rng = random.Random(seed)
        window, limit, now = RollingWindow(3), 3, 0
        hits: dict[str, list[int]] = {"a": [], "b": []}
        for _ in range(400):
            now += rng.choice([0, 0, 1, 5, 30, 59, 60, 61, 130])
            key = rng.choice("ab")
            recent = [at for at in hits[key] if now - at <= 60]
            wait = window.wait(key, now)
            assert (wait == 0) == (len(recent) < limit)
            assert window.left(key, now) == limit - len(recent)
            if wait:
                assert wait == recent[0] + 61 - now
            else:
                window.hit(key, now)
                hits[key].append(now)


def test_rolling_window_forgets() -> None:
    window = RollingWindow(10)
    for number in range(100_000):
        window.hit(str(number), number // 100)
    assert len(window._young) + len(window._old) < 15_000


def test_token_bucket_refills_steadily() -> None:
    bucket, now = TokenBucket(5, 300), 0
    taken: list[int] = []
    while len(taken) < 20:
        now += bucket.wait("k", now)
        assert bucket.wait("k", now) == 0
        bucket.take("k", now)
        taken.append(now)
    assert taken[:5] == [0] * 5
    assert all(later - earlier == 300 for earlier, later in pairwise(taken[4:]))


async def test_nobody_waits_for_the_store_on_account_of_another(tmp_path: Path) -> None:
    """A kind 9 asks the store for its target; a post of the same turn is kept meanwhile, however busy readers are."""
    async with bench(tmp_path) as b:
        mine = sign("mine")
        await b.take(mine)
        readers = [await b.store._readers.get() for _ in range(b.store._readers.qsize())]
        loop = asyncio.get_running_loop()
        revoked: asyncio.Future[Verdict] = loop.create_future()
        posted: asyncio.Future[Verdict] = loop.create_future()
        b.pipeline.offer(sign("", kinds.REVOKE, ["e", mine.id]), STRANGER, revoked.set_result)
        b.pipeline.offer(sign("another"), STRANGER, posted.set_result)
        async with asyncio.timeout(20):
            assert said(await posted) == "new"
            assert not revoked.done()
            for reader in readers:
                b.store._readers.put_nowait(reader)
            assert said(await revoked) == "new"
