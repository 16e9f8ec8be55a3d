"""Proof of work: an id that begins with zero bits costs its author time (WIRE section 6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import count

import orjson

from .errors import RuleBroken
from .events import Event
from .keys import Keypair
from .kinds import Proof, lookup

__all__ = ["MAX_BITS", "MIN_BITS", "check", "declared_bits", "leading_zero_bits", "mine", "proven", "search"]

MIN_BITS = 12  # WIRE section 6: about 4,096 tries, a few milliseconds
MAX_BITS = 24  # the same: more would only show off

_ID_BITS = 256  # of SHA-256; also the largest number a `pow` tag may declare


def leading_zero_bits(id_: str) -> int:
    """Count the zero bits an id (64 hex characters) begins with: 0 to 256."""
    return _ID_BITS - int(id_, 16).bit_length()


def declared_bits(tags: Iterable[Sequence[str]]) -> int | None:
    """Give what the first `pow` tag with a value declares, 0 to 256; None when absent or malformed.

    The value is read as Python's `int` reads it, as published relays do: `" 12 "`, `"1_2"` are 12.
    """
    value = next((tag[1] for tag in tags if len(tag) > 1 and tag[0] == "pow"), None)
    if value is None:
        return None
    try:
        bits = int(value)
    except ValueError:
        return None
    return bits if 0 <= bits <= _ID_BITS else None


def check(event: Event) -> None:
    """Hold an event against the proof its kind asks for. Raises `RuleBroken` with code `bad_pow`."""
    proof = lookup(event.kind).proof
    if proof is Proof.NONE:
        return
    wrong = _wrong(event, required=proof is Proof.REQUIRED)
    if wrong is not None:
        raise RuleBroken("bad_pow", f"PoW: {wrong}" if proof is Proof.REQUIRED else wrong)


def proven(event: Event) -> bool:
    """Say whether `check` would pass; an import keeps unproven events and counts them."""
    try:
        check(event)
    except RuleBroken:
        return False
    return True


def mine(
    keypair: Keypair,
    kind: int,
    content: str,
    tags: Iterable[Sequence[str]],
    created_at: int,
    bits: int = MIN_BITS,
) -> Event:
    """Make and sign an event whose id begins with `bits` zero bits, 0 to `MAX_BITS`.

    Existing `pow` and `nonce` tags are replaced; nonces are tried from 0 up, so equal input gives
    an equal event. Raises `ValueError` for other `bits`, and what `Event.create` raises.
    """
    if not 0 <= bits <= MAX_BITS:
        raise ValueError(f"bits must be 0 to {MAX_BITS}, got {bits}")
    kept = [tag for tag in tags if not (tag and tag[0] in ("pow", "nonce"))]
    claimed = [*kept, ("pow", str(bits))]
    draft = Event.create(keypair, kind, content, [*claimed, ("nonce", "0")], created_at=created_at)
    nonce = search(draft.canonical(), content, bits)
    return Event.create(keypair, kind, content, [*claimed, ("nonce", str(nonce))], created_at=created_at)


def search(canonical: bytes, content: str, bits: int, tries: int | None = None) -> int | None:
    """Find the nonce that gives an event's id `bits` leading zero bits, trying 0, 1, 2 and so on.

    `canonical`: the event's canonical bytes, with the tag `["nonce", "0"]` last; `content`: its content.
    Gives None when so many `tries` find none.
    """
    tail = b'"]],' + orjson.dumps(content) + b"]"
    # The state before the nonce is hashed once; each try copies it and adds the nonce and the content.
    state = hashlib.sha256(canonical[: -len(tail) - 1])
    highest = ((1 << (_ID_BITS - bits)) - 1).to_bytes(_ID_BITS // 8, "big")
    for nonce in count() if tries is None else range(tries):
        attempt = state.copy()
        attempt.update(b"%d%b" % (nonce, tail))
        if attempt.digest() <= highest:
            return nonce
    return None


def _wrong(event: Event, *, required: bool) -> str | None:
    if not any(tag and tag[0] == "pow" for tag in event.tags):
        return f"pow tag required for kind {event.kind}" if required else None
    bits = declared_bits(event.tags)
    if bits is None:
        return "pow tag malformed"
    if bits < MIN_BITS:
        return f"pow_below_minimum (declared {bits}, min {MIN_BITS})"
    if bits > MAX_BITS:
        return f"pow_above_max (declared {bits}, max {MAX_BITS})"
    found = leading_zero_bits(event.id)
    return None if found >= bits else f"pow_does_not_meet_declared (claimed {bits} bits, found {found})"
