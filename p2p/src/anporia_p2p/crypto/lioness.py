"""LIONESS, a cipher whose block is the whole payload: whoever changes one bit turns all of it into noise.

Anderson and Biham, "Two Practical and Provably Secure Block Ciphers: BEAR and LION", 1996, over ChaCha20 (RFC 8439)
and HMAC-SHA256 (RFC 2104). It is what keeps a payload from being tagged: a mark does not survive an honest hop.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

__all__ = ["KEY_BYTES", "MIN_BLOCK", "decrypt", "encrypt", "keystream", "xor"]

KEY_BYTES = 128  # four keys of 32 bytes, a round each
_LEFT = 32  # the left half is as wide as the key of the stream and the tag of the MAC
MIN_BLOCK = 2 * _LEFT  # the right half must not be narrower than the left (section 4 of the paper)
# each key is used for one message only, so the nonce need not differ: 4 bytes counter, 12 bytes nonce
_NONCE = bytes(16)


def keystream(key: bytes, data: bytes) -> bytes:
    """Add the ChaCha20 keystream of a 32-byte key, from block 0 and with nonce 0, to `data`; again takes it off."""
    return Cipher(ChaCha20(key, _NONCE), None).encryptor().update(data)


def encrypt(key: bytes, block: bytes) -> bytes:
    """Encrypt a block of at least 64 bytes under a key of 128; gives as many bytes. Raises `ValueError`."""
    k1, k2, k3, k4 = _keys(key, block)
    left, right = block[:_LEFT], block[_LEFT:]
    right = keystream(xor(left, k1), right)
    left = xor(left, hmac.digest(k2, right, "sha256"))
    right = keystream(xor(left, k3), right)
    return xor(left, hmac.digest(k4, right, "sha256")) + right


def decrypt(key: bytes, block: bytes) -> bytes:
    """Undo `encrypt`. Raises `ValueError` for a block or key of a wrong length."""
    k1, k2, k3, k4 = _keys(key, block)
    left, right = block[:_LEFT], block[_LEFT:]
    left = xor(left, hmac.digest(k4, right, "sha256"))
    right = keystream(xor(left, k3), right)
    left = xor(left, hmac.digest(k2, right, "sha256"))
    return left + keystream(xor(left, k1), right)


def _keys(key: bytes, block: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    if len(key) != KEY_BYTES or len(block) < MIN_BLOCK:
        raise ValueError(f"LIONESS takes a key of {KEY_BYTES} bytes and a block of at least {MIN_BLOCK}")
    return key[:32], key[32:64], key[64:96], key[96:]


def xor(a: bytes, b: bytes) -> bytes:
    """Give the exclusive or of two texts of one length."""
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")
