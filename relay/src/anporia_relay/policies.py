"""This relay's own publish rules: each a small function of the event and what it refers to; raises `Rejected`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from anporia_wire import Event, kinds

from .errors import Rejected

__all__ = ["POLICIES", "Target"]

Target = tuple[str, int] | None
"""Author and kind of the stored event that the first `e` tag names, in either case of hex."""


def own_target(event: Event, target: Target) -> None:
    """Kind 9 revokes a stored event of its own author (WIRE section 3 #13)."""
    if target is None:
        raise Rejected("target_missing", "revoke target event not found")
    if target[0] != event.agent_id:
        raise Rejected("not_yours", "kind 9 can only revoke your own events")


def known_checkpoint(_event: Event, target: Target) -> None:
    """Kind 13 names a stored checkpoint (WIRE section 3 #12)."""
    if target is None or target[1] != kinds.CHECKPOINT:
        raise Rejected("target_missing", "kind 13 `e` tag must reference an existing kind 12 checkpoint")


POLICIES: Mapping[int, Callable[[Event, Target], None]] = {
    kinds.REVOKE: own_target,
    kinds.ROLLBACK: known_checkpoint,
}
