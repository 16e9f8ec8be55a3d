"""The primitives of `cryptography` against other people's pure Python, both ways: what we sign, others can verify."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from dilithium_py.ml_dsa import ML_DSA_65  # type: ignore[import-untyped]
from kyber_py.ml_kem import ML_KEM_768  # type: ignore[import-untyped]

from anporia_p2p.crypto.hybrid import HybridKeypair
from anporia_wire import pq

MESSAGE = b"a message"


@pytest.mark.parametrize("seed", [bytes(32), bytes(range(32))])
def test_keys_of_ml_dsa_follow_from_the_seed_alike(seed: bytes) -> None:
    theirs, _ = ML_DSA_65.key_derive(seed)
    assert MLDSA65PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw() == theirs


@pytest.mark.parametrize("context", [b"", pq.CONTEXT])
def test_signatures_of_ml_dsa_hold_both_ways(context: bytes) -> None:
    seed = b"\x07" * 32
    public, secret = ML_DSA_65.key_derive(seed)
    ours = MLDSA65PrivateKey.from_seed_bytes(seed)
    assert ML_DSA_65.verify(public, MESSAGE, ours.sign(MESSAGE, context), ctx=context)
    theirs = ML_DSA_65.sign(secret, MESSAGE, ctx=context)
    MLDSA65PublicKey.from_public_bytes(public).verify(theirs, MESSAGE, context)
    assert len(theirs) == pq.SIGNATURE_BYTES and len(public) == pq.PUBLIC_BYTES


def test_contexts_of_ml_dsa_keep_signatures_apart_both_ways() -> None:
    seed = b"\x08" * 32
    public, secret = ML_DSA_65.key_derive(seed)
    ours = MLDSA65PrivateKey.from_seed_bytes(seed)
    assert not ML_DSA_65.verify(public, MESSAGE, ours.sign(MESSAGE, pq.CONTEXT), ctx=b"")
    with pytest.raises(InvalidSignature):
        ours.public_key().verify(ML_DSA_65.sign(secret, MESSAGE, ctx=b""), MESSAGE, pq.CONTEXT)


def test_a_hybrid_event_holds_by_the_other_implementation() -> None:
    keys = HybridKeypair.from_seeds(b"\x01" * 32, b"\x02" * 32)
    event = keys.sign_event(1, "words", [("t", "x")], 1_790_000_000, bits=4)
    tags, signature = pq.split(event) or ((), b"")
    message = pq.payload(event.agent_id, event.created_at, event.kind, tags, event.content)
    assert ML_DSA_65.verify(keys.public, message, signature, ctx=b"anp2-pq-v1")


@pytest.mark.parametrize("seed", [bytes(64), bytes(range(64))])
def test_ml_kem_agrees_both_ways(seed: bytes) -> None:
    their_public, their_secret = ML_KEM_768.key_derive(seed)
    ours = MLKEM768PrivateKey.from_seed_bytes(seed)
    assert ours.public_key().public_bytes_raw() == their_public
    secret, ciphertext = MLKEM768PublicKey.from_public_bytes(their_public).encapsulate()
    assert ML_KEM_768.decaps(their_secret, ciphertext) == secret
    secret, ciphertext = ML_KEM_768.encaps(their_public)
    assert ours.decapsulate(ciphertext) == secret
    # a changed ciphertext gives another secret, and both give the same one (FIPS 203: implicit rejection)
    changed = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    assert ours.decapsulate(changed) == ML_KEM_768.decaps(their_secret, changed) != secret
