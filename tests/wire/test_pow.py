"""Proof of work: the vectors' digests, tags and nonces, and the exact texts of refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from anporia_wire import Event, EventTooLarge, Keypair, MalformedEvent, RuleBroken, pow
from tests.wire.published import vectors
from tests.wire.samples import ALICE, NOW, signed

POW = vectors("pow")


def refusal(event: Event) -> str | None:
    try:
        pow.check(event)
    except RuleBroken as broken:
        refused = broken
    else:
        return None
    assert refused.code == "bad_pow"
    return str(refused)


def worked(kind: int, tags: Sequence[Sequence[str]], id_: str = "0" * 64) -> Event:
    return Event(id_, "0" * 64, NOW, kind, tuple(tuple(tag) for tag in tags), "", "0" * 128)


def test_the_limits_are_published() -> None:
    assert (POW["min_bits"], POW["max_bits"]) == (pow.MIN_BITS, pow.MAX_BITS)
    for kind in range(100):
        assert (refusal(worked(kind, [])) is not None) == (kind in POW["mandatory_kinds"])


@pytest.mark.parametrize("case", POW["digests"], ids=lambda case: case["digest"][:10])
def test_leading_zero_bits(case: dict[str, Any]) -> None:
    assert pow.leading_zero_bits(case["digest"]) == case["leading_zero_bits"]


def test_an_id_of_zeros_has_all_its_bits() -> None:
    assert pow.leading_zero_bits("0" * 64) == 256


@pytest.mark.parametrize("case", POW["tag_parsing"], ids=lambda case: str(case["tags"]))
def test_declared_bits(case: dict[str, Any]) -> None:
    assert pow.declared_bits(case["tags"]) == case["declared_bits"]


def test_a_tag_of_any_length_is_read() -> None:
    assert pow.declared_bits([["pow", "9" * 5_000]]) is None


@pytest.mark.parametrize("case", POW["mined"], ids=lambda case: f"{case['event']['kind']}-{case['difficulty']}")
def test_mined_events_are_judged_as_published(case: dict[str, Any]) -> None:
    event = Event.from_mapping(case["event"])
    event.check()
    assert pow.leading_zero_bits(event.id) == case["id_zero_bits"]
    assert pow.proven(event) == case["relay_ok"]
    assert refusal(event) == (None if case["relay_ok"] else f"PoW: {case['relay_error']}")


@pytest.mark.parametrize("case", POW["mined"], ids=lambda case: f"{case['event']['kind']}-{case['difficulty']}")
def test_mining_finds_the_published_nonce(case: dict[str, Any]) -> None:
    event = Event.from_mapping(case["event"])
    stand_in = Keypair(bytes(32))  # these vectors keep their keys: the search needs the agent id only
    stand_in.agent_id = event.agent_id
    mined = pow.mine(stand_in, event.kind, event.content, case["input_tags"], event.created_at, case["difficulty"])
    assert mined.first_tag("nonce") == str(case["nonce"])
    assert (mined.id, mined.tags) == (event.id, event.tags)


@pytest.mark.parametrize(
    "case", [c for c in vectors("events_valid") if c["event"]["kind"] == 0], ids=lambda c: c["name"]
)
def test_mining_reproduces_published_events(case: dict[str, Any]) -> None:
    event = Event.from_mapping(case["event"])
    keypair = Keypair.from_hex(case["private_key"])
    stale = [("pow", "3"), *[tag for tag in event.tags if tag[0] not in ("pow", "nonce")], ("nonce", "9"), ("nonce",)]
    bits = pow.declared_bits(event.tags)
    assert bits is not None
    assert pow.mine(keypair, 0, event.content, stale, event.created_at, bits) == event


@pytest.mark.parametrize("content", ["", '","nonce', '"]],"', "é" * 100, "x" * 65_536], ids=lambda content: content[:8])
def test_mined_events_are_valid(content: str) -> None:
    event = pow.mine(ALICE, 50, content, [["t", '"]],"']], NOW, 4)
    event.check()
    assert pow.leading_zero_bits(event.id) >= 4
    earlier = [pow_tries(content, nonce) for nonce in range(int(event.first_tag("nonce") or "0"))]
    assert all(bits < 4 for bits in earlier)


def pow_tries(content: str, nonce: int) -> int:
    tags = [["t", '"]],"'], ["pow", "4"], ["nonce", str(nonce)]]
    return pow.leading_zero_bits(signed(50, content, tags).id)


@pytest.mark.parametrize("bits", [-1, 25, 256])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError):
        pow.mine(ALICE, 0, "", [], NOW, bits)


def test_what_no_relay_takes_is_not_mined() -> None:
    with pytest.raises(EventTooLarge):
        pow.mine(ALICE, 0, "", [["a"]] * 31, NOW)
    with pytest.raises(MalformedEvent):
        pow.mine(ALICE, 0, "\ud800", [], NOW)


@pytest.mark.parametrize(
    ("tags", "id_", "text"),
    [
        ([], "0", "pow tag required for kind 0"),
        ([["pow"]], "0", "pow tag malformed"),
        ([["pow", "x"]], "0", "pow tag malformed"),
        ([["pow", "x"], ["pow", "12"]], "0", "pow tag malformed"),
        ([["pow", "-1"]], "0", "pow tag malformed"),
        ([["pow", "257"]], "0", "pow tag malformed"),
        ([["pow", "11"]], "0", "pow_below_minimum (declared 11, min 12)"),
        ([["pow", "25"]], "0", "pow_above_max (declared 25, max 24)"),
        ([["pow", "256"]], "0", "pow_above_max (declared 256, max 24)"),
        ([["pow", "13"]], "0008", "pow_does_not_meet_declared (claimed 13 bits, found 12)"),
        ([["pow", "12"]], "0008", None),
        ([["pow"], ["pow", " 1_2 "]], "0008", None),
        ([["pow", "24"]], "000000f", None),
    ],
)
def test_texts(tags: list[list[str]], id_: str, text: str | None) -> None:
    id_ = id_.ljust(64, "f") if id_ != "0" else "0" * 64
    assert refusal(worked(0, tags, id_)) == (None if text is None else f"PoW: {text}")
    asked = refusal(worked(6, tags, id_))
    assert asked == (None if not tags else text)
    assert refusal(worked(1, tags, id_)) is None
    assert pow.proven(worked(0, tags, id_)) == (text is None)
