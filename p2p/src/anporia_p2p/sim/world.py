"""A network ready to run: nodes with cores, descriptors, guards; messages go in, and are heard when they came out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from ..errors import P2pError
from ..mix.core import Mix
from ..mix.descriptor import Descriptor, MixKey
from ..mix.directory import Directory
from ..mix.effects import Deliver, Effect, Failed, NewMixKey, Service
from ..mix.guards import GUARDS, Guard
from ..mix.packets import Packets, SphinxPackets
from ..mix.profiles import Profile
from .behaviours import Behaviour
from .flights import Costs, Flight, Tap
from .insight import Insight
from .keyless import KeylessPackets
from .links import Links
from .network import Network, Node, seeded

__all__ = ["START", "Letter", "World"]

START = 1_800_000_000.0  # any time will do; Unix seconds, since descriptors and guards have dates
GOSSIP = 0.1  # seconds until an event that came out is everywhere; an assumption, for gossip is not built yet
_MESSAGE_BYTES = 32


@dataclass(slots=True)
class Letter:
    """A message somebody published. Times in seconds; `tries`: in which it was heard."""

    author: int
    at: float
    came_out: float | None = None
    tries: int | None = None
    failed: bool = False


@dataclass(slots=True)
class _Origin:
    """What a node's cores are made from, again after a restart."""

    packets: Packets
    restarts: int = 0
    guards: list[Guard] = field(default_factory=list)


class World:
    """`nodes` mixes that know each other. All chance follows from `seed`.

    `real`: with Sphinx packets in place of keyless ones, some seven times as slow; `corrupt`: nodes that show their
    taps which packet is which; `behaviours`: what some nodes do beside their cores, by number.
    """

    def __init__(
        self,
        nodes: int,
        profile: Profile,
        *,
        seed: object,
        links: Links | None = None,
        costs: Costs | None = None,
        real: bool = False,
        corrupt: Collection[int] = (),
        behaviours: Mapping[int, Behaviour] | None = None,
        taps: Iterable[Tap] = (),
        guard_count: int = GUARDS,
    ) -> None:
        self.profile = profile
        self.seed = seed
        self.directory = Directory(profile.name)
        self.letters: dict[bytes, Letter] = {}
        self.delivered: list[tuple[int, Service, bytes]] = []
        """What came out that is no letter of this world: (node, service, body)."""
        self.on_arrival: Callable[[Letter, Flight], None] = lambda letter, flight: None
        """Called when a message comes out for the first time, with the packet that carried it over the last link."""
        self._real = real
        self._guard_count = guard_count
        self._corrupt = frozenset(corrupt)
        links = Links(0.005, rng=seeded(seed, "links")) if links is None else links
        self.network = Network(links, costs or Costs(), start=START, taps=taps, on_effect=self._on_effect)
        self._origins: list[_Origin] = []
        for number in range(nodes):
            packets: Packets = SphinxPackets() if real else KeylessPackets(seeded(seed, "keyless", number))
            behaviour = (behaviours or {}).get(number)
            insight = Insight(packets) if number in self._corrupt or behaviour is not None else None
            # it passes on by attribute all it does not see to itself, which no type checker follows
            self._origins.append(_Origin(packets if insight is None else cast(Packets, insight)))
            self._announce(self.network.add(self._core(number), behaviour=behaviour, insight=insight))
        self.network.run(START)  # each looks at the directory once, and chooses its guards

    @property
    def nodes(self) -> list[Node]:
        """The nodes, by number."""
        return self.network.nodes

    @property
    def pending(self) -> int:
        """How many messages are neither heard nor failed."""
        return sum(letter.tries is None and not letter.failed for letter in self.letters.values())

    @property
    def sent(self) -> Counter[str]:
        """Packets sent by what they were: `real`, `loop`, `drop`, `forward`."""
        total: Counter[str] = Counter()
        for node in self.nodes:
            total.update(node.mix.sent)
        return total

    @property
    def drops(self) -> Counter[str]:
        """What ended at mixes or before, by reason."""
        total = Counter(self.network.lost)
        for node in self.nodes:
            total.update(node.mix.drops)
        return total

    def guards(self, number: int) -> list[int]:
        """Give the numbers of all guards a node has drawn, also of those it passes over now."""
        numbers = {node.id: node.number for node in self.nodes}
        return [numbers[guard.node_id] for guard in self.nodes[number].mix.guards.kept]

    def publish(self, number: int, name: object) -> bytes:
        """Have a node publish a message of that name now; gives its id. Without room or a path it has failed."""
        node = self.nodes[number]
        id_ = hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=_MESSAGE_BYTES).digest()
        letter = self.letters[id_] = Letter(number, self.network.now)
        try:
            self.network.ask(node, lambda mix: mix.publish(self.network.now, id_, id_))
        except P2pError:
            letter.failed = True
        return id_

    def stop(self, number: int) -> None:
        """Stop a node; its descriptor stays known."""
        self.network.down(self.nodes[number])

    def restart(self, number: int) -> None:
        """Start a node with a new mix key and the guards it had; the others learn of the key by gossip."""
        node, origin = self.nodes[number], self._origins[number]
        origin.restarts += 1
        origin.guards = list(node.mix.guards.kept)
        self.network.restart(node, self._core(number))
        self.network.at(self.network.now + GOSSIP, self._announce, node)

    def _core(self, number: int) -> Mix:
        origin = self._origins[number]
        names = (number, origin.restarts)
        return Mix(
            self.network.now,
            hashlib.sha256(f"node {number}".encode()).digest(),
            self.profile,
            self.directory,
            packets=origin.packets,
            rng=seeded(self.seed, "mix", *names),
            slot_rng=seeded(self.seed, "slots", *names),
            guards=origin.guards,
            guard_count=self._guard_count,
        )

    def _announce(self, node: Node) -> None:
        key = node.mix.announced()
        origin = self._origins[node.number]
        self.directory.apply(
            Descriptor(
                node_id=node.id,
                link_key=b"",
                mix_keys=(MixKey(int(key.since), int(key.until), key.public),),
                addresses=(f"{10 + node.number // 256}.{node.number % 256}.0.1:4710",),  # a /16 each
                family=frozenset(),
                profile=self.profile.name,
                created_at=int(self.network.now) + origin.restarts,
                event_id=f"{node.number:064x}",
                agent_id=f"{node.number:064x}",
            ),
            self.network.now,
        )

    def _on_effect(self, now: float, node: Node, effect: Effect) -> None:
        match effect:
            case Deliver(Service.PUBLISH, body) if body in self.letters:
                self._came_out(now, body)
            case Deliver(service, body):
                self.delivered.append((node.number, service, body))
            case Failed(id_):
                self.letters[id_].failed = True
            case NewMixKey():
                self.network.at(now + GOSSIP, self._announce, node)
            case _:
                pass

    def _came_out(self, now: float, id_: bytes) -> None:
        letter = self.letters[id_]
        if letter.came_out is None:
            letter.came_out = now
            assert self.network.arriving is not None
            self.on_arrival(letter, self.network.arriving)
            self.network.at(now + GOSSIP, self._hear, id_)

    def _hear(self, id_: bytes) -> None:
        letter = self.letters[id_]
        author = self.nodes[letter.author]
        if author.up and (tries := author.mix.heard(id_)) is not None:
            letter.tries = tries
