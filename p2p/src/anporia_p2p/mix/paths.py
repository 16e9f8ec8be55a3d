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

    def choose(
        self, now: float, hops: int = MAX_HOPS, avoid: Collection[bytes] = (), *, probing: bool = False
    ) -> list[Descriptor]:
        """Give `hops` different mixes, none of them this node, the first of them a guard. Raises `NoPath`.

        Mixes that loops accuse are left out, unless this is to probe them; those in `avoid` too, as long as enough
        others are left.
        """
        nodes = self._directory.usable(now)
        suspects = frozenset() if probing else self._health.suspects(nodes)
        mixes = {id_: node for id_, node in nodes.items() if id_ != self._me and id_ not in suspects}
        bad_guards = frozenset() if probing else self._bad_guards()
        guards = self._guards.current(now, nodes, suspects | bad_guards | {self._me})
        if not guards:
            raise NoPath("no guard can be used: too few nodes are known, or too many do not answer")
        first = nodes[self._rng.choice([guard for guard in guards if guard not in avoid] or guards)]
        path = self._extend([first], hops, {id_: node for id_, node in mixes.items() if id_ not in avoid})
        if path is None and avoid:
            path = self._extend([first], hops, mixes)
        if path is None:
            raise NoPath(f"{hops} mixes of different networks are needed, and of {len(mixes)} known ones too few fit")
        return path

    def _bad_guards(self) -> frozenset[bytes]:
        """Give the guards that fare far worse than the best of them.

        All loops enter by guards: where two of three are bad the median of all mixes is too low to tell.
        """
        guards = [guard.node_id for guard in self._guards.kept]
        best = max((score for guard in guards if (score := self._health.score(guard)) is not None), default=0.0)
        return frozenset(guard for guard in guards if self._health.accused(guard, best))

    def _extend(self, path: list[Descriptor], hops: int, mixes: Mapping[bytes, Descriptor]) -> list[Descriptor] | None:
        candidates = list(mixes.values())
        path = list(path)
        while len(path) < hops:
            one = self._draw(candidates, path)
            if one is None:
                return None
            path.append(one)
        return path

    def _draw(self, candidates: list[Descriptor], path: list[Descriptor]) -> Descriptor | None:
        for _ in range(_TRIES if candidates else 0):
            one = self._rng.choice(candidates)
            if not any(_related(one, other) for other in path):
                return one
        # hardly any fits: look at each
        fitting = [one for one in candidates if not any(_related(one, other) for other in path)]
        return self._rng.choice(fitting) if fitting else None


def _related(a: Descriptor, b: Descriptor) -> bool:
    """Say whether one operator may run both: the same node, the same network, or a family that either declares."""
    return (
        a.node_id == b.node_id
        or a.node_id in b.family
        or b.node_id in a.family
        or not a.network_groups().isdisjoint(b.network_groups())
    )
