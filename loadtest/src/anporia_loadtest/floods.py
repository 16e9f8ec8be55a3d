"""Whether a flood was met as it must be: a minute's budget may pass, each event beyond is 429 with Retry-After."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["WINDOW_S", "Shot", "judge_flood"]

WINDOW_S = 60.0  # the relay counts whole seconds, hits exactly 60 s old included: its window is never shorter


class Shot(NamedTuple):
    """One event of a flood. Times in seconds, of one clock; `retry_after` in seconds, None when there was none."""

    sent: float
    answered: float
    status: int
    code: str
    retry_after: float | None


def judge_flood(shots: Sequence[Shot], rate: int) -> list[str]:
    """Give what was wrong with the answers, nothing when all is well. `rate`: events a minute of one agent."""
    passed = [shot for shot in shots if shot.status == 200]
    faults = [
        f"{rate + 1} events passed within {last.answered - first.sent:.1f} s"
        for first, last in zip(passed, passed[rate:], strict=False)
        if last.answered - first.sent < WINDOW_S
    ]
    for shot in shots:
        if shot.status == 200:
            continue
        if (shot.status, shot.code) != (429, "rate_agent"):
            faults.append(f"answered {shot.status} {shot.code}".strip())
        elif shot.retry_after is None or not 1 <= shot.retry_after <= WINDOW_S + 2:
            faults.append(f"429 with Retry-After {shot.retry_after}")
        elif sum(1 for other in passed if shot.sent - WINDOW_S - 2 < other.sent < shot.answered) < rate:
            faults.append("refused although the minute's budget was not spent")
    return faults
