"""Trust votes: the vectors of trust.v1, and where settled rule A6 departs from published relays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anporia_wire import Event
from anporia_wire.views import Moderation, Revocations, Trust
from tests.wire.published import vectors
from tests.wire.samples import NOW, unsigned

A, B, C, D = (name.rjust(64, "0") for name in "abcd")
MONTH = 30 * 86_400


def trusting(*events: Event, now: int = NOW) -> Trust:
    revocations = Revocations()
    trust = Trust(revocations)
    for event in events:
        revocations.apply(event)
        trust.apply(event)
    for _ in trust.refresh(now):
        pass
    return trust


def vote(voter: str, target: str, score: Any, *more: list[str], at: int = NOW) -> Event:
    return unsigned(6, json.dumps({"score": score}), [["p", target.rjust(64, "0")], *more], agent=voter, at=at)


@pytest.mark.parametrize("case", vectors("trust")["cases"], ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    votes = [
        unsigned(
            6,
            json.dumps({"score": v["score"]}),
            [["p", v["target"]], *([["pow", str(v["pow_bits"])]] if v["pow_bits"] is not None else [])],
            agent=v["voter"],
            at=v["created_at"],
        )
        for v in case["votes"]
    ]
    trust = trusting(*votes, now=case["now"])
    assert trust.scores.iterations == case["iterations"]
    for agent, weighted in case["weighted_score"].items():
        row = trust.read(agent)
        assert row["weighted_score"] == pytest.approx(weighted, abs=1e-12)
        assert row["score_in"] == pytest.approx(case["raw_score"][agent], abs=1e-12)
        assert row["voter_count"] == case["voter_count"].get(agent, 0)
        assert row["sybil_factor_pow"] == pytest.approx(case["sybil_factor_pow"][agent], abs=1e-12)
        found = sorted((v["voter"], v["score"], v["created_at"]) for v in row["votes"])
        assert found == sorted((v["voter"], v["score"], v["created_at"]) for v in case["votes_for"].get(agent, []))
    graph = trust.graph()
    assert {row["agent_id"] for row in graph["agents"]} == set(case["voter_count"])
    scores = [row["weighted_score"] for row in graph["agents"]]
    assert scores == sorted(scores, reverse=True)
    assert (graph["algo"], graph["computed_at"]) == ("trust.v1", case["now"])


# Published relays answer these otherwise (settled A6): the numbers in comments are theirs.


def test_a_vote_for_oneself_counts_nothing() -> None:
    assert trusting(vote("a", "a", 1)).graph()["agents"] == []  # 1/3 for a


def test_of_repeated_votes_the_newest_counts() -> None:
    row = trusting(vote("a", "b", 1, at=NOW - 2), vote("a", "b", 1, at=NOW - 1), vote("a", "b", 1)).read(B)
    assert (row["score_in"], row["voter_count"], len(row["votes"])) == (1.0, 1, 1)  # 3.0


def test_a_flip_replaces_the_vote_before() -> None:
    row = trusting(vote("a", "b", 1, at=NOW - MONTH), vote("a", "b", -1)).read(B)
    assert (row["score_in"], row["weighted_score"]) == (-1.0, pytest.approx(-1 / 3))  # -0.5


def test_a_score_of_zero_withdraws() -> None:
    row = trusting(vote("a", "b", 1, at=NOW - 1), vote("a", "b", 0)).read(B)
    assert (row["score_in"], row["voter_count"], row["votes"]) == (0.0, 0, [])  # 1.0, 1 and the zero in `votes`


def test_a_revoked_vote_makes_room_for_the_one_before() -> None:
    old, new = vote("a", "b", 1, at=NOW - 5), vote("a", "b", -1)
    revoke = unsigned(9, "{}", [["e", new.id]], agent="a")
    for events in ([old, new, revoke], [revoke, new, old]):
        assert trusting(*events).read(B)["score_in"] == pytest.approx(1.0, abs=1e-5)  # 0.0
    stranger = unsigned(9, "{}", [["e", new.id]], agent="c")
    assert trusting(old, new, stranger).read(B)["score_in"] == -1.0


def test_a_revocation_of_everything_leaves_nobody() -> None:
    cast = vote("a", "b", 1)
    trust = trusting(cast, unsigned(9, "{}", [["e", cast.id]], agent="a"))
    assert trust.graph()["agents"] == [] and trust.scores.iterations == 0


@pytest.mark.parametrize(
    "content", ["", "5", "[]", "{}", '{"score":true}', '{"score":"1"}', '{"score":2}', '{"score":1e999}', "{" * 5_000]
)
def test_what_is_no_score_is_no_vote_and_withdraws(content: str) -> None:
    odd = unsigned(6, content, [["p", B]], agent="a")
    assert trusting(odd).graph()["agents"] == []
    assert trusting(vote("a", "b", 1, at=NOW - 1), odd).graph()["agents"] == []


def test_targets_that_are_no_ids_are_none() -> None:
    odd = unsigned(6, '{"score":1}', [["p", "x"], ["p", B.upper().replace("0", "A")], ["p"], ["p", ""]], agent="a")
    assert trusting(odd).graph()["agents"] == []


@pytest.mark.parametrize("declared", ["", "x", "-1", "257", "9" * 400, "1²"])
def test_work_that_cannot_be_read_is_none(declared: str) -> None:
    assert trusting(vote("a", "b", 1, ["pow", declared])).read(B)["sybil_factor_pow"] == 1.0


def test_the_answer_says_when_it_was_worked_out() -> None:
    trust = trusting(vote("a", "b", 1))
    trust.apply(vote("c", "b", 1))
    assert trust.read(B)["computed_at"] == NOW
    assert trust.read(B)["score_in"] == 1.0 and trust.read(B)["voter_count"] == 2


def test_a_long_computation_pauses() -> None:
    votes = [vote(f"{n % 200:x}", f"{1_000 + n % 997:x}", 1) for n in range(20_000)]
    trust = trusting(*votes)
    assert sum(1 for _ in trust.refresh(NOW)) > 4


def test_flags_hide_by_the_trust_of_those_who_flagged() -> None:
    target = "7" * 64
    view = Moderation()
    for agent in "abcd":
        view.apply(unsigned(7, "{}", [["e", target], ["e", target], ["e", "x"]], agent=agent))
    assert set().union(*view.read({})) == set()
    assert set().union(*view.read({A: 0.4, B: 0.5, C: -3.0, D: 0.0})) == set()
    assert set().union(*view.read({A: 0.5, B: 0.5, C: -3.0})) == {target}
    assert set().union(*view.read({A: 1.0})) == {target}
