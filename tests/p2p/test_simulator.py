"""The simulator: it runs the cores that nodes run, packets without keys do what real ones do, and nothing is lost."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from anporia_p2p.mix.effects import Effect, Reply
from anporia_p2p.mix.profiles import PROFILES, Profile
from anporia_p2p.sim.behaviours import Behaviour, Delayer, Dropper, Replayer, Tagger
from anporia_p2p.sim.flights import Costs, Flight
from anporia_p2p.sim.keyless import KeylessPackets
from anporia_p2p.sim.links import Links
from anporia_p2p.sim.network import Node, seeded
from anporia_p2p.sim.scenario import Scenario, simulate
from anporia_p2p.sim.world import START, World
from anporia_p2p.sphinx import HEADER_BYTES, PACKET_BYTES

QUICK = Profile("quick", rate=10.0, loop_share=0.1, mean_delay=0.03)
COSTS = Costs(unwrap=0.00015, build=0.0007)


@dataclass
class Log:
    """A tap that writes down what happens, without what is in the packets."""

    sent_: list[tuple[float, int, int]] = field(default_factory=list)
    arrived_: list[tuple[float, int, int]] = field(default_factory=list)
    handled_: list[tuple[float, int, int, bool]] = field(default_factory=list)

    def sent(self, now: float, flight: Flight) -> None:
        self.sent_.append((now, flight.sender, flight.receiver))

    def arrived(self, now: float, flight: Flight) -> None:
        self.arrived_.append((now, flight.sender, flight.receiver))

    def handled(self, now: float, flight: Flight, held: bool) -> None:
        self.handled_.append((now, flight.sender, flight.receiver, held))


Happening = Callable[[World], None]


def nothing(world: World) -> None:
    pass


def restarted(world: World) -> None:
    world.network.at(START + 1.2, world.stop, 2)
    world.network.at(START + 1.5, world.restart, 2)


def partitioned(world: World) -> None:
    for a in range(4):
        for b in range(4, 9):
            world.network.at(START + 0.5, world.network.links.cut, a, b)
            world.network.at(START + 1.5, world.network.links.mend, a, b)


@dataclass(frozen=True)
class Way:
    """One way a network may fare; `behaviours` are made for packets of a kind, by their size and header."""

    loss: float = 0.0
    jitter: float = 0.0
    happening: Happening = nothing
    behaviours: Callable[[int, int], Mapping[int, Behaviour]] = lambda size, header: {}


def chance(*names: object) -> random.Random:
    return seeded("simulator", *names)


KEYLESS_HEADER = KeylessPackets.size - 16 - 2 - 704

WAYS = {
    "quiet": Way(),
    "loss": Way(loss=0.1),
    "jitter": Way(jitter=0.02),
    "a restart": Way(happening=restarted),
    "a partition": Way(happening=partitioned),
    "droppers": Way(behaviours=lambda size, header: {1: Dropper(1.0, chance(1)), 4: Dropper(0.5, chance(4))}),
    "delayers": Way(behaviours=lambda size, header: {1: Delayer(0.4)}),
    "replayers": Way(behaviours=lambda size, header: {1: Replayer(0.0), 5: Replayer(0.3)}),
    # one draw for a byte in a range and one for a bit: other bytes in either kind, but of the same part of the packet
    "taggers of headers": Way(behaviours=lambda size, header: {1: Tagger(0, header, chance(1))}),
    "taggers of payloads": Way(behaviours=lambda size, header: {1: Tagger(header, size, chance(1))}),
}


def story(
    way: Way, *, real: bool, seed: int = 1, seconds: float = 3.0, costs: Costs | None = None
) -> dict[str, object]:
    """All that can be seen of a run from outside, but bytes."""
    log = Log()
    behaviours = way.behaviours(*((PACKET_BYTES, HEADER_BYTES) if real else (KeylessPackets.size, KEYLESS_HEADER)))
    links = Links(0.005, loss=way.loss, jitter=way.jitter, rng=chance("links", seed))
    world = World(9, QUICK, seed=seed, links=links, costs=costs, real=real, behaviours=behaviours, taps=[log])
    way.happening(world)
    for number in range(18):
        world.network.at(START + 0.1 * number, world.publish, number % 9, number)
    world.network.run(START + seconds)
    letters = {
        id_: (letter.author, letter.at, letter.came_out, letter.tries, letter.failed)
        for id_, letter in world.letters.items()
    }
    return {
        "flights": log.sent_,
        "arrivals": log.arrived_,
        "handled": log.handled_,
        "letters": letters,
        "delivered": world.delivered,
        "drops": world.drops,
        "sent": world.sent,
        "loops": [(node.mix.health.sent, node.mix.health.lost) for node in world.nodes],
        "suspects": [node.mix.health.suspects(world.directory.usable(world.network.now)) for node in world.nodes],
        "guards": [node.mix.guards.kept for node in world.nodes],
    }


@pytest.mark.parametrize("name", WAYS)
def test_packets_without_keys_do_what_real_ones_do(name: str) -> None:
    way = WAYS[name]
    real, keyless = story(way, real=True), story(way, real=False)
    assert list(real) == list(keyless)
    for part, told in real.items():
        assert told == keyless[part], part
    assert len(real["flights"]) > 9 * 10 * 4  # type: ignore[arg-type]
    drops = real["drops"]
    assert isinstance(drops, Counter)
    expected = {
        "loss": {"lost_on_link"},
        "a restart": {"node_down", "bad_mac"},
        "a partition": {"lost_on_link"},
        "replayers": {"replay"},
        "taggers of headers": {"bad_mac"},
        "taggers of payloads": {"bad_payload"},
    }
    assert set(drops) == expected.get(name, set())


def test_it_is_so_with_costs_too() -> None:
    way = WAYS["loss"]
    assert story(way, real=True, seconds=1.5, costs=COSTS) == story(way, real=False, seconds=1.5, costs=COSTS)


@pytest.mark.parametrize("real", [True, False], ids=["real", "keyless"])
def test_replies_come_home_in_both(real: bool) -> None:
    world = World(9, QUICK, seed=1, real=real)
    answers: list[tuple[int, bytes]] = []
    effects = world.network._on_effect

    def on_effect(now: float, node: Node, effect: Effect) -> None:
        if isinstance(effect, Reply):
            answers.append((node.number, effect.body))
        effects(now, node, effect)

    world.network._on_effect = on_effect
    for number in range(4):
        block = world.nodes[number].mix.make_reply_block(START)
        world.nodes[8].mix.answer(block, b"answer %d" % number)
    world.network.run(START + 2.0)
    assert sorted(answers) == [(number, b"answer %d" % number) for number in range(4)]
    assert world.drops == {}


# Determinism.


def test_the_same_seed_gives_the_same_outcome_and_another_another() -> None:
    scenario = Scenario(12, QUICK, 1, 2 / 60, COSTS, loss=0.02, corrupt=0.2, dead=0.1)
    one, again = (replace(simulate(scenario), wall_seconds=0.0) for _ in range(2))
    assert one == again
    other = simulate(replace(scenario, seed=2))
    assert other.latencies != one.latencies and other.bits != one.bits


def test_a_scenario_is_the_same_with_real_packets() -> None:
    scenario = Scenario(9, QUICK, 1, 1 / 60, COSTS)
    runs = (simulate(replace(scenario, real=real)) for real in (True, False))
    real, keyless = (replace(run, wall_seconds=0.0, settings={}) for run in runs)
    assert real.letters == keyless.letters != [] and real.guesses == keyless.guesses
    assert real == keyless


def test_an_observer_changes_nothing() -> None:
    scenario = Scenario(12, QUICK, 1, 2 / 60, COSTS, loss=0.02)
    seen, unseen = simulate(scenario), simulate(replace(scenario, observed=False))
    assert seen.letters == unseen.letters and seen.flights == unseen.flights and unseen.guesses == []
    told = simulate(replace(scenario, told=True))
    assert told.letters == seen.letters and told.bits != seen.bits


# Links and processors.


@pytest.mark.parametrize("name", ["quiet", "loss", "a restart", "a partition"])
def test_each_packet_that_flies_is_handled_or_lost(name: str) -> None:
    way = WAYS[name]
    log = Log()
    links = Links(0.005, loss=way.loss, rng=chance("links"))
    world = World(9, QUICK, seed=1, links=links, costs=COSTS, taps=[log])
    way.happening(world)
    world.network.run(START + 3.0)
    # end all sending, and let land what is in the air
    sent = world.network.flights
    for node in world.nodes:
        node.mix.tick = lambda now: []  # type: ignore[method-assign]
        node.mix.deadline = lambda: math.inf  # type: ignore[method-assign]
    world.network.run(START + 3.5)
    assert world.network.flights == sent == len(log.sent_) == len(log.handled_) + world.network.lost.total()
    assert (world.network.lost.total() > 0) == (name != "quiet")
    assert Counter(log.handled_).total() <= len(log.arrived_) <= len(log.sent_)


def test_packets_are_accounted_for_from_first_to_last() -> None:
    """Each packet's links are those its hops let it have: what was sent and not forwarded ended, and is counted."""
    log = Log()
    world = World(9, QUICK, seed=1, taps=[log])
    world.network.run(START + 5.0)
    own = world.sent["real"] + world.sent["loop"] + world.sent["drop"]
    assert len(log.sent_) == own + world.sent["forward"]
    held = sum(node.mix.held for node in world.nodes)
    in_the_air = len(log.sent_) - len(log.arrived_)
    assert len(log.arrived_) == world.sent["forward"] + held + (own - held - in_the_air)
    assert sum(held for *_, held in log.handled_) == world.sent["forward"] + held


def test_a_latency_matrix_is_used() -> None:
    log = Log()
    links = Links(lambda a, b: 0.001 * (1 + a) + 0.0001 * b, rng=chance("links"))
    world = World(8, QUICK, seed=1, links=links, taps=[log])
    world.network.run(START + 2.0)
    left: dict[tuple[int, int], list[float]] = {}
    for at, a, b in log.sent_:
        left.setdefault((a, b), []).append(at)
    assert len(left) > 30
    for at, a, b in log.arrived_:
        # no packet overtakes another on a link of one length
        assert at == left[a, b].pop(0) + (0.001 * (1 + a) + 0.0001 * b)


def test_jitter_and_loss_are_as_said() -> None:
    links = Links(0.01, jitter=0.02, loss=0.1, rng=chance("links"))
    passages = [links.passage(1, 2) for _ in range(10_000)]
    took = [one for one in passages if one is not None]
    assert abs(len(took) - 9_000) < 5 * 30
    assert 0.01 <= min(took) < 0.0101 and 0.0299 < max(took) <= 0.03
    assert abs(sum(took) / len(took) - 0.02) < 5 * 0.02 / math.sqrt(12 * 9_000)


def test_a_cut_is_for_two_and_both_ways() -> None:
    links = Links(0.01, rng=chance("links"))
    links.cut(1, 2)
    assert links.passage(1, 2) is None is links.passage(2, 1)
    assert links.passage(1, 3) == links.passage(3, 2) == 0.01
    links.mend(2, 1)
    assert links.passage(1, 2) == 0.01
    links.mend(5, 6)


def test_a_busy_node_does_one_thing_after_the_other() -> None:
    log = Log()
    world = World(7, replace(QUICK, rate=0.001), seed=1, costs=Costs(unwrap=0.01, build=0.05), taps=[log])
    world.network.run(START + 1.0)  # until all have built their first cover
    packets = world.nodes[0].mix._packets
    log.handled_.clear()
    for _ in range(5):
        world.network.inject(world.nodes[1], world.nodes[0], bytes(packets.size))
    world.network.run(START + 2.0)
    times = [at for at, *_ in log.handled_]
    assert times == pytest.approx([START + 1.005 + 0.01 * number for number in range(1, 6)], abs=1e-6)
    # another is not kept by that
    world.network.inject(world.nodes[1], world.nodes[0], bytes(packets.size))
    world.network.inject(world.nodes[1], world.nodes[2], bytes(packets.size))
    world.network.run(START + 3.0)
    assert [at for at, *_ in log.handled_[5:]] == pytest.approx([START + 2.015] * 2, abs=1e-6)


def test_building_takes_a_processor_its_time() -> None:
    """A message's packet is built like any other, whoever asks for it, and what comes meanwhile waits."""
    log = Log()
    world = World(7, replace(QUICK, rate=0.001), seed=1, costs=Costs(unwrap=0.01, build=0.05), taps=[log])
    world.network.run(START + 1.0)
    log.handled_.clear()
    world.publish(0, "message")
    world.network.inject(world.nodes[1], world.nodes[0], b"")
    world.network.run(START + 2.0)
    ((at, *_),) = log.handled_
    assert at == pytest.approx(START + 1.0 + 0.05 + 0.01, abs=1e-6)


def test_what_a_stopped_node_held_is_gone() -> None:
    world = World(8, QUICK, seed=1)
    world.network.run(START + 1.0)
    world.stop(3)
    before = world.nodes[3].mix
    flights = world.network.flights
    assert before.held > 0
    world.network.run(START + 1.2)
    log = Log()
    world.network._taps.append(log)
    world.network.run(START + 2.0)
    assert world.network.flights > flights and all(sender != 3 for _, sender, _ in log.sent_)
    assert all(receiver != 3 for _, _, receiver, _ in log.handled_)
    world.restart(3)
    after = world.nodes[3].mix
    assert after is not before and after.held == 0
    assert after.announced().public != before.announced().public and after.guards.kept == before.guards.kept
    world.network.run(START + 3.0)
    assert any(sender == 3 for _, sender, _ in log.sent_) and after.sent["forward"] > 0


# The outcome.


def test_an_outcome_has_all_its_figures() -> None:
    outcome = simulate(Scenario(10, QUICK, 1, 3 / 60, COSTS))
    figures = outcome.as_dict()
    assert figures["sent"] == figures["delivered"] == len(outcome.letters) > 10 and figures["failed"] == 0
    latency, bits = figures["latency_ms"], figures["h_user_bits"]
    assert latency.keys() == {"mean", "p50", "p95"} and bits.keys() >= {"mean", "min", "max_possible"}
    assert 0 < latency["p50"] < latency["p95"] and latency["p50"] / 2 < latency["mean"] < latency["p95"]
    assert bits["min"] <= bits["mean"] <= bits["max_possible"] == round(math.log2(10), 3)
    assert (figures["unwrap_us_median"], figures["build_us_median"]) == (150.0, 700.0)
    assert figures["packet_bytes"] == PACKET_BYTES == 16_380
    assert figures["bytes_per_delivery"] == pytest.approx(figures["packets"] * 16_380 / figures["delivered"], abs=1)
    assert figures["packets"] == pytest.approx(10 * QUICK.packets_per_second * 3, rel=0.2)
    assert 0.8 < figures["cover_share"] < 0.97  # a tenth of nine tenths is load
    assert figures["drops"] == {}
    assert sum(figures["heard_by_try"].values()) == figures["delivered"] == figures["heard_by_try"]["1"]
    latencies = [letter.came_out - letter.at for letter in outcome.letters if letter.came_out is not None]
    assert figures["latency_ms"]["mean"] == pytest.approx(1e3 * sum(latencies) / len(latencies), abs=1e-3)


def test_an_outcome_of_nothing_has_them_too() -> None:
    figures = simulate(Scenario(7, QUICK, 1, 0.01, COSTS, load=1e-9, observed=False)).as_dict()
    assert figures["sent"] == figures["delivered"] == 0
    assert figures["latency_ms"] == {"mean": None, "p50": None, "p95": None}
    assert figures["h_user_bits"]["mean"] is None is figures["bytes_per_delivery"]
    assert figures["cover_share"] == 1.0


def test_drops_are_told_by_reason() -> None:
    figures = simulate(Scenario(10, QUICK, 1, 3 / 60, COSTS, loss=0.1, observed=False)).as_dict()
    assert figures["drops"].keys() == {"lost_on_link"}
    assert figures["loops"]["lost"] > 0 and figures["heard_by_try"]["2"] > 0
    assert figures["delivered"] + figures["failed"] == figures["sent"]


@pytest.mark.parametrize("profile", ["fast", "balanced"])
def test_a_run_ends_when_each_message_is_heard_or_has_failed(profile: str) -> None:
    # so many dead that some messages need all their tries, and some fail
    outcome = simulate(Scenario(12, PROFILES[profile], 1, 20 / 60, COSTS, dead=0.4, load=0.3, observed=False))
    pending = [letter for letter in outcome.letters if letter.tries is None and not letter.failed]
    assert max(number for number, count in outcome.heard_by_try.items() if count) >= 3 and pending == []
