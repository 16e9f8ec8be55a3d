"""Which mixes there are: the newest descriptor of each node, all of them known to everybody.

A full view is what keeps a choice of mixes secret: looking one up would tell whom one is about to use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from .descriptor import Descriptor

__all__ = ["MAX_NODES", "Directory"]

MAX_NODES = 10_000  # descriptors, 5 kB each in memory; a network of this many nodes needs another design anyway


class Directory:
    """A view over descriptors: whatever the order they come in, the newest of each node counts."""

    def __init__(self, most: int = MAX_NODES) -> None:
        self._nodes: dict[bytes, Descriptor] = {}
        self._most = most
        self._usable: dict[bytes, Descriptor] = {}
        self._usable_until = -math.inf

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node_id: bytes) -> bool:
        return node_id in self._nodes

    def apply(self, descriptor: Descriptor) -> bool:
        """Take a descriptor; says whether it is news. Beyond `MAX_NODES` unknown nodes are not taken."""
        known = self._nodes.get(descriptor.node_id)
        if known is None and len(self._nodes) >= self._most:
            return False
        if known is not None and _age(known) >= _age(descriptor):
            return False
        self._nodes[descriptor.node_id] = descriptor
        self._usable_until = -math.inf
        return True

    def usable(self, now: float) -> Mapping[bytes, Descriptor]:
        """Give the nodes that have a mix key at `now` (Unix seconds), by id."""
        if now >= self._usable_until:
            self._usable = {id_: node for id_, node in self._nodes.items() if node.mix_key(now) is not None}
            edges = [edge for node in self._nodes.values() for key in node.mix_keys for edge in (key.since, key.until)]
            self._usable_until = min((edge for edge in edges if edge > now), default=math.inf)
        return self._usable


def _age(descriptor: Descriptor) -> tuple[int, str]:
    return descriptor.created_at, descriptor.event_id
