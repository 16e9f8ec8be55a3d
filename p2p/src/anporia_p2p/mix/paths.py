"""Which mixes a packet goes through: a guard, then uniformly drawn ones, no two of one network or family."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from ..errors import NoPath
from ..sphinx import MAX_HOPS
from .descriptor import Descriptor
from .directory import Directory
from .guards import Guards
from .health import Health

__all__ = ["Paths"]

_TRIES = 64  # of drawing a mix that fits beside those drawn before; uniform among all that fit
_EXITS = 16  # drawn before there is no path: where hardly any mix fits beside another


class Paths:
    """Chooses paths for the node `me`."""

    def __init__(self, me: bytes, directory: Directory, guards: Guards, health: Health, rng: random.Random) -> None:
        self._me = me
        self._directory = directory
        self._guards = guards
        self._health = health
        self._rng = rng

    def home(self, now: float, *, probing: bool = False) -> list[Descriptor]:
        """Give four different mixes, the first of them a guard, for a packet that comes back. Raises `NoPath`.

        Mixes that loops accuse are left out, unless this is to probe them.
        """
        mixes, guards = self._candidates(now, probing)
        path = self._between(guards, [], MAX_HOPS - 1, mixes)
        return self._kept(path, mixes)

    def out(self, now: float, avoid: Collection[bytes] = (), avoid_guards: Collection[bytes] = ()) -> list[Descriptor]:
        """Give five different mixes, the first of them a guard, of which the last is the exit; four where that is `me`.

        The exit is drawn first, of all nodes and this one alike: were an author never its own exit, and its guards
        seldom, where its events first appear would tell. Behind the guard those in `avoid` are left out as long as
        enough others are left, and guards in `avoid_guards` as long as there is another. Raises `NoPath`.
        """
        mixes, guards = self._candidates(now, probing=False)
        fresh = {id_: node for id_, node in mixes.items() if id_ not in avoid}
        preferred = [guard for guard in guards if guard.node_id not in avoid_guards] or guards
        preferred = [guard for guard in preferred if guard.node_id not in avoid] or preferred
        # whatever is to be avoided, or a network of five would have its authors as exits
        own = self._rng.randrange(len(mixes) + 1) == 0
        path = self._to_exit(preferred, fresh, own) or self._to_exit(guards, mixes, own)
        return self._kept(path, mixes)

    def _to_exit(
        self, guards: Sequence[Descriptor], mixes: Mapping[bytes, Descriptor], own: bool
    ) -> list[Descriptor] | None:
        exits = list(mixes.values())
        if own:
            path = self._between(guards, [], MAX_HOPS, mixes)
            return None if path is None else path[:-1]
        for _ in range(_EXITS if exits else 0):
            if path := self._between(guards, [self._rng.choice(exits)], MAX_HOPS, mixes):
                return path
        return None

    def _candidates(self, now: float, probing: bool) -> tuple[dict[bytes, Descriptor], list[Descriptor]]:
        nodes = self._directory.usable(now)
        suspects = frozenset() if probing else self._health.suspects(nodes) | self._bad_guards()
        mixes = {id_: node for id_, node in nodes.items() if id_ != self._me and id_ not in suspects}
        return mixes, [nodes[id_] for id_ in self._guards.current(now, nodes, suspects | {self._me})]

    def _kept(self, path: list[Descriptor] | None, mixes: Mapping[bytes, Descriptor]) -> list[Descriptor]:
        if path is None:
            # guards drawn for a path that is none were drawn too early: of whatever was known first
            self._guards.forget_new()
            raise NoPath(f"of {len(mixes)} known mixes that answer too few fit beside each other on one path")
        self._guards.keep_new()
        return path

    def _bad_guards(self) -> frozenset[bytes]:
        """Give the guards that fare far worse than the best of them.

        All loops enter by guards: where two of three are bad the median of all mixes is too low to tell.
        """
        guards = [guard.node_id for guard in self._guards.kept]
        best = max((score for guard in guards if (score := self._health.score(guard)) is not None), default=0.0)
        return frozenset(guard for guard in guards if self._health.accused(guard, best))

    def _between(
        self, guards: Sequence[Descriptor], last: list[Descriptor], hops: int, mixes: Mapping[bytes, Descriptor]
    ) -> list[Descriptor] | None:
        """Put a guard in front of what is last, and mixes in between; another guard where the first leaves no path."""
        candidates = list(mixes.values())
        for guard in self._rng.sample(guards, len(guards)):
            if any(guard.related(one) for one in last):
                continue
            path = [*last, guard]
            while len(path) < hops and (one := self._draw(candidates, path)) is not None:
                path.append(one)
            if len(path) == hops:
                return [*path[len(last) :], *last]
        return None

    def _draw(self, candidates: list[Descriptor], path: list[Descriptor]) -> Descriptor | None:
        for _ in range(_TRIES if candidates else 0):
            one = self._rng.choice(candidates)
            if not any(one.related(other) for other in path):
                return one
        # hardly any fits: look at each
        fitting = [one for one in candidates if not any(one.related(other) for other in path)]
        return self._rng.choice(fitting) if fitting else None
