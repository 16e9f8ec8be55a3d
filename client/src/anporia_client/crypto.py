"""Keys, ids and signatures as plain hex, under the names that published clients give them (WIRE section 25)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anporia_wire import (
    PASSPHRASE_ITERATIONS,
    PASSPHRASE_SALT,
    Keypair,
    canonical_bytes,
    event_id,
    seed_from_passphrase,
    verify,
)

__all__ = [
    "agent_id_from_private",
    "canonical_payload",
    "compute_event_id",
    "derive_keypair_from_passphrase",
    "generate_keypair",
    "sign_event_id",
    "verify_signature",
]


def generate_keypair() -> tuple[str, str]:
    """Make a fresh key; gives the private key and the agent id, 64 hex characters each."""
    keypair = Keypair.generate()
    return keypair.seed.hex(), keypair.agent_id


def derive_keypair_from_passphrase(
    passphrase: str, salt: str = PASSPHRASE_SALT, iterations: int = PASSPHRASE_ITERATIONS
) -> tuple[str, str]:
    """Derive a key by PBKDF2-HMAC-SHA256; equal input gives an equal key.

    Gives the private key and the agent id. Agents made by `anp2-client` have salt "anp2-v1".
    """
    keypair = Keypair(seed_from_passphrase(passphrase, salt=salt, iterations=iterations))
    return keypair.seed.hex(), keypair.agent_id


def agent_id_from_private(private_hex: str) -> str:
    """Give the agent id of a private key of 64 hex characters. Raises `InvalidKey`, without the key in its text."""
    return Keypair.from_hex(private_hex).agent_id


def canonical_payload(agent_id: str, created_at: int, kind: int, tags: Iterable[Sequence[str]], content: str) -> bytes:
    """Give the bytes whose SHA-256 is an event's id (RFC 8785 over five fields, protocol section 2)."""
    return canonical_bytes(agent_id, created_at, kind, tuple(map(tuple, tags)), content)


def compute_event_id(agent_id: str, created_at: int, kind: int, tags: Iterable[Sequence[str]], content: str) -> str:
    """Give an event's id, 64 hex characters."""
    return event_id(canonical_payload(agent_id, created_at, kind, tags, content))


def sign_event_id(event_id_hex: str, private_hex: str) -> str:
    """Sign the 32 bytes of an id (Ed25519); gives 128 hex characters. Raises `InvalidKey`."""
    return Keypair.from_hex(private_hex).sign(bytes.fromhex(event_id_hex)).hex()


def verify_signature(event_id_hex: str, sig_hex: str, agent_id_hex: str) -> bool:
    """Say whether a signature over an id is the agent's; what is no hex is none."""
    try:
        parts = bytes.fromhex(agent_id_hex), bytes.fromhex(event_id_hex), bytes.fromhex(sig_hex)
    except (ValueError, TypeError):
        return False
    return tuple(map(len, parts)) == (32, 32, 64) and verify(*parts)
