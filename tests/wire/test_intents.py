"""Intents: what passes the door, and where they stand, whatever comes in whatever order."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest

from anporia_wire import Event, Keypair, RuleBroken, intents, kinds
from anporia_wire.views import Delegations, IntentQuery, Intents, Revocations, Successors
from anporia_wire.views import intents as view_of_intents
from tests.wire.samples import ALICE, BOB, CAROL, NOW, signed

CRITERIA = [{"text": "it says hello", "method": "http-get", "expected": "hello"}]
DAVE = Keypair(b"\x04" * 32)


def said(draft: intents.Draft, by: Keypair = ALICE, at: int = NOW) -> Event:
    kind, content, tags = draft
    return signed(kind, content, tags, by=by, at=at)


def declared(by: Keypair = ALICE, at: int = NOW - 100, goal: str = "say hello", **more: Any) -> Event:
    return said(intents.declare_draft(goal=goal, success_criteria=CRITERIA, **more), by, at)


def status(
    of: Event, word: str, prev: Event | None = None, by: Keypair = ALICE, at: int = NOW - 50, **more: Any
) -> Event:
    return said(intents.status_draft(of.id, status=word, prev=(prev or of).id, **more), by, at)


def verdict(of: Event, word: str, by: Keypair = BOB, at: int = NOW - 40, **more: Any) -> Event:
    return said(intents.verify_draft(of.id, of.agent_id, verdict=word, method="http-get", **more), by, at)


def revoke(of: Event, by: Keypair = ALICE, at: int = NOW - 10) -> Event:
    return signed(9, "{}", [["e", of.id]], by=by, at=at)


class World:
    """The views of some events."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.revocations, successors = Revocations(), Successors()
        self.delegations = Delegations(self.revocations, successors)
        self.intents = Intents(self.revocations, self.delegations)
        self.events = {event.id: event for event in events}
        for event in events:
            for view in (self.revocations, successors, self.delegations, self.intents):
                view.apply(event)

    def row(self, of: Event, now: int = NOW, verifiers: Sequence[Keypair] = (), quorum: int = 1) -> dict[str, Any]:
        row = self.intents.read(of.id, now, self.events, [one.agent_id for one in verifiers], quorum)
        assert row is not None
        return row


def row(
    of: Event, *events: Event, now: int = NOW, verifiers: Sequence[Keypair] = (), quorum: int = 1
) -> dict[str, Any]:
    """Give the row of an intent; it is the same in every order that is tried."""
    every = [of, *events, *events]
    first = World(every).row(of, now, verifiers, quorum)
    chance = random.Random(5)
    orders = list(permutations([of, *events])) if len(events) < 4 else []
    for order in orders or (chance.sample(every, len(every)) for _ in range(20)):
        assert World(list(order)).row(of, now, verifiers, quorum) == first
    return first


# ------------------------------------------------------------------------------------------------ where it stands


def test_an_intent_goes_its_way() -> None:
    steps = [{"name": "one", "action": "listen"}]
    intent = declared(steps=steps, deadline_unix=NOW + 5, assignee=CAROL.agent_id, topics=["greetings"])
    assert row(intent) == {
        "intent_id": intent.id, "agent_id": ALICE.agent_id, "created_at": NOW - 100, "goal": "say hello",
        "success_criteria": CRITERIA, "steps": steps, "deadline_unix": NOW + 5, "parent": None,
        "assignee": CAROL.agent_id, "topics": ["greetings"], "status": "declared", "step": None, "conflict": False,
        "overdue": False, "authority": None, "verdicts": [],
        "verified": None, "passes": None, "quorum": 1, "statuses": [],
    }  # fmt: skip
    first = status(intent, "executing", step="one", at=NOW - 60)
    assert (row(intent, first)["status"], row(intent, first)["step"]) == ("executing", "one")
    last = status(intent, "completed", first, evidence="see there")
    found = row(intent, first, last, verdict(intent, "passed", reason="heard it", evidence_hash="ab" * 32))
    assert (found["status"], found["step"], found["conflict"], found["verified"]) == ("completed", None, False, None)
    assert found["statuses"][1] == {
        "id": last.id, "status": "completed", "step": None, "evidence": "see there", "prev": first.id,
        "created_at": NOW - 50, "authority": None,
    }  # fmt: skip
    (one,) = found["verdicts"]
    del one["id"]
    assert one == {
        "agent_id": BOB.agent_id, "verdict": "passed", "method": "http-get", "evidence_hash": "ab" * 32,
        "reason": "heard it", "created_at": NOW - 40, "authority": None,
    }  # fmt: skip


def test_nobody_else_says_how_it_stands_or_withdraws_it() -> None:
    intent = declared()
    assert row(intent, status(intent, "completed", by=BOB), revoke(intent, by=BOB))["status"] == "declared"


def test_a_status_never_falls_back() -> None:
    intent = declared()
    first = status(intent, "completed", at=NOW - 60)
    after = status(intent, "executing", first, at=NOW - 50)
    found = row(intent, first, after)
    assert (found["status"], found["conflict"]) == ("completed", False)


def test_two_heads_are_a_conflict_and_the_greatest_counts() -> None:
    intent = declared()
    first = status(intent, "executing", at=NOW - 60)
    good, bad = status(intent, "completed", first, at=NOW - 50), status(intent, "failed", first, at=NOW - 49)
    found = row(intent, first, good, bad)
    assert (found["status"], found["conflict"]) == ("failed", True)
    assert World([intent, first, good, bad]).intents.head(intent.id, NOW) == bad.id


def test_a_status_whose_predecessor_is_missing_is_a_head_of_its_own() -> None:
    intent = declared()
    first = status(intent, "executing", at=NOW - 60)
    second = status(intent, "executing", first, at=NOW - 55)
    third = status(intent, "executing", second, at=NOW - 50)
    assert row(intent, first, third)["conflict"] is True
    assert row(intent, third)["conflict"] is False
    assert row(intent, first, second, third)["conflict"] is False


def test_a_revoked_status_stays_in_the_chain() -> None:
    intent = declared()
    failed = status(intent, "failed")
    assert row(intent, failed, revoke(failed))["status"] == "failed"


def test_withdrawn_is_final() -> None:
    intent = declared()
    done = status(intent, "completed")
    found = row(intent, done, verdict(intent, "passed"), revoke(intent), verifiers=[BOB])
    assert (found["status"], found["verified"], found["passes"]) == ("withdrawn", False, 1)


def test_verified_is_said_to_those_who_name_verifiers_only() -> None:
    intent = declared()
    done = status(intent, "completed")
    crowd = [verdict(intent, "passed", by=Keypair(bytes([9, n]) * 16)) for n in range(30)]
    found = row(intent, done, *crowd)
    assert (found["verified"], found["passes"], len(found["verdicts"])) == (None, None, 30)
    assert row(intent, done, *crowd, verifiers=[BOB])["verified"] is False
    good = [*crowd, verdict(intent, "passed"), verdict(intent, "passed", by=CAROL)]
    assert row(intent, done, *good, verifiers=[BOB, BOB], quorum=2)["verified"] is False
    found = row(intent, done, *good, verifiers=[BOB, CAROL], quorum=2)
    assert (found["verified"], found["passes"], found["quorum"]) == (True, 2, 2)
    assert {one["agent_id"] for one in found["verdicts"][:2]} == {BOB.agent_id, CAROL.agent_id}
    assert row(intent, *good, verifiers=[BOB])["verified"] is False, "not completed"


def test_of_each_verifier_the_last_verdict_counts() -> None:
    intent, done = (it := declared()), status(it, "completed")
    first, second = verdict(intent, "passed", at=NOW - 40), verdict(intent, "failed", at=NOW - 30)
    found = row(intent, done, first, second, verifiers=[BOB])
    assert ([one["id"] for one in found["verdicts"]], found["passes"]) == ([second.id], 0)
    assert row(intent, done, first, second, revoke(second, by=BOB), verifiers=[BOB])["verified"] is True
    assert row(intent, done, first, second, revoke(second), verifiers=[BOB])["verified"] is False, "not his to revoke"


def test_an_authors_own_verdict_and_one_that_names_another_author_count_not() -> None:
    intent, done = (it := declared()), status(it, "completed")
    own = verdict(intent, "passed", by=ALICE)
    astray = said(intents.verify_draft(intent.id, CAROL.agent_id, verdict="passed", method="x"), by=BOB)
    assert row(intent, done, own, astray, verifiers=[ALICE, BOB])["verdicts"] == []


def test_what_is_dated_in_the_future_is_hidden_until_it_is_due() -> None:
    intent = declared(at=NOW)
    later = [status(intent, "completed", at=NOW + 50), verdict(intent, "passed", at=NOW + 60)]
    found = row(intent, *later, verifiers=[BOB])
    assert (found["status"], found["passes"], found["statuses"]) == ("declared", 0, [])
    assert row(intent, *later, now=NOW + 60, verifiers=[BOB])["verified"] is True
    world = World([intent, *later])
    assert world.intents.read(intent.id, NOW - 1, world.events) is None
    assert world.intents.find(IntentQuery(), NOW - 1, 5) == ([], None) and world.intents.mentioned(intent.id, 5) == []


@pytest.mark.parametrize(
    ("word", "overdue"), [(None, True), ("executing", True), ("completed", False), ("failed", False)]
)
def test_overdue(word: str | None, overdue: bool) -> None:
    intent = declared(deadline_unix=NOW - 1)
    events = [status(intent, word)] if word else []
    assert row(intent, *events)["overdue"] is overdue
    assert row(intent, *events, now=NOW - 1)["overdue"] is False
    assert row(intent, *events, revoke(intent))["overdue"] is False


def test_lists() -> None:
    root = declared(topics=["a"])
    parts = [declared(goal=str(n), by=BOB, at=NOW - 90 + n // 2, parent=root.id, topics=["b"]) for n in range(9)]
    ordered = [one.id for one in sorted([root, *parts], key=lambda one: (-one.created_at, one.id))]
    world = World([*parts, status(root, "executing"), root])
    find = world.intents.find
    assert find(IntentQuery(), NOW, 200) == (ordered, None)
    assert find(IntentQuery(parent=root.id, author=BOB.agent_id, topic="b"), NOW, 200)[0] == ordered[:-1]
    assert find(IntentQuery(author=CAROL.agent_id), NOW, 200) == ([], None)
    assert find(IntentQuery(status="executing"), NOW, 200)[0] == [root.id]
    walked, after = list[str](), None
    for _ in range(4):
        some, after = find(IntentQuery(), NOW, 3, after)
        walked += some
    assert (walked, after) == (ordered, None)


def test_a_page_looks_at_so_many_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_of_intents, "MAX_SCANNED", 3)
    events = [declared(goal=str(n), at=NOW - n) for n in range(8)]
    world = World([*events, revoke(events[-1])])
    after, pages = None, []
    for _ in range(3):
        some, after = world.intents.find(IntentQuery(status="withdrawn"), NOW, 5, after)
        pages.append(some)
    assert (pages, after) == ([[], [], [events[-1].id]], None)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_of_intents, "MAX_STATUSES", 4)
    monkeypatch.setattr(view_of_intents, "MAX_VERDICTS", 2)
    intent = declared()
    chain = [status(intent, "executing", at=NOW - 60)]
    for n in range(8):
        chain.append(status(intent, "executing", chain[-1], at=NOW - 59 + n))
    found = row(intent, *chain, status(intent, "failed", chain[0], at=NOW - 60))
    assert (found["status"], len(found["statuses"]), found["conflict"]) == ("failed", 5, True)
    verdicts = [verdict(intent, "passed", at=NOW - 40 + n) for n in range(5)]
    world = World([*verdicts, intent])
    assert world.intents.snapshot() == World([intent, *reversed(verdicts)]).intents.snapshot()
    assert len(world.intents.snapshot()[0][3][0][2]) == 2


def test_more_statuses_than_count_are_a_conflict_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """An author crowded out that it had failed, and what was left told one story, which was verified."""
    monkeypatch.setattr(view_of_intents, "MAX_STATUSES", 4)
    intent = declared()
    chain = [status(intent, "completed", at=NOW - 59)]
    for n in range(3):
        chain.append(status(intent, "completed", chain[-1], at=NOW - 58 + n))
    passed = verdict(intent, "passed")
    found = row(intent, *chain, *[status(intent, "failed", by=BOB, at=NOW - 60 + n) for n in range(9)], passed)
    assert found["conflict"] is False, "as many as count, and none of strangers"
    for crowded in (
        [status(intent, "failed", at=NOW - 60), *chain],
        [status(intent, "failed", at=NOW - 60), status(intent, "executing", at=NOW - 70), *chain],
        [*chain, status(intent, "executing", chain[-1], at=NOW - 50)],
        [status(intent, "failed"), *(status(intent, "completed", one, at=one.created_at + 200) for one in chain)],
    ):
        found = row(intent, passed, *crowded, verifiers=[BOB])
        assert (found["conflict"], found["verified"], found["passes"]) == (True, False, 1)
        world = World([*crowded, *crowded, passed, intent])
        other = World([intent, passed, *reversed(crowded)])
        assert world.intents.snapshot() == other.intents.snapshot()
        snapshot = json.loads(json.dumps(world.intents.snapshot()))
        again = Intents.restore(snapshot, world.revocations, world.delegations)
        assert again.read(intent.id, NOW, world.events, [BOB.agent_id]) == found
        # whoever has no more than the evidence finds the same
        backed = World([world.events[id_] for id_ in world.intents.mentioned(intent.id, NOW)])
        assert backed.row(intent, verifiers=[BOB]) == found


def test_nobody_vouches_for_two_stories() -> None:
    intent = declared()
    stories = [status(intent, "failed", at=NOW - 60), status(intent, "completed", at=NOW - 50)]
    found = row(intent, *stories, verdict(intent, "passed"), verifiers=[BOB])
    assert (found["status"], found["conflict"], found["passes"], found["verified"]) == ("completed", True, 1, False)


def test_a_verdict_before_the_last_status_counts_all_the_same() -> None:
    intent = declared()
    early, done = verdict(intent, "passed", at=NOW - 60), status(intent, "completed", at=NOW - 50)
    assert row(intent, early, done, verifiers=[BOB])["verified"] is True


def test_a_row_without_statuses_needs_few_events_and_is_the_same() -> None:
    intent = declared()
    chain = [status(intent, "executing", at=NOW - 60, step="0")]
    for n in range(1, 6):
        chain.append(status(intent, "executing", chain[-1], at=NOW - 60 + n, step=f"{n}"))
    world = World([intent, *chain, passed := verdict(intent, "passed")])
    needed = world.intents.mentioned(intent.id, NOW, whole=False)
    assert needed == [intent.id, chain[-1].id, passed.id]
    whole = world.row(intent)
    assert [one["step"] for one in whole.pop("statuses")] == list("012345") and whole["step"] == "5"
    assert world.intents.read(intent.id, NOW, {id_: world.events[id_] for id_ in needed}, whole=False) == whole


def test_whoever_cannot_read_all_reads_of_both_stories_first() -> None:
    intent = declared()
    failed, chain = status(intent, "failed", at=NOW - 60), [status(intent, "completed", at=NOW - 59)]
    for n in range(6):
        chain.append(status(intent, "completed", chain[-1], at=NOW - 58 + n))
    said = World([intent, failed, *chain]).intents.mentioned(intent.id, NOW)
    assert said == [intent.id, chain[-1].id, failed.id, *(one.id for one in chain[-2::-1])]


def test_of_one_second_the_last_of_a_chain_is_told_last() -> None:
    intent = declared()
    for n in range(8):
        first = status(intent, "executing", step=f"{n}")
        assert [one["status"] for one in row(intent, status(intent, "failed", first), first)["statuses"]] == [
            "executing",
            "failed",
        ]


def test_foreign_schemas_and_broken_shapes_count_not() -> None:
    intent = declared()
    foreign = signed(1500, intent.content, [["s", "somebody.else.v1"]])
    doubled = signed(1500, intent.content, [["s", intents.SCHEMAS[1500]], ["s", "x"]])
    astray = signed(1501, intent.content, [["s", intents.SCHEMAS[1500]]])
    broken = signed(1500, "{}", [["s", intents.SCHEMAS[1500]]])
    world = World([intent, foreign, doubled, astray, broken])
    assert world.intents.find(IntentQuery(), NOW, 9)[0] == [intent.id]
    kinds.check_shape(foreign)
    kinds.check_shape(astray)


# ---------------------------------------------------------------------------------------------------- at the door

GOOD: dict[int, tuple[dict[str, Any], list[list[str]]]] = {
    1500: ({"goal": "g", "success_criteria": [{"text": "t", "method": "m"}]}, []),
    1501: ({"status": "executing"}, [["e", "ab" * 32, "root"], ["prev", "cd" * 32]]),
    1502: ({"verdict": "failed", "method": "m", "reason": ""}, [["e", "ab" * 32, "root"], ["p", "cd" * 32]]),
    1503: ({"child": "ab" * 32, "scope": [1, "x"], "expires_at": 0}, [["p", "ab" * 32]]),
    1504: ({"successor": "ab" * 32}, [["p", "ab" * 32]]),
}
BAD: list[tuple[int, dict[str, Any], str]] = [
    (1500, {"goal": ""}, "goal"),
    (1500, {"goal": "x" * 2_001}, "goal"),
    (1500, {"goal": 5}, "goal"),
    (1500, {"success_criteria": []}, "success_criteria"),
    (1500, {"success_criteria": [{"text": "t", "method": "m"}] * 33}, "success_criteria"),
    (1500, {"success_criteria": [{"text": "t"}]}, "method"),
    (1500, {"success_criteria": ["t"]}, "success_criteria"),
    (1500, {"success_criteria": [{"text": "t", "method": "m", "expected": 5}]}, "expected"),
    (1500, {"steps": [{"name": "n", "action": "a"}] * 65}, "steps"),
    (1500, {"steps": [{"name": "n"}]}, "action"),
    (1500, {"steps": None}, "steps"),
    (1500, {"deadline_unix": 1.5}, "deadline_unix"),
    (1500, {"deadline_unix": True}, "deadline_unix"),
    (1500, {"parent": "AB" * 32}, "parent"),
    (1500, {"parent": "ab" * 32}, "parent"),
    (1500, {"assignee": "ab" * 32}, "assignee"),
    (1501, {"status": "done"}, "status"),
    (1501, {"status": ["executing"]}, "status"),
    (1501, {"step": "x" * 201}, "step"),
    (1501, {"evidence": {}}, "evidence"),
    (1502, {"verdict": "disputed"}, "verdict"),
    (1502, {"method": ""}, "method"),
    (1502, {"reason": None}, "reason"),
    (1502, {"evidence_hash": "x"}, "evidence_hash"),
    (1503, {"child": "cd" * 32}, "child"),
    (1503, {"child": 5}, "child"),
    (1503, {"scope": []}, "scope"),
    (1503, {"scope": [1] * 65}, "scope"),
    (1503, {"scope": [-1]}, "scope"),
    (1503, {"scope": [True]}, "scope"),
    (1503, {"scope": [""]}, "scope"),
    (1503, {"expires_at": "1"}, "expires_at"),
    (1504, {"predecessor": "ab" * 32}, "successor"),
    (1504, {"successor": "ab"}, "successor"),
]


def formed(kind: int, content: object, tags: Sequence[Sequence[str]]) -> Event:
    return signed(
        kind, content if isinstance(content, str) else json.dumps(content), [["s", intents.SCHEMAS[kind]], *tags]
    )


@pytest.mark.parametrize("kind", GOOD)
def test_what_has_the_shape_passes_the_door(kind: int) -> None:
    content, tags = GOOD[kind]
    kinds.check_shape(formed(kind, content, tags))
    for wrong in ("", "[]", "nothing", '{"goal":NaN}'):
        with pytest.raises(RuleBroken):
            kinds.check_shape(formed(kind, wrong, tags))
    if kind != 1500:
        for missing in range(len(tags)):
            with pytest.raises(RuleBroken, match="needs"):
                kinds.check_shape(formed(kind, content, tags[:missing] + tags[missing + 1 :]))
        with pytest.raises(RuleBroken, match="exactly one"):
            kinds.check_shape(formed(kind, content, tags * 2))


@pytest.mark.parametrize(("kind", "change", "field"), BAD)
def test_the_door_names_the_field(kind: int, change: dict[str, Any], field: str) -> None:
    content, tags = GOOD[kind]
    with pytest.raises(RuleBroken, match=f"`{field}`"):
        kinds.check_shape(formed(kind, {**content, **change}, tags))


def test_topics_are_bounded() -> None:
    content, _ = GOOD[1500]
    kinds.check_shape(formed(1500, content, [["t", "x" * 200]] * 16))
    for tags in ([["t", "x"]] * 17, [["t", "x" * 201]], [["t", ""]]):
        with pytest.raises(RuleBroken, match="`t`"):
            kinds.check_shape(formed(1500, content, tags))


def test_drafts_refuse_what_the_door_would() -> None:
    with pytest.raises(ValueError, match="goal"):
        intents.declare_draft(goal="", success_criteria=CRITERIA)
    with pytest.raises(ValueError, match="scope"):
        intents.delegation_draft("ab" * 32, scope=[], expires_at=5)
    largest = intents.declare_draft(
        goal="x" * 2_000,
        success_criteria=[{"text": "t" * 200, "method": "m" * 200}] * 32,
        steps=[{"name": "n" * 200, "action": "a" * 200}] * 64,
        parent="ab" * 32,
        assignee="cd" * 32,
        topics=[f"{n}" for n in range(16)],
    )
    said(largest).check()
