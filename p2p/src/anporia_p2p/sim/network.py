"""Drives the real cores in virtual time: no sockets, no clock, the same run for the same seed.

A node is a `Mix` and one processor, which takes as long for each packet as was measured for it. Whoever watches, an
adversary or a test, taps the links: it is told of each packet that leaves and arrives, and by `handled` of what became
of it, which only observers that are `told` look at.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..mix.core import Mix
from ..mix.effects import Effect, Send
from .behaviours import Behaviour
from .flights import Costs, Flight, Tap
from .insight import Insight
from .links import Links

__all__ = ["Network", "Node", "seeded"]


@dataclass(slots=True)
class Node:
    """A simulated node, known by its number."""

    number: int
    id: bytes
    mix: Mix
    behaviour: Behaviour | None = None
    insight: Insight | None = None
    up: bool = True
    busy_until: float = 0.0
    wakes_at: float = field(default=float("inf"))


class Network:
    """Nodes, links and the time. `taps` are told of every packet on every link; `on_effect` gets all but `Send`."""

    def __init__(
        self,
        links: Links,
        costs: Costs,
        *,
        start: float = 0.0,
        taps: Iterable[Tap] = (),
        on_effect: Callable[[float, Node, Effect], None] = lambda now, node, effect: None,
    ) -> None:
        self.now = start
        self.links = links
        self.costs = costs
        self.nodes: list[Node] = []
        self.flights = 0
        self.lost: Counter[str] = Counter()
        """Packets that reached no core, by why: `lost_on_link`, `node_down`, `no_such_node`."""
        self.arriving: Flight | None = None
        """The packet being handled: what an effect came from."""
        self._by_id: dict[bytes, Node] = {}
        self._taps = list(taps)
        self._on_effect = on_effect
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._events = 0

    def add(self, mix: Mix, *, behaviour: Behaviour | None = None, insight: Insight | None = None) -> Node:
        """Add a node, up and running."""
        node = Node(len(self.nodes), mix.me, mix, behaviour, insight)
        self.nodes.append(node)
        self._by_id[mix.me] = node
        self._schedule(node)
        return node

    def down(self, node: Node) -> None:
        """Stop a node: what it held is gone, what comes to it is lost."""
        node.up = False

    def restart(self, node: Node, mix: Mix) -> None:
        """Start a node anew, with the core of a new process."""
        node.mix, node.up, node.busy_until, node.wakes_at = mix, True, self.now, float("inf")
        self._schedule(node)

    def at(self, time: float, action: Callable[..., object], *arguments: Any) -> None:
        """Do something at a time of the future."""
        self._events += 1
        heapq.heappush(self._heap, (time, self._events, action, arguments))

    def run(self, until: float) -> None:
        """Let time pass."""
        if until < self.now:
            raise ValueError("time does not go back")
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action, arguments = heapq.heappop(heap)
            action(*arguments)
        self.now = until

    def ask(self, node: Node, request: Callable[[Mix], object]) -> None:
        """Ask something of a node's core as its owner, at the cost of what it builds for it; looks at its deadline."""
        before = node.mix.built
        try:
            request(node.mix)
        finally:
            node.busy_until = max(self.now, node.busy_until) + (node.mix.built - before) * self.costs.build
            self._schedule(node)

    def inject(self, sender: Node, receiver: Node, packet: bytes) -> None:
        """Send any bytes over a link, as an attacker may."""
        self._fly(Flight(0, sender.number, receiver.number, packet))

    def _schedule(self, node: Node) -> None:
        due = max(self.now, node.mix.deadline(), node.busy_until)
        if due < node.wakes_at:
            node.wakes_at = due
            self.at(due, self._wake, node, node.mix, due)

    def _wake(self, node: Node, mix: Mix, due: float) -> None:
        if not node.up or node.mix is not mix or node.wakes_at != due:
            return
        node.wakes_at = float("inf")
        if node.busy_until <= self.now and mix.deadline() <= self.now:
            before = mix.built
            effects = mix.tick(self.now)
            node.busy_until = self.now + (mix.built - before) * self.costs.build
            self._carry_out(node, effects)
        self._schedule(node)

    def _carry_out(self, node: Node, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if not isinstance(effect, Send):
                self._on_effect(self.now, node, effect)
                continue
            receiver = self._by_id.get(effect.peer)
            if receiver is None:
                self.lost["no_such_node"] += 1
                continue
            cause = None if node.insight is None else node.insight.causes.pop(effect.packet, None)
            if node.behaviour is None:
                self._fly(Flight(0, node.number, receiver.number, effect.packet, cause))
                continue
            for delay, packet in node.behaviour.outgoing(self.now, receiver.number, effect.packet, cause is not None):
                flight = Flight(0, node.number, receiver.number, packet, cause)
                if delay:
                    self.at(self.now + delay, self._fly, flight)
                else:
                    self._fly(flight)

    def _fly(self, flight: Flight) -> None:
        self.flights += 1
        flight.serial = self.flights
        for tap in self._taps:
            tap.sent(self.now, flight)
        seconds = self.links.passage(flight.sender, flight.receiver)
        if seconds is None:
            self.lost["lost_on_link"] += 1
        else:
            self.at(self.now + seconds, self._land, flight)

    def _land(self, flight: Flight) -> None:
        node = self.nodes[flight.receiver]
        for tap in self._taps:
            tap.arrived(self.now, flight)
        if not node.up:
            self.lost["node_down"] += 1
            return
        if node.behaviour is None:
            self._serve(node, flight, flight.packet)
            return
        for delay, packet in node.behaviour.incoming(self.now, flight.packet):
            self.at(self.now + delay, self._serve, node, flight, packet)

    def _serve(self, node: Node, flight: Flight, packet: bytes) -> None:
        if not self.costs.unwrap:
            self._handle(node, node.mix, flight, packet)
            return
        node.busy_until = max(self.now, node.busy_until) + self.costs.unwrap
        self.at(node.busy_until, self._handle, node, node.mix, flight, packet)

    def _handle(self, node: Node, mix: Mix, flight: Flight, packet: bytes) -> None:
        if not node.up or node.mix is not mix:
            self.lost["node_down"] += 1
            return
        if node.insight is not None:
            node.insight.current = flight
        self.arriving = flight
        before = mix.held
        effects = mix.handle(self.now, self.nodes[flight.sender].id, packet)
        for tap in self._taps:
            tap.handled(self.now, flight, mix.held > before)
        self._carry_out(node, effects)
        self._schedule(node)


def seeded(seed: object, *names: object) -> random.Random:
    """Give a source of chance that depends on nothing but a seed and what it is for."""
    return random.Random(f"{seed}/{'/'.join(map(str, names))}")
