"""How the number of users moves."""

from __future__ import annotations

import pytest

from anporia_loadtest.curves import SHAPES, users_at, usual_seconds


@pytest.mark.parametrize("shape", SHAPES)
def test_there_is_always_a_user_and_never_more_than_asked_for(shape: str) -> None:
    counts = [users_at(shape, at, 600, 37) for at in range(-10, 700)]
    assert min(counts) >= 1 and max(counts) == 37


def test_a_ramp_only_rises() -> None:
    counts = [users_at("ramp", at, 100, 50) for at in range(101)]
    assert counts == sorted(counts) and counts[0] == 1 and counts[80] == 50


def test_a_spike_comes_and_goes() -> None:
    assert [users_at("spike", at, 100, 50) for at in (0, 39, 40, 59, 60, 99)] == [10, 10, 50, 50, 10, 10]


def test_a_soak_lasts_and_has_tides() -> None:
    assert usual_seconds("soak") > usual_seconds("steady")
    assert [users_at("soak", at, 1_800, 60) for at in (0, 150, 300)] == [40, 60, 40]
