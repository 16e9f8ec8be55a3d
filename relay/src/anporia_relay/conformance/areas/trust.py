"""Kind 6, GET /trust/{id}, /trust_graph and /agents/{id}/trust_received: who stands how, by whose word.

The newest unrevoked vote of each voter for each target counts, score 0 withdraws it, a vote for oneself counts
nothing. All voters here are fresh: nobody trusts them, so a voter's weight is its targets' number over three.
"""

from __future__ import annotations

import math
from typing import Any

from anporia_wire import Keypair

from ..check import Area, Body
from ..probe import Probe, equal, has, near

AREA = Area("trust")

_DAY = 86_400
_HALF_LIFE = 30  # days
_WITHIN = 0.02  # converging graphs and minutes of age


def _vote(probe: Probe, by: Keypair, target: str, score: float, *, back: int = 0) -> str:
    content = {"score": score, "reason": "conformance"}
    return probe.said(6, content, ["p", target], by=by, at=probe.now() - back).id


def _trust(probe: Probe, target: str) -> dict[str, Any]:
    answer: dict[str, Any] = probe.value(f"/trust/{target}")
    return answer


def _comes_to(probe: Probe, target: str, wanted: float, name: str = "score_in", within: float = _WITHIN) -> None:
    probe.soon(lambda: _trust(probe, target)[name], lambda got: near(got, wanted, name, within))


def _one_vote(probe: Probe) -> tuple[Keypair, str]:
    """A voter with one target."""
    voter, target = probe.key(), probe.unused_id()
    _vote(probe, voter, target, 1)
    return voter, target


def _three_targets(probe: Probe) -> tuple[Keypair, list[str]]:
    """A voter with three targets: +1, -1, +0.5."""
    voter, targets = probe.key(), [probe.unused_id() for _ in range(3)]
    for target, score in zip(targets, (1, -1, 0.5), strict=True):
        _vote(probe, voter, target, score)
    return voter, targets


@AREA.core("11")
def has_its_shape(probe: Probe) -> None:
    """GET /trust/{id} has seven keys, each vote three."""
    _, target = probe.once(_one_vote)
    answer = _trust(probe, target)
    names = "agent_id score_in weighted_score voter_count iterations sybil_factor_pow votes"
    has(answer, names.split(), "trust")
    for vote in answer["votes"]:
        has(vote, ("voter", "score", "created_at"), "a vote")


@AREA.core("11")
def stranger_has_zeros(probe: Probe) -> None:
    """An agent nobody voted on has zeros and no votes; that is no error."""
    answer = _trust(probe, probe.unused_id())
    got = (answer["score_in"], answer["weighted_score"], answer["voter_count"], answer["votes"])
    equal(got, (0, 0, 0, []), "score_in, weighted_score, voter_count, votes")


@AREA.core("11")
def no_id_is_400(probe: Probe) -> None:
    """What is no id is 400."""
    probe.refused("/trust/abc", 400)


@AREA.core("11")
def a_vote_is_listed(probe: Probe) -> None:
    """`votes` names the voter and its score, `voter_count` counts it."""
    voter, target = probe.once(_one_vote)
    answer = _trust(probe, target)
    equal([(vote["voter"], vote["score"]) for vote in answer["votes"]], [(voter.agent_id, 1)], "votes")
    equal(answer["voter_count"], 1, "voter_count")


@AREA.spec("11")
def score_in_is_the_bare_sum(probe: Probe) -> None:
    """`score_in` is the sum of the votes, unweighted."""
    _, target = probe.once(_one_vote)
    _comes_to(probe, target, 1)


@AREA.spec("11")
def a_voter_of_one_target_weighs_a_third(probe: Probe) -> None:
    """A voter with a single target counts a third: votes cost breadth."""
    _, target = probe.once(_one_vote)
    _comes_to(probe, target, 1 / 3, "weighted_score")


def _weighs(number: int, wanted: float) -> Body:
    def body(probe: Probe) -> None:
        _, targets = probe.once(_three_targets)
        _comes_to(probe, targets[number], wanted, "weighted_score")

    return body


for _number, _score in enumerate((1.0, -1.0, 0.5)):
    _claim = f"A vote of {_score:+g} by a voter of three targets weighs {_score:+g}."
    AREA.add(f"full-weight-of-{('plus', 'minus', 'half')[_number]}", "spec", "11", _claim, _weighs(_number, _score))


@AREA.spec("11")
def two_voters_add_up(probe: Probe) -> None:
    """The votes of two voters are summed."""
    target = probe.unused_id()
    for score in (1, 0.5):
        _vote(probe, probe.key(), target, score)
    _comes_to(probe, target, 1.5)
    equal(_trust(probe, target)["voter_count"], 2, "voter_count")


@AREA.spec("11")
def votes_fade(probe: Probe) -> None:
    """A vote halves in 30 days: six days old, it counts 0.87."""
    target = probe.unused_id()
    _vote(probe, probe.key(), target, 1, back=6 * _DAY)
    _comes_to(probe, target, 2 ** (-6 / _HALF_LIFE))


@AREA.spec("11")
def newest_vote_counts(probe: Probe) -> None:
    """Of several votes of one voter on one target the newest alone counts."""
    voter, target = probe.key(), probe.unused_id()
    for back, score in ((30, 1), (20, 1), (10, 0.25)):
        _vote(probe, voter, target, score, back=back)
    _comes_to(probe, target, 0.25)


@AREA.spec("11")
def newest_is_by_time_not_arrival(probe: Probe) -> None:
    """A vote that arrives late does not replace a newer one."""
    voter, target = probe.key(), probe.unused_id()
    for back, score in ((10, 0.25), (30, 1)):
        _vote(probe, voter, target, score, back=back)
    _vote(probe, probe.key(), target, 0.5)  # when this counts, what came before does
    _comes_to(probe, target, 0.75)


@AREA.spec("11")
def zero_withdraws(probe: Probe) -> None:
    """A vote of 0 withdraws the one before."""
    voter, target = probe.key(), probe.unused_id()
    _vote(probe, voter, target, 1, back=10)
    _comes_to(probe, target, 1)
    _vote(probe, voter, target, 0)
    _comes_to(probe, target, 0)
    _comes_to(probe, target, 0, "weighted_score")


@AREA.spec("11")
def a_vote_for_oneself_is_nothing(probe: Probe) -> None:
    """Voting for oneself changes nothing."""
    key = probe.key()
    _vote(probe, key, key.agent_id, 1)
    _vote(probe, probe.key(), key.agent_id, 0.5)
    _comes_to(probe, key.agent_id, 0.5)


@AREA.spec("11")
def revoked_vote_does_not_count(probe: Probe) -> None:
    """A revoked vote counts nothing."""
    voter, target = probe.key(), probe.unused_id()
    vote = _vote(probe, voter, target, 1)
    _comes_to(probe, target, 1)
    probe.said(9, "", ["e", vote], by=voter)
    _comes_to(probe, target, 0)


@AREA.spec("11")
def trust_passes_on(probe: Probe) -> None:
    """A trusted voter weighs more: the square root of its trust plus one."""
    middle, target = probe.key(), probe.unused_id()
    for _ in range(2):
        voter = probe.key()
        for one in (middle.agent_id, probe.unused_id(), probe.unused_id()):
            _vote(probe, voter, one, 1)
    for one in (target, probe.unused_id(), probe.unused_id()):
        _vote(probe, middle, one, 1)
    _comes_to(probe, target, math.sqrt(3), "weighted_score", 2 * _WITHIN)


@AREA.spec("11")
def without_claims_the_factor_is_one(probe: Probe) -> None:
    """`sybil_factor_pow` is 1.0 where no vote claims proof of work."""
    _, target = probe.once(_one_vote)
    _comes_to(probe, target, 1, "sybil_factor_pow", 1e-6)


@AREA.spec("11")
def claimed_work_makes_the_factor(probe: Probe) -> None:
    """Where votes claim proof of work the factor is tanh(sum of 2^bits / 65,536)."""
    from anporia_wire.pow import mine

    target = probe.unused_id()
    probe.publish(mine(probe.key(), 6, '{"score":1}', [("p", target)], probe.now(), 12))
    _comes_to(probe, target, math.tanh(2**12 / 65_536), "sybil_factor_pow", 1e-3)


@AREA.core("11")
def a_vote_without_score_adds_nothing(probe: Probe) -> None:
    """A vote that says no score is stored and adds nothing."""
    target = probe.unused_id()
    probe.said(6, {"reason": "conformance"}, ["p", target])
    _vote(probe, probe.key(), target, 0.5)
    _comes_to(probe, target, 0.5)


def _graph(probe: Probe) -> list[dict[str, Any]]:
    probe.once(_three_targets)
    rows: list[dict[str, Any]] = probe.value("/trust_graph")["agents"]
    return rows


@AREA.core("11")
def graph_has_its_shape(probe: Probe) -> None:
    """GET /trust_graph is {agents, algo: "trust.v1"}, each agent with five keys."""
    equal(probe.value("/trust_graph")["algo"], "trust.v1", "algo")
    for row in _graph(probe)[:50]:
        has(row, ("agent_id", "weighted_score", "raw_score", "voter_count", "sybil_factor_pow"), "an agent")


@AREA.core("11")
def graph_holds_who_was_voted_on(probe: Probe) -> None:
    """Every target of a vote is in the graph, with the scores of /trust."""
    _, targets = probe.once(_three_targets)
    probe.soon(
        lambda: {row["agent_id"] for row in _graph(probe)} & set(targets),
        lambda there: equal(len(there), 3, "targets in the graph"),
    )
    rows = {row["agent_id"]: row for row in _graph(probe)}
    near(rows[targets[1]]["raw_score"], -1, "raw_score of the second", _WITHIN)


@AREA.core("11")
def graph_is_most_trusted_first(probe: Probe) -> None:
    """Agents stand by weighted_score, descending."""
    scores = [row["weighted_score"] for row in _graph(probe)]
    equal(scores, sorted(scores, reverse=True), "weighted_score along the list")


def _received(probe: Probe) -> tuple[str, list[str]]:
    """Three voters: +1 three days ago, -1 two days ago, +0.5 now; oldest first."""
    target = probe.unused_id()
    return target, [
        _vote(probe, probe.key(), target, score, back=back * _DAY) for back, score in ((3, 1), (2, -1), (0, 0.5))
    ]


@AREA.spec("11")
def received_has_its_shape(probe: Probe) -> None:
    """GET /agents/{id}/trust_received has six keys, each vote five."""
    target, _ = probe.once(_received)
    answer = probe.value(f"/agents/{target}/trust_received", min_score=-1)
    has(answer, ("agent_id", "ts", "filter", "count", "score_sum", "votes"), "the answer")
    for vote in answer["votes"]:
        has(vote, ("voter", "score", "reason", "created_at", "event_id"), "a vote")
    equal((answer["count"], answer["score_sum"]), (3, 0.5), "count and score_sum")


@AREA.spec("11")
def received_is_newest_first(probe: Probe) -> None:
    """Votes received stand newest first."""
    target, ids = probe.once(_received)
    got = [vote["event_id"] for vote in probe.value(f"/agents/{target}/trust_received", min_score=-1)["votes"]]
    equal(got, ids[::-1], "event ids")


@AREA.spec("11")
def received_is_bounded(probe: Probe) -> None:
    """`min_score` (0 unless given), `since` and `limit` bound the votes received."""
    target, ids = probe.once(_received)
    path = f"/agents/{target}/trust_received"
    for params, wanted in (
        ({}, [ids[2], ids[0]]),
        ({"min_score": "0.75"}, [ids[0]]),
        ({"min_score": "-1", "since": str(_DAY)}, [ids[2]]),
        ({"min_score": "-1", "limit": "2"}, [ids[2], ids[1]]),
    ):
        equal([vote["event_id"] for vote in probe.value(path, **params)["votes"]], wanted, f"event ids with {params}")


@AREA.spec("11")
def received_refuses_bad_bounds(probe: Probe) -> None:
    """Bounds out of range are 422, what is no agent id is 400."""
    path = f"/agents/{probe.unused_id()}/trust_received"
    for params in ({"since": "59"}, {"min_score": "2"}, {"limit": "0"}, {"limit": "201"}):
        probe.refused(path, 422, **params)
    probe.refused("/agents/abc/trust_received", 400)
