"""Which ML-DSA key an agent has, and what an event of it is worth by that: the rule that nothing is downgraded."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Self

from .. import pq
from ..canonical import is_id
from ..errors import InvalidKey
from ..events import Event
from ..pq import Standing

__all__ = ["MAX_KEYS", "Bindings"]

MAX_KEYS = 4  # of one agent, 8 kB: an honest one has one, two are a conflict already, more are for an address to choose


class Bindings:
    """The ML-DSA keys bound to each agent; needs `anporia-wire[pq]`.

    `Views` does not hold this view: a relay has no `cryptography` and takes hybrid events as any others. A binding is
    final and counts for events of any date: a later profile without it, or revoking it, changes nothing, since a thief
    of the Ed25519 key could do either. Of an agent's keys those with the lowest addresses are kept, and beyond
    `MAX_KEYS` all whose address the reader gave at the start: nobody can crowd those out.
    """

    def __init__(self, addresses: Iterable[str] = ()) -> None:
        """Begin with nothing bound; `addresses`: those (64 hex) the reader has from agents themselves.

        Raises `InvalidKey` for other texts and `PqUnavailable` where no signature could be verified.
        """
        pq.require()
        self._given = frozenset(map(_checked, addresses))
        self._keys: dict[str, dict[str, bytes]] = {}  # agent: address: key

    def apply(self, event: Event) -> None:
        """Take one stored event, one that `Event.check` was asked about.

        Verifies (0.15 to 0.4 ms) only where an identity or a descriptor carries a key that is not held and would be.
        """
        key = pq.claimed_key(event)
        if key is None:
            return
        address = pq.address(event.agent_id, key)
        held = self._keys.get(event.agent_id, {})
        others = sorted(one for one in held if one not in self._given)
        crowded = len(others) >= MAX_KEYS and address > others[-1] and address not in self._given
        if address in held or crowded or not pq.verify(event, key):
            return
        if len(others) >= MAX_KEYS and address not in self._given:
            del held[others[-1]]
        self._keys.setdefault(event.agent_id, {})[address] = key

    def standing(self, event: Event, address: str | None = None) -> Standing:
        """Say what an event that `Event.check` passed is worth; `address`: its author's, where the reader has it.

        An address says that there is a key: without its binding, an event with a `pq_sig` is `unbound` until the
        binding comes, and one without is `classical` already. Verifies at most once (0.15 to 0.4 ms) and remembers
        nothing: the answer changes only when a further key of the author is bound. Raises `InvalidKey` for an address
        that is none.
        """
        held = self._keys.get(event.agent_id, {})
        if not held and address is None:
            return Standing.UNBOUND
        key = self.key(event.agent_id, address)
        if key is not None:
            return Standing.HYBRID if pq.verify(event, key) else Standing.CLASSICAL
        if pq.split(event) is None:
            return Standing.CLASSICAL  # whichever key is right
        return Standing.CONFLICT if address is None else Standing.UNBOUND

    def key(self, agent_id: str, address: str | None = None) -> bytes | None:
        """Give the key (1,952 bytes) that counts: the only one, or that of the address; None without one.

        Raises `InvalidKey` for an address that is none.
        """
        held = self._keys.get(agent_id, {})
        if address is not None:
            return held.get(_checked(address))
        return next(iter(held.values())) if len(held) == 1 else None

    def read(self, agent_id: str) -> dict[str, Any]:
        """Give `agent_id`, the `addresses` (hex, sorted) its bound keys make, and whether they are in `conflict`."""
        addresses = sorted(self._keys.get(agent_id, ()))
        return {"agent_id": agent_id, "addresses": addresses, "conflict": len(addresses) > 1}

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [
            [agent, [base64.b64encode(key).decode() for _, key in sorted(held.items())]]
            for agent, held in sorted(self._keys.items())
        ]

    @classmethod
    def restore(cls, state: Any, addresses: Iterable[str] = ()) -> Self:
        """Make the view from a snapshot of one that was given the same addresses; raises as it does."""
        view = cls(addresses)
        for agent, encoded in state:
            keys = map(base64.b64decode, encoded)
            view._keys[agent] = {pq.address(agent, key): key for key in keys}
        return view


def _checked(address: str) -> str:
    if not is_id(address):
        raise InvalidKey("an address is 64 lower-case hex characters")
    return address
