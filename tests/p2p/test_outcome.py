"""What is left of the entropy when several events are known to be of one author."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from anporia_p2p.mix.profiles import PROFILES
from anporia_p2p.sim.flights import Costs
from anporia_p2p.sim.observer import Guess
from anporia_p2p.sim.outcome import Outcome


def outcome(guesses: Sequence[tuple[int, Sequence[float]]]) -> Outcome:
    return Outcome(
        nodes=4,
        profile=PROFILES["fast"],
        seed=1,
        minutes=1.0,
        settings={},
        corrupt=0,
        dead=0,
        costs=Costs(),
        letters=[],
        guesses=[Guess(0.0, 0.0, author, np.array(likely)) for author, likely in guesses],
        max_bits=2.0,
        flights=0,
        sent=Counter(),
        drops=Counter(),
        loops=Counter(),
        wall_seconds=0.0,
    )


def test_knowing_nothing_of_each_is_knowing_nothing_of_all() -> None:
    assert outcome([(1, [0.25] * 4)] * 8).linked_bits(8) == pytest.approx(2.0)


def test_likelihoods_multiply() -> None:
    # 4 : 1 twice is 16 : 1
    halves = outcome([(0, [0.8, 0.2, 0.0, 0.0])] * 2).linked_bits(2)
    assert halves == pytest.approx(-(16 / 17) * math.log2(16 / 17) - (1 / 17) * math.log2(1 / 17), abs=1e-6)


def test_one_guess_alone_never_rules_an_author_out() -> None:
    certain, other = [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]
    assert outcome([(0, certain), (0, other)]).linked_bits(2) == pytest.approx(1.0, abs=1e-3)


def test_authors_are_kept_apart_and_rests_left_out() -> None:
    sure, unsure = [1.0, 0.0, 0.0, 0.0], [0.25] * 4
    mixed = [(0, sure), (1, unsure)] * 3
    assert outcome(mixed).linked_bits(2) == pytest.approx(1.0, abs=1e-3)  # one group of each author; the third is over
    assert outcome(mixed).linked_bits(4) is None
