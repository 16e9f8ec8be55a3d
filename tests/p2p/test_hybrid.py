"""Keys of both kinds: events they sign pass every check there is, and no secret is ever shown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anporia_p2p.crypto.hybrid import HybridKeypair
from anporia_p2p.errors import BadKey
from anporia_wire import MAX_TAGS, Event, EventTooLarge, Keypair, MalformedEvent, kinds, pow, pq
from anporia_wire.pq import Standing
from anporia_wire.views import Bindings

NOW = 1_790_000_000
KEYS = HybridKeypair.from_seeds(bytes([1]) * 32, bytes([2]) * 32)


def test_keys_follow_from_their_seeds() -> None:
    again = HybridKeypair.from_seeds(*KEYS.seeds)
    assert (again.agent_id, again.public, again.address) == (KEYS.agent_id, KEYS.public, KEYS.address)
    assert KEYS.agent_id == Keypair(bytes([1]) * 32).agent_id and len(KEYS.public) == 1952
    assert KEYS.address == hashlib.sha256(b"addr/v1" + bytes.fromhex(KEYS.agent_id) + KEYS.public).hexdigest()


def test_fresh_keys_differ() -> None:
    one, other = HybridKeypair.generate(), HybridKeypair.generate()
    assert len({*one.seeds, *other.seeds}) == 4
    assert one.address != other.address


@pytest.mark.parametrize("seeds", [(b"", bytes(32)), (bytes(32), b""), (bytes(31), bytes(32)), (bytes(32), bytes(33))])
def test_seeds_of_another_length_are_refused(seeds: tuple[bytes, bytes]) -> None:
    with pytest.raises(BadKey, match="32 bytes"):
        HybridKeypair.from_seeds(*seeds)


def test_one_seed_does_not_serve_twice() -> None:
    with pytest.raises(BadKey, match="equal") as caught:
        HybridKeypair.from_seeds(b"s" * 32, b"s" * 32)
    assert "ssss" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    shown = repr(KEYS) + str(KEYS) + repr([KEYS])
    assert KEYS.agent_id in shown
    for seed in KEYS.seeds:
        assert seed.hex() not in shown and repr(seed) not in shown


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
tags = st.lists(st.lists(words, max_size=3).filter(lambda tag: tag[:1] not in (["scheme"], ["pq_sig"])), max_size=6)


@settings(max_examples=30)
@given(kind=st.integers(0, 2000), content=words, tags=tags, at=st.integers(0, 2**53 - 1))
def test_both_signatures_hold(kind: int, content: str, tags: list[list[str]], at: int) -> None:
    event = KEYS.sign_event(kind, content, tags, at)
    event.check()
    assert pq.verify(event, KEYS.public)
    assert (event.kind, event.content, event.created_at, event.agent_id) == (kind, content, at, KEYS.agent_id)
    assert Event.parse(event.to_json()) == event


def test_a_mined_event_is_signed_by_ml_dsa_once() -> None:
    event = KEYS.sign_event(50, "{}", [("pow", "30"), ("t", "x"), ("nonce", "9")], NOW, bits=12)
    event.check()
    pow.check(event)
    assert [tag[0] for tag in event.tags] == ["t", "scheme", "pq_sig", "pow", "nonce"]
    assert pq.verify(event, KEYS.public) and pow.leading_zero_bits(event.id) >= 12


def test_an_unmined_event_has_no_proof() -> None:
    event = KEYS.sign_event(1, "", [("pow", "30"), ("nonce", "9")], NOW)
    assert [tag[0] for tag in event.tags] == ["scheme", "pq_sig"]


@pytest.mark.parametrize("bits", [-1, 25])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="0 to 24"):
        KEYS.sign_event(1, "", [], NOW, bits)


def test_the_signatures_leave_room_for_30_tags_or_28_with_proof() -> None:
    full = KEYS.sign_event(1, "", [("t", "x")] * 30, NOW)
    mined = KEYS.sign_event(1, "", [("t", "x")] * 28, NOW, bits=1)
    assert len(full.tags) == len(mined.tags) == MAX_TAGS
    full.check()
    mined.check()
    for count, bits in ((31, 0), (29, 1), (33, 0)):
        with pytest.raises(EventTooLarge):
            KEYS.sign_event(1, "", [("t", "x")] * count, NOW, bits)


@pytest.mark.parametrize(
    ("content", "tags"),
    [("\ud83d", []), ("", ["tx"]), ("", [("scheme", "x")]), ("", [("pq_sig",)]), ("", [("t", "\ud83d")])],
)
def test_what_is_no_event_is_not_signed(content: str, tags: list[Sequence[str]]) -> None:
    with pytest.raises(MalformedEvent):
        KEYS.sign_event(1, content, tags, NOW)


def test_an_identity_binds_its_own_key() -> None:
    identity = KEYS.sign_identity('{"name":"x"}', NOW, [("t", "x")])
    identity.check()
    kinds.check_shape(identity)
    pow.check(identity)  # as a relay asks of a profile
    assert pq.bound_key(identity) == KEYS.public
    view = Bindings()
    view.apply(identity)
    assert view.read(KEYS.agent_id)["addresses"] == [KEYS.address]
    assert view.standing(KEYS.sign_event(1, "x", [], NOW)) is Standing.HYBRID
    assert view.standing(Event.create(KEYS.keypair, 1, "x", created_at=NOW)) is Standing.CLASSICAL
