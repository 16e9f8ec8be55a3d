"""Direct messages: published keys, padding and ciphertexts, and everything that must not open."""

from __future__ import annotations

import base64
from typing import Any

import nacl.bindings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anporia_wire import DirectMessageError, Event, EventTooLarge, InvalidKey, Keypair, dm, kinds
from tests.wire.published import vectors
from tests.wire.samples import ALICE, BOB, CAROL, NOW, signed

DM = vectors("dm")
KEYS = {key["label"]: Keypair.from_hex(key["ed25519_seed"]) for key in DM["keys"]}


def message(content: str, nonce: str, *, by: Keypair = ALICE, to: Keypair = BOB) -> Event:
    return signed(kinds.DM, content, [["p", to.agent_id], ["nonce", nonce]], by=by)


@pytest.mark.parametrize("case", DM["keys"], ids=lambda case: case["label"])
def test_published_key_conversion(case: dict[str, str]) -> None:
    keypair = KEYS[case["label"]]
    assert keypair.agent_id == case["agent_id"]
    # what we seal for the agent opens with the published X25519 secret
    ours = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(bytes.fromhex(ALICE.agent_id))
    key = nacl.bindings.crypto_box_beforenm(ours, bytes.fromhex(case["x25519_secret"]))
    content, nonce = dm.seal(ALICE, keypair.agent_id, b"hi")
    padded = nacl.bindings.crypto_box_open_afternm(base64.b64decode(content), bytes.fromhex(nonce), key)
    assert padded == dm.pad(b"hi")
    assert nacl.bindings.crypto_scalarmult_base(bytes.fromhex(case["x25519_secret"])).hex() == case["x25519_public"]


@pytest.mark.parametrize("case", DM["padding"], ids=lambda case: str(case["plaintext_len"]))
def test_published_padding(case: dict[str, int]) -> None:
    padded = dm.pad(b"x" * case["plaintext_len"])
    assert len(padded) == case["padded_len"]
    assert dm.unpad(padded) == b"x" * case["plaintext_len"]


@pytest.mark.parametrize("case", DM["messages"], ids=lambda case: str(len(case["plaintext_hex"])))
def test_published_messages(case: dict[str, Any]) -> None:
    sender, recipient = KEYS[case["sender"]], KEYS[case["recipient"]]
    plaintext = bytes.fromhex(case["plaintext_hex"])
    assert dm.pad(plaintext).hex() == (case["padded_hex"] or dm.pad(plaintext).hex())
    sealed = dm.seal(sender, recipient.agent_id, plaintext, bytes.fromhex(case["nonce"]))
    assert sealed == (case["content"], case["nonce"])
    event = Event.from_mapping(case["event"])
    event.check()
    assert dm.open_(recipient, event) == dm.open_(sender, event) == plaintext
    with pytest.raises(DirectMessageError):
        dm.open_(KEYS["carol"], event)


@pytest.mark.parametrize("case", [DM["tampered"], *DM["bad_padding"]], ids=lambda case: case.get("why", "tampered"))
def test_published_damage(case: dict[str, str]) -> None:
    event = message(case["content"], case["nonce"], by=KEYS["alice"], to=KEYS["bob"])
    for reader in (KEYS["alice"], KEYS["bob"]):
        with pytest.raises(DirectMessageError, match="padded" if "why" in case else "decrypt"):
            dm.open_(reader, event)


@given(st.text(max_size=200))
def test_sent_messages_open_at_both_ends(text: str) -> None:
    event = dm.create(ALICE, BOB.agent_id.upper(), text, NOW)
    event.check()
    kinds.check_shape(event)
    assert event.first_tag("p") == BOB.agent_id
    assert dm.open_(BOB, event) == dm.open_(ALICE, event) == text.encode()
    assert event.content != dm.create(ALICE, BOB.agent_id, text, NOW).content


def test_to_oneself() -> None:
    assert dm.open_(ALICE, dm.create(ALICE, ALICE.agent_id, "note", NOW)) == b"note"


def test_the_longest_message() -> None:
    longest = "x" * dm.MAX_PLAINTEXT_BYTES
    assert dm.open_(BOB, dm.create(ALICE, BOB.agent_id, longest, NOW)) == longest.encode()
    with pytest.raises(EventTooLarge):
        dm.create(ALICE, BOB.agent_id, longest + "x", NOW)


@given(st.binary(max_size=300))
@settings(max_examples=50)
def test_padding_comes_off(plaintext: bytes) -> None:
    assert dm.unpad(dm.pad(plaintext)) == plaintext


@pytest.mark.parametrize("padded", [b"", bytes(32), b"text", b"text\x80x\0", b"\x7f\0"])
def test_bad_padding(padded: bytes) -> None:
    with pytest.raises(DirectMessageError):
        dm.unpad(padded)


# the identity and a point of order 8: keys that libsodium refuses, since anyone can compute their secrets
SMALL_ORDER = ["01" + "00" * 31, "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"]


@pytest.mark.parametrize("recipient", ["", "ab", "g" * 64, "0 " * 32, "00" * 31, *SMALL_ORDER, "ff" * 32])
def test_what_is_no_recipient(recipient: str) -> None:
    with pytest.raises(InvalidKey):
        dm.seal(ALICE, recipient, b"hi")


@pytest.mark.parametrize("length", [0, 23, 25])
def test_nonces_of_other_lengths(length: int) -> None:
    with pytest.raises(ValueError):
        dm.seal(ALICE, BOB.agent_id, b"hi", bytes(length))


@pytest.mark.parametrize("content", ["", "?", "é", "AA", "AAAA", "A" * 64, " " * 8])
@pytest.mark.parametrize("nonce", ["", "x" * 48, "00" * 23, "00" * 24])
def test_junk_does_not_open(content: str, nonce: str) -> None:
    for reader in (ALICE, BOB):
        with pytest.raises(DirectMessageError):
            dm.open_(reader, message(content, nonce))


def test_what_is_no_message_does_not_open() -> None:
    content, nonce = dm.seal(ALICE, BOB.agent_id, b"hi")
    tags = [["p", BOB.agent_id], ["nonce", nonce]]
    dm.open_(BOB, signed(kinds.DM, content, tags))
    for event in (signed(1, content, tags), signed(3, content, tags[:1]), signed(3, content, tags[1:])):
        with pytest.raises(DirectMessageError):
            dm.open_(BOB, event)
    for sender, recipient in ((ALICE, CAROL), (CAROL, BOB)):
        with pytest.raises(DirectMessageError):
            dm.open_(BOB, message(content, nonce, by=sender, to=recipient))
    with pytest.raises(DirectMessageError):
        dm.open_(ALICE, signed(kinds.DM, content, [["p", SMALL_ORDER[0]], ["nonce", nonce]]))
