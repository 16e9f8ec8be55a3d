"""Direct messages, kind 3: sealed for one recipient, padded so that length says little (WIRE section 21).

Both agents' Ed25519 keys are converted to X25519; the shared key is the same from both ends, so the
sender can read what it sent.
"""

from __future__ import annotations

import base64
import binascii
import os

import nacl.bindings
import nacl.exceptions

from .errors import DirectMessageError, EventTooLarge, InvalidKey, MalformedEvent, Problem
from .events import Event
from .keys import Keypair
from .kinds import DM

__all__ = ["MAX_PLAINTEXT_BYTES", "create", "open_", "pad", "seal", "unpad"]

_SMALLEST = 32  # bytes; buckets double from here (WIRE section 21)
_LARGEST = 65_536  # beyond it, multiples of it (WIRE section 21)
_MARK = 0x80  # ends the text; zeros follow
_NONCE_BYTES = nacl.bindings.crypto_box_NONCEBYTES

# The largest bucket whose base64, with the 16-byte MAC, fits content's 65,536 bytes; one byte is the mark.
MAX_PLAINTEXT_BYTES = 32_768 - 1


def create(keypair: Keypair, recipient: str, text: str, created_at: int) -> Event:
    """Make a signed direct message for an agent id. Raises `InvalidKey`, `MalformedEvent` or `EventTooLarge`.

    `text` may hold up to `MAX_PLAINTEXT_BYTES` of UTF-8; `created_at` is in Unix seconds.
    """
    try:
        plaintext = text.encode()
    except UnicodeEncodeError:
        problem: Problem = {
            "type": "string_unicode",
            "loc": ["text"],
            "msg": "lone surrogates are no text",
            "input": None,
        }
        raise MalformedEvent([problem]) from None
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise EventTooLarge(f"a message holds at most {MAX_PLAINTEXT_BYTES} bytes of text, got {len(plaintext)}")
    content, nonce = seal(keypair, recipient, plaintext)
    return Event.create(keypair, DM, content, [("p", recipient.lower()), ("nonce", nonce)], created_at=created_at)


def seal(keypair: Keypair, recipient: str, plaintext: bytes, nonce: bytes | None = None) -> tuple[str, str]:
    """Encrypt for an agent id; gives content (base64 of MAC and ciphertext) and the nonce in hex.

    A nonce of 24 bytes must never serve twice between two agents: leave it out except in tests.
    Raises `InvalidKey` when the recipient is no usable key, `ValueError` for a nonce of another length.
    """
    fresh = os.urandom(_NONCE_BYTES) if nonce is None else nonce
    if len(fresh) != _NONCE_BYTES:
        raise ValueError(f"a nonce is {_NONCE_BYTES} bytes, got {len(fresh)}")
    sealed = nacl.bindings.crypto_box_afternm(pad(plaintext), fresh, _shared_key(keypair, recipient))
    return base64.b64encode(sealed).decode(), fresh.hex()


def open_(keypair: Keypair, event: Event) -> bytes:
    """Decrypt a message one sent or received. Raises `DirectMessageError`; its text holds no plaintext."""
    recipient, nonce = event.first_tag("p"), event.first_tag("nonce")
    if event.kind != DM or recipient is None or nonce is None:
        raise DirectMessageError("not a direct message: kind 3 with `p` and `nonce` tags")
    own = event.agent_id == keypair.agent_id
    if not own and recipient.lower() != keypair.agent_id:
        raise DirectMessageError("the message is for another agent")
    try:
        key = _shared_key(keypair, recipient if own else event.agent_id)
        sealed = base64.b64decode(event.content, validate=True)
        padded = nacl.bindings.crypto_box_open_afternm(sealed, bytes.fromhex(nonce), key)
    except InvalidKey as exc:
        raise DirectMessageError(str(exc)) from None
    except (binascii.Error, ValueError, nacl.exceptions.CryptoError):
        raise DirectMessageError("the message does not decrypt: damaged, or for another key") from None
    return unpad(padded)


def pad(plaintext: bytes) -> bytes:
    """Add the mark 0x80 and zeros up to the next bucket: 32, 64 ... 65,536, then multiples of that."""
    needed = len(plaintext) + 1
    if needed > _LARGEST:
        bucket = -(-needed // _LARGEST) * _LARGEST
    else:
        bucket = max(_SMALLEST, 1 << (needed - 1).bit_length())
    return plaintext + bytes([_MARK]) + bytes(bucket - needed)


def unpad(padded: bytes) -> bytes:
    """Take mark and zeros off again. Raises `DirectMessageError` when there is no mark."""
    text = padded.rstrip(b"\0")
    if not text or text[-1] != _MARK:
        raise DirectMessageError("the message is badly padded")
    return text[:-1]


def _shared_key(keypair: Keypair, other: str) -> bytes:
    try:
        public = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(bytes.fromhex(other))
        own = bytes.fromhex(keypair.agent_id)
        secret = nacl.bindings.crypto_sign_ed25519_sk_to_curve25519(keypair.seed + own)
        return nacl.bindings.crypto_box_beforenm(public, secret)
    except (ValueError, nacl.exceptions.CryptoError):
        raise InvalidKey("not an agent id that messages can be sealed for") from None
