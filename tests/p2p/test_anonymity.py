"""What an observer of all links can say: that its figures do not flatter us, and what they are.

An entropy that is computed is only as good as the observer it is computed for. So the observer is held against the
truth first: what it gives a probability of a tenth must be true once in ten. Then come floors for the profiles, and
what the numbers of packets show of who speaks. All seeds and service times are fixed: each run gives the same figures.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from anporia_p2p.mix.effects import Service
from anporia_p2p.mix.profiles import PROFILES, Profile
from anporia_p2p.sim.flights import Costs, Flight
from anporia_p2p.sim.network import seeded
from anporia_p2p.sim.observer import Guess, Observer
from anporia_p2p.sim.outcome import Outcome
from anporia_p2p.sim.scenario import Scenario, simulate
from anporia_p2p.sim.world import START, Letter, World

FAST, BALANCED = PROFILES["fast"], PROFILES["balanced"]
COSTS = Costs(unwrap=0.00015, build=0.0007)


@dataclass(frozen=True)
class Verdict:
    """One message: what the observer thinks of each author, and who it was."""

    author: int
    probabilities: tuple[float, ...]
    guess: Guess


def watch(
    nodes: int,
    profile: Profile,
    *,
    messages: int = 300,
    seed: object = 1,
    corrupt: Sequence[int] = (),
    told: bool = False,
    guards: bool = True,
) -> tuple[Observer, list[Verdict]]:
    """Watch messages come out; the same as a `Scenario` does, and all that the observer thinks."""
    observer = Observer(nodes, profile, corrupt=corrupt, told=told, now=START)
    world = World(nodes, profile, seed=seed, corrupt=corrupt, taps=[observer])
    honest = [number for number in range(nodes) if number not in corrupt]
    if guards:
        for number in honest:
            observer.learn_guards(number, world.guards(number))
    verdicts: list[Verdict] = []

    def came_out(letter: Letter, flight: Flight) -> None:
        surprises = [observer.guess(flight, number).surprise for number in range(nodes)]
        likely = tuple(2.0**-surprise for surprise in surprises)
        verdicts.append(Verdict(letter.author, likely, observer.guess(flight, letter.author)))

    world.on_arrival = came_out
    rng = seeded(seed, "authors")
    now = START + 3 * profile.expected_latency
    for number in range(messages):
        now += rng.expovariate(0.2 * profile.payload_rate * len(honest))
        world.network.at(now, world.publish, rng.choice(honest), number)
    world.network.run(now + 3 * profile.expected_latency)
    assert len(verdicts) == messages
    return observer, verdicts


def bits(verdicts: Sequence[Verdict]) -> float:
    return statistics.fmean(verdict.guess.bits for verdict in verdicts)


def surprise(verdicts: Sequence[Verdict]) -> float:
    return statistics.fmean(verdict.guess.surprise for verdict in verdicts)


# The observer against the truth.

# bits somewhere in the middle between knowing all and nothing
MIDDLING = Profile("middling", rate=20.0, loop_share=0.1, mean_delay=0.01)


@cache
def middling(messages: int, corrupt: tuple[int, ...], told: bool, guards: bool) -> tuple[Observer, list[Verdict]]:
    return watch(12, MIDDLING, messages=messages, corrupt=corrupt, told=told, guards=guards)


@pytest.mark.parametrize(("corrupt", "told"), [((), False), ((), True), ((2, 5, 9), False), ((2, 5, 9), True)], ids=str)
def test_the_observer_is_as_sure_as_it_may_be(corrupt: tuple[int, ...], told: bool, counts: Callable[..., int]) -> None:
    messages = counts(500, soak=5_000)
    observer, verdicts = middling(messages, corrupt, told, True)
    assert all(math.isfinite(verdict.guess.surprise) for verdict in verdicts)
    assert observer.max_bits == math.log2(12 - len(corrupt))
    # entropy does not overstate what the observer does not know, in the mean; nor is it far too modest
    assert bits(verdicts) - 0.1 <= surprise(verdicts) < observer.max_bits
    assert 0.3 < bits(verdicts) < observer.max_bits
    for verdict in verdicts:
        likely = [one for one in verdict.probabilities if one > 0]
        assert sum(likely) == pytest.approx(1.0)
        assert verdict.guess.bits == pytest.approx(-sum(one * math.log2(one) for one in likely), abs=1e-6)
        assert not any(verdict.probabilities[number] for number in corrupt)
    # what it thinks likely is so about as often
    pairs = [
        (likely, verdict.author == number)
        for verdict in verdicts
        for number, likely in enumerate(verdict.probabilities)
    ]
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.01)):
        inside = [(likely, true) for likely, true in pairs if low <= likely < high]
        said, was = (statistics.fmean(column) for column in zip(*inside, strict=True))
        noise = 4 * math.sqrt(max(said, 0.005) * (1 - min(said, 0.99)) / len(inside))
        assert abs(said - was) < 0.12 * said + 0.02 + noise, (low, high, said, was, len(inside))


def test_the_likeliest_author_is_not_the_author_oftener_than_said() -> None:
    _, verdicts = middling(500, (), False, True)
    said = statistics.fmean(max(verdict.probabilities) for verdict in verdicts)
    right = statistics.fmean(
        verdict.probabilities[verdict.author] == max(verdict.probabilities) for verdict in verdicts
    )
    # it does see something: chance would be right once in ten
    assert 0.2 < right <= said + 3 * math.sqrt(0.25 / 500)


# Where the answer is known beforehand.


def test_where_all_other_mixes_are_corrupt_the_author_is_known() -> None:
    # two honest nodes, who could be confused with each other only
    _, verdicts = watch(14, FAST, corrupt=range(2, 14), messages=60)
    assert bits(verdicts) < 0.15
    assert all(verdict.probabilities[verdict.author] > 0.5 for verdict in verdicts)
    # no corrupt mix is an author for it, and one honest node is the author
    _, verdicts = watch(8, FAST, corrupt=range(1, 8), messages=20)
    assert {(verdict.guess.bits, verdict.guess.surprise) for verdict in verdicts} == {(0.0, 0.0)}


def test_who_passes_on_at_once_hides_nobody() -> None:
    _, verdicts = watch(14, replace(FAST, mean_delay=2e-4), messages=150)
    assert bits(verdicts) < 0.15
    assert statistics.fmean(verdict.probabilities[verdict.author] > 0.9 for verdict in verdicts) > 0.9


def test_who_holds_for_long_hides_all() -> None:
    _, verdicts = watch(12, replace(FAST, mean_delay=0.5), messages=150)
    # neither who sent it on the last link, nor who got it there, wrote it: ten are left
    assert bits(verdicts) > math.log2(10) - 0.1
    assert min(verdict.guess.bits for verdict in verdicts) > math.log2(10) - 0.5


@pytest.mark.parametrize("delay", [0.03, 0.5])
def test_an_observer_knows_no_less_than_one_who_saw_nothing(delay: float) -> None:
    """One more surprised by the truth than by a draw among all has a fault, and its bits are no floor for others."""
    observer, verdicts = watch(12, replace(FAST, mean_delay=delay), messages=150)
    assert surprise(verdicts) <= observer.max_bits + 0.05


def test_more_delay_gives_more_bits() -> None:
    means = [bits(watch(14, replace(FAST, mean_delay=delay), messages=120)[1]) for delay in (0.001, 0.003, 0.01, 0.04)]
    assert all(less + 0.1 < more for less, more in pairwise(means)), means


def test_more_corrupt_nodes_leave_fewer_bits() -> None:
    means = [bits(watch(14, FAST, corrupt=range(14 - number, 14), messages=100)[1]) for number in (0, 4, 7, 10)]
    assert all(more > less + 0.1 for more, less in pairwise(means)), means


def test_who_is_told_more_is_less_unsure() -> None:
    (_, taps), (_, told) = (middling(500, (), told, True) for told in (False, True))
    assert bits(told) <= bits(taps) + 0.02 and surprise(told) <= surprise(taps) + 0.02


def test_who_knows_the_guards_is_less_unsure() -> None:
    (_, without), (_, knowing) = (middling(500, (), False, guards) for guards in (False, True))
    assert bits(knowing) <= bits(without) + 0.02 and surprise(knowing) < surprise(without)


def test_a_long_silence_is_nothing_to_fail_at() -> None:
    """A mix that is dead gets a packet now and then, and sends none."""
    observer = Observer(7, FAST, told=True)
    for now in (0.0, 0.01, 1_000.0, 1_000.01):
        flight = Flight(1, 0, 1, b"")
        observer.sent(now, flight)
        observer.handled(now + 0.005, flight, True)
    passed_on = Flight(1, 1, 2, b"")
    observer.sent(1_000.02, passed_on)
    assert np.isfinite(passed_on.notes).all()


# Floors.


@cache
def figures(profile: str, seed: int, corrupt: float) -> Outcome:
    # as many flights in each: 5 s of `fast`, 55 s of `balanced`
    seconds = 5.0 * FAST.rate / PROFILES[profile].rate
    outcome = simulate(Scenario(50, PROFILES[profile], seed, seconds / 60, COSTS, corrupt=corrupt))
    assert len(outcome.bits) > 250 and all(math.isfinite(guess.surprise) for guess in outcome.guesses)
    return outcome


def test_fast_keeps_4_5_bits_of_5_6() -> None:
    outcome = figures("fast", 1, 0.0)
    assert outcome.max_bits == pytest.approx(math.log2(50))
    assert 4.5 <= statistics.fmean(outcome.bits) < outcome.max_bits
    assert min(outcome.bits) > 2.5


def test_fast_keeps_4_2_bits_beside_a_fifth_of_corrupt_mixes() -> None:
    means = [statistics.fmean(figures("fast", seed, 0.2).bits) for seed in (1, 2)]
    assert statistics.fmean(means) >= 4.2, means


def test_balanced_keeps_5_bits_of_5_6() -> None:
    outcome = figures("balanced", 1, 0.0)
    assert 5.0 <= statistics.fmean(outcome.bits) < outcome.max_bits


def test_what_the_figures_rest_on_is_sound() -> None:
    for outcome in (figures("fast", 1, 0.0), figures("fast", 1, 0.2), figures("balanced", 1, 0.0)):
        surprises = [guess.surprise for guess in outcome.guesses]
        # the mean of so many surprises wanders by two standard errors
        error = 2 * statistics.stdev(surprises) / math.sqrt(len(surprises))
        assert statistics.fmean(outcome.bits) - 0.1 - error <= statistics.fmean(surprises) <= outcome.max_bits + 0.1
        assert outcome.drops == {} and all(letter.tries == 1 for letter in outcome.letters)


# Who speaks.

THIN = replace(BALANCED, rate=1.0)  # half of `balanced`, to have twice the windows for the same work
PERIOD, SPEAKING, PAUSE = 14.0, 12.0, 2.0  # seconds; the ten from the pause to the end of speaking are counted
SILENT, IN_SLOTS, BESIDE = range(3)


class Counts:
    """A tap that counts packets out of and into each node, in the ten seconds of each period."""

    def __init__(self, nodes: int, periods: int) -> None:
        self.out = np.zeros((nodes, periods))
        self.into = np.zeros((nodes, periods))

    def _count(self, now: float, counted: np.ndarray, node: int) -> None:
        period, second = divmod(now - START, PERIOD)
        if PAUSE <= second < SPEAKING and period < counted.shape[1]:
            counted[node, int(period)] += 1

    def sent(self, now: float, flight: Flight) -> None:
        self._count(now, self.out, flight.sender)

    def arrived(self, now: float, flight: Flight) -> None:
        self._count(now, self.into, flight.receiver)

    def handled(self, now: float, flight: Flight, held: bool) -> None:
        pass


def advantage(seen: np.ndarray, quiet: np.ndarray, loud: np.ndarray) -> float:
    """How much better than chance the best threshold tells two roles apart.

    The statistic, its threshold and the direction are chosen in every second period and judged in the others.
    """
    best, judged = -1.0, 0.0
    for statistic in seen:
        chosen, other = (statistic[:, part] for part in (slice(2, None, 2), slice(3, None, 2)))
        roles = [(role[:, 2::2], role[:, 3::2]) for role in (quiet, loud)]
        for threshold in np.unique(chosen):
            (quiet_chosen, quiet_other), (loud_chosen, loud_other) = (
                (float((chosen[here] >= threshold).mean()), float((other[there] >= threshold).mean()))
                for here, there in roles
            )
            if abs(loud_chosen - quiet_chosen) > best:
                best = abs(loud_chosen - quiet_chosen)
                judged = math.copysign(1.0, loud_chosen - quiet_chosen) * (loud_other - quiet_other)
    return judged


def test_how_many_packets_leave_does_not_tell_who_speaks(counts: Callable[..., int]) -> None:
    """And the same measure does tell who sends beside its slots: it could have seen something."""
    nodes, periods = 36, counts(40, soak=1_000)
    counted = Counts(nodes, periods)
    world = World(nodes, THIN, seed=1, costs=COSTS, taps=[counted])
    rng = seeded(1, "speaking")
    # drawn anew for each node and period: some are guards to more than others, and so always have more to pass on
    roles = np.array([[rng.randrange(3) for _ in range(periods)] for _ in range(nodes)])

    def speak(number: int) -> None:
        world.publish(number, (number, world.network.now))

    def blurt(number: int) -> None:
        node = world.nodes[number]
        sealed = node.mix._sealer.seal(world.network.now, node.mix.announced().public, Service.DROP, b"")
        first = next(other for other in world.nodes if other.id == sealed.first_hop)
        world.network.inject(node, first, sealed.packet)

    for number in range(nodes):
        for period in range(periods):
            act = {IN_SLOTS: speak, BESIDE: blurt}.get(int(roles[number, period]))
            second = 0.0
            # at half of what the slots can carry
            while act is not None and (second := second + rng.expovariate(0.5 * THIN.payload_rate)) < SPEAKING:
                world.network.at(START + period * PERIOD + second, act, number)
    world.network.run(START + periods * PERIOD)
    assert world.sent["real"] > 0.25 * 0.5 * THIN.payload_rate * SPEAKING * nodes * periods

    seen = np.array([counted.out, counted.into, counted.out - counted.into])
    smallest = min(int((roles[:, 3::2] == role).sum()) for role in range(3))
    error = math.sqrt(2 * 0.25 / smallest)  # the standard error of a difference of two shares, at most
    in_slots, beside = (advantage(seen, roles == SILENT, roles == role) for role in (IN_SLOTS, BESIDE))
    # over three of them once in 700 runs of a perfect network
    assert in_slots <= 0.05 + 3 * error, (in_slots, error)
    assert beside > 0.2 and beside > in_slots + 3 * error, (beside, in_slots, error)
