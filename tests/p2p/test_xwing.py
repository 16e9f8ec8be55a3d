"""X-Wing as published, as HPKE has it, and as the draft's text reads when written down once more from other parts."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from kyber_py.ml_kem import ML_KEM_768  # type: ignore[import-untyped]
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base

from anporia_p2p.crypto import xwing
from anporia_p2p.errors import BadKey

VECTORS: list[dict[str, str]] = json.loads(
    (Path(__file__).parent / "vectors" / "xwing.json").read_text(encoding="utf-8")
)
VECTORS_SHAKE128 = "1bcd0057d861d6b866239936cadcaeee1ec0164dedc181c386e9e54fe46156fe"
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["seed"][:8])

MLKEM_PUBLIC = 1_184
MLKEM_CIPHERTEXT = 1_088
Q = 3_329  # FIPS 203: coefficients are smaller

SEED = bytes(range(32))
PRIVATE = xwing.PrivateKey(SEED)

# the points of order 1, 2, 4 and 8 on the curve and its twist, and their forms above the prime 2**255 - 19
P = 2**255 - 19
SMALL_ORDER = [n.to_bytes(32, "little") for n in (0, 1, P - 1, P, P + 1)] + [
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]
# X25519 does not look at the highest bit
SMALL_ORDER += [point[:31] + bytes((point[31] | 0x80,)) for point in SMALL_ORDER]
each_small_point = pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point[:2].hex() + point[30:].hex())


# The draft once more, over kyber-py and libsodium.


def expand_seed(seed: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """(d and z of ML-KEM, secret of X25519, public of ML-KEM, public of X25519): section 5.2."""
    expanded = hashlib.shake_256(seed).digest(96)
    mlkem_public, _ = ML_KEM_768._keygen_internal(expanded[:32], expanded[32:64])
    return expanded[:64], expanded[64:], mlkem_public, crypto_scalarmult_base(expanded[64:])


def combiner(ss_m: bytes, ss_x: bytes, ct_x: bytes, pk_x: bytes) -> bytes:
    """Section 5.3."""
    return hashlib.sha3_256(b"".join((ss_m, ss_x, ct_x, pk_x, rb"\./", rb"/^" + b"\\"))).digest()


def encapsulate_derand(public: bytes, eseed: bytes) -> tuple[bytes, bytes]:
    """Section 5.4.1."""
    pk_m, pk_x = public[:MLKEM_PUBLIC], public[MLKEM_PUBLIC:]
    ct_x = crypto_scalarmult_base(eseed[32:])
    ss_m, ct_m = ML_KEM_768._encaps_internal(pk_m, eseed[:32])
    return combiner(ss_m, crypto_scalarmult(eseed[32:], pk_x), ct_x, pk_x), ct_m + ct_x


def decapsulate(seed: bytes, ciphertext: bytes) -> bytes:
    """Section 5.5."""
    mlkem_seed, sk_x, _, pk_x = expand_seed(seed)
    _, sk_m = ML_KEM_768._keygen_internal(mlkem_seed[:32], mlkem_seed[32:])
    ct_m, ct_x = ciphertext[:MLKEM_CIPHERTEXT], ciphertext[MLKEM_CIPHERTEXT:]
    return combiner(ML_KEM_768._decaps_internal(sk_m, ct_m), crypto_scalarmult(sk_x, ct_x), ct_x, pk_x)


# Vectors.


def test_the_vectors_are_the_published_ones() -> None:
    # spec/test-vectors.txt of the draft, of which CIRCL publishes the digest
    text = ""
    for vector in VECTORS:
        for name in ("seed", "sk", "pk", "eseed", "ct", "ss"):
            value = vector[name]
            lines = [f"  {value[i : i + 72]}\n" for i in range(0, len(value), 72)]
            text += f"{name}     {value}\n" if len(value) == 64 else f"{name}\n{''.join(lines)}"
        text += "\n"
    assert len(VECTORS) == 3
    assert hashlib.shake_128(text.encode()).hexdigest(32) == VECTORS_SHAKE128


@each_vector
def test_vectors(vector: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    seed, eseed, public, ciphertext, secret = (bytes.fromhex(vector[k]) for k in ("seed", "eseed", "pk", "ct", "ss"))
    private = xwing.PrivateKey(seed)
    assert private.public.raw == public
    assert private.decapsulate(ciphertext) == secret
    assert (len(public), len(ciphertext), len(secret)) == (
        xwing.PUBLIC_BYTES,
        xwing.CIPHERTEXT_BYTES,
        xwing.SECRET_BYTES,
    )
    # cryptography takes no randomness for ML-KEM, so that the X25519 half alone can be held against the vector
    ephemeral = X25519PrivateKey.from_private_bytes(eseed[32:])
    public_key = xwing.PublicKey(public)
    monkeypatch.setattr(xwing, "X25519PrivateKey", SimpleNamespace(generate=lambda: ephemeral))
    made, sent = public_key.encapsulate()
    assert sent[MLKEM_CIPHERTEXT:] == ciphertext[MLKEM_CIPHERTEXT:]
    assert sent[:MLKEM_CIPHERTEXT] != ciphertext[:MLKEM_CIPHERTEXT]
    assert private.decapsulate(sent) == made != secret


@each_vector
def test_the_draft_written_once_more_gives_the_vectors(vector: dict[str, str]) -> None:
    seed, eseed, public, ciphertext, secret = (bytes.fromhex(vector[k]) for k in ("seed", "eseed", "pk", "ct", "ss"))
    _, _, mlkem_public, x25519_public = expand_seed(seed)
    assert mlkem_public + x25519_public == public
    assert encapsulate_derand(public, eseed) == (secret, ciphertext)
    assert decapsulate(seed, ciphertext) == secret


@settings(max_examples=15)
@given(seed=st.binary(min_size=32, max_size=32), eseed=st.binary(min_size=64, max_size=64))
def test_both_ways_with_the_draft_written_once_more(seed: bytes, eseed: bytes) -> None:
    private = xwing.PrivateKey(seed)
    _, _, mlkem_public, x25519_public = expand_seed(seed)
    assert private.public.raw == mlkem_public + x25519_public
    secret, ciphertext = encapsulate_derand(private.public.raw, eseed)
    assert private.decapsulate(ciphertext) == secret
    secret, ciphertext = private.public.encapsulate()
    assert decapsulate(seed, ciphertext) == secret


def test_every_encapsulation_is_fresh() -> None:
    made = [xwing.PublicKey(PRIVATE.public.raw).encapsulate() for _ in range(20)]
    assert [PRIVATE.decapsulate(ciphertext) for _, ciphertext in made] == [secret for secret, _ in made]
    for part in (slice(0, 32), slice(MLKEM_CIPHERTEXT - 32, MLKEM_CIPHERTEXT), slice(MLKEM_CIPHERTEXT, None)):
        assert len({ciphertext[part] for _, ciphertext in made}) == len(made)
    assert len({secret for secret, _ in made}) == len(made)


# HPKE, RFC 9180: the library's own KEM 0x647a on one side, ours on the other.

SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
SUITE_ID = b"HPKE" + bytes.fromhex("647a 0001 0003")  # X-Wing, HKDF-SHA256, ChaCha20Poly1305


def labeled_extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + SUITE_ID + label + ikm, "sha256")


def labeled_expand(prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    # no more than one block is asked for
    labeled = length.to_bytes(2) + b"HPKE-v1" + SUITE_ID + label + info
    return hmac.digest(prk, labeled + b"\1", "sha256")[:length]


def key_schedule(shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """(key, nonce of the first message) in base mode: section 5.1."""
    context = b"\0" + labeled_extract(b"", b"psk_id_hash", b"") + labeled_extract(b"", b"info_hash", info)
    secret = labeled_extract(shared, b"secret", b"")
    return labeled_expand(secret, b"key", context, 32), labeled_expand(secret, b"base_nonce", context, 12)


def library_private(seed: bytes) -> MLKEM768X25519PrivateKey:
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])
    )


def library_public(raw: bytes) -> MLKEM768X25519PublicKey:
    return MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(raw[:MLKEM_PUBLIC]), X25519PublicKey.from_public_bytes(raw[MLKEM_PUBLIC:])
    )


each_message = pytest.mark.parametrize(
    ("info", "text"), [(b"", b""), (b"", b"a word"), (b"what it is for", b"\0" * 1_000)], ids=["empty", "short", "info"]
)


@each_message
def test_what_hpke_seals_we_open(info: bytes, text: bytes) -> None:
    sealed = SUITE.encrypt(text, library_public(PRIVATE.public.raw), info)
    ciphertext, box = sealed[: xwing.CIPHERTEXT_BYTES], sealed[xwing.CIPHERTEXT_BYTES :]
    key, nonce = key_schedule(PRIVATE.decapsulate(ciphertext), info)
    assert ChaCha20Poly1305(key).decrypt(nonce, box, b"") == text


@each_message
def test_what_we_seal_hpke_opens(info: bytes, text: bytes) -> None:
    secret, ciphertext = PRIVATE.public.encapsulate()
    key, nonce = key_schedule(secret, info)
    sealed = ciphertext + ChaCha20Poly1305(key).encrypt(nonce, text, b"")
    assert SUITE.decrypt(sealed, library_private(SEED), info) == text
    with pytest.raises(InvalidTag):
        SUITE.decrypt(sealed, library_private(bytes(32)), info)


# What is no key, no ciphertext, or not what was sent.


def refused(take: Callable[..., object], *arguments: bytes) -> str:
    with pytest.raises(BadKey) as error:
        take(*arguments)
    assert error.value.code == "bad_key"
    return str(error.value)


@pytest.mark.parametrize(
    ("take", "length"),
    [
        (xwing.PrivateKey, xwing.SEED_BYTES),
        (xwing.PublicKey, xwing.PUBLIC_BYTES),
        (PRIVATE.decapsulate, xwing.CIPHERTEXT_BYTES),
    ],
    ids=["seed", "public", "ciphertext"],
)
def test_other_lengths_are_refused(take: Callable[[bytes], object], length: int) -> None:
    lengths = {32, 64, 96, MLKEM_CIPHERTEXT, MLKEM_PUBLIC, xwing.CIPHERTEXT_BYTES, xwing.PUBLIC_BYTES} - {length}
    for other in sorted(lengths | {0, 1, length - 1, length + 1, 2 * length}):
        said = refused(take, b"\xa5" * other)
        assert str(length) in said and str(other) in said
        # never what it was given
        assert not other or "a5" not in said


@given(junk=st.binary(max_size=2_500))
def test_junk_of_any_length_is_never_another_error(junk: bytes) -> None:
    for take in (xwing.PrivateKey, xwing.PublicKey, PRIVATE.decapsulate):
        try:
            take(junk)
        except BadKey:
            pass


@given(junk=st.binary(min_size=xwing.CIPHERTEXT_BYTES, max_size=xwing.CIPHERTEXT_BYTES))
def test_junk_as_a_ciphertext_gives_some_secret(junk: bytes) -> None:
    try:
        secret = PRIVATE.decapsulate(junk)
    except BadKey:
        return
    assert len(secret) == xwing.SECRET_BYTES and secret == PRIVATE.decapsulate(junk)


@given(
    junk=st.binary(min_size=xwing.PUBLIC_BYTES, max_size=xwing.PUBLIC_BYTES),
    coefficients=st.integers(0, 1 << 64),
    half=st.binary(min_size=32, max_size=32),
)
def test_junk_as_a_public_key(junk: bytes, coefficients: int, half: bytes) -> None:
    # random bytes hardly ever pass ML-KEM's check of 768 coefficients, so that some are made that do
    chance = random.Random(coefficients)
    packed = sum(chance.randrange(Q) << 12 * i for i in range(768)).to_bytes(1_152, "little")
    for raw in (junk, packed + chance.randbytes(32) + half):
        try:
            secret, ciphertext = xwing.PublicKey(raw).encapsulate()
        except BadKey:
            continue
        assert (len(secret), len(ciphertext)) == (xwing.SECRET_BYTES, xwing.CIPHERTEXT_BYTES)


def with_coefficient(public: bytes, index: int, value: int) -> bytes:
    packed = int.from_bytes(public[:1_152], "little")
    packed ^= (packed >> 12 * index & 0xFFF) << 12 * index
    return (packed | value << 12 * index).to_bytes(1_152, "little") + public[1_152:]


@pytest.mark.parametrize("index", [0, 1, 255, 256, 766, 767])
def test_coefficients_beyond_the_field_are_refused(index: int) -> None:
    # FIPS 203, section 7.2: the modulus check
    for value in (Q, Q + 1, 0xFFF):
        assert "ML-KEM" in refused(xwing.PublicKey, with_coefficient(PRIVATE.public.raw, index, value))
    for value in (0, Q - 1):
        xwing.PublicKey(with_coefficient(PRIVATE.public.raw, index, value)).encapsulate()


@each_small_point
def test_points_of_small_order_are_refused(point: bytes) -> None:
    _, ciphertext = PRIVATE.public.encapsulate()
    refused(PRIVATE.decapsulate, ciphertext[:MLKEM_CIPHERTEXT] + point)
    refused(xwing.PublicKey, PRIVATE.public.raw[:MLKEM_PUBLIC] + point)


def test_flipped_bits_give_other_secrets() -> None:
    vector = VECTORS[0]
    private, ciphertext = xwing.PrivateKey(bytes.fromhex(vector["seed"])), bytes.fromhex(vector["ct"])
    # some of ML-KEM's half, and all of X25519's, of which X25519 itself does not look at the last bit
    bits = [*range(0, 8 * MLKEM_CIPHERTEXT, 23), *range(8 * MLKEM_CIPHERTEXT, 8 * xwing.CIPHERTEXT_BYTES)]
    secrets = {bytes.fromhex(vector["ss"])}
    for bit in bits:
        changed = bytearray(ciphertext)
        changed[bit // 8] ^= 1 << bit % 8
        secrets.add(private.decapsulate(bytes(changed)))
    assert len(secrets) == 1 + len(bits)


@each_vector
def test_a_changed_ciphertext_gives_the_secret_the_standard_says(vector: dict[str, str]) -> None:
    # FIPS 203, algorithm 18: a secret nobody else can tell from a good one, made of z and the ciphertext
    seed, ciphertext = bytes.fromhex(vector["seed"]), bytes.fromhex(vector["ct"])
    for at in (0, MLKEM_CIPHERTEXT - 1, xwing.CIPHERTEXT_BYTES - 1):
        changed = ciphertext[:at] + bytes((ciphertext[at] ^ 1,)) + ciphertext[at + 1 :]
        assert xwing.PrivateKey(seed).decapsulate(changed) == decapsulate(seed, changed)


def test_another_key_gets_another_secret() -> None:
    secret, ciphertext = PRIVATE.public.encapsulate()
    assert xwing.PrivateKey(bytes(32)).decapsulate(ciphertext) != secret
    # the public X25519 half is in the secret, and with it whom it was made for
    alike = xwing.PublicKey(PRIVATE.public.raw[:-1] + bytes((PRIVATE.public.raw[-1] ^ 0x80,)))
    secret, ciphertext = alike.encapsulate()
    assert PRIVATE.decapsulate(ciphertext) != secret


def test_texts_show_no_secret() -> None:
    expanded = hashlib.shake_256(SEED).digest(96)
    shown = f"{PRIVATE!r} {PRIVATE} {PRIVATE.public!r} {[PRIVATE]}"
    assert PRIVATE.public.raw[:8].hex() in repr(PRIVATE)
    for part in (SEED, expanded[:32], expanded[32:64], expanded[64:]):
        assert part[:4].hex() not in shown and repr(part[:4])[2:-1] not in shown
    assert not hasattr(PRIVATE, "__dict__") and not hasattr(PRIVATE.public, "__dict__")


class NoMlKem:
    """The keys of a cryptography that was built without ML-KEM."""

    @staticmethod
    def from_public_bytes(data: bytes) -> NoReturn:
        raise UnsupportedAlgorithm("ML-KEM-768 is not supported")

    from_seed_bytes = from_public_bytes


def test_a_library_without_ml_kem_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xwing, "MLKEM768PublicKey", NoMlKem)
    assert "cryptography" in refused(xwing.PublicKey, PRIVATE.public.raw)
    monkeypatch.setattr(xwing, "MLKEM768PrivateKey", NoMlKem)
    assert "cryptography" in refused(xwing.PrivateKey, SEED)
