"""Hybrid events for tests, put together by hand from the format's words, not with the code that is tested."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from anporia_wire import Event, Keypair
from tests.wire.samples import ALICE, BOB, NOW

Tag = Sequence[str]
SCHEME = ("scheme", "ed25519+ml-dsa-65")


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def cut(text: str, size: int = 1020) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


class Hybrid:
    """An Ed25519 key with an ML-DSA-65 key of a seed of one repeated byte."""

    def __init__(self, keypair: Keypair, seed: int) -> None:
        self.keypair = keypair
        self._secret = MLDSA65PrivateKey.from_seed_bytes(bytes([seed]) * 32)
        self.public = self._secret.public_key().public_bytes_raw()
        self.key_tag = ("pq_key", "ml-dsa-65", *cut(base64url(self.public)))
        self.address = hashlib.sha256(b"addr/v1" + bytes.fromhex(keypair.agent_id) + self.public).hexdigest()

    def signature(
        self, kind: int, content: str, tags: Sequence[Tag], at: int = NOW, context: bytes = b"anp2-pq-v1"
    ) -> bytes:
        """Sign with ML-DSA; `tags` as covered, with `scheme` last."""
        fields = [self.keypair.agent_id, at, kind, tags, content]
        # RFC 8785 of ASCII texts and integers
        canonical = json.dumps(fields, separators=(",", ":")).encode()
        return self._secret.sign(hashlib.sha256(canonical).digest(), context)

    def event(
        self,
        kind: int = 1,
        content: str = "",
        tags: Sequence[Tag] = (),
        *,
        at: int = NOW,
        context: bytes = b"anp2-pq-v1",
        behind: Sequence[Tag] = (),
    ) -> Event:
        """A hybrid event, with the tags `behind` the signature."""
        covered = [*tags, SCHEME]
        signature = self.signature(kind, content, covered, at, context)
        return self.plain(kind, content, [*covered, ("pq_sig", *cut(base64url(signature))), *behind], at=at)

    def binding(self, *, kind: int = 0, content: str = "{}", at: int = NOW) -> Event:
        """An identity, or another kind, that carries the key."""
        return self.event(kind, content, [("s", "anporia.node.v1"), self.key_tag], at=at)

    def plain(self, kind: int = 1, content: str = "", tags: Sequence[Tag] = (), *, at: int = NOW) -> Event:
        """An event of any tags, signed with Ed25519 as a thief of that key alone can."""
        return Event.create(self.keypair, kind, content, tags, created_at=at)

    def stripped(self, event: Event) -> Event:
        """The same words without the second signature."""
        kept = [tag for tag in event.tags if tag[0] not in ("scheme", "pq_sig", "pq_key")]
        return self.plain(event.kind, event.content, kept, at=event.created_at)


# A has two ML-DSA keys: its own, and what a thief of its Ed25519 key might bind
A, A_FALSE, B = Hybrid(ALICE, 11), Hybrid(ALICE, 12), Hybrid(BOB, 13)
