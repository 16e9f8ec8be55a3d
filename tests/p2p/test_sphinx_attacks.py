"""What an adversary on the links, or some of the mixes, may try: marking, forging, guessing lengths, recognising."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import sqrt
from operator import mul

import pytest

from anporia_p2p import sphinx
from anporia_p2p.crypto import lioness, xwing
from anporia_p2p.errors import REASONS, BadPacket
from anporia_p2p.sphinx.geometry import Command, Routing
from anporia_p2p.sphinx.header import assemble, encapsulated
from anporia_p2p.sphinx.packet import wrap_body

PACKET, HEADER, PAYLOAD = 16_380, 5_880, 10_500
ALPHA, BETA = slice(0, 1_120), slice(1_120, 5_864)
ROUTING, BLOCK = 40, 1_176

PRIVATE = [xwing.PrivateKey(hashlib.sha256(b"mix %d" % n).digest()) for n in range(5)]
PATH = [sphinx.Hop(hashlib.sha256(b"node %d" % n).digest(), key.public, n) for n, key in enumerate(PRIVATE)]
BODY = b"what is to arrive, whole or not at all"
FIRST = sphinx.build(PATH, BODY)

# the points of order 1, 2, 4 and 8: an X25519 half that makes any key's exchange zero
SMALL_ORDER = [n.to_bytes(32, "little") for n in (0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18)]


def refused(take: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(BadPacket) as error:
        take(*arguments)
    assert error.value.code in REASONS
    return error.value.code


def passed_on(packet: bytes, mix: int) -> bytes:
    done = sphinx.unwrap(sphinx.open_header(PRIVATE[mix], packet))
    assert isinstance(done, sphinx.Forward)
    return done.packet


def at_each_hop(packet: bytes, length: int) -> list[bytes]:
    """The packet as it comes to each mix of the path 0, 1, 2, … of a length."""
    seen = [packet]
    for mix in range(length - 1):
        seen.append(passed_on(seen[-1], mix))
    return seen


def arrive(packet: bytes, first: int, length: int) -> bytes:
    """Let the honest mixes from `first` on have a packet; gives the payload at the end."""
    for mix in range(first, length - 1):
        packet = passed_on(packet, mix)
    done = sphinx.unwrap(sphinx.open_header(PRIVATE[length - 1], packet))
    assert isinstance(done, sphinx.Arrived)
    return done.payload


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def changed_share(a: bytes, b: bytes) -> float:
    return (int.from_bytes(a) ^ int.from_bytes(b)).bit_count() / (8 * len(a))


Read = Callable[[bytes], bytes]


def packets_of(length: int, body: bytes = BODY) -> Iterator[tuple[bytes, Read]]:
    """A packet on its way out and an answer on its way back, each with what reads its payload at the end."""
    yield sphinx.build(PATH[:length], body), sphinx.read_body
    block, keys = sphinx.make_reply_block(PATH[:length])
    yield block.answer(body), keys.read


# The tagger: a mark put on a packet, to be seen again further on.


def spread(bits: int, wanted: int, *firm: int) -> list[int]:
    """Evenly spread positions, and some that are always among them."""
    return sorted({0, bits - 1, *firm, *range(0, bits, max(1, bits // wanted))})


def test_no_bit_of_a_header_can_be_marked(counts: Callable[..., int]) -> None:
    # the seams of alpha's two halves, beta and gamma; X25519 itself would not look at the last bit of its half
    seams = [8 * at + bit for at in (1_088, 1_120, 5_864) for bit in (-1, 0)]
    for bit in spread(8 * HEADER, counts(300, soak=8 * HEADER), *seams):
        changed = flipped(FIRST, bit)
        assert refused(sphinx.open_header, PRIVATE[0], changed) == "bad_mac", bit


@pytest.mark.parametrize("number", range(1, 5))
def test_a_mix_cannot_mark_the_header_it_passes_on(number: int) -> None:
    for packet, _ in packets_of(5):
        whole = at_each_hop(packet, 5)[number]
        for bit in spread(8 * HEADER, 60):
            assert refused(sphinx.open_header, PRIVATE[number], flipped(whole, bit)) == "bad_mac"


def test_points_of_small_order_are_no_headers() -> None:
    for point in SMALL_ORDER:
        for sign in (0, 0x80):
            half = point[:31] + bytes((point[31] | sign,))
            changed = FIRST[:1_088] + half + FIRST[1_120:]
            assert refused(sphinx.open_header, PRIVATE[0], changed) == "bad_mac"


STRETCH = 500


def test_a_mark_on_the_payload_is_noise_after_one_honest_mix(counts: Callable[..., int]) -> None:
    # both sides of the seam between the halves of LIONESS
    bits = spread(8 * PAYLOAD, counts(100, soak=4_000), 7, 255, 256, 257)
    for packet, read in packets_of(3):
        clean = at_each_hop(packet, 3)
        differences = []
        for bit in bits:
            marked = flipped(clean[0], 8 * HEADER + bit)
            out = passed_on(marked, 0)
            # the header, and with it the way, stays what it was: mixes do not see the mark
            assert out[:HEADER] == clean[1][:HEADER]
            here, there = clean[1][HEADER:], out[HEADER:]
            assert 0.45 < changed_share(here, there) < 0.55
            for at in range(0, PAYLOAD, STRETCH):
                # 4,000 coins: seven standard deviations to either side, so that only a fault fails this
                assert 0.445 < changed_share(here[at : at + STRETCH], there[at : at + STRETCH]) < 0.555, (bit, at)
            differences.append(int.from_bytes(here) ^ int.from_bytes(there))
            payload = arrive(out, 1, 3)
            assert refused(read, payload) == "bad_payload"
        # and one mark is as unlike its neighbour's as any two are: where it was cannot be told from what comes out
        for one, other in pairwise(differences):
            assert 0.45 < (one ^ other).bit_count() / (8 * PAYLOAD) < 0.55
        assert read(arrive(packet, 0, 3)) == BODY


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_a_mark_on_the_payload_is_refused_wherever_it_is_put(length: int) -> None:
    for packet, read in packets_of(length):
        for number, whole in enumerate(at_each_hop(packet, length)):
            for bit in spread(8 * PAYLOAD, 8, 255, 256):
                payload = arrive(flipped(whole, 8 * HEADER + bit), number, length)
                assert refused(read, payload) == "bad_payload"


def test_an_answer_marked_twice_alike_is_not_whole_again() -> None:
    # with a stream cipher in place of LIONESS the second mark would take the first one off, and two mixes would know
    for packet, read in packets_of(3):
        for bit in spread(8 * PAYLOAD, 20):
            between = flipped(passed_on(flipped(packet, 8 * HEADER + bit), 0), 8 * HEADER + bit)
            assert refused(read, arrive(between, 1, 3)) == "bad_payload"


# The forger: packets that nobody built.


def flip_some(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    for bit in chance.sample(range(8 * PACKET), chance.randint(1, 8)):
        packet = flipped(packet, bit)
    return packet


def overwrite(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(PACKET)
    size = chance.randint(1, min(PACKET - at, chance.choice([1, 16, 1_200, PACKET])))
    return packet[:at] + chance.randbytes(size) + packet[at + size :]


def overwrite_from_another(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(PACKET)
    size = chance.randint(1, min(PACKET - at, chance.choice([16, 1_200, PACKET])))
    return packet[:at] + other[at : at + size] + packet[at + size :]


def swap(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    size = chance.choice([1, 16, ROUTING, 1_120, BLOCK])
    one, two = sorted(chance.sample(range(PACKET // size), 2))
    a, b = (packet[n * size : (n + 1) * size] for n in (one, two))
    return packet[: one * size] + b + packet[(one + 1) * size : two * size] + a + packet[(two + 1) * size :]


def shorten(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    return packet[: chance.choice([chance.randrange(PACKET), PACKET - 1, HEADER])]


def lengthen(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    return packet + chance.choice([b"\0", chance.randbytes(chance.randint(1, 200)), packet])


def splice(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    return packet[:HEADER] + other[HEADER:]


def splice_within(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    at = chance.choice([1_088, 1_120, 5_864, chance.randint(1, PACKET - 1)])
    return packet[:at] + other[at:]


def rotate(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    at = chance.choice([1, 16, BLOCK, HEADER, chance.randrange(1, PACKET)])
    return packet[at:] + packet[:at]


def zeros(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    return chance.choice([bytes(PACKET), packet[:HEADER] + bytes(PAYLOAD), bytes(HEADER) + packet[HEADER:]])


def noise(packet: bytes, other: bytes, chance: random.Random) -> bytes:
    return chance.choice([chance.randbytes(PACKET), packet[:HEADER] + chance.randbytes(PAYLOAD)])


KINDS = [
    flip_some,
    overwrite,
    overwrite_from_another,
    swap,
    shorten,
    lengthen,
    splice,
    splice_within,
    rotate,
    zeros,
    noise,
]


def test_no_forgery_arrives(counts: Callable[..., int]) -> None:
    chance = random.Random(20261122)
    # for each: its length, the packet as it comes to each mix, what reads it, its body
    known: list[tuple[int, list[bytes], Read, bytes]] = []
    for length in (1, 2, 3, 4, 5) * 2:
        for number, (packet, read) in enumerate(packets_of(length, b"body %d" % len(known))):
            # bodies differ, so that another's whole payload would be seen too
            known.append((length, at_each_hop(packet, length), read, b"body %d" % (len(known) - number)))
    for length, seen, read, body in known:
        assert read(arrive(seen[0], 0, length)) == body
    codes: Counter[tuple[str, str]] = Counter()
    wanted, done, same = counts(2_000, soak=100_000), 0, 0
    while done < wanted:
        kind = KINDS[done % len(KINDS)]
        length, seen, read, _ = chance.choice(known)
        # changed anywhere on its way, with any packet that goes to the same mix at hand
        number = chance.randrange(length)
        others = [other for _, other, _, _ in known if other is not seen and len(other) > number]
        packet = kind(seen[number], chance.choice(others)[number], chance)
        if packet == seen[number]:
            same += 1
            continue
        # any other error than BadPacket, or none, fails the test
        with pytest.raises(BadPacket) as error:
            read(arrive(packet, number, length))
        codes[kind.__name__, error.value.code] += 1
        done += 1
    assert same < wanted // 100
    # each kind got as far as it can: the tests above would be worth little if all fell at the first look
    assert {kind for kind, _ in codes} == {kind.__name__ for kind in KINDS}
    assert {code for _, code in codes} == {"bad_size", "bad_mac", "bad_payload"}
    assert {code for kind, code in codes if kind in {"shorten", "lengthen"}} == {"bad_size"}
    assert {code for kind, code in codes if kind == "splice"} == {"bad_payload"}


def test_a_packet_for_another_mix_is_refused() -> None:
    # so that none can be left out, or be visited in another order
    for packet, _ in packets_of(5):
        for number, whole in enumerate(at_each_hop(packet, 5)):
            for mix in range(5):
                if mix != number:
                    assert refused(sphinx.open_header, PRIVATE[mix], whole) == "bad_mac"


# Orders that no version gave.


class Handmade(Routing):
    """Forty bytes of orders that `Routing` would not write."""

    def to_bytes(self) -> bytes:
        return self.id


def ordering(raw: bytes, number: int, length: int = 3) -> bytes:
    """A packet whose hop `number` has `raw` for orders."""
    layers = encapsulated(PATH[:length], Routing(Command.DELIVER))
    layers[number] = replace(layers[number], routing=Handmade(Command.DELIVER, 0, raw))
    payload = wrap_body(BODY)
    for layer in reversed(layers):
        payload = lioness.encrypt(layer.keys.lioness, payload)
    packet = assemble(layers, random.Random(number).randbytes) + payload
    assert len(packet) == PACKET
    for mix in range(number):
        packet = passed_on(packet, mix)
    return packet


@pytest.mark.parametrize("number", [0, 1, 2])
def test_unknown_commands_and_flags_are_refused(number: int) -> None:
    delay, other = (7).to_bytes(4), PATH[1].node_id
    # what each command has a use for; anything in a field without one is refused
    rests = {1: delay + other, 2: bytes(36), 3: bytes(4) + other}
    for command in range(256):
        rest = rests.get(command, delay + other)
        opened = sphinx.open_header(PRIVATE[number], ordering(bytes((command, 0, 0, 0)) + rest, number))
        if command in (1, 2, 3):
            # that the handmade orders are read at all
            done = sphinx.unwrap(opened)
            assert isinstance(done, sphinx.Forward if command == 1 else sphinx.Arrived)
        else:
            assert refused(sphinx.unwrap, opened) == "bad_command"
            assert refused(opened.orders) == "bad_command"
    for command, rest in rests.items():
        bad = [(1 << bit).to_bytes(3) + rest for bit in range(24)]
        bad += [bytes(3) + delay + bytes(32), bytes(3) + delay + other] if command != 1 else []
        bad += [bytes(7) + other] if command == 2 else []
        for orders in bad:
            opened = sphinx.open_header(PRIVATE[number], ordering(bytes((command,)) + orders, number))
            assert refused(sphinx.unwrap, opened) == "bad_command"


# The guesser of lengths: what a mix, the last one above all, could see of how long the path was.

Random = Callable[[int], bytes]


def last_view(length: int, random_bytes: Random | None = None) -> bytes:
    """What the last mix sees in beta behind its own orders, when its layer is off: 4,704 bytes."""
    packet = sphinx.build(PATH[:length], BODY, *([random_bytes] if random_bytes else []))
    last = at_each_hop(packet, length)[-1]
    opened = sphinx.open_header(PRIVATE[length - 1], last)
    plain = lioness.keystream(opened.keys.stream, last[BETA])
    assert plain[:ROUTING] == Routing(Command.DELIVER).to_bytes()
    return plain[ROUTING:]


STRETCHES = 42
SIX = 6.0  # standard deviations


def features(view: bytes) -> list[float]:
    """How often each byte occurs, and how many bits are set in each of 42 stretches; all of about one variance."""
    counted = Counter(view)
    size = len(view) // STRETCHES
    usual, bits = len(view) / 256, 8 * size
    found = [(counted[byte] - usual) / sqrt(usual) for byte in range(256)]
    for at in range(0, size * STRETCHES, size):
        found.append((int.from_bytes(view[at : at + size]).bit_count() - bits / 2) / sqrt(bits / 4))
    return found


def share_guessed(classes: Sequence[Sequence[bytes]]) -> float:
    """Learn the mean of each class from half of its views, and guess the other half's class by the nearest mean."""
    known = [[features(view) for view in views] for views in classes]
    means = []
    for views in known:
        half = views[: len(views) // 2]
        means.append([sum(column) / len(half) for column in zip(*half, strict=True)])
    # the nearest: |x - m|² without |x|², which is the same for all
    offsets = [sum(map(mul, mean, mean)) / 2 for mean in means]
    right = total = 0
    for number, views in enumerate(known):
        for view in views[len(views) // 2 :]:
            scores = [sum(map(mul, mean, view)) - offset for mean, offset in zip(means, offsets, strict=True)]
            right += scores.index(max(scores)) == number
            total += 1
    return right / total


def by_chance(classes: int, each: int) -> float:
    """The share that guesses without knowledge stay below, but for less than once in a million.

    Each class has `each` / 2 views to guess. However the guesses fall to the classes, the number that is right has the
    mean each / 2 and at most the variance of as many guesses at 1 in `classes`, times them.
    """
    tested = each // 2
    return (tested + SIX * sqrt(tested * (1 - 1 / classes))) / (tested * classes)


def unevenness(views: Sequence[bytes]) -> float:
    """Chi-square of the byte frequencies, in standard deviations by Wilson and Hilferty's cube root."""
    counted = Counter(b"".join(views))
    usual = counted.total() / 256
    chi_square = sum((counted[byte] - usual) ** 2 for byte in range(256)) / usual
    spread_of = 2 / (9 * 255)
    return float(((chi_square / 255) ** (1 / 3) - (1 - spread_of)) / sqrt(spread_of))


def patterns(view: bytes) -> list[str]:
    """What must not be seen in noise: a run of one byte, or 16 bytes that come twice. Chance: below 2^-40 a view."""
    found = []
    if re.search(rb"(.)\1{7}", view, re.DOTALL):
        found.append("a run")
    windows = {view[at : at + 16] for at in range(len(view) - 15)}
    if len(windows) < len(view) - 15:
        found.append("a repetition")
    return found


def verdict(classes: Sequence[Sequence[bytes]]) -> set[str]:
    """All that tells views of these classes from noise or from each other."""
    found = {pattern for views in classes for view in views for pattern in patterns(view)}
    if any(abs(unevenness(views)) > SIX for views in classes):
        found.add("uneven bytes")
    if share_guessed(classes) > by_chance(len(classes), len(classes[0])):
        found.add("guessed")
    return found


def test_the_last_mix_does_not_see_how_long_the_path_was(counts: Callable[..., int]) -> None:
    each = counts(200, soak=2_000)
    classes = [[last_view(length) for _ in range(each)] for length in range(1, 6)]
    assert {len(view) for views in classes for view in views} == {4_704}
    assert verdict(classes) == set()


def test_the_last_mix_would_see_zeros() -> None:
    # the fill the first Sphinx had, which this test must see, or it would see nothing
    classes = [[last_view(length, bytes) for _ in range(60)] for length in range(1, 6)]
    assert verdict(classes) == {"a run", "a repetition", "uneven bytes", "guessed"}
    assert share_guessed(classes) > 0.95


def test_the_guesser_sees_a_faint_trace() -> None:
    # no run, no repetition: 64 bytes of every 1,176 have their highest bit cleared, in as many blocks as the path left
    chance = random.Random(64)

    def faint(size: int) -> bytes:
        fill = bytearray(chance.randbytes(size))
        for at in range(0, size, BLOCK):
            fill[at : at + 64] = bytes(byte & 0x7F for byte in fill[at : at + 64])
        return bytes(fill)

    classes = [[last_view(length, faint) for _ in range(200)] for length in range(1, 6)]
    assert "guessed" in verdict(classes)


def test_no_mix_and_no_link_sees_where_on_its_path_a_packet_is(counts: Callable[..., int]) -> None:
    # what comes in at each place of paths of each length: 15 classes, and for replies the same header is made
    each = counts(80, soak=1_000)
    headers: dict[tuple[int, int], list[bytes]] = {}
    for length in range(1, 6):
        for number in range(each):
            if number % 2:
                packet = sphinx.build(PATH[:length], BODY)
            else:
                packet = sphinx.make_reply_block(PATH[:length])[0].answer(BODY)
            for place, whole in enumerate(at_each_hop(packet, length)):
                headers.setdefault((length, place), []).append(whole[:HEADER])
    assert len(headers) == 15
    # ML-KEM's numbers are none of noise's, in every packet alike, so that alpha is left to the guesser
    assert share_guessed(list(headers.values())) < by_chance(15, each)
    for views in headers.values():
        assert not any(map(patterns, views))
    assert verdict([[view[BETA.start :] for view in views] for views in headers.values()]) == set()


def test_payloads_do_not_tell_ways_out_from_ways_back(counts: Callable[..., int]) -> None:
    # nor a short body from a long one, at any mix but the last
    each = counts(60, soak=1_000)
    classes: list[list[bytes]] = []
    for body in (b"", bytes(sphinx.BODY_BYTES)):
        made = [list(packets_of(2, body)) for _ in range(each)]
        for way in (0, 1):
            seen = [at_each_hop(packets[way][0], 2) for packets in made]
            classes += [[whole[place][HEADER:] for whole in seen] for place in (0, 1)]
    assert len(classes) == 8
    assert verdict(classes) == set()


def test_an_arrived_answer_is_noise_without_its_keys(counts: Callable[..., int]) -> None:
    # as the last mix has it before the keys of its block are looked up
    views = []
    for _ in range(counts(60, soak=1_000)):
        block, _ = sphinx.make_reply_block(PATH[:3])
        views.append(arrive(block.answer(bytes(sphinx.BODY_BYTES)), 0, 3))
    assert abs(unevenness(views)) < SIX and not any(map(patterns, views))


# Recognition: a packet that comes out held against one that went in.


def windows(packet: bytes, size: int) -> set[bytes]:
    return {packet[at : at + size] for at in range(len(packet) - size + 1)}


def test_what_comes_out_has_nothing_of_what_went_in() -> None:
    for packet, _ in packets_of(5, bytes(sphinx.BODY_BYTES)):
        seen = [windows(whole, 16) for whole in at_each_hop(packet, 5)]
        for n, one in enumerate(seen):
            for other in seen[n + 1 :]:
                # not even with several mixes between
                assert not one & other


def test_two_packets_alike_share_nothing_but_chance() -> None:
    block_one, block_two = (sphinx.make_reply_block(PATH)[0] for _ in range(2))
    body = bytes(sphinx.BODY_BYTES)
    for one, two in (
        (sphinx.build(PATH, body), sphinx.build(PATH, body)),
        (block_one.answer(body), block_two.answer(body)),
        (sphinx.build(PATH, body), block_one.answer(body)),
    ):
        for here, there in zip(at_each_hop(one, 5), at_each_hop(two, 5), strict=True):
            assert not windows(here, 16) & windows(there, 16)
            # 64 equal bytes are expected, give or take 8
            assert sum(a == b for a, b in zip(here, there, strict=True)) < 140
            assert 0.47 < changed_share(here[BETA.start :], there[BETA.start :]) < 0.53


def test_answers_by_one_block_share_their_header_alone() -> None:
    # which the first mix knows by its tag; their payloads, though under one key, show nothing of what they share
    block, _ = sphinx.make_reply_block(PATH[:2])
    one, two = block.answer(BODY), block.answer(BODY)
    assert one[:HEADER] == two[:HEADER]
    assert not windows(one[HEADER:], 16) & windows(two[HEADER:], 16)
    assert 0.47 < changed_share(one[HEADER:], two[HEADER:]) < 0.53
