"""Kind 11 and GET /agents/{id}/health: who is alive, as told by its own beats."""

from __future__ import annotations

from typing import Any

from anporia_wire import Keypair

from ..check import Area
from ..probe import Probe, equal, has, holds, near

AREA = Area("beats")

_STALE_S = 3_600  # older than any window in use: 300 s and 1,800 s
_ONE_BUCKET = (round(100 / 96, 2), round(100 / 288, 2))  # a day has 96 quarters of an hour, or 288 five minutes


def _health(probe: Probe, agent_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = probe.value(f"/agents/{agent_id}/health")
    return answer


def _beating(probe: Probe) -> tuple[Keypair, int]:
    """An agent with three beats of 10, 30 and 20 ms, the newest now."""
    key, now = probe.key(), probe.now()
    for latency, back in ((10, 2), (30, 0), (20, 1)):
        probe.said(11, {"latency_ms": latency, "status": "ok"}, ["cap", "meta.health.v1"], by=key, at=now - back)
    return key, now


@AREA.core("13")
def is_answered_like_any_event(probe: Probe) -> None:
    """A beat is 200 with its id."""
    beat = probe.event(11, {"latency_ms": 5, "status": "ok"})
    equal(probe.publish(beat).json(), {"id": beat.id, "accepted": True}, "answer")


@AREA.core("13")
def health_has_its_shape(probe: Probe) -> None:
    """The answer has nine keys."""
    key, _ = probe.once(_beating)
    names = (
        "agent_id last_seen_at is_healthy uptime_24h_pct uptime_7d_pct beats_24h"
        " p50_latency_ms p95_latency_ms status_notes"
    )
    has(_health(probe, key.agent_id), names.split(), "health")


@AREA.core("13")
def a_fresh_beat_is_healthy(probe: Probe) -> None:
    """An agent that beat just now is healthy."""
    key, _ = probe.once(_beating)
    equal(_health(probe, key.agent_id)["is_healthy"], True, "is_healthy")


@AREA.core("13")
def last_seen_is_the_newest_beat(probe: Probe) -> None:
    """`last_seen_at` is the greatest created_at of its beats."""
    key, now = probe.once(_beating)
    equal(_health(probe, key.agent_id)["last_seen_at"], now, "last_seen_at")


@AREA.core("13")
def beats_are_counted(probe: Probe) -> None:
    """`beats_24h` counts them."""
    key, _ = probe.once(_beating)
    equal(_health(probe, key.agent_id)["beats_24h"], 3, "beats_24h")


@AREA.core("13")
def p50_is_the_median(probe: Probe) -> None:
    """`p50_latency_ms` is the median."""
    key, _ = probe.once(_beating)
    near(_health(probe, key.agent_id)["p50_latency_ms"], 20, "p50_latency_ms")


@AREA.core("13")
def p95_of_few_is_the_greatest(probe: Probe) -> None:
    """`p95_latency_ms` of fewer than 20 samples is the greatest."""
    key, _ = probe.once(_beating)
    near(_health(probe, key.agent_id)["p95_latency_ms"], 30, "p95_latency_ms")


@AREA.core("13")
def one_beat_is_one_bucket_of_the_day(probe: Probe) -> None:
    """`uptime_24h_pct` after one beat is one bucket of 15 (or 5) minutes, two decimals."""
    beat = probe.said(11, {"latency_ms": 1})
    got = _health(probe, beat.agent_id)["uptime_24h_pct"]
    holds(any(abs(got - share) < 0.006 for share in _ONE_BUCKET), f"one of {_ONE_BUCKET}", got)


@AREA.core("13")
def an_old_beat_is_not_healthy(probe: Probe) -> None:
    """An agent whose last beat is an hour old is not healthy, yet was seen."""
    at = probe.now() - _STALE_S
    beat = probe.said(11, {"latency_ms": 1}, at=at)
    answer = _health(probe, beat.agent_id)
    equal((answer["is_healthy"], answer["last_seen_at"]), (False, at), "is_healthy and last_seen_at")


@AREA.core("13")
def an_unknown_agent_is_not_healthy(probe: Probe) -> None:
    """An agent without beats is not healthy and was never seen; that is no error."""
    answer = _health(probe, probe.unused_id())
    equal((answer["is_healthy"], answer["last_seen_at"], answer["beats_24h"]), (False, None, 0), "health of nobody")
    equal((answer["p50_latency_ms"], answer["p95_latency_ms"]), (None, None), "latencies of nobody")


@AREA.core("13")
def junk_content_is_a_beat(probe: Probe) -> None:
    """A beat may say anything: it counts, its latency does not."""
    beat = probe.said(11, "alive!")
    answer = _health(probe, beat.agent_id)
    equal((answer["is_healthy"], answer["p50_latency_ms"]), (True, None), "is_healthy and p50_latency_ms")


@AREA.core("13")
def odd_latencies_are_left_out(probe: Probe) -> None:
    """Negative latencies and texts do not count among the latencies."""
    key, now = probe.key(), probe.now()
    for number, latency in enumerate((-5, "fast", 7)):
        probe.said(11, {"latency_ms": latency}, by=key, at=now - number)
    answer = _health(probe, key.agent_id)
    equal((answer["p50_latency_ms"], answer["beats_24h"]), (7, 3), "p50_latency_ms and beats_24h")


@AREA.core("10")
def agents_row_says_it_too(probe: Probe) -> None:
    """GET /agents/{id} of an agent with events has its health."""
    key, now = probe.once(_beating)
    probe.said(1, "hello", by=key)
    answer = probe.value(f"/agents/{key.agent_id}")
    equal((answer["is_healthy"], answer["last_seen_at"]), (True, now), "is_healthy and last_seen_at")
