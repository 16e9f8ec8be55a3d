"""What the packet promises its users: what is built arrives, whole, by the way its builder said, at one size."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anporia_p2p import sphinx
from anporia_p2p.crypto import xwing
from anporia_p2p.errors import REASONS, BadPacket, BadPath, BodyTooLarge
from anporia_p2p.sphinx.geometry import BETA_BYTES, BLOCK_BYTES, ROUTING_BYTES

# written down once more: whoever changes one of these makes another format
PACKET, HEADER, PAYLOAD, BODY, BLOCK = 16_380, 5_880, 10_500, 10_464, 5_944

PRIVATE = [xwing.PrivateKey(hashlib.sha256(b"mix %d" % n).digest()) for n in range(8)]
IDS = [hashlib.sha256(b"node %d" % n).digest() for n in range(8)]
NUMBERS = {node_id: n for n, node_id in enumerate(IDS)}

each_length = pytest.mark.parametrize("length", [1, 2, 3, 4, 5])


def route(*mixes: int) -> list[sphinx.Hop]:
    return [sphinx.Hop(IDS[n], PRIVATE[n].public, 1_000 * n) for n in mixes]


@dataclass(frozen=True)
class Visit:
    """One mix a packet went through: the packet as it came, its tag there, and the delay it was given."""

    mix: int
    packet: bytes
    tag: bytes
    delay_us: int | None


def travel(packet: bytes, first: bytes) -> tuple[list[Visit], sphinx.Arrived]:
    """Send a packet by what each mix reads in it; at each it has the one size."""
    visits: list[Visit] = []
    at = first
    while len(visits) < 6:
        mix = NUMBERS[at]
        assert len(packet) == PACKET
        opened = sphinx.open_header(PRIVATE[mix], packet)
        done = sphinx.unwrap(opened)
        if isinstance(done, sphinx.Arrived):
            assert len(done.payload) == PAYLOAD
            visits.append(Visit(mix, packet, opened.tag, None))
            return visits, done
        visits.append(Visit(mix, packet, opened.tag, done.delay_us))
        packet, at = done.packet, done.next_id
    raise AssertionError("a packet that goes on after five hops")


def body_of(size: int, seed: int) -> bytes:
    # 0 and 1: bodies that might be taken for the zero bytes and sizes around them
    return bytes((0xFF * seed,)) * size if seed < 2 else random.Random(seed).randbytes(size)


mixes = st.lists(st.integers(0, len(IDS) - 1), min_size=1, max_size=5)
bodies = st.builds(body_of, st.integers(0, BODY), st.integers(0, 1 << 32))


# Sizes.


def test_the_sizes_are_those_of_the_format() -> None:
    assert (sphinx.PACKET_BYTES, sphinx.HEADER_BYTES, sphinx.PAYLOAD_BYTES) == (PACKET, HEADER, PAYLOAD)
    assert (sphinx.BODY_BYTES, sphinx.REPLY_BLOCK_BYTES) == (BODY, BLOCK)
    assert (sphinx.MAX_HOPS, sphinx.ID_BYTES, sphinx.MAX_DELAY_US) == (5, 32, 4_294_967_295)
    assert (BETA_BYTES, BLOCK_BYTES, ROUTING_BYTES) == (4_744, 1_176, 40)
    # two wishes the sizes follow from: nothing is left over
    assert xwing.CIPHERTEXT_BYTES + BETA_BYTES + 16 == HEADER and 4 * BLOCK_BYTES + ROUTING_BYTES == BETA_BYTES


@each_length
@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, BODY - 1, BODY])
def test_every_packet_has_one_size_at_every_hop(length: int, size: int) -> None:
    body = body_of(size, length)
    path = route(*range(length))
    visits, arrived = travel(sphinx.build(path, body), IDS[0])
    assert [visit.mix for visit in visits] == list(range(length))
    assert sphinx.read_body(arrived.payload) == body and arrived.reply_id is None
    block, keys = sphinx.make_reply_block(path)
    assert len(block.to_bytes()) == BLOCK and len(block.header) == HEADER
    visits, arrived = travel(block.answer(body), block.first_hop)
    assert [visit.mix for visit in visits] == list(range(length))
    assert keys.read(arrived.payload) == body and arrived.reply_id == keys.id


# What is built arrives.


@given(by=mixes, body=bodies, delays=st.lists(st.integers(0, sphinx.MAX_DELAY_US), min_size=5, max_size=5))
@example(by=[0], body=b"", delays=[0] * 5)
@example(by=[0, 0, 0, 0, 0], body=b"\0", delays=[sphinx.MAX_DELAY_US] * 5)
@example(by=[4, 3, 2, 1, 0], body=bytes(BODY), delays=[0, 1, 255, 256, 65_536])
@example(by=[1, 2, 3], body=b"\xff" * BODY, delays=[1, 0, 1, 0, 1])
def test_a_body_arrives_by_the_way_and_at_the_pace_its_builder_said(
    by: list[int], body: bytes, delays: list[int]
) -> None:
    path = [sphinx.Hop(IDS[n], PRIVATE[n].public, delay) for n, delay in zip(by, delays, strict=False)]
    visits, arrived = travel(sphinx.build(path, body), path[0].node_id)
    assert [visit.mix for visit in visits] == by
    # the last one has nothing to wait for
    assert [visit.delay_us for visit in visits] == [*delays[: len(by) - 1], None]
    assert sphinx.read_body(arrived.payload) == body
    assert arrived.reply_id is None


@given(out=mixes, back=mixes, body=bodies, answer=bodies)
@example(out=[0, 1, 2], back=[3, 4, 5, 6, 7], body=b"", answer=b"")
@example(out=[0], back=[0], body=b"\0", answer=bytes(BODY))
def test_an_answer_comes_back_another_way(out: list[int], back: list[int], body: bytes, answer: bytes) -> None:
    # the block travels in a body, as it will
    block, keys = sphinx.make_reply_block(route(*back))
    sent = block.to_bytes() + body[: BODY - BLOCK]
    _, there = travel(sphinx.build(route(*out), sent), IDS[out[0]])
    got = sphinx.read_body(there.payload)
    assert got == sent
    held = sphinx.ReplyBlock.from_bytes(got[:BLOCK])
    assert held == block and held.first_hop == IDS[back[0]]
    visits, home = travel(held.answer(answer), held.first_hop)
    assert [visit.mix for visit in visits] == back
    assert [visit.delay_us for visit in visits] == [*(1_000 * n for n in back[:-1]), None]
    assert home.reply_id == keys.id
    assert keys.read(home.payload) == answer
    # nothing else opens it: not the plain way, and not another block's keys
    _, others = sphinx.make_reply_block(route(*back))
    for read in (sphinx.read_body, others.read):
        assert refused(read, home.payload) == "bad_payload"


def test_answers_look_like_any_other_packet() -> None:
    # a mix does the same for both, and learns the same: where to, and when
    block, _ = sphinx.make_reply_block(route(1, 2, 3))
    done = [
        sphinx.unwrap(sphinx.open_header(PRIVATE[1], packet))
        for packet in (sphinx.build(route(1, 2, 3), b"body"), block.answer(b"body"))
    ]
    for forward in done:
        assert isinstance(forward, sphinx.Forward)
        assert (forward.next_id, forward.delay_us, len(forward.packet)) == (IDS[2], 1_000, PACKET)


# Tags.


def test_tags_differ_between_packets_and_between_hops() -> None:
    seen: list[bytes] = []
    for _ in range(20):
        block, _ = sphinx.make_reply_block(route(0, 0, 1, 1, 2))
        for packet in (sphinx.build(route(0, 0, 1, 1, 2), b""), block.answer(b"")):
            # a mix that is in the path twice does not take its second visit for a replay
            seen += [visit.tag for visit in travel(packet, IDS[0])[0]]
    assert {len(tag) for tag in seen} == {16}
    assert len(set(seen)) == len(seen) == 200


def test_the_same_packet_has_the_same_tags() -> None:
    packet = sphinx.build(route(0, 1, 2, 3, 4), b"once")
    first, _ = travel(packet, IDS[0])
    again, _ = travel(packet, IDS[0])
    assert [visit.tag for visit in first] == [visit.tag for visit in again]
    assert [visit.packet for visit in first] == [visit.packet for visit in again]


def test_a_reply_block_works_once() -> None:
    # both answers carry one header, so that the first mix knows the second one by its tag, whatever it says
    block, _ = sphinx.make_reply_block(route(0, 1, 2))
    one, two = block.answer(b"one answer"), block.answer(b"and another")
    assert one[HEADER:] != two[HEADER:]
    tags = [[visit.tag for visit in travel(packet, block.first_hop)[0]] for packet in (one, two)]
    assert tags[0] == tags[1] and len(set(tags[0])) == 3


# What is refused.


def refused(take: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(BadPacket) as error:
        take(*arguments)
    assert error.value.code in REASONS
    return error.value.code


def test_a_longer_body_is_refused() -> None:
    block, _ = sphinx.make_reply_block(route(0))
    for size in (BODY + 1, BODY + 36, PAYLOAD, 65_536, 1_000_000):
        for act in (lambda body: sphinx.build(route(0), body), block.answer):
            with pytest.raises(BodyTooLarge) as error:
                act(bytes(size))
            assert error.value.code == "body_too_large" and f"{size:,}" in str(error.value)


MANY = route(0, 1, 2, 3, 4)
BAD_PATHS = {
    "no hop": [],
    "six hops": route(0, 1, 2, 3, 4, 5),
    "many hops": MANY * 20,
    "empty id": [sphinx.Hop(b"", PRIVATE[0].public)],
    "short id": [*MANY[:2], sphinx.Hop(bytes(31), PRIVATE[0].public)],
    "long id": [sphinx.Hop(bytes(33), PRIVATE[0].public), *MANY[:2]],
    "negative delay": [sphinx.Hop(bytes(32), PRIVATE[0].public, -1), *MANY[:2]],
    "long delay": [MANY[0], sphinx.Hop(bytes(32), PRIVATE[0].public, sphinx.MAX_DELAY_US + 1), MANY[1]],
    "huge delay": [*MANY[:4], sphinx.Hop(bytes(32), PRIVATE[0].public, 1 << 80)],
}


@pytest.mark.parametrize("path", BAD_PATHS.values(), ids=BAD_PATHS)
def test_paths_no_packet_can_take(path: list[sphinx.Hop]) -> None:
    for act in (lambda: sphinx.build(path, b""), lambda: sphinx.make_reply_block(path)):
        with pytest.raises(BadPath) as error:
            act()
        assert error.value.code == "bad_path"


@each_length
def test_another_mix_key_opens_nothing(length: int) -> None:
    block, _ = sphinx.make_reply_block(route(*range(length)))
    for first in (sphinx.build(route(*range(length)), b""), block.answer(b"")):
        for visit in travel(first, IDS[0])[0]:
            for n, private in enumerate(PRIVATE):
                if n != visit.mix:
                    assert refused(sphinx.open_header, private, visit.packet) == "bad_mac"


def test_other_sizes_are_refused() -> None:
    packet = sphinx.build(route(0), b"")
    for size in (0, 1, 16, 1_120, HEADER, PAYLOAD, PACKET - 1, PACKET + 1, 2 * PACKET, 1 << 22):
        raw = (packet * (size // PACKET + 1))[:size]
        assert refused(sphinx.open_header, PRIVATE[0], raw) == "bad_size"
    assert refused(sphinx.open_header, PRIVATE[0], packet[1:]) == "bad_size"


def test_reply_blocks_of_other_sizes_are_refused() -> None:
    raw = sphinx.make_reply_block(route(0))[0].to_bytes()
    for size in (0, 1, 32, HEADER, BLOCK - 1, BLOCK + 1, 2 * BLOCK, 1 << 22):
        wrong = (raw * (size // BLOCK + 1))[:size]
        assert refused(sphinx.ReplyBlock.from_bytes, wrong) == "bad_size"


@given(raw=st.binary(max_size=100) | st.binary(min_size=BLOCK - 1, max_size=BLOCK + 1))
def test_junk_as_a_reply_block(raw: bytes) -> None:
    try:
        block = sphinx.ReplyBlock.from_bytes(raw)
    except BadPacket as error:
        assert error.code == "bad_size" and len(raw) != BLOCK
    else:
        assert block.to_bytes() == raw


@each_length
def test_an_answer_changed_by_one_bit_is_refused(length: int) -> None:
    block, keys = sphinx.make_reply_block(route(*range(length)))
    payload = travel(block.answer(b"an answer"), block.first_hop)[1].payload
    for bit in (0, 255, 256, 8 * 36, 8 * PAYLOAD - 1, *range(length, 8 * PAYLOAD, 3_001)):
        changed = bytearray(payload)
        changed[bit // 8] ^= 1 << bit % 8
        assert refused(keys.read, bytes(changed)) == "bad_payload"
    for size in (0, 1, 64, PAYLOAD - 1, PAYLOAD + 1):
        assert refused(keys.read, (payload + b"\0")[:size]) == "bad_payload"
    assert keys.read(payload) == b"an answer"


def test_payloads_that_are_none() -> None:
    good = bytes(32) + (5).to_bytes(2) + bytes(2) + b"whole"
    good += random.Random(5).randbytes(PAYLOAD - len(good))
    assert sphinx.read_body(good) == b"whole"
    for at in range(256):
        # each bit of the 32 zero bytes is looked at
        raw = bytearray(good)
        raw[at // 8] ^= 1 << at % 8
        assert refused(sphinx.read_body, bytes(raw)) == "bad_payload"
    for sizes in ((BODY + 1).to_bytes(2) + bytes(2), b"\xff\xff\0\0", b"\0\5\0\1", b"\0\5\x80\0"):
        assert refused(sphinx.read_body, bytes(32) + sizes + good[36:]) == "bad_payload"
    for size in (0, 1, 31, 32, 34, 36, 41, PAYLOAD - 1, PAYLOAD + 1):
        assert refused(sphinx.read_body, (good + b"\0")[:size]) == "bad_payload"
    assert sphinx.read_body(bytes(32) + BODY.to_bytes(2) + bytes(2) + good[36:]) == good[36:]


# What is shown.


def test_texts_show_no_secret() -> None:
    block, keys = sphinx.make_reply_block(route(0, 1, 2))
    shown = f"{block!r} {block} {keys!r} {keys} {[block, keys]}"
    assert repr(block.first_hop) in shown and repr(keys.id) in shown
    for secret in (block.seed, keys.seed, *keys.layers):
        for at in range(0, len(secret), 8):
            part = secret[at : at + 8]
            assert part.hex() not in shown and repr(part)[2:-1] not in shown
