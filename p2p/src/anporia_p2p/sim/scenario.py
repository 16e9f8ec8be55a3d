"""One simulation from its order to its outcome: what `anporia-node sim` and `./dev bench p2p` run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ..mix.guards import GUARDS
from ..mix.profiles import Profile
from .flights import Costs, Flight
from .links import Links
from .network import seeded
from .observer import Guess, Observer
from .outcome import Outcome
from .world import START, Letter, World

__all__ = ["Scenario", "simulate"]

_WARM_UP = 3.0  # times the usual latency until mixes hold what they usually hold
_SLICES = 200  # of the run, between reports of progress


@dataclass(frozen=True, slots=True)
class Scenario:
    """What to simulate.

    `minutes`: of virtual time, beside warming up and finishing; `costs`: service times in seconds; `corrupt`, `dead`:
    shares of the nodes; `link`: seconds one way; `loss`: share of the packets on links; `load`: share of the slots for
    real packets that carry one; `warm_up`: seconds, for mixes to fill and loops to find the dead; `observed`: whether
    there is an observer, who may be `told` which packets end where; `real`: real packets, not keyless ones.
    """

    nodes: int
    profile: Profile
    seed: int
    minutes: float
    costs: Costs
    corrupt: float = 0.0
    dead: float = 0.0
    link: float = 0.005
    loss: float = 0.0
    load: float = 0.1
    warm_up: float | None = None
    observed: bool = True
    told: bool = False
    real: bool = False
    guards: int = GUARDS


def simulate(scenario: Scenario, progress: Callable[[float], None] = lambda done: None) -> Outcome:
    """Run it; `progress` is called with the share that is done, 0 to 1. The same scenario gives the same outcome."""
    began = time.perf_counter()
    profile, seed = scenario.profile, scenario.seed
    chance = seeded(seed, "scenario")
    numbers = range(scenario.nodes)
    corrupt = frozenset(chance.sample(numbers, round(scenario.corrupt * scenario.nodes)))
    honest = [number for number in numbers if number not in corrupt]
    dead = frozenset(chance.sample(honest, round(scenario.dead * len(honest))))
    authors = [number for number in honest if number not in dead]
    observer = Observer(scenario.nodes, profile, corrupt=corrupt, silent=dead, told=scenario.told, now=START)
    world = World(
        scenario.nodes,
        profile,
        seed=seed,
        links=Links(scenario.link, loss=scenario.loss, rng=seeded(seed, "links")),
        costs=scenario.costs,
        real=scenario.real,
        corrupt=corrupt,
        taps=[observer] if scenario.observed else [],
        guard_count=scenario.guards,
    )
    for number in dead:
        world.stop(number)
    guesses: list[Guess] = []

    def came_out(letter: Letter, flight: Flight) -> None:
        guesses.append(observer.guess(flight, letter.author))

    def learn() -> None:
        for number in authors:
            observer.learn_guards(number, world.guards(number))
        world.network.at(world.network.now + profile.expected_latency, learn)

    if scenario.observed:
        world.on_arrival = came_out
        learn()
    warm_up = _WARM_UP * profile.expected_latency if scenario.warm_up is None else scenario.warm_up
    starts = START + warm_up
    ends = starts + 60 * scenario.minutes
    for number in authors:
        when = starts
        while (when := when + chance.expovariate(scenario.load * profile.payload_rate)) < ends:
            world.network.at(when, world.publish, number, (number, when))
    world.network.run(starts)
    flights, sent = world.network.flights, world.sent
    for part in range(1, _SLICES + 1):
        world.network.run(starts + (ends - starts) * part / _SLICES)
        progress(0.95 * part / _SLICES)
    flights, sent = world.network.flights - flights, world.sent - sent
    while world.pending:  # each is heard or fails in the end
        world.network.run(world.network.now + profile.expected_latency)
    progress(1.0)
    return Outcome(
        nodes=scenario.nodes,
        profile=profile,
        seed=seed,
        minutes=scenario.minutes,
        settings={
            "load": scenario.load,
            "link_ms": 1e3 * scenario.link,
            "loss": scenario.loss,
            "guards": scenario.guards,
            "told": scenario.told,
            "real_packets": scenario.real,
        },
        corrupt=len(corrupt),
        dead=len(dead),
        costs=scenario.costs,
        letters=list(world.letters.values()),
        guesses=guesses,
        max_bits=observer.max_bits,
        flights=flights,
        sent=sent,
        drops=world.drops,
        loops=Counter(
            sent=sum(world.nodes[number].mix.health.sent for number in authors),
            lost=sum(world.nodes[number].mix.health.lost for number in authors),
        ),
        wall_seconds=time.perf_counter() - began,
    )
