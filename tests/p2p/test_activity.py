"""Who speaks, by counting: the measure itself, on what is known beforehand."""

from __future__ import annotations

import random

import pytest

from anporia_p2p.mix.profiles import PROFILES
from anporia_p2p.sim.activity import STATISTICS, Activity, advantage, watch
from anporia_p2p.sim.flights import Flight


def test_an_advantage_of_one_and_of_none() -> None:
    assert advantage([1.0, 2.0] * 50, [3.0, 4.0] * 50) == 1.0
    assert advantage([3.0, 4.0] * 50, [1.0, 2.0] * 50) == 1.0
    assert advantage([1.0] * 100, [1.0] * 100) == 0.0


def test_a_threshold_is_not_judged_on_what_it_was_chosen_for() -> None:
    rng = random.Random(1)
    found = [advantage([rng.random() for _ in range(40)], [rng.random() for _ in range(40)]) for _ in range(200)]
    assert abs(sum(found) / len(found)) < 0.05  # chosen and judged on the same it would be 0.2
    shifted = advantage([rng.gauss(0, 1) for _ in range(2_000)], [rng.gauss(1, 1) for _ in range(2_000)])
    assert shifted == pytest.approx(0.383, abs=0.06)  # 2 Phi(1/2) - 1


def test_packets_are_counted_by_node_and_window() -> None:
    activity = Activity(3, window=10.0, start=100.0)
    activity.learn_guards(0, [2])
    for at, receiver in ((101.0, 1), (102.0, 2), (111.0, 2)):
        flight = Flight(0, 0, receiver, b"")
        activity.sent(at, flight)
        activity.arrived(at + 8.5, flight)
    counted = {name: [activity.value(0, window, name) for window in (0, 1)] for name in STATISTICS}
    assert counted == {"packets out": [2, 1], "packets in": [0, 0], "out less in": [2, 1], "out to guards": [1, 1]}
    assert [activity.value(2, window, "packets in") for window in (0, 1)] == [0, 2]


def test_a_small_network_is_watched_the_same_way_each_time() -> None:
    first, second = (watch(8, PROFILES["fast"], 3, 6, window=0.5) for _ in range(2))
    assert first == second and set(first) == set(STATISTICS)
    assert all(-1 <= share <= 1 for share in first.values())
