"""Descriptors of nodes: what is read was written so, and whatever a stranger bends is refused with a clear word."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anporia_p2p.crypto import xwing
from anporia_p2p.crypto.hybrid import HybridKeypair
from anporia_p2p.errors import BadDescriptor
from anporia_p2p.mix.descriptor import (
    MAX_BYTES,
    MAX_WINDOW,
    MIN_BITS,
    MIN_WINDOW,
    Descriptor,
    MixKey,
    describe,
    node_id,
    read,
)
from anporia_wire import Event, kinds, pow, pq

NOW = 1_790_000_000
BITS = 4  # quick to mine
KEYS = HybridKeypair.from_seeds(bytes([3]) * 32, bytes([4]) * 32)
OTHER = HybridKeypair.from_seeds(bytes([5]) * 32, bytes([6]) * 32)
LINK, *MIX = (xwing.PrivateKey(bytes([number]) * 32).public.raw for number in range(10, 14))
MIX_KEYS = [MixKey(NOW + 3_600 * at, NOW + 3_600 * at + 5_400, key) for at, key in enumerate(MIX)]
ADDRESSES = ["192.0.2.7:9000", "[2001:db8:1::7]:443", "node-1.example.org:9000", "localhost:1"]
FAMILY = [bytes([number]) * 32 for number in range(16)]

EVENT = describe(
    KEYS,
    link_key=LINK,
    mix_keys=MIX_KEYS,
    addresses=ADDRESSES,
    family=FAMILY,
    profile="balanced",
    created_at=NOW,
    bits=BITS,
)
CONTENT: dict[str, Any] = json.loads(EVENT.content)
NODE = bytes.fromhex(CONTENT["node"])
MIX_KEY = CONTENT["mix_keys"][0]
TAGS = [("s", "anporia.node.v1"), pq.key_tag(KEYS.public)]


def bent(**fields: object) -> Event:
    """The same descriptor with other fields, signed and mined by the node itself; `...` leaves one out."""
    content = {name: value for name, value in {**CONTENT, **fields}.items() if value is not ...}
    return signed(json.dumps(content))


def signed(content: str, tags: list[tuple[str, ...]] = TAGS, kind: int = 1510) -> Event:
    return KEYS.sign_event(kind, content, tags, NOW, BITS)


def refused(event: Event, why: str, min_bits: int = BITS) -> None:
    with pytest.raises(BadDescriptor, match=why) as caught:
        read(event, min_bits=min_bits)
    assert caught.value.code == "bad_descriptor"


def test_what_is_written_is_read() -> None:
    assert read(EVENT, min_bits=BITS) == Descriptor(
        node_id=NODE,
        link_key=LINK,
        mix_keys=tuple(MIX_KEYS),
        addresses=tuple(ADDRESSES),
        family=frozenset(FAMILY),
        profile="balanced",
        created_at=NOW,
        event_id=EVENT.id,
        agent_id=KEYS.agent_id,
    )
    named = b"anporia/p2p/node/v1" + bytes.fromhex(KEYS.address) + LINK
    assert node_id(KEYS.address, LINK) == hashlib.sha256(named).digest() == NODE


def test_nobody_else_can_describe_a_node() -> None:
    # with the victim's link key, a later date and mix keys of their own
    other = HybridKeypair.generate()
    tags = [("s", "anporia.node.v1"), pq.key_tag(other.public)]
    refused(other.sign_event(1510, EVENT.content, tags, NOW + 1, BITS), "`node`")
    theirs = describe(other, link_key=LINK, mix_keys=MIX_KEYS, profile="balanced", created_at=NOW + 1, bits=BITS)
    assert read(theirs, min_bits=BITS).node_id != NODE


def test_a_descriptor_is_an_event_that_relays_take() -> None:
    EVENT.check()
    kinds.check_shape(EVENT)
    assert EVENT.kind == 1510 and [tag[0] for tag in EVENT.tags] == ["s", "pq_key", "scheme", "pq_sig", "pow", "nonce"]
    assert pq.bound_key(EVENT) == KEYS.public
    assert Event.parse(EVENT.to_json()) == EVENT


def test_little_is_enough() -> None:
    event = describe(KEYS, link_key=LINK, mix_keys=MIX_KEYS[:1], profile="slow", created_at=NOW, bits=0)
    said = read(event, min_bits=0)
    assert (said.addresses, said.family, said.network_groups()) == ((), frozenset(), frozenset())


def test_20_bits_are_asked_for_unless_told_otherwise() -> None:
    assert MIN_BITS == 20
    with pytest.raises(BadDescriptor, match="20 bits"):
        read(EVENT)


@pytest.mark.soak
def test_20_bits_can_be_mined() -> None:
    read(describe(KEYS, link_key=LINK, mix_keys=MIX_KEYS, profile="fast", created_at=int(time.time())))


@pytest.mark.parametrize(
    ("now", "place"),
    [
        *((-1, None), (0, 0), (3_599, 0), (3_599.5, 0), (3_600, 1), (5_399, 1), (5_400, 1)),
        *((7_200, 2), (12_599, 2), (12_600, None)),
    ],
)
def test_the_newest_valid_mix_key_is_used(now: float, place: int | None) -> None:
    said = read(EVENT, min_bits=BITS)
    assert said.mix_key(NOW + now) == (None if place is None else MIX_KEYS[place])


def test_the_newest_key_is_the_one_that_began_last() -> None:
    windows = [
        {**MIX_KEY, "from": NOW, "until": NOW + 9_000},
        {**MIX_KEY, "from": NOW + 10, "until": NOW + 10 + MIN_WINDOW},
    ]
    key = read(bent(mix_keys=windows), min_bits=BITS).mix_key(NOW + 15)
    assert key is not None and key.since == NOW + 10


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7:1", "192.0.0.0/16"),
        ("192.0.255.255:65535", "192.0.0.0/16"),
        ("[2001:db8:1::7]:443", "2001:db8::/32"),
        ("[2001:db8:ffff::]:443", "2001:db8::/32"),
        ("node-1.example.org:9000", "node-1.example.org"),
        ("localhost:1", "localhost"),
    ],
)
def test_addresses_are_grouped_by_network(address: str, group: str) -> None:
    assert read(bent(addresses=[address]), min_bits=BITS).network_groups() == {group}


def test_addresses_of_one_network_are_one_group() -> None:
    said = read(bent(addresses=["10.1.0.1:1", "10.1.9.9:2", "10.2.0.1:3"]), min_bits=BITS)
    assert said.network_groups() == {"10.1.0.0/16", "10.2.0.0/16"}


@pytest.mark.parametrize(
    "address",
    [
        *("", ":", ":1", "192.0.2.7", "192.0.2.7:", "192.0.2.7:0", "192.0.2.7:65536", "192.0.2.7:080", "192.0.2.7:1 "),
        *("192.0.2.7:+1", "192.0.2.7:１", "192.0.2:1", "192.0.2.256:1", "192.0.2.07:1", "3221225991:1", "0x7f000001:1"),
        *("127.1:1", "2001:db8::7:443", "[2001:db8::7]", "[2001:DB8::7]:1", "[2001:db8:0::7]:1", "[fe80::1%eth0]:1"),
        *("[::ffff:192.0.2.7]:1", "[::ffff:c000:207]:1", "[2002:c000:207::]:1", "[192.0.2.7]:1", "[]:1", "[::1:1"),
        *("Node.example.org:1", "node.example.org.:1", "-node.example:1", "node-.example:1", "no_de.example:1"),
        *("node..example:1", "nöde.example:1", "node.example:1\n", "a" * 64 + ".example:1", "a." * 127 + "example:1"),
        *("http://node.example:1", "user@node.example:1", "node.example:1/path", "node.1:1"),
        *(None, 1, ["node.example:1"], {}),
    ],
)
def test_addresses_have_one_form(address: object) -> None:
    refused(bent(addresses=[address]), "addresses")


BENT: dict[str, tuple[dict[str, object], str]] = {
    "version 2": ({"v": 2}, "`v`"),
    "version true": ({"v": True}, "`v`"),
    "version 1.0": ({"v": 1.0}, "`v`"),
    "no version": ({"v": ...}, "`v`"),
    "another node": ({"node": "0" * 64}, "`node`"),
    "node in capitals": ({"node": CONTENT["node"].upper()}, "`node`"),
    "no node": ({"node": ...}, "`node`"),
    "another link key": ({"link_key": MIX_KEY["key"]}, "`node`"),
    "short link key": ({"link_key": pq.to_base64url(LINK[:-1])}, "`link_key`"),
    "link key with stray bits": ({"link_key": CONTENT["link_key"][:-1] + "_"}, "`link_key`"),
    "padded link key": ({"link_key": CONTENT["link_key"] + "=="}, "`link_key`"),
    "a number for a link key": ({"link_key": 1}, "`link_key`"),
    "no mix key": ({"mix_keys": []}, "1 to 3"),
    "4 mix keys": ({"mix_keys": [MIX_KEY] * 4}, "1 to 3"),
    "mix keys as an object": ({"mix_keys": MIX_KEY}, "1 to 3"),
    "a mix key that is none": ({"mix_keys": ["x"]}, "object"),
    "a window of nothing": ({"mix_keys": [{**MIX_KEY, "until": NOW}]}, "must serve"),
    "a window too short": ({"mix_keys": [{**MIX_KEY, "until": NOW + MIN_WINDOW - 1}]}, "must serve"),
    "a window backwards": ({"mix_keys": [{**MIX_KEY, "until": NOW - 1}]}, "must serve"),
    "a window too long": ({"mix_keys": [{**MIX_KEY, "until": NOW + MAX_WINDOW + 1}]}, "must serve"),
    "a window of floats": ({"mix_keys": [{**MIX_KEY, "until": NOW + 1.5}]}, "integers"),
    "a window of booleans": ({"mix_keys": [{**MIX_KEY, "from": False, "until": True}]}, "integers"),
    "a window without a beginning": ({"mix_keys": [{"until": NOW, "key": MIX_KEY["key"]}]}, "integers"),
    "a window before time": ({"mix_keys": [{**MIX_KEY, "from": -1, "until": 1}]}, "integers"),
    "a window after all time": ({"mix_keys": [{**MIX_KEY, "from": 2**53, "until": 2**53 + 1}]}, "integers"),
    "a short mix key": ({"mix_keys": [{**MIX_KEY, "key": "AA"}]}, "`key`"),
    "a mix key ML-KEM refuses": ({"mix_keys": [{**MIX_KEY, "key": pq.to_base64url(b"\xff" * 1216)}]}, "cannot be used"),
    "a mix key of small order": (
        {"mix_keys": [{**MIX_KEY, "key": pq.to_base64url(MIX[0][:1184] + bytes(32))}]},
        "cannot be used",
    ),
    "5 addresses": ({"addresses": [f"10.0.0.{last}:1" for last in range(5)]}, "0 to 4"),
    "addresses as text": ({"addresses": "10.0.0.1:1"}, "0 to 4"),
    "no addresses": ({"addresses": ...}, "0 to 4"),
    "one address twice": ({"addresses": ["10.0.0.1:1"] * 2}, "once"),
    "17 of a family": ({"family": [f"{number:064x}" for number in range(17)]}, "0 to 16"),
    "one of a family twice": ({"family": ["0" * 64] * 2}, "once"),
    "a family of numbers": ({"family": [1]}, "`family`"),
    "a family in capitals": ({"family": ["A" * 64]}, "`family`"),
    "another profile": ({"profile": "turbo"}, "`profile`"),
    "a list of profiles": ({"profile": ["fast"]}, "`profile`"),
}


@pytest.mark.parametrize("name", BENT)
def test_a_bent_field_is_refused(name: str) -> None:
    fields, why = BENT[name]
    refused(bent(**fields), why)


@pytest.mark.parametrize("seconds", [MIN_WINDOW, MAX_WINDOW])
def test_the_shortest_and_the_longest_window_are_taken(seconds: int) -> None:
    assert (MIN_WINDOW, MAX_WINDOW) == (3_600, 172_800)
    key = read(bent(mix_keys=[{**MIX_KEY, "until": NOW + seconds}]), min_bits=BITS).mix_keys[0]
    assert key.until - key.since == seconds


def test_unknown_fields_are_passed_over() -> None:
    assert read(bent(later={"x": 1}), min_bits=BITS).addresses == tuple(ADDRESSES)


@pytest.mark.parametrize("content", ["", "x", "[]", "null", '"x"', "[" * 5000, '{"v":NaN}', "\ufeff{}"])
def test_content_that_is_no_object_is_refused(content: str) -> None:
    refused(signed(content), "content")


def test_more_bytes_than_a_descriptor_needs_are_refused() -> None:
    spare = MAX_BYTES - len(EVENT.content) - sum(len(member) for tag in EVENT.tags for member in tag)
    content = json.dumps({**CONTENT, "later": "é" * (spare * 2 // 3)}, ensure_ascii=False)  # in bytes, not letters
    refused(signed(content), "exceed")
    refused(signed(EVENT.content, [*TAGS, *[("x", "y" * 1000)] * 20]), "exceed")


def test_the_largest_descriptor_is_taken() -> None:
    names = [".".join([letter * 63] * 3 + [letter * 61]) + ":65535" for letter in "abcd"]
    event = bent(addresses=names)
    assert len(event.content) + sum(len(member) for tag in event.tags for member in tag) < MAX_BYTES
    assert read(event, min_bits=BITS).addresses == tuple(names)


@pytest.mark.parametrize(
    "schema",
    [[], [("s", "anporia.node.v2")], [("s", "anporia.node.v1")] * 2, [("s",)], [("s", "anporia.node.v1", "x")]],
)
def test_it_needs_its_one_schema(schema: list[tuple[str, ...]]) -> None:
    refused(signed(EVENT.content, [*schema, TAGS[1]]), "`s`")


def without_work(event: Event) -> list[tuple[str, ...]]:
    return [tag for tag in event.tags if tag[0] not in ("pow", "nonce")]


OTHER_KEY = [TAGS[0], pq.key_tag(OTHER.public)]


def named_for(agent_id: str, public: bytes) -> str:
    """The content with the node id that two keys would have."""
    return json.dumps({**CONTENT, "node": node_id(pq.address(agent_id, public), LINK).hex()})


FORGED: dict[str, tuple[Callable[[], Event], str]] = {
    "another kind": (lambda: signed(EVENT.content, kind=1511), "kind 1511"),
    "no key": (lambda: signed(EVENT.content, TAGS[:1]), "ML-DSA"),
    "another's key": (lambda: signed(EVENT.content, OTHER_KEY), "`node`"),
    "another's key, and the node id that goes with it": (
        lambda: signed(named_for(KEYS.agent_id, OTHER.public), OTHER_KEY),
        "no ML-DSA",
    ),
    "no second signature": (
        lambda: pow.mine(KEYS.keypair, 1510, EVENT.content, TAGS, NOW, BITS),
        "ML-DSA",
    ),
    "a second signature of other words": (
        lambda: pow.mine(KEYS.keypair, 1510, EVENT.content + " ", without_work(EVENT), NOW, BITS),
        "ML-DSA",
    ),
    "a tag behind the second signature": (
        lambda: pow.mine(KEYS.keypair, 1510, EVENT.content, [*without_work(EVENT), ("t", "x")], NOW, BITS),
        "ML-DSA",
    ),
    "another's tags": (lambda: pow.mine(OTHER.keypair, 1510, EVENT.content, without_work(EVENT), NOW, BITS), "`node`"),
    "another's tags, and the node id that goes with them": (
        lambda: pow.mine(OTHER.keypair, 1510, named_for(OTHER.agent_id, KEYS.public), without_work(EVENT), NOW, BITS),
        "no ML-DSA",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_descriptor_is_refused(name: str) -> None:
    make, why = FORGED[name]
    refused(make(), why)


def test_both_the_id_and_the_first_signature_are_checked() -> None:
    fields = EVENT.to_dict()
    refused(Event(**{**fields, "id": "0" * 64}), "id mismatch")
    refused(Event(**{**fields, "content": EVENT.content + " "}), "id mismatch")
    refused(Event(**{**fields, "sig": "0" * 128}), "bad signature")
    refused(Event(**{**fields, "content": EVENT.content.replace("balanced", "\ud83d")}), "JSON")


def test_work_must_be_declared_and_done() -> None:
    refused(KEYS.sign_event(1510, EVENT.content, TAGS, NOW), "proof of work of 4 bits")
    refused(EVENT, "proof of work of 5 bits", min_bits=5)
    tags = without_work(EVENT)
    lazy = (Event.create(KEYS.keypair, 1510, EVENT.content, [*tags, ("pow", "24"), ("nonce", str(n))], created_at=NOW)
            for n in range(100))  # fmt: skip
    refused(next(event for event in lazy if pow.leading_zero_bits(event.id) < 24), "work it declares")
    refused(KEYS.sign_event(1510, EVENT.content, [*TAGS, ("x", "y")], NOW, 3), "proof of work of 4 bits")


@pytest.mark.parametrize(
    "fields",
    [
        {"link_key": LINK[:-1]},
        {"link_key": b"\xff" * 1216},
        {"mix_keys": []},
        {"mix_keys": [MixKey(NOW, NOW, MIX[0])]},
        {"mix_keys": [MixKey(NOW, NOW + MAX_WINDOW + 1, MIX[0])]},
        {"mix_keys": [MixKey(NOW, NOW + MIN_WINDOW - 1, MIX[0])]},
        {"mix_keys": [MixKey(NOW, NOW + MIN_WINDOW, b"")]},
        {"addresses": ["nowhere"]},
        {"family": [b"short"]},
        {"profile": "turbo"},
    ],
)
def test_what_would_be_refused_is_not_written(fields: dict[str, Any]) -> None:
    good: dict[str, Any] = {"link_key": LINK, "mix_keys": MIX_KEYS, "profile": "fast", "created_at": NOW, "bits": 24}
    with pytest.raises(BadDescriptor):  # and at once: 24 bits would take a minute
        describe(KEYS, **{**good, **fields})


def test_a_descriptor_made_by_hand_has_addresses_of_the_one_form() -> None:
    with pytest.raises(BadDescriptor):
        Descriptor(bytes(32), LINK, (), ("nowhere",), frozenset(), "fast", NOW, "0" * 64, "0" * 64)


def by_hand(number: int, *addresses: str, family: Iterable[int] = ()) -> Descriptor:
    members = frozenset(bytes([one]) * 32 for one in family)
    return Descriptor(bytes([number]) * 32, LINK, (), addresses, members, "fast", NOW, "0" * 64, "0" * 64)


@pytest.mark.parametrize(
    ("one", "other", "related"),
    [
        (by_hand(1), by_hand(1), True),
        (by_hand(1), by_hand(2), False),
        (by_hand(1, "10.1.0.1:1"), by_hand(2, "10.1.9.9:2"), True),
        (by_hand(1, "10.1.0.1:1"), by_hand(2, "10.2.0.1:1"), False),
        (by_hand(1, "10.1.0.1:1", "[2001:db8::1]:1"), by_hand(2, "10.2.0.1:1", "[2001:db8:9::]:1"), True),
        (by_hand(1, family=[2]), by_hand(2, family=[1]), True),
        # who names others by itself must not keep them off paths
        (by_hand(1, family=[2]), by_hand(2), False),
        (by_hand(1, family=[2]), by_hand(2, family=[3]), False),
        (by_hand(1, family=[3]), by_hand(2, family=[3]), False),
    ],
)
def test_who_may_be_run_by_one_operator(one: Descriptor, other: Descriptor, related: bool) -> None:
    assert one.related(other) is other.related(one) is related


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(ADDRESSES)
values = st.recursive(
    scalars | st.sampled_from([*CONTENT.values()]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["from", "until", "key"]) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=6,
)


@settings(max_examples=60)
@given(fields=st.dictionaries(st.sampled_from(sorted(CONTENT)), values, min_size=1, max_size=3))
def test_whatever_stands_in_the_fields_it_is_read_or_refused(fields: dict[str, object]) -> None:
    event = KEYS.sign_event(1510, json.dumps({**CONTENT, **fields}), TAGS, NOW)
    try:
        said = read(event, min_bits=0)
    except BadDescriptor:
        return
    assert said.node_id == NODE and 1 <= len(said.mix_keys) <= 3


@given(address=st.text(alphabet="0129abf.:[]-%xé\n", max_size=24) | st.ip_addresses().map(lambda ip: f"[{ip}]:1"))
def test_addresses_never_raise_anything_else(address: str) -> None:
    try:
        said = Descriptor(bytes(32), LINK, (), (address,), frozenset(), "fast", NOW, "0" * 64, "0" * 64)
    except BadDescriptor:
        return
    assert len(said.network_groups()) == 1
