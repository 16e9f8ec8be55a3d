"""Keys: the published derivation, signatures anyone can check, and secrets that stay out of texts."""

from __future__ import annotations

from typing import Any

import pytest

from anporia_wire import PASSPHRASE_SALT, InvalidKey, Keypair, seed_from_passphrase, verify
from tests.wire.published import vectors

PASSPHRASE = vectors("passphrase")


@pytest.mark.parametrize("case", PASSPHRASE["vectors"], ids=lambda case: f"{case['passphrase'][:12]}/{case['salt']}")
def test_passphrases_derive_as_published(case: dict[str, Any]) -> None:
    keypair = Keypair.from_passphrase(case["passphrase"], salt=case["salt"], iterations=case["iterations"])
    assert keypair.seed.hex() == case["private_key"]
    assert keypair.agent_id == case["agent_id"]
    assert seed_from_passphrase(case["passphrase"], salt=case["salt"], iterations=1) != keypair.seed


def test_the_default_salt_is_that_of_anporia_client() -> None:
    assert PASSPHRASE["default_salt"]["anporia-client"] == PASSPHRASE_SALT
    case = PASSPHRASE["vectors"][1]
    assert case["salt"] == PASSPHRASE_SALT
    assert Keypair.from_passphrase(case["passphrase"]).agent_id == case["agent_id"]


def test_hex_forms() -> None:
    seed = bytes(range(32))
    assert Keypair.from_hex(f"  {seed.hex().upper()}\n").agent_id == Keypair(seed).agent_id
    assert len({Keypair.generate().agent_id for _ in range(3)}) == 3


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "0" * 63, "0" * 65, "٠" * 64, "secret" * 11])
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidKey) as refused:
        Keypair.from_hex(text)
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_seeds_of_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(InvalidKey):
        Keypair(bytes(length))


def test_signing_and_not_showing() -> None:
    keypair = Keypair(bytes(range(32)))
    signature = keypair.sign(b"message")
    assert verify(bytes.fromhex(keypair.agent_id), b"message", signature)
    assert not verify(bytes.fromhex(keypair.agent_id), b"messagE", signature)
    assert keypair.seed.hex() not in repr(keypair) and keypair.agent_id in repr(keypair)
    assert not hasattr(keypair, "__dict__")
