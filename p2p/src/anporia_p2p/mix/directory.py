"""Which mixes there are: the newest descriptor of each node, all of them known to everybody.

A full view is what keeps a choice of mixes secret: looking one up would tell whom one is about to use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from .descriptor import Descriptor

__all__ = ["MAX_AHEAD", "MAX_NODES", "Directory"]

MAX_NODES = 10_000  # descriptors, 8 kB each in memory; a network of this many nodes needs another design anyway
MAX_AHEAD = 300.0  # seconds a descriptor's date may lie ahead, as relays allow (docs/protocol.md, section 5.1)
_KEPT = 86_400.0  # seconds a node is remembered after its last key: one that was off for a night is not news


class Directory:
    """The newest descriptor of each node, in whatever order they come; when it is full, those known first stay.

    `profile`: that of the network; nodes with another are not taken. Fill it before mixing begins: guards are drawn of
    what is known then.
    """

    def __init__(self, profile: str | None = None, most: int = MAX_NODES) -> None:
        self._profile = profile
        self._nodes: dict[bytes, Descriptor] = {}
        self._most = most
        self._usable: dict[bytes, Descriptor] = {}
        self._usable_until = -math.inf

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node_id: bytes) -> bool:
        return node_id in self._nodes

    def apply(self, descriptor: Descriptor, now: float) -> bool:
        """Take a descriptor that `descriptor.read` gave, at `now` (Unix seconds); says whether it is news.

        Not taken: one dated ahead, one of another profile, one whose keys are long over, and unknown nodes beyond
        `MAX_NODES`.
        """
        if descriptor.created_at > now + MAX_AHEAD or _over(descriptor, now):
            return False
        if self._profile is not None and descriptor.profile != self._profile:
            return False
        known = self._nodes.get(descriptor.node_id)
        if known is not None and _age(known) >= _age(descriptor):
            return False
        if known is None and len(self._nodes) >= self._most:
            self._nodes = {id_: node for id_, node in self._nodes.items() if not _over(node, now)}
            if len(self._nodes) >= self._most:
                return False
        self._nodes[descriptor.node_id] = descriptor
        self._usable_until = -math.inf
        return True

    def usable(self, now: float) -> Mapping[bytes, Descriptor]:
        """Give the nodes that have a mix key at `now` (Unix seconds), by id; the same object until that changes."""
        if now >= self._usable_until:
            self._nodes = {id_: node for id_, node in self._nodes.items() if not _over(node, now)}
            self._usable = {id_: node for id_, node in self._nodes.items() if node.mix_key(now) is not None}
            keys = [key for node in self._nodes.values() for key in node.mix_keys]
            edges = [edge for key in keys for edge in (key.since, key.until, key.until + _KEPT)]
            self._usable_until = min((edge for edge in edges if edge > now), default=math.inf)
        return self._usable


def _age(descriptor: Descriptor) -> tuple[int, str]:
    return descriptor.created_at, descriptor.event_id


def _over(descriptor: Descriptor, now: float) -> bool:
    return all(key.until + _KEPT <= now for key in descriptor.mix_keys)
