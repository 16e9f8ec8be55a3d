"""Hybrid events: a second signature, ML-DSA-65 (FIPS 204), inside ANP2's envelope and its limits.

A hybrid event's tags are, in this order: ordinary ones, `["scheme", "ed25519+ml-dsa-65"]`, `["pq_sig", c1 ... c5]`, and
then only what proof of work adds, so that mining needs one ML-DSA signature. `pq_sig` signs all fields and all tags
before it; id and Ed25519 cover all tags as always. Whoever forges Ed25519 one day still cannot say anything new, but
can change what stands behind `pq_sig`: the same words under another id.

`cryptography` is imported where a signature is looked at and nowhere else: reading and building tags does without.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from .canonical import canonical_bytes, is_id
from .errors import AnporiaError, InvalidKey, MalformedEvent
from .events import Event, Tags
from .kinds import NODE_DESCRIPTOR, PROFILE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

__all__ = [
    "BINDING_KINDS",
    "CONTEXT",
    "PIECE_CHARS",
    "PUBLIC_BYTES",
    "SCHEME",
    "SIGNATURE_BYTES",
    "PqUnavailable",
    "Standing",
    "address",
    "bound_key",
    "claimed_key",
    "from_base64url",
    "key_tag",
    "payload",
    "require",
    "signature_tag",
    "signed_tags",
    "split",
    "to_base64url",
    "verify",
]

SCHEME = "ed25519+ml-dsa-65"
CONTEXT = b"anp2-pq-v1"  # ML-DSA's context (FIPS 204, section 5.2): a signature made here means nothing elsewhere
PUBLIC_BYTES = 1_952  # FIPS 204, table 2
SIGNATURE_BYTES = 3_309  # the same
PIECE_CHARS = 1_020  # of base64url: the most within a tag member's 1,024 bytes that ends at a whole byte

BINDING_KINDS = frozenset({PROFILE, NODE_DESCRIPTOR})
"""The kinds whose events may say which ML-DSA key their author has."""

_ALGORITHM = "ml-dsa-65"  # in `pq_key`, whose pieces follow it
_ADDRESS_LABEL = b"addr/v1"
_SCHEME_TAG = ("scheme", SCHEME)
_OURS = ("scheme", "pq_sig")
_MINING = ("pow", "nonce")


class PqUnavailable(AnporiaError):
    """ML-DSA-65 is not to be had here; install `anporia-wire[pq]`."""

    code = "pq_unavailable"


class Standing(StrEnum):
    """How far an event is to be believed, going by all bindings that are held.

    `hybrid`: both signatures hold. `classical`: its author has an ML-DSA key, and the event no valid signature of it.
    `unbound`: no key is known to judge it by. `conflict`: several keys claim its author, and no address chose one.
    """

    HYBRID = "hybrid"
    CLASSICAL = "classical"
    UNBOUND = "unbound"
    CONFLICT = "conflict"


def require() -> None:
    """Raise `PqUnavailable` unless signatures of ML-DSA-65 can be verified here."""
    _load(bytes(PUBLIC_BYTES))


def payload(agent_id: str, created_at: int, kind: int, tags: Sequence[Sequence[str]], content: str) -> bytes:
    """Give the 32 bytes that `pq_sig` signs, under `CONTEXT`; `tags` end with the `scheme` tag.

    It is the id the event would have with these tags alone. Raises `MalformedEvent` for lone surrogates.
    """
    try:
        return hashlib.sha256(canonical_bytes(agent_id, created_at, kind, tags, content)).digest()
    except TypeError:
        raise _malformed("string_unicode", "lone surrogates have no canonical form") from None


def signed_tags(tags: Sequence[Sequence[str]]) -> Tags:
    """Give the tags that a hybrid event's `pq_sig` covers: the ordinary ones, and `scheme` last.

    `pow` and `nonce` tags are left out, since mining replaces them. Raises `MalformedEvent` for tags that are this
    module's to write.
    """
    if any(tag[0] in _OURS for tag in tags if tag):
        raise _malformed("value_error", "tags `scheme` and `pq_sig` are written by the signer")
    return (*(tuple(tag) for tag in tags if not (tag and tag[0] in _MINING)), _SCHEME_TAG)


def signature_tag(signature: bytes) -> tuple[str, ...]:
    """Write the `pq_sig` tag of a signature of 3,309 bytes. Raises `ValueError` for another length."""
    if len(signature) != SIGNATURE_BYTES:
        raise ValueError(f"an ML-DSA-65 signature has {SIGNATURE_BYTES} bytes, not {len(signature)}")
    return ("pq_sig", *_pieces(signature))


def key_tag(public_key: bytes) -> tuple[str, ...]:
    """Write the `pq_key` tag of a public key of 1,952 bytes. Raises `InvalidKey` for another length."""
    _check_length(public_key)
    return ("pq_key", _ALGORITHM, *_pieces(public_key))


def split(event: Event) -> tuple[Tags, bytes] | None:
    """Give the tags that `pq_sig` covers and the signature (3,309 bytes); None for an event not of that one form.

    The form: `scheme`, `pq_sig` and then at most one `pow` and one `nonce`, each of two members; no second `scheme` or
    `pq_sig` anywhere; the signature in as few pieces as may be, in base64url that encodes nothing else. Nothing is
    verified.
    """
    tags = event.tags
    ours = [at for at, tag in enumerate(tags) if tag and tag[0] in _OURS]
    if len(ours) != 2 or ours[1] != ours[0] + 1 or tags[ours[0]] != _SCHEME_TAG or tags[ours[1]][0] != "pq_sig":
        return None
    mined = tags[ours[1] + 1 :]
    names = [tag[0] for tag in mined if len(tag) == 2 and tag[0] in _MINING]
    if len(names) != len(mined) or len(set(names)) != len(names):
        return None
    signature = _joined(tags[ours[1]][1:], SIGNATURE_BYTES)
    return None if signature is None else (tags[: ours[1]], signature)


def verify(event: Event, public_key: bytes) -> bool:
    """Say whether an event is hybrid and its ML-DSA half holds under a key of 1,952 bytes.

    The Ed25519 half is `Event.check`'s, and the caller's to ask for. Takes 0.15 to 0.4 ms; an event of another form
    costs nothing. Raises `InvalidKey` for a key of another length, `PqUnavailable` without `cryptography`.
    """
    _check_length(public_key)
    halves = split(event)
    if halves is None:
        return False
    tags, signature = halves
    try:
        message = payload(event.agent_id, event.created_at, event.kind, tags, event.content)
    except MalformedEvent:
        return False
    key = _load(public_key)  # before the next line, which may be the first to miss it
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message, CONTEXT)
    except InvalidSignature:
        return False
    return True


def claimed_key(event: Event) -> bytes | None:
    """Give the ML-DSA key (1,952 bytes) that an identity or a node descriptor says is its author's; None without one.

    Of a hybrid event with exactly one `pq_key` tag in its one form. Nothing is verified: `bound_key` does.
    """
    if event.kind not in BINDING_KINDS:
        return None
    named = [tag for tag in event.tags if tag and tag[0] == "pq_key"]
    if len(named) != 1 or named[0][1:2] != (_ALGORITHM,) or split(event) is None:
        return None
    return _joined(named[0][2:], PUBLIC_BYTES)


def bound_key(event: Event) -> bytes | None:
    """Give the ML-DSA key (1,952 bytes) that an event binds to its author, or None when it binds none.

    The event is of `BINDING_KINDS`, carries the key and is signed with it: nobody can claim another's key. The Ed25519
    half is `Event.check`'s, as in `verify`, whose cost and `PqUnavailable` are this function's too.
    """
    key = claimed_key(event)
    return key if key is not None and verify(event, key) else None


def address(agent_id: str, public_key: bytes) -> str:
    """Give an agent's address, 64 hex: who has it from the agent needs no trust in a first binding.

    SHA-256 of `addr/v1`, the Ed25519 key (32 bytes) and the ML-DSA-65 key (1,952). Raises `InvalidKey`.
    """
    if not is_id(agent_id):
        raise InvalidKey("an agent id is 64 lower-case hex characters")
    _check_length(public_key)
    return hashlib.sha256(_ADDRESS_LABEL + bytes.fromhex(agent_id) + public_key).hexdigest()


def to_base64url(data: bytes) -> str:
    """Encode as base64url without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str, length: int) -> bytes | None:
    """Decode base64url of exactly `length` bytes; None for any text but the one `to_base64url` gives."""
    if len(text) != _chars(length):
        return None
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    # what the decoder skips or forgives does not come out again: other alphabets, bits that are left over
    return data if to_base64url(data) == text else None


def _chars(length: int) -> int:
    return -(-length * 4 // 3)  # six bits each


def _pieces(data: bytes) -> list[str]:
    text = to_base64url(data)
    return [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]


def _joined(pieces: Sequence[str], length: int) -> bytes | None:
    """Decode pieces of base64url, cut as `_pieces` cuts them; None for any other."""
    whole, rest = divmod(_chars(length), PIECE_CHARS)
    if [len(piece) for piece in pieces] != [*([PIECE_CHARS] * whole), rest]:
        return None
    return from_base64url("".join(pieces), length)


def _check_length(public_key: bytes) -> None:
    if len(public_key) != PUBLIC_BYTES:
        raise InvalidKey(f"an ML-DSA-65 public key has {PUBLIC_BYTES} bytes, not {len(public_key)}")


def _load(public_key: bytes) -> MLDSA65PublicKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError:
        raise PqUnavailable("hybrid signatures need cryptography 50 or later: install anporia-wire[pq]") from None
    try:
        return mldsa.MLDSA65PublicKey.from_public_bytes(public_key)
    except UnsupportedAlgorithm:
        raise PqUnavailable("this build of cryptography has no ML-DSA-65: install its wheel, 50 or later") from None


def _malformed(type_: str, text: str) -> MalformedEvent:
    return MalformedEvent([{"type": type_, "loc": ["body", "tags"], "msg": text, "input": None}])
