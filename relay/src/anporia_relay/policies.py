"""This relay's own publish rules: each a small function of the event and what is stored; raises `Rejected`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from anporia_wire import Event, kinds

from .errors import Rejected

__all__ = ["POLICIES", "Lookup"]

Lookup = Callable[[str], Awaitable[tuple[str, int] | None]]
"""Gives (author, kind) of a stored event by id."""


async def own_target(event: Event, lookup: Lookup) -> None:
    """Kind 9 revokes a stored event of its own author (WIRE section 3 #13)."""
    target = await lookup((event.first_tag("e") or "").lower())
    if target is None:
        raise Rejected("target_missing", "revoke target event not found")
    if target[0] != event.agent_id:
        raise Rejected("not_yours", "kind 9 can only revoke your own events")


async def known_checkpoint(event: Event, lookup: Lookup) -> None:
    """Kind 13 names a stored checkpoint (WIRE section 3 #12)."""
    target = await lookup((event.first_tag("e") or "").lower())
    if target is None or target[1] != kinds.CHECKPOINT:
        raise Rejected("target_missing", "kind 13 `e` tag must reference an existing kind 12 checkpoint")


POLICIES: Mapping[int, Callable[[Event, Lookup], Awaitable[None]]] = {
    kinds.REVOKE: own_target,
    kinds.ROLLBACK: known_checkpoint,
}
