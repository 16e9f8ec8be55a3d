"""Nodes that act against the others, and networks that fail them: what still arrives, and what shows who it was.

One test each, in virtual time with fixed seeds, so that each runs the same every time. Packets are without keys, which
do what real ones do (test_simulator.py holds them against each other), but where a change of a packet is the point.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from anporia_p2p.mix.hold import MAX_HELD
from anporia_p2p.mix.packets import Leg
from anporia_p2p.mix.paths import Paths
from anporia_p2p.mix.profiles import PROFILES
from anporia_p2p.sim.behaviours import Behaviour, Delayer, Dropper, Replayer, Tagger
from anporia_p2p.sim.flights import Flight
from anporia_p2p.sim.links import Links
from anporia_p2p.sim.network import Node, seeded
from anporia_p2p.sim.world import START, Letter, World
from anporia_p2p.sphinx import HEADER_BYTES, PACKET_BYTES

FAST, BALANCED = PROFILES["fast"], PROFILES["balanced"]


def chance(*names: object) -> random.Random:
    return seeded("adversaries", *names)


def lossy(loss: float) -> Links:
    return Links(0.005, loss=loss, rng=chance("links"))


def publish(world: World, authors: Iterable[int], messages: int, seconds: float) -> float:
    """Let so many messages be published from now on, spread over so many seconds and all authors; gives the end."""
    authors = list(authors)
    for number in range(messages):
        at = world.network.now + seconds * number / messages
        world.network.at(at, world.publish, authors[number % len(authors)], ("message", number, at))
    return world.network.now + seconds


def settle(world: World, published: float) -> None:
    """Run until all are published, and each message is heard or has failed: five tries at most."""
    world.network.run(published)
    step = world.profile.expected_latency
    for _ in range(60):
        world.network.run(world.network.now + step)
        if all(letter.tries is not None or letter.failed for letter in world.letters.values()):
            return
    raise AssertionError("a message is neither heard nor failed after all its tries")


def heard(world: World) -> list[Letter]:
    return [letter for letter in world.letters.values() if letter.tries is not None]


def suspects(world: World, of: int) -> set[int]:
    """The nodes that the loops of one node accuse."""
    numbers = {node.id: node.number for node in world.nodes}
    return {numbers[id_] for id_ in world.nodes[of].mix.health.suspects(world.directory.usable(world.network.now))}


def used(world: World, by: int, paths: int = 100) -> set[int]:
    """The mixes that a node would choose now."""
    numbers = {node.id: node.number for node in world.nodes}
    mix = world.nodes[by].mix
    choosing = Paths(mix.me, world.directory, mix.guards, mix.health, chance("used"))
    return {numbers[one.node_id] for _ in range(paths) for one in choosing.out(world.network.now)}


@dataclass
class Recorder:
    """A tap that keeps packets that were sent to some nodes, and what came out where."""

    receivers: frozenset[int]
    packets: list[tuple[float, Flight]] = field(default_factory=list)

    def sent(self, now: float, flight: Flight) -> None:
        if flight.receiver in self.receivers:
            self.packets.append((now, flight))

    def arrived(self, now: float, flight: Flight) -> None:
        pass

    def handled(self, now: float, flight: Flight, held: bool) -> None:
        pass


def came_out(world: World) -> Counter[bytes]:
    """How often each body comes out of the network, from now on."""
    seen: Counter[bytes] = Counter()
    before = world._came_out

    def count(now: float, id_: bytes) -> None:
        seen[id_] += 1
        before(now, id_)

    world._came_out = count  # type: ignore[method-assign]
    return seen


# Nodes that fail.


def test_a_tenth_of_dead_mixes_keeps_nothing_from_being_heard(counts: Callable[..., int]) -> None:
    """No time for loops to find them: the tries alone must do it."""
    world = World(20, FAST, seed=1)
    dead, alive = (3, 11), [number for number in range(20) if number not in (3, 11)]
    for number in dead:
        world.stop(number)
    messages = counts(1_000, soak=20_000)
    settle(world, publish(world, alive, messages, messages / 100))
    assert len(heard(world)) >= 0.999 * messages and all(letter.tries in range(1, 6) for letter in heard(world))
    tries = Counter(letter.tries for letter in heard(world))
    assert tries[1] > 0.5 * messages > tries[2] > tries[3]


@pytest.mark.soak
def test_a_tenth_of_dead_mixes_keeps_nothing_from_being_heard_in_a_larger_network() -> None:
    """Where an author may find two of its three guards dead, as one in forty does."""
    messages, missing = 0, Counter[int]()
    for seed in range(8):
        world = World(50, FAST, seed=seed)
        for number in range(5):
            world.stop(number)
        settle(world, publish(world, range(5, 50), 1_000, 12.0))
        messages += len(world.letters)
        missing.update(
            sum(guard < 5 for guard in world.guards(letter.author)[:3])
            for letter in world.letters.values()
            if letter.tries is None
        )
    assert messages - missing.total() >= 0.999 * messages, missing


def test_nodes_that_drop_all_keep_nothing_from_being_heard_and_are_found(counts: Callable[..., int]) -> None:
    corrupt = (2, 9, 15)
    world = World(20, BALANCED, seed=1, behaviours={number: Dropper(1.0, chance(number)) for number in corrupt})
    honest = [number for number in range(20) if number not in corrupt]
    messages = counts(200, soak=2_000)
    settle(world, publish(world, honest, messages, messages / 4))
    # a copy gets through with (17/20)^5 = 44 %, and of nine copies before the loops know anything none with 0.5 %
    assert len(heard(world)) >= 0.98 * messages
    world.network.run(max(world.network.now, START + 150))
    # two minutes of loops: most know all three, and use none of them
    found = Counter(number for author in honest for number in suspects(world, author))
    assert all(found[number] >= 0.8 * len(honest) for number in corrupt), found
    assert all(found[number] <= 0.5 * len(honest) for number in honest), found
    for author in honest:
        assert not used(world, author) & suspects(world, author)
    before = len(world.letters)
    settle(world, publish(world, honest, messages, messages / 5))
    tries = Counter(letter.tries for letter in list(world.letters.values())[before:])
    assert tries[1] >= 0.85 * messages and tries[None] == 0


def test_a_mix_that_drops_some_is_found_too() -> None:
    world = World(14, BALANCED, seed=1, behaviours={4: Dropper(0.6, chance(4))})
    world.network.run(START + 200)
    found = Counter(number for author in range(14) if author != 4 for number in suspects(world, author))
    assert found[4] >= 8 and found[4] > 2 * max((count for number, count in found.items() if number != 4), default=0)


def test_a_mix_that_came_back_is_used_again() -> None:
    """What was dead for minutes must not be avoided for ever: the longer a network lives, the fewer would be left."""
    world = World(12, BALANCED, seed=1)
    world.stop(5)
    world.network.run(START + 150)
    others = [number for number in range(12) if number != 5]
    assert sum(5 in suspects(world, author) for author in others) >= 8
    world.restart(5)
    world.network.run(START + 900)
    assert sum(5 in suspects(world, author) for author in others) <= 2


def test_nodes_that_delay_let_messages_arrive_and_their_loops_count_as_lost() -> None:
    # longer than a loop may be late, and shorter than an author waits for all its tries
    world = World(14, FAST, seed=1, behaviours={number: Delayer(3.0) for number in (2, 9)})
    honest = [number for number in range(14) if number not in (2, 9)]
    settle(world, publish(world, honest, 60, 4.0))
    world.network.run(START + 20)
    assert len(heard(world)) == 60
    late = [letter for letter in heard(world) if letter.came_out is not None and letter.came_out - letter.at > 2.0]
    assert late != []
    for author in honest:
        health = world.nodes[author].mix.health
        assert 0 < health.lost < health.sent
    # what came home after all is counted, once each, and not as home
    assert set(world.drops) == {"unknown_loop"}
    assert world.drops["unknown_loop"] <= sum(node.mix.health.lost for node in world.nodes)


def test_nodes_that_delay_a_little_lose_nothing() -> None:
    world = World(14, FAST, seed=1, behaviours={number: Delayer(0.3) for number in (2, 9)})
    settle(world, publish(world, range(14), 60, 3.0))
    assert Counter(letter.tries for letter in world.letters.values()) == {1: 60}
    assert world.drops == {} and sum(node.mix.health.lost for node in world.nodes) == 0


def test_nodes_that_go_down_and_up_keep_nothing_from_being_heard(counts: Callable[..., int]) -> None:
    """Each that comes back has a new key; authors stay up, for nobody hears for a node that is down."""
    world = World(20, FAST, seed=1)
    rng = chance("churn")
    for number in range(14, 20):
        when = START + 2 * rng.random()
        while when < START + 8:
            world.network.at(when, world.stop, number)
            when += 0.2 + rng.expovariate(3)
            world.network.at(when, world.restart, number)
            when += 1 + rng.expovariate(1)
    messages = counts(300, soak=3_000)
    settle(world, publish(world, range(14), messages, 6.0 * messages / 300))
    assert len(heard(world)) >= 0.999 * messages and {letter.tries for letter in heard(world)} > {1, 2}
    assert set(world.drops) <= {"node_down", "bad_mac", "unknown_loop"} and world.drops["node_down"] > 20


# Links that fail.


def test_a_tenth_of_lost_packets_keeps_nothing_from_being_heard(counts: Callable[..., int]) -> None:
    world = World(14, FAST, seed=1, links=lossy(0.1))
    messages = counts(1_000, soak=10_000)
    settle(world, publish(world, range(14), messages, messages / 80))
    # none of nine copies gets through with 0.41^9 = 0.03 %
    assert len(heard(world)) >= 0.997 * messages
    tries = Counter(letter.tries for letter in heard(world))
    # five links each: 59 % at once; then two copies
    assert abs(tries[1] - 0.9**5 * messages) < 5 * math.sqrt(messages / 4)
    assert set(world.drops) == {"lost_on_link"}


def test_a_partition_is_over_when_it_is_healed() -> None:
    world = World(14, FAST, seed=1)
    sides = [(a, b) for a in range(7) for b in range(7, 14)]
    for a, b in sides:
        world.network.links.cut(a, b)
        world.network.at(START + 3, world.network.links.mend, a, b)
    settle(world, publish(world, range(14), 140, 4.0))
    assert len(heard(world)) == 140
    # in halves of seven, hardly any path has all its links in one
    during = [letter for letter in world.letters.values() if letter.at < START + 2]
    assert sum((letter.came_out or 0) > START + 3 for letter in during) > 0.9 * len(during)
    lost = world.drops["lost_on_link"]
    world.network.run(world.network.now + 5)
    before = world.network.lost.total()
    world.network.run(world.network.now + 2)
    assert lost > 300 and world.network.lost.total() == before and set(world.drops) == {"lost_on_link"}


# Nodes that attack.


def test_replays_are_known_and_each_message_comes_out_once() -> None:
    class Counting(Replayer):
        replayed = 0

        def outgoing(self, now: float, receiver: int, packet: bytes, forwarded: bool) -> Iterable[tuple[float, bytes]]:
            self.replayed += forwarded
            return super().outgoing(now, receiver, packet, forwarded)

    attackers = {2: Counting(0.0), 9: Counting(0.5), 10: Counting(2.0)}
    world = World(14, FAST, seed=1, behaviours=attackers)
    seen = came_out(world)
    settle(world, publish(world, range(14), 80, 4.0))
    world.network.run(world.network.now + 3)
    # no more of its own, until the last replay has landed
    for attacker in attackers:
        world.stop(attacker)
    replayed = sum(attacker.replayed for attacker in attackers.values())
    world.network.run(world.network.now + 2.1)
    assert set(seen.values()) == {1} and len(seen) == 80
    assert replayed > 1_000
    # those to nodes that were stopped before they came are lost
    known = world.drops["replay"]
    assert 0 <= replayed - known <= 0.1 * replayed and set(world.drops) <= {"replay", "node_down", "lost_on_link"}


@pytest.mark.parametrize(
    ("part", "reason"),
    [((0, HEADER_BYTES), "bad_mac"), ((HEADER_BYTES, PACKET_BYTES), "bad_payload")],
    ids=["header", "payload"],
)
def test_a_tag_on_a_real_packet_ends_it_and_never_arrives(part: tuple[int, int], reason: str) -> None:
    """A mark on the header ends at the next hop; one on the payload where the packet ends, as if it never was one."""

    @dataclass
    class Ends:
        """Where packets that the tagger marked were handled, and whether they went on from there."""

        marked: list[tuple[int, bool]] = field(default_factory=list)

        def sent(self, now: float, flight: Flight) -> None:
            pass

        def arrived(self, now: float, flight: Flight) -> None:
            pass

        def handled(self, now: float, flight: Flight, held: bool) -> None:
            if flight.sender == 4 and flight.cause is not None:
                self.marked.append((flight.receiver, held))

    ends = Ends()
    world = World(9, FAST, seed=1, real=True, behaviours={4: Tagger(*part, chance("tagger"))}, taps=[ends])
    seen = came_out(world)
    authors = [number for number in range(9) if number != 4]
    settle(world, publish(world, authors, 40, 1.0))
    assert len(heard(world)) == 40
    # nothing that came out was changed: each is one of the messages as it was written
    assert set(seen) == set(world.letters) and world.delivered == []
    assert set(world.drops) == {reason} and world.drops[reason] > 20
    went_on = sum(held for _, held in ends.marked)
    if reason == "bad_mac":
        assert went_on == 0 and world.drops[reason] == len(ends.marked)
    else:
        assert went_on > 0 and world.drops[reason] <= len(ends.marked)
    # nor do the marks help the tagger: what it broke accuses it
    assert sum(node.mix.health.lost for node in world.nodes) > 0


def test_a_flood_costs_others_nothing_but_its_packets() -> None:
    world = World(12, FAST, seed=1)
    attacker, target = world.nodes[3], world.nodes[7]
    rng = chance("flood")
    packets = attacker.mix._packets
    most_held = 0

    def flood() -> None:
        nonlocal most_held
        key = target.mix.announced().public
        onward = world.nodes[rng.randrange(8, 12)]
        last = Leg(onward.id, onward.mix.announced().public)
        for _ in range(20):  # 4,000 a second where 88 are admitted
            valid = packets.build([Leg(target.id, key, round(1e6 * FAST.max_delay)), last], b"\x00")
            world.network.inject(attacker, target, valid)
            world.network.inject(attacker, target, rng.randbytes(rng.choice([0, 100, packets.size])))
        most_held = max(most_held, target.mix.held)
        if world.network.now < START + 5:
            world.network.at(world.network.now + 0.01, flood)

    world.network.at(START + 1, flood)
    settle(world, publish(world, [number for number in range(12) if number != 3], 120, 4.0))
    assert len(heard(world)) == 120
    assert Counter(letter.tries for letter in heard(world))[1] >= 0.8 * 120  # what comes through the attacker is cut
    assert target.mix.drops["peer_rate"] > 10_000 and target.mix.drops["bad_mac"] + target.mix.drops["bad_size"] > 0
    others = [node.mix.drops for node in world.nodes if node is not target]
    assert not any(drops["peer_rate"] or drops["hold_full"] for drops in others)
    assert most_held < 300 < MAX_HELD and target.mix.drops["hold_full"] == 0


def test_an_n_minus_1_attack_is_seen_by_loops_and_the_target_avoided() -> None:
    """All links into one mix are cut but the victim's: what comes out of it would be the victim's alone."""
    world = World(16, BALANCED, seed=1)
    victim, target = 2, 9
    for number in range(16):
        if number not in (victim, target):
            world.network.links.cut(number, target)
    others = [number for number in range(16) if number != target]
    world.network.run(START + 240)
    accusing = [author for author in others if target in suspects(world, author)]
    assert len(accusing) >= 0.8 * len(others) and victim in accusing
    assert all(target not in used(world, author) for author in accusing)
    # nobody else is taken for it by many
    found = Counter(number for author in others for number in suspects(world, author))
    assert all(count <= len(others) / 3 for number, count in found.items() if number != target)


# Restarts.


@pytest.mark.parametrize("real", [True, False], ids=["real", "keyless"])
def test_what_was_recorded_before_a_restart_is_not_taken_after_it(real: bool) -> None:
    """The tags are forgotten with the key; without a new key each packet could be played once more."""
    recorder = Recorder(frozenset({3}))
    world = World(8, FAST, seed=1, real=real, taps=[recorder])
    seconds = 1.0 if real else 5.0
    publish(world, range(8), 16, seconds / 2)
    world.network.run(START + seconds)
    recorded = [flight for _, flight in recorder.packets]
    assert len(recorded) > 50
    world.stop(3)
    world.restart(3)
    node = world.nodes[3]
    assert node.mix.drops == {} and node.mix.held == 0
    seen = came_out(world)
    for flight in recorded:
        assert node.mix.handle(world.network.now, world.nodes[flight.sender].id, flight.packet) == []
        world.network.now += 0.02  # not over anybody's rate
    assert node.mix.drops == {"bad_mac": len(recorded)} and node.mix.held == 0 and not seen


def test_a_node_that_restarts_breaks_what_is_on_its_way_and_the_next_try_gets_through() -> None:
    world = World(10, FAST, seed=1)
    authors = [number for number in range(10) if number != 3]
    published = publish(world, authors, 200, 3.0)
    for restart in range(5):
        world.network.at(START + 0.5 + restart / 2, world.stop, 3)
        world.network.at(START + 0.5 + restart / 2, world.restart, 3)
    settle(world, published)
    assert len(heard(world)) == 200
    assert world.drops["bad_mac"] > 0 and set(world.drops) <= {"bad_mac", "unknown_loop", "node_down"}
    assert {letter.tries for letter in heard(world)} >= {1, 2}
    # what is sealed to its new key arrives
    world.network.run(world.network.now + 2)
    before, forwarded = world.drops["bad_mac"], world.nodes[3].mix.sent["forward"]
    world.network.run(world.network.now + 2)
    assert world.drops["bad_mac"] == before and world.nodes[3].mix.sent["forward"] > forwarded


def test_an_author_that_restarts_does_not_change_its_guards() -> None:
    world = World(16, FAST, seed=1)
    first = {number: world.guards(number) for number in range(16)}
    assert all(len(guards) == 3 and number not in guards for number, guards in first.items())
    for number in range(0, 16, 2):
        world.stop(number)
        world.restart(number)
    world.network.run(START + 2)
    assert {number: world.guards(number) for number in range(16)} == first


# What all of them together must not do.


def test_behaviours_leave_honest_nodes_alone() -> None:
    """An honest node with a behaviour that does nothing is as one with none."""
    stories = []
    for behaviours in ({}, dict.fromkeys(range(8), Behaviour())):
        world = World(8, FAST, seed=1, behaviours=behaviours)
        settle(world, publish(world, range(8), 40, 1.0))
        stories.append((world.network.flights, world.letters, world.drops))
    assert stories[0] == stories[1]


def test_what_attackers_send_to_nobody_is_lost() -> None:
    world = World(7, FAST, seed=1)
    node: Node = world.nodes[0]
    world.network.run(START + 0.5)
    world.network.inject(node, world.nodes[1], b"")
    world.network.run(START + 1)
    assert world.drops == {"bad_size": 1}
