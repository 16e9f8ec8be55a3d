"""An agent's two keys, Ed25519 and ML-DSA-65 (FIPS 204), and events signed with both.

How the two signatures share one envelope, and who checks which, stands in `anporia_wire.pq`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from anporia_wire import Event, Keypair, kinds, pow, pq

from ..errors import BadKey

__all__ = ["SEED_BYTES", "HybridKeypair"]

SEED_BYTES = 32  # of either key: RFC 8032, section 5.1.5, and FIPS 204, algorithm 1


class HybridKeypair:
    """The Ed25519 key an agent is, and the ML-DSA-65 key bound to it. `repr` and errors never show a secret."""

    __slots__ = ("_mldsa", "address", "keypair", "public")

    def __init__(self, keypair: Keypair, mldsa_seed: bytes) -> None:
        """Take an agent's key and a seed of 32 bytes. Raises `BadKey`.

        Afterwards `public` is the ML-DSA-65 public key, 1,952 bytes, and `address` the agent's address, 64 hex.
        """
        _check_seed(mldsa_seed)
        try:
            self._mldsa = MLDSA65PrivateKey.from_seed_bytes(mldsa_seed)
        except UnsupportedAlgorithm:
            raise BadKey("this build of cryptography has no ML-DSA-65: install its wheel, 50 or later") from None
        self.keypair = keypair
        self.public = self._mldsa.public_key().public_bytes_raw()
        self.address = pq.address(keypair.agent_id, self.public)

    @classmethod
    def generate(cls) -> HybridKeypair:
        """Make two fresh keys from the operating system's randomness."""
        return cls(Keypair.generate(), os.urandom(SEED_BYTES))

    @classmethod
    def from_seeds(cls, ed25519_seed: bytes, mldsa_seed: bytes) -> HybridKeypair:
        """Make the keys of two seeds of 32 bytes each, which must not be one and the same. Raises `BadKey`."""
        _check_seed(ed25519_seed)
        _check_seed(mldsa_seed)
        if ed25519_seed == mldsa_seed:
            raise BadKey("the two seeds are equal: whoever breaks one key would have both")
        return cls(Keypair(ed25519_seed), mldsa_seed)

    @property
    def agent_id(self) -> str:
        """The agent's id: its Ed25519 public key, 64 hex."""
        return self.keypair.agent_id

    @property
    def seeds(self) -> tuple[bytes, bytes]:
        """The seeds of Ed25519 and ML-DSA, 32 bytes each: what a key file holds. Handle with care."""
        return self.keypair.seed, self._mldsa.private_bytes_raw()

    def sign_event(
        self, kind: int, content: str, tags: Iterable[Sequence[str]], created_at: int, bits: int = 0
    ) -> Event:
        """Make an event signed with both keys; `created_at` in Unix seconds.

        With `bits` of proof of work (1 to 24) it is mined after ML-DSA signed, so once for all tries; 0 mines nothing.
        `pow` and `nonce` tags are dropped. Besides its own tags (at most 30, or 28 with proof) an event grows by
        4.5 kB. Raises `MalformedEvent` or `EventTooLarge` for what no relay would take, `ValueError` for other `bits`.
        """
        if not 0 <= bits <= pow.MAX_BITS:
            raise ValueError(f"bits must be 0 to {pow.MAX_BITS}, got {bits}")
        ordinary = list(tags)
        # without the second signature first: its shape and sizes are checked there, once, for what follows
        draft = Event.create(self.keypair, kind, content, ordinary, created_at=created_at)
        covered = pq.signed_tags(draft.tags)
        message = pq.payload(draft.agent_id, draft.created_at, draft.kind, covered, draft.content)
        whole = [*covered, pq.signature_tag(self._mldsa.sign(message, pq.CONTEXT))]
        if bits:
            return pow.mine(self.keypair, kind, content, whole, created_at, bits)
        return Event.create(self.keypair, kind, content, whole, created_at=created_at)

    def sign_identity(
        self, content: str, created_at: int, tags: Iterable[Sequence[str]] = (), bits: int = pow.MIN_BITS
    ) -> Event:
        """Make the agent's profile (kind 0) that binds its ML-DSA key; `bits` as relays ask of a profile, 12.

        From when a reader has it, this agent's events without `pq_sig` are `classical` to that reader, old ones too.
        Raises what `sign_event` does.
        """
        return self.sign_event(kinds.PROFILE, content, [*tags, pq.key_tag(self.public)], created_at, bits)

    def __repr__(self) -> str:
        return f"HybridKeypair({self.agent_id})"


def _check_seed(seed: bytes) -> None:
    if len(seed) != SEED_BYTES:
        raise BadKey(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
