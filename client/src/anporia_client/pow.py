"""Proof of work on events as dicts, under the names of the published clients (protocol section 4)."""

from __future__ import annotations

from typing import Any

from anporia_wire import AnporiaError, canonical_bytes, event_id, pow

__all__ = ["mint_pow", "verify_pow"]


def mint_pow(payload: dict[str, Any], difficulty: int, max_iters: int = 1 << 28) -> int:
    """Find a nonce that gives the event's id `difficulty` leading zero bits, 0 to 256; gives it.

    `payload`: `agent_id, created_at, kind, tags, content`. Its tags `pow` and `nonce` are replaced; id and
    signature are to be made after that. Raises `RuntimeError` if `max_iters` tries find none, `ValueError`.
    """
    if not 0 <= difficulty <= 256:
        raise ValueError(f"difficulty must be in [0, 256], got {difficulty}")
    kept = [list(tag) for tag in payload.get("tags", ()) if tag and tag[0] not in ("pow", "nonce")]
    tags = [*kept, ["pow", str(difficulty)], ["nonce", "0"]]
    fields = payload["agent_id"], payload["created_at"], payload["kind"], tuple(map(tuple, tags)), payload["content"]
    nonce = pow.search(canonical_bytes(*fields), payload["content"], difficulty, max_iters)
    if nonce is None:
        raise RuntimeError(f"no nonce among {max_iters} gives {difficulty} bits")
    payload["tags"] = [*tags[:-1], ["nonce", str(nonce)]]
    return nonce


def verify_pow(event: dict[str, Any], required_difficulty: int) -> bool:
    """Say whether an event claims and has so many bits; what is no event has none."""
    try:
        tags = tuple(tuple(tag) for tag in event["tags"])
        id_ = event_id(
            canonical_bytes(event["agent_id"], int(event["created_at"]), int(event["kind"]), tags, event["content"])
        )
        claimed = pow.declared_bits(tags)
    except (AnporiaError, KeyError, TypeError, ValueError):
        return False
    if claimed is None or claimed < required_difficulty or str(event.get("id") or id_).lower() != id_:
        return False
    return pow.leading_zero_bits(id_) >= required_difficulty
