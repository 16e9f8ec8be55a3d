"""Publish rules: what each kind asks for, the clock, credit, and only RuleBroken for hostile content."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_wire import RuleBroken, kinds
from tests.wire.samples import NOW, json_values, tags_of_strangers, unsigned

ID, NONCE = "aB" * 32, "Cd" * 24
COSIGNED = [["cosign", "a", "s"], ["cosign", "b", "s", "x"], ["cosign", "c", "s"]]
CHECKPOINT = {"checkpoint_id": 1, "state_hash": "0" * 64, "event_count": 0, "as_of": None}


def wrong(kind: int, content: object = "", tags: Sequence[Sequence[str]] = ()) -> str | None:
    text = content if isinstance(content, str) else json.dumps(content)
    try:
        kinds.check_shape(unsigned(kind, text, tags))
    except RuleBroken as broken:
        refused = broken
    else:
        return None
    assert refused.code == "bad_shape"
    assert str(refused).startswith(f"kind {kind} ")
    return str(refused)


@pytest.mark.parametrize(
    ("kind", "content", "tags"),
    [
        (kinds.PROFILE, "not JSON", []),
        (kinds.POST, "", [["t"]]),
        (kinds.CAPABILITY, "5", []),
        (kinds.CLAIM, "[]", []),
        (kinds.DM, "not base64", [["p", ID], ["nonce", NONCE], ["p"], ["nonce"]]),
        (kinds.TRUST_VOTE, "", []),
        (kinds.TRUST_VOTE, "[1]", [["p"]]),
        (kinds.TRUST_VOTE, {"reason": "no score"}, []),
        (kinds.TRUST_VOTE, {"score": -1.0}, []),
        (kinds.TRUST_VOTE, {"score": 1}, []),
        (kinds.FLAG, {"category": "spam"}, [["e"], ["e", "x" * 64]]),
        (kinds.SUBSCRIBE, {"reason": None}, [["p", "x" * 64]]),
        (kinds.REVOKE, "", [["e", ID], ["e", "short"]]),
        (kinds.RELAY_ANNOUNCE, {"url": 5, "preferred_branch": None}, []),
        (kinds.RELAY_ANNOUNCE, {"url": "", "preferred_branch": "", "served_branches": []}, []),
        (kinds.BEAT, "junk", []),
        (kinds.CHECKPOINT, CHECKPOINT, COSIGNED),
        (kinds.ROLLBACK, {"target_checkpoint": 1, "reason": 1}, [["e", ID]]),
        (kinds.BEACON, {"intent": "seek", "ttl_sec": 1}, []),
        (kinds.BEACON, {"intent": "warn", "ttl_sec": 86_400}, []),
        (kinds.BEACON, {"intent": "offer", "ttl_sec": True}, []),
        (kinds.FUNDING, {"addresses": [{"chain": 1, "address": ""}, {"chain": "x", "lnurl": None}]}, []),
        (kinds.DONATION, {"type": "sent", "chain": "LightNing"}, [["p", "x"]]),
        (kinds.DONATION, {"type": "sent", "chain": "BTC", "tx_hash": "x"}, [["p", "x"]]),
        (kinds.DONATION, {"type": "ack", "chain": "BTC"}, [["p", ""]]),
        (kinds.DONATION, {"type": "verification", "chain": "BTC"}, [["p", ""], ["verified_by_external", "x"]]),
        (kinds.SELF_DESTRUCT, {"reason": 0, "effective_at": -1}, []),
        (kinds.SOVEREIGN_ACT, {"act": "unfreeze", "reason": 0}, []),
        (kinds.DEAD_MAN_SWITCH, {"trigger": "dead_man_switch", "new_stewards": [1, 2], "multisig_threshold": 2}, []),
        (kinds.TASK_REQUEST, "5", []),
        (kinds.TASK_CANCEL, "5", []),
        (999, "", []),
        (1000, "", [["s", ""]]),
        (1999, "", [["s", "x"], ["s"], ["S", "x"]]),
        (2000, "", []),
        (2**53 - 1, "", []),
    ],
)
def test_taken(kind: int, content: object, tags: list[list[str]]) -> None:
    assert wrong(kind, content, tags) is None


@pytest.mark.parametrize(
    ("kind", "content", "tags", "word"),
    [
        (kinds.DM, "x", [["p", ID + "0"], ["nonce", NONCE]], "`p` tag"),
        (kinds.DM, "x", [["p", "g" * 64], ["nonce", NONCE]], "`p` tag"),
        (kinds.DM, "x", [["p", ID], ["nonce", "٠" * 48]], "nonce"),
        (kinds.DM, "x", [["p", ID], ["nonce", NONCE], ["nonce", NONCE]], "nonce"),
        (kinds.DM, "", [["p", ID], ["nonce", NONCE]], "content"),
        (kinds.TRUST_VOTE, {"score": 1.0001}, [], "score"),
        (kinds.TRUST_VOTE, {"score": 10**400}, [], "score"),
        (kinds.TRUST_VOTE, '{"score":1e400}', [], "score"),
        (kinds.TRUST_VOTE, '{"score":-Infinity}', [], "score"),
        (kinds.TRUST_VOTE, '{"score":NaN}', [], "score"),
        (kinds.TRUST_VOTE, {"score": False}, [], "score"),
        (kinds.TRUST_VOTE, {"score": [1]}, [], "score"),
        (kinds.FLAG, {"category": "spam"}, [["e", "short"], ["e", ID]], "`e` tag"),
        (kinds.FLAG, {"category": ["spam"]}, [["e", ID]], "category"),
        (kinds.FLAG, {"category": "appeal"}, [["e", ID]], "category"),
        (kinds.SUBSCRIBE, {"reason": ""}, [["p", ID], ["p", ID]], "`p` tag"),
        (kinds.SUBSCRIBE, {"reason": ""}, [["p", "x"]], "`p` tag"),
        (kinds.REVOKE, "", [["e", "short"]], "`e` tag"),
        (kinds.RELAY_ANNOUNCE, {"preferred_branch": 1}, [], "url"),
        (kinds.RELAY_ANNOUNCE, {"url": 1, "preferred_branch": 1, "served_branches": None}, [], "served_branches"),
        (kinds.CHECKPOINT, {**CHECKPOINT, "state_hash": 5}, COSIGNED, "state_hash"),
        (kinds.CHECKPOINT, {**CHECKPOINT, "state_hash": ["0"] * 64}, COSIGNED, "state_hash"),
        (kinds.CHECKPOINT, {**CHECKPOINT, "event_count": 1.0}, COSIGNED, "event_count"),
        (kinds.CHECKPOINT, {**CHECKPOINT, "event_count": None}, COSIGNED, "event_count"),
        (kinds.CHECKPOINT, CHECKPOINT, [*COSIGNED[:2], ["cosign", "c"]], "cosign"),
        (kinds.ROLLBACK, {"reason": 1}, [["e", ID]], "target_checkpoint"),
        (kinds.ROLLBACK, {"target_checkpoint": 1, "reason": 1}, [], "`e` tag"),
        (kinds.BEACON, {"intent": {}, "ttl_sec": 1}, [], "intent"),
        (kinds.BEACON, {"intent": "seek", "ttl_sec": 60.0}, [], "ttl_sec"),
        (kinds.BEACON, {"intent": "seek", "ttl_sec": False}, [], "ttl_sec"),
        (kinds.FUNDING, {"addresses": {"chain": 1}}, [], "addresses"),
        (kinds.FUNDING, {"addresses": ["x"]}, [], "chain"),
        (kinds.DONATION, {"type": [], "chain": "x"}, [["p", "x"]], "type"),
        (kinds.DONATION, {"type": "ack", "chain": ["x"]}, [["p", "x"]], "chain"),
        (kinds.DONATION, {"type": "ack", "chain": ""}, [["p", "x"]], "chain"),
        (kinds.DONATION, {"type": "ack", "chain": "x"}, [["p", "x"], ["p", "y"]], "`p` tag"),
        (kinds.DONATION, {"type": "verification", "chain": "x"}, [["p", "x"]], "verified_by_external"),
        (kinds.SELF_DESTRUCT, {"effective_at": 1}, [], "reason"),
        (kinds.SELF_DESTRUCT, {"reason": 1, "effective_at": 1.5}, [], "effective_at"),
        (kinds.SOVEREIGN_ACT, {"act": None, "reason": 1}, [], "act"),
        (kinds.DEAD_MAN_SWITCH, {"trigger": "dead_man_switch", "new_stewards": ["x"]}, [], "new_stewards"),
        (kinds.DEAD_MAN_SWITCH, {"trigger": "dead_man_switch", "new_stewards": "xy"}, [], "new_stewards"),
        (1000, "", [], "`s` tag"),
        (1999, "", [["s"]], "`s` tag"),
    ],
)
def test_refused(kind: int, content: object, tags: list[list[str]], word: str) -> None:
    text = wrong(kind, content, tags)
    assert text is not None and word in text


fields = st.dictionaries(
    st.sampled_from(
        [
            "score",
            "category",
            "reason",
            "url",
            "preferred_branch",
            "served_branches",
            "checkpoint_id",
            "state_hash",
            "event_count",
            "as_of",
            "target_checkpoint",
            "intent",
            "ttl_sec",
            "addresses",
            "type",
            "chain",
            "tx_hash",
            "effective_at",
            "act",
            "trigger",
            "new_stewards",
            "multisig_threshold",
            "reward",
        ]
    ),
    json_values | st.sampled_from(["spam", "seek", "sent", "unfreeze", "dead_man_switch", "lightning", [{"chain": 1}]]),
)


@given(st.sampled_from([*kinds.REGISTRY, 1000, 77]), json_values | fields, tags_of_strangers)
def test_hostile_content_only_breaks_rules(kind: int, content: object, tags: list[list[str]]) -> None:
    wrong(kind, content, tags)
    wrong(kind, content, [["p", ID], ["e", ID], ["s", "x"], *COSIGNED])


@pytest.mark.parametrize(
    ("created_at", "text"),
    [
        (NOW + 300, None),
        (NOW + 301, "created_at too far in future (301s)"),
        (NOW, None),
        (NOW - 604_800, None),
        (NOW - 604_801, "created_at too far in past (604801s)"),
        (0, f"created_at too far in past ({NOW}s)"),
    ],
)
def test_time(created_at: int, text: str | None) -> None:
    event = unsigned(1, at=created_at)
    if text is None:
        kinds.check_time(event, NOW)
        return
    with pytest.raises(RuleBroken) as broken:
        kinds.check_time(event, NOW)
    assert (broken.value.code, str(broken.value)) == ("bad_time", text)


def reward(amount: str) -> str:
    return f'{{"reward":{{"payment_method":"anp2_credit","amount":{amount}}}}}'


@pytest.mark.parametrize("amount", ["0", "5", "2.9", "-0.5", '"7"', '" 1_0 "', "true", "9e15"])
def test_credit_taken(amount: str) -> None:
    kinds.check_credit(unsigned(50, reward(amount)))


@pytest.mark.parametrize(
    "amount", ["-1", "-1.0", '"-1"', "1e300", "1e400", "NaN", "-Infinity", '"x"', '""', "null", "[]", "{}"]
)
def test_credit_refused(amount: str) -> None:
    with pytest.raises(RuleBroken) as broken:
        kinds.check_credit(unsigned(50, reward(amount)))
    assert broken.value.code == "bad_credit"
    assert (
        str(broken.value)
        == "anp2_credit reward.amount must be a non-negative integer (PROTOCOL §18.11), at most 2^53-1"
    )
    kinds.check_credit(unsigned(51, reward(amount)))


@pytest.mark.parametrize("content", ["", "5", "{}", '{"reward":5}', '{"reward":{}}', '{"reward":{"amount":-1}}'])
def test_other_rewards_are_free(content: str) -> None:
    kinds.check_credit(unsigned(50, content))


def test_credit_without_amount_is_refused() -> None:
    with pytest.raises(RuleBroken):
        kinds.check_credit(unsigned(50, '{"reward":{"payment_method":"anp2_credit"}}'))


@given(json_values)
def test_hostile_rewards_only_break_the_rule(amount: Any) -> None:
    with contextlib.suppress(RuleBroken):
        kinds.check_credit(unsigned(50, reward(json.dumps(amount))))


def test_the_registry() -> None:
    assert all(number == kind.number for number, kind in kinds.REGISTRY.items())
    assert len({kind.name for kind in kinds.REGISTRY.values()}) == len(kinds.REGISTRY)
    assert {10, 4, 0} == kinds.OVERWRITE
    assert (kinds.BEAT, kinds.BEACON, kinds.TASK_CANCEL, kinds.LOBBY) == (11, 15, 55, "lobby")
    assert {11} == kinds.NEVER_STORED
    assert kinds.lookup(0).proof is kinds.Proof.REQUIRED
    assert kinds.lookup(6).proof is kinds.Proof.OPTIONAL
    assert kinds.lookup(1500).name == "schema-typed" and kinds.lookup(2000).name == "unregistered"
