"""Ed25519 keys: an agent is one. Key files belong to the client, not here."""

from __future__ import annotations

import hashlib
import os
import re

import nacl.bindings
import nacl.exceptions

from .errors import InvalidKey

__all__ = ["PASSPHRASE_ITERATIONS", "PASSPHRASE_SALT", "Keypair", "seed_from_passphrase"]

PASSPHRASE_ITERATIONS = 200_000  # of PBKDF2-HMAC-SHA256, as in every published client
PASSPHRASE_SALT = "anporia-v1"

_HEX64 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class Keypair:
    """A secret key and the agent id it proves. `repr` and errors never show the secret."""

    __slots__ = ("_secret", "agent_id")

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte Ed25519 seed. Raises `InvalidKey` for any other length."""
        if len(seed) != 32:
            raise InvalidKey(f"a private key is 32 bytes, got {len(seed)}")
        public, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        self.agent_id = public.hex()

    @classmethod
    def generate(cls) -> Keypair:
        """Make a fresh key from the operating system's randomness."""
        return cls(os.urandom(32))

    @classmethod
    def from_hex(cls, text: str) -> Keypair:
        """Read a private key of 64 hex characters, spaces around it ignored. Raises `InvalidKey`."""
        stripped = text.strip()
        if not _HEX64.fullmatch(stripped):
            raise InvalidKey(f"a private key is 64 hex characters, got {len(stripped)} characters")
        return cls(bytes.fromhex(stripped))

    @classmethod
    def from_passphrase(
        cls, passphrase: str, *, salt: str = PASSPHRASE_SALT, iterations: int = PASSPHRASE_ITERATIONS
    ) -> Keypair:
        """Derive a key that the same passphrase and salt always give again."""
        return cls(seed_from_passphrase(passphrase, salt=salt, iterations=iterations))

    @property
    def seed(self) -> bytes:
        """The 32-byte private seed: what a key file holds. Handle with care."""
        return self._secret[:32]

    def sign(self, message: bytes) -> bytes:
        """Sign a message (for events: the 32 raw id bytes); gives 64 bytes (RFC 8032)."""
        return nacl.bindings.crypto_sign(message, self._secret)[:64]

    def __repr__(self) -> str:
        return f"Keypair({self.agent_id})"


def seed_from_passphrase(passphrase: str, *, salt: str, iterations: int) -> bytes:
    """PBKDF2-HMAC-SHA256 of UTF-8 texts to 32 bytes, the derivation of the published clients."""
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt.encode(), iterations, 32)
