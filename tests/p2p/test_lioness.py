"""LIONESS against a slow one made of nothing but its definition, and the property it is there for: all or nothing."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_p2p.crypto import lioness

PAYLOAD = 10_500  # about what a packet carries
MASK = 0xFFFFFFFF


def quarter(x: list[int], a: int, b: int, c: int, d: int) -> None:
    # RFC 8439, section 2.1
    for into, add, turn, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        x[into] = (x[into] + x[add]) & MASK
        x[turn] ^= x[into]
        x[turn] = (x[turn] << by | x[turn] >> (32 - by)) & MASK


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    # RFC 8439, section 2.3
    state = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key), counter]
    state += struct.unpack("<3I", nonce)
    x = state.copy()
    for _ in range(10):
        for column in range(4):
            quarter(x, column, column + 4, column + 8, column + 12)
        for i in range(4):
            quarter(x, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16I", *((a + b) & MASK for a, b in zip(x, state, strict=True)))


def chacha20(key: bytes, counter: int, nonce: bytes, data: bytes) -> bytes:
    # RFC 8439, section 2.4
    stream = b"".join(chacha20_block(key, counter + i, nonce) for i in range(-(-len(data) // 64)))
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    # RFC 2104, section 2, for keys shorter than a block
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + data).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).digest()


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def slow_encrypt(key: bytes, block: bytes) -> bytes:
    """The four rounds of the paper's section on LIONESS, S being ChaCha20 from block 0 and H being HMAC-SHA256."""
    k1, k2, k3, k4 = (key[i : i + 32] for i in range(0, 128, 32))
    left, right = block[:32], block[32:]
    right = chacha20(xor(left, k1), 0, bytes(12), right)  # R = R + S(L + K1)
    left = xor(left, hmac_sha256(k2, right))  # L = L + H(K2, R)
    right = chacha20(xor(left, k3), 0, bytes(12), right)  # R = R + S(L + K3)
    left = xor(left, hmac_sha256(k4, right))  # L = L + H(K4, R)
    return left + right


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def changed_share(a: bytes, b: bytes) -> float:
    return (int.from_bytes(a) ^ int.from_bytes(b)).bit_count() / (8 * len(a))


def test_the_slow_stream_is_chacha20() -> None:
    # RFC 8439, section 2.4.2
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would "
        b"be it."
    )
    published = (
        "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b357"
        "1639d624e65152ab8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736"
        "5af90bbf74a35be6b40b8eedf2785e42874d"
    )
    nonce = bytes.fromhex("000000000000004a00000000")
    assert chacha20(bytes(range(32)), 1, nonce, text).hex() == published


def test_the_slow_mac_is_hmac() -> None:
    # RFC 4231, section 4.3
    published = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hmac_sha256(b"Jefe", b"what do ya want for nothing?").hex() == published


@given(key=st.binary(min_size=32, max_size=32), data=st.binary(max_size=300))
def test_the_keystream(key: bytes, data: bytes) -> None:
    assert lioness.keystream(key, data) == chacha20(key, 0, bytes(12), data)
    assert lioness.keystream(key, lioness.keystream(key, data)) == data


@given(key=st.binary(min_size=128, max_size=128), block=st.binary(min_size=64, max_size=2_000))
def test_round_trip(key: bytes, block: bytes) -> None:
    encrypted = lioness.encrypt(key, block)
    assert len(encrypted) == len(block) and encrypted != block
    assert lioness.decrypt(key, encrypted) == block
    # either direction is a permutation
    assert lioness.encrypt(key, lioness.decrypt(key, block)) == block


def test_round_trip_of_a_payload() -> None:
    key, block = random.Random(1).randbytes(128), random.Random(2).randbytes(PAYLOAD)
    assert lioness.decrypt(key, lioness.encrypt(key, block)) == block


@pytest.mark.parametrize("length", [64, 65, 95, 96, 97, 127, 128, 500, 2_000, PAYLOAD])
def test_equals_the_definition(length: int) -> None:
    chance = random.Random(length)
    key, block = chance.randbytes(128), chance.randbytes(length)
    encrypted = slow_encrypt(key, block)
    assert lioness.encrypt(key, block) == encrypted
    assert lioness.decrypt(key, encrypted) == block


@given(key=st.binary(min_size=128, max_size=128), block=st.binary(min_size=64, max_size=300))
def test_equals_the_definition_everywhere(key: bytes, block: bytes) -> None:
    assert lioness.encrypt(key, block) == slow_encrypt(key, block)


# the first and last bits, both sides of the seam between the halves, and others evenly spread
POSITIONS = sorted({0, 7, 255, 256, 257, 8 * PAYLOAD - 1, *range(100, 8 * PAYLOAD, 8 * PAYLOAD // 60)})


@pytest.mark.parametrize("cipher", [lioness.decrypt, lioness.encrypt], ids=["decrypt", "encrypt"])
def test_one_flipped_bit_changes_half_of_everything(cipher: Callable[[bytes, bytes], bytes]) -> None:
    key, block = random.Random(3).randbytes(128), random.Random(4).randbytes(PAYLOAD)
    whole = cipher(key, block)
    assert len(POSITIONS) >= 64
    for position in POSITIONS:
        noise = cipher(key, flipped(block, position))
        assert 0.45 < changed_share(whole, noise) < 0.55, position
        # and in each part: no stretch of it is spared. The left half is 256 bits wide, so it strays further from half
        assert 0.3 < changed_share(whole[:32], noise[:32]) < 0.7, position
        for start in range(32, PAYLOAD - 500, 500):
            assert 0.45 < changed_share(whole[start : start + 500], noise[start : start + 500]) < 0.55, (
                position,
                start,
            )


@pytest.mark.parametrize("bit", [0, 255, 256, 511, 512, 767, 768, 1_023])
def test_every_round_has_its_key(bit: int) -> None:
    key, block = random.Random(5).randbytes(128), random.Random(6).randbytes(PAYLOAD)
    assert 0.45 < changed_share(lioness.decrypt(key, block), lioness.decrypt(flipped(key, bit), block)) < 0.55


@pytest.mark.parametrize("length", [0, 1, 32, 63])
def test_short_blocks_are_refused(length: int) -> None:
    for cipher in (lioness.encrypt, lioness.decrypt):
        with pytest.raises(ValueError, match="at least 64"):
            cipher(bytes(128), bytes(length))


@pytest.mark.parametrize("length", [0, 32, 127, 129, 256])
def test_other_keys_are_refused(length: int) -> None:
    for cipher in (lioness.encrypt, lioness.decrypt):
        with pytest.raises(ValueError, match="key of 128"):
            cipher(bytes(length), bytes(64))
