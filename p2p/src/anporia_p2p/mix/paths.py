"""Which mixes a packet goes through: a guard, then uniformly chosen ones, no two of one network or family."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping

from ..errors import NoPath
from ..sphinx import MAX_HOPS
from .descriptor import Descriptor
from .directory import Directory
from .guards import Guards
from .health import Health

__all__ = ["Paths"]

_TRIES = 64  # of drawing a mix that fits beside those drawn before; uniform among all that fit


class Paths:
    """Chooses paths for the node `me`."""

    def __init__(self, me: bytes, directory: Directory, guards: Guards, health: Health, rng: random.Random) -> None:
        self._me = me
        self._directory = directory
        self._guards = guards
        self._health = health
        self._rng = rng

    def choose(self, now: float, hops: int = MAX_HOPS, avoid: Collection[bytes] = ()) -> list[Descriptor]:
        """Give `hops` different mixes, none of them this node, the first of them a guard. Raises `NoPath`.

        Mixes that loops accuse are left out; those in `avoid` too, after the first hop and as long as enough others
        are left.
        """
        nodes = self._directory.usable(now)
        suspects = self._health.suspects(nodes)
        mixes = {id_: node for id_, node in nodes.items() if id_ != self._me and id_ not in suspects}
        guards = self._guards.current(now, nodes, suspects | {self._me})
        if not guards:
            raise NoPath("no guard can be used: too few nodes are known, or too many do not answer")
        first = nodes[self._rng.choice(guards)]
        path = self._extend([first], hops, {id_: node for id_, node in mixes.items() if id_ not in avoid})
        if path is None and avoid:
            path = self._extend([first], hops, mixes)
        if path is None:
            raise NoPath(f"{hops} mixes of different networks are needed, and of {len(mixes)} known ones too few fit")
        return path

    def _extend(self, path: list[Descriptor], hops: int, mixes: Mapping[bytes, Descriptor]) -> list[Descriptor] | None:
        candidates = list(mixes.values())
        path = list(path)
        while len(path) < hops:
            for _ in range(_TRIES):
                if candidates and not any(_related(one := self._rng.choice(candidates), other) for other in path):
                    path.append(one)
                    break
            else:
                # hardly any fits: look at each
                fitting = [one for one in candidates if not any(_related(one, other) for other in path)]
                if not fitting:
                    return None
                path.append(self._rng.choice(fitting))
        return path


def _related(a: Descriptor, b: Descriptor) -> bool:
    """Say whether one operator may run both: the same node, the same network, or a family that either declares."""
    return (
        a.node_id == b.node_id
        or a.node_id in b.family
        or b.node_id in a.family
        or not a.network_groups().isdisjoint(b.network_groups())
    )
