"""A flood: the first sixty of a minute may pass; each beyond is refused, in time, with the time to wait."""

from __future__ import annotations

import pytest

from anporia_loadtest.floods import Shot, judge_flood

RATE = 60


def taken(at: float) -> Shot:
    return Shot(at, at + 0.01, 200, "", None)


def refused(at: float, *, code: str = "rate_agent", status: int = 429, wait: float | None = 60) -> Shot:
    return Shot(at, at + 0.01, status, code, wait)


FIRST = [taken(at / 100) for at in range(RATE)]


def test_sixty_and_then_refusals_are_right() -> None:
    assert judge_flood([*FIRST, *(refused(1 + at / 100) for at in range(15))], RATE) == []


def test_one_too_many_within_the_minute_is_a_fault() -> None:
    assert judge_flood([*FIRST, taken(30.0)], RATE) == ["61 events passed within 30.0 s"]


def test_a_flood_slower_than_the_limit_may_pass() -> None:
    assert judge_flood([taken(at * 1.1) for at in range(100)], RATE) == []


@pytest.mark.parametrize(
    "shot",
    [
        refused(1, wait=None),
        refused(1, wait=0),
        refused(1, wait=3_600),
        refused(1, code=""),
        refused(1, status=503, code="store_busy"),
    ],
)
def test_a_refusal_of_another_form_is_a_fault(shot: Shot) -> None:
    assert len(judge_flood([*FIRST, shot], RATE)) == 1


def test_a_refusal_before_the_budget_is_spent_is_a_fault() -> None:
    assert judge_flood([*FIRST[:40], refused(1)], RATE) == ["refused although the minute's budget was not spent"]
