"""Can an observer tell who speaks? Packets counted by node and window, and the best threshold on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..mix.profiles import Profile
from .flights import Costs, Flight
from .network import seeded
from .world import START, World

__all__ = ["STATISTICS", "Activity", "advantage", "watch"]


@dataclass(slots=True)
class _Counts:
    out: int = 0
    came: int = 0
    to_guards: int = 0


STATISTICS: dict[str, Callable[[_Counts], float]] = {
    "packets out": lambda counts: counts.out,
    "packets in": lambda counts: counts.came,
    "out less in": lambda counts: counts.out - counts.came,
    "out to guards": lambda counts: counts.to_guards,
}
"""What is counted of a node in a window. `out less in` cancels what it does for others: what is left is its own."""


class Activity:
    """Taps that count, by window of so many seconds."""

    def __init__(self, nodes: int, window: float, start: float) -> None:
        self._window = window
        self._start = start
        self._guards: list[frozenset[int]] = [frozenset()] * nodes
        self._counts: list[dict[int, _Counts]] = [{} for _ in range(nodes)]

    def learn_guards(self, node: int, guards: Sequence[int]) -> None:
        """Take it that a node's own packets go to these nodes first."""
        self._guards[node] = frozenset(guards)

    def sent(self, now: float, flight: Flight) -> None:
        """Count a packet out."""
        counts = self._at(now, flight.sender)
        counts.out += 1
        counts.to_guards += flight.receiver in self._guards[flight.sender]

    def arrived(self, now: float, flight: Flight) -> None:
        """Count a packet in."""
        self._at(now, flight.receiver).came += 1

    def handled(self, now: float, flight: Flight, held: bool) -> None:
        """Nothing is told to this one."""

    def value(self, node: int, window: int, statistic: str) -> float:
        """Give a statistic of one node in one window."""
        return STATISTICS[statistic](self._counts[node].get(window, _Counts()))

    def _at(self, now: float, node: int) -> _Counts:
        return self._counts[node].setdefault(int((now - self._start) // self._window), _Counts())


def advantage(idle: Sequence[float], active: Sequence[float]) -> float:
    """Give how much better than a coin a threshold does: 0 to 1, chosen on the first half, judged on the second.

    Judged on what it was chosen for it would always look better than it is. Below 0 it is worse than the coin.
    """
    first, second = len(idle) // 2, len(active) // 2
    threshold, above = _best(idle[:first], active[:second])
    share = _above(active[second:], threshold) - _above(idle[first:], threshold)
    return share if above else -share


def _best(idle: Sequence[float], active: Sequence[float]) -> tuple[float, bool]:
    found = (0.0, 0.0, True)
    for threshold in sorted({*idle, *active}):
        share = _above(active, threshold) - _above(idle, threshold)
        found = max(found, (abs(share), threshold, share >= 0))
    return found[1], found[2]


def _above(values: Sequence[float], threshold: float) -> float:
    return sum(value > threshold for value in values) / max(1, len(values))


def watch(
    nodes: int,
    profile: Profile,
    seed: int,
    windows: int,
    *,
    window: float = 10.0,
    load: float = 0.5,
    progress: Callable[[float], None] = lambda done: None,
) -> dict[str, float]:
    """Have each node speak in every other window, in `load` of the slots it may; gives the advantage by statistic.

    `window` in seconds; of each kind there are `windows` times half of `nodes` values. Each node is compared with
    itself, since some always have more to do than others: they are guards of more.
    """
    starts = START + 3 * profile.expected_latency
    activity = Activity(nodes, window, starts)
    world = World(nodes, profile, seed=seed, costs=Costs(), taps=[activity])
    chance = seeded(seed, "speaking")
    for node in range(nodes):
        activity.learn_guards(node, world.guards(node))
        when = starts
        while (when := when + chance.expovariate(load * profile.payload_rate)) < starts + windows * window:
            if _speaks(node, int((when - starts) // window)):
                world.network.at(when, world.publish, node, (node, when))
    for done in range(1, windows + 1):
        world.network.run(starts + done * window)
        progress(done / windows)
    advantages = {}
    for name in STATISTICS:
        values: dict[bool, list[float]] = {False: [], True: []}
        for number in range(windows):
            for node in range(nodes):
                values[_speaks(node, number)].append(activity.value(node, number, name))
        advantages[name] = advantage(values[False], values[True])
    return advantages


def _speaks(node: int, window: int) -> bool:
    return (node + window) % 2 == 0
