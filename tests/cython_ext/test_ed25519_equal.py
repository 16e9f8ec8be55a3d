"""With a table of the key and without, the compiled verifier answers as PyNaCl's libsodium does.

Signatures are made here from scalars, so that keys and R may carry torsion; sums are compared with big integers.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nacl.bindings as sodium
import pytest

from anporia_cython_ext import _verify
from anporia_wire import _kernels_py as pure

Triple = tuple[bytes, bytes, bytes]

VECTORS = Path(__file__).parents[1] / "vectors" / "ed25519_edges.json"

# RFC 8032, section 5.1
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)  # of -1

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or sys.maxsize < 2**32, reason="no tables: hidden symbols, or no products of 128 bits"
)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    _verify._forget()
    yield
    _verify._forget()


# ---- The curve, by big integers: -x^2 + y^2 = 1 + D*x^2*y^2, points as (X, Y, Z) with x = X/Z and y = Y/Z ----

Point = tuple[int, int, int]
NEUTRAL: Point = (0, 1, 1)


def added(p: Point, q: Point) -> Point:
    """By the definition (section 5.1.4 without T): complete, so also for equal points."""
    (x1, y1, z1), (x2, y2, z2) = p, q
    z = z1 * z2 % P
    square, dxy = z * z % P, D * x1 * x2 % P * y1 % P * y2 % P
    x = z * (square - dxy) % P * (x1 * y2 + y1 * x2) % P
    y = z * (square + dxy) % P * (y1 * y2 + x1 * x2) % P
    return x, y, (square - dxy) * (square + dxy) % P


def times(n: int, p: Point) -> Point:
    total = NEUTRAL
    for bit in bin(n)[2:]:
        total = added(total, total)
        if bit == "1":
            total = added(total, p)
    return total


def encoded(p: Point) -> bytes:
    inverse = pow(p[2], -1, P)
    x, y = p[0] * inverse % P, p[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decoded(data: bytes) -> Point | None:
    number = int.from_bytes(data, "little")
    y = number % 2**255 % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT % P
    if x * x % P != square:
        return None
    return (x if x & 1 == number >> 255 else -x % P), y, 1


def torsion() -> list[bytes]:
    """The points of small order: L times a point leaves nothing else, and of some points one of order 8."""
    for y in range(2, 100):
        point = decoded(y.to_bytes(32, "little"))
        if point and len(found := {encoded(times(k * L, point)): None for k in range(8)}) == 8:
            return list(found)
    raise AssertionError


BASE = decoded((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
TORSION = torsion()


def is_admitted(key: bytes) -> bool:
    """Whether libsodium takes a key at all: canonical, a point, not of small order."""
    point = decoded(key)
    canonical = int.from_bytes(key, "little") % 2**255 < P
    return canonical and point is not None and encoded(times(8, point)) != TORSION[0]


# ---- Signatures ----


def scalar(rng: random.Random) -> bytes:
    return rng.randrange(1, L).to_bytes(32, "little")


def number(data: bytes) -> int:
    return int.from_bytes(data, "little")


class Signer:
    """Knows the scalar of its key, a*B + torsion point j."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.a = rng, scalar(rng)
        self.j = rng.choice([0] * 8 + [*range(8)])
        honest = sodium.crypto_scalarmult_ed25519_base_noclamp(self.a)
        self.key = sodium.crypto_core_ed25519_add(honest, TORSION[self.j])

    def h(self, R: bytes, message: bytes) -> int:
        return number(hashlib.sha512(R + self.key + message).digest()) % L

    def message(self) -> bytes:
        return self.rng.randbytes(32 if self.rng.random() < 0.7 else self.rng.randrange(201))

    def signature(self) -> tuple[Triple, bool]:
        """Valid up to torsion, and whether it is valid: R + h*A has the torsion point i + h*j, s*B has none."""
        r, message = scalar(self.rng), self.message()
        i = self.rng.choice([0] * 16 + [*range(8)])
        R = sodium.crypto_core_ed25519_add(sodium.crypto_scalarmult_ed25519_base_noclamp(r), TORSION[i])
        h = self.h(R, message)
        s = (number(r) + h * number(self.a)) % L
        return (self.key, message, R + s.to_bytes(32, "little")), (i + h * self.j) % 8 == 0

    def small_R(self) -> Triple:
        """s*B = R + h*A holds, perhaps up to torsion, and R has small order."""
        message, R = self.message(), self.rng.choice(TORSION)
        s = self.h(R, message) * number(self.a) % L
        return self.key, message, R + s.to_bytes(32, "little")


def flipped(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) * 8)
    return (number(data) ^ 1 << at).to_bytes(len(data), "little")


def mutations(rng: random.Random, triple: Triple) -> Iterator[Triple]:
    """Other signatures near one; each kind once, so that each is met often."""
    key, message, signature = triple
    R, s = signature[:32], number(signature[32:])
    yield key, message, flipped(rng, R) + signature[32:]
    yield key, message, R + flipped(rng, signature[32:])
    yield key, flipped(rng, message) if message else b"\0", signature
    yield flipped(rng, key), message, signature
    yield key, message, R + (s + rng.randrange(1, 15) * L).to_bytes(32, "little")
    yield key, message, R + ((L + rng.randrange(-3, 4)) % 2**256).to_bytes(32, "little")
    yield key, message, R + (-s % L).to_bytes(32, "little")
    yield key, message, sodium.crypto_core_ed25519_add(R, rng.choice(TORSION[1:])) + signature[32:]
    # y + p, which fits for y < 19, with either sign of x; these are no encodings
    yield key, message, (rng.randrange(P, 2**255) | rng.getrandbits(1) << 255).to_bytes(32, "little") + signature[32:]
    yield key, message, (number(R) ^ 1 << 255).to_bytes(32, "little") + signature[32:]
    yield key, message, rng.choice(TORSION) + signature[32:]
    yield key, message, rng.randbytes(64)


def drawn(rng: random.Random, signers: Sequence[Signer], count: int) -> Iterator[Triple]:
    while count > 0:
        signer = rng.choice(signers)
        made = [signer.signature() for _ in range(4)]
        assert pure.verify(*made[0][0]) is made[0][1]
        batch = [*(triple for triple, _ in made), signer.small_R(), *mutations(rng, made[0][0])]
        yield from batch
        count -= len(batch)


# ---- Equal answers ----


def test_edges() -> None:
    """Every vector without a table and, where libsodium takes the key, with one."""
    warm = 0
    for case in json.loads(VECTORS.read_text())["cases"]:
        key, message, signature = (bytes.fromhex(case[name]) for name in ("public_key", "message", "signature"))
        triple = (key, message, signature)
        _verify._forget()
        assert _verify.verify_many([triple]) == [case["expect"]], case["name"]
        if len(key) == 32 and is_admitted(key):
            _verify._forget()
            assert _verify._know(key)
            assert _verify.verify_many([triple]) == [case["expect"]] == [pure.verify(*triple)], case["name"]
            assert _verify.verify(*triple) is case["expect"], case["name"]
            warm += 1
    assert warm > 100


def test_drawn(counts: Callable[..., int]) -> None:
    """Valid, broken and torsion-laden signatures of keys with tables, in batches of all sizes."""
    seed = random.randrange(2**64) if counts(0, soak=1) else 20261122
    rng = random.Random(seed)
    total, done, valid = counts(40_000, soak=5_000_000), 0, 0
    while done < total:
        signers = [Signer(rng) for _ in range(20)]
        for signer in signers:
            assert _verify._know(signer.key)
        triples = list(drawn(rng, signers, min(total, 2_000)))
        rng.shuffle(triples)
        expected = [pure.verify(*triple) for triple in triples]
        answers: list[bool] = []
        while len(answers) < len(triples):
            answers += _verify.verify_many(triples[len(answers) :][: rng.randrange(1, 200)])
        wrong = [triple for triple, *two in zip(triples, expected, answers, strict=True) if two[0] is not two[1]]
        assert not wrong, (seed, wrong[0])
        assert {signer.key for signer in signers} <= _verify._held()[0]
        done, valid = done + len(triples), valid + sum(expected)
    print(f"seed {seed}: {done} signatures, {valid} of them hold")
    assert done // 20 < valid < done // 5


def test_by_itself(counts: Callable[..., int]) -> None:
    """The same from a cold start: libsodium first, tables when keys have held twice."""
    rng = random.Random(20261123)
    for _ in range(counts(2)):
        _verify._forget(tables=15)
        held = Counter[bytes]()
        signers = [Signer(rng) for _ in range(20)]
        triples = list(drawn(rng, signers, 1_500))
        for start in range(0, len(triples), 64):
            batch = triples[start:][:64]
            expected = [pure.verify(*triple) for triple in batch]
            assert _verify.verify_many(batch) == expected
            held.update(triple[0] for triple, holds in zip(batch, expected, strict=True) if holds)
        twice = [key for key, times_held in held.items() if times_held >= 2]
        assert len(_verify._held()[0]) == min(15, len(twice)) > 5


# ---- Sums ----

PARTS = [2**k for k in range(0, 253, 32)]  # where _ed25519.h cuts
SCALARS = [
    *(n + step for n in [L, 2**252, *PARTS, *(2**31 * n for n in PARTS[:-1])] for step in (-1, 0, 1)),
    *((2**32 - 1) * n for n in PARTS[:-1]),  # a part of ones: the carry is a digit of the next
    *(2**k - 1 for k in range(4, 254, 7)),
    # one digit over and over, beside where its sign or the carry changes, packed and with zeros between
    *(
        sum(digit << at for at in range(0, 253 - spacing, spacing))
        for width in (4, 8)
        for digit in (2 ** (width - 1) - 1, 2 ** (width - 1), 2 ** (width - 1) + 1, 2**width - 1)
        for spacing in (width, width + 1, 33)
    ),
    2**253 - 2**31,
    2**253 - 1,
]


def check_sum(s: int, h: int, key: bytes) -> None:
    point = decoded(key)
    assert BASE and point
    x, y, z = point
    expected = encoded(added(times(s, BASE), times(h, (-x, y, z))))
    assert _verify._sum(s.to_bytes(32, "little"), h.to_bytes(32, "little"), key) == expected, (s, h, key.hex())


@pytest.fixture
def keys() -> list[bytes]:
    """An honest key and one of each torsion, all with tables."""
    honest = sodium.crypto_scalarmult_ed25519_base_noclamp(scalar(random.Random(1)))
    found = [sodium.crypto_core_ed25519_add(honest, point) for point in TORSION]
    assert all(_verify._know(key) for key in found)
    return found


def test_sums_of_chosen_scalars(keys: list[bytes]) -> None:
    for at, n in enumerate(SCALARS):
        check_sum(n, 0, keys[0])
        check_sum(0, n, keys[at % 8])
        check_sum(n, SCALARS[-at], keys[-at % 8])


def test_sums_of_drawn_scalars(keys: list[bytes], counts: Callable[..., int]) -> None:
    rng = random.Random(20261124)
    for _ in range(counts(100, soak=20_000)):
        # runs of equal bits of all lengths are what recoding carries along
        s, h = (rng.getrandbits(253) if rng.random() < 0.5 else runs(rng) for _ in range(2))
        check_sum(s, h, rng.choice(keys))


def runs(rng: random.Random) -> int:
    n = 0
    while n.bit_length() < 300:
        length = rng.randrange(1, 60)
        n = n << length | (2**length - 1) * rng.getrandbits(1) | 1 << length
    return n % 2**253


def test_sum_that_vanishes(keys: list[bytes]) -> None:
    """B as a key: s*B - s*B is neutral, also where doublings and additions meet equal points on their way."""
    base = bytes([0x58] + [0x66] * 31)
    assert _verify._know(base)
    for n in SCALARS:
        assert _verify._sum(n.to_bytes(32, "little"), n.to_bytes(32, "little"), base) == TORSION[0]


def test_keys_of_hard_coordinates() -> None:
    """Points with the smallest and largest y there are, whose limbs are nearly 0 or nearly full."""
    rng = random.Random(20261125)
    close = [*range(2, 60), *range(P - 60, P - 2), *(2**51 * n for n in range(1, 20)), *(2**k - 1 for k in (51, 102))]
    tried = 0
    for y in close:
        for sign in (0, 1):
            key = (y | sign << 255).to_bytes(32, "little")
            point = decoded(key)
            assert _verify._know(key) is (point is not None)
            if point and tried < 60:
                check_sum(rng.randrange(L), rng.randrange(L), key)
                tried += 1
    assert tried == 60


def test_scalars_out_of_range(keys: list[bytes]) -> None:
    for wrong in ((2**253).to_bytes(32, "little"), bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="below"):
            _verify._sum(wrong, bytes(32), keys[0])
        with pytest.raises(ValueError, match="below"):
            _verify._sum(bytes(32), wrong, keys[0])
