"""Health of agents: against a plain reading of WIRE section 13 that keeps every beat."""

from __future__ import annotations

import json
import statistics
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anporia_wire import Event
from anporia_wire.views import Health
from anporia_wire.views.health import MAX_BUCKETS, MAX_SAMPLES
from tests.wire.samples import NOW, unsigned

AGENT = "a".rjust(64, "0")
DAY, WEEK = 86_400, 604_800


def beat(at: int = NOW, content: str = "", *, agent: str = "a") -> Event:
    return unsigned(11, content, agent=agent, at=at)


def latency(value: float) -> str:
    return json.dumps({"latency_ms": value, "status": "ok"})


def observed(*beats: Event) -> Health:
    health = Health()
    for event in beats:
        health.apply(event)
    return health


def plainly(beats: Sequence[tuple[int, float | None]], now: int) -> dict[str, Any]:
    week = [(at, value) for at, value in beats if now - at < WEEK]
    ages = [max(0, now - at) for at, _ in week]
    values = sorted(float(value) for _, value in week if value is not None)
    last = max((at for at, _ in week), default=None)
    p95 = None
    if values:
        p95 = values[-1] if len(values) < 20 else values[int(0.95 * len(values)) - 1]
    return {
        "agent_id": AGENT,
        "last_seen_at": last,
        "is_healthy": last is not None and now - last <= 1_800,
        "uptime_24h_pct": round(100 * len({age // 900 for age in ages if age < DAY}) / 96, 2),
        "uptime_7d_pct": round(100 * len({age // 900 for age in ages}) / 672, 2),
        "beats_24h": sum(1 for age in ages if age < DAY),
        "p50_latency_ms": statistics.median(values) if values else None,
        "p95_latency_ms": p95,
        "status_notes": [],
    }


ages = st.integers(-300, WEEK + 5_000) | st.integers(-300, 4_000) | st.sampled_from([0, 1, 899, 900, 1_800, 1_801])
near_an_edge = st.builds(lambda edge, by: edge + by, st.sampled_from([900, 1_800, DAY, WEEK]), st.integers(-2, 2))
some_beats = st.lists(st.tuples(ages | near_an_edge, st.none() | st.floats(0, 1e6)), max_size=60)


@given(some_beats, st.integers(0, 20_000))
@settings(max_examples=150)
def test_agrees_with_the_plain_reading(beats: list[tuple[int, float | None]], later: int) -> None:
    kept = [(NOW - age, value) for age, value in beats]
    health = observed(*(beat(at, "" if value is None else latency(value)) for at, value in kept))
    assert health.read(AGENT, NOW + later) == plainly(kept, NOW + later)


@pytest.mark.parametrize("every", [60, 300, 900, 901])
def test_a_week_of_beats_is_read_exactly(every: int) -> None:
    kept = [(at, None) for at in range(NOW - WEEK - DAY, NOW + 301, every)]
    health = observed(*(beat(at) for at, _ in kept))
    for later in (0, 1, 450, 899, 3_600, DAY):
        assert health.read(AGENT, NOW + later) == plainly(kept, NOW + later)


@pytest.mark.parametrize("edge", [0, 900, 1_800, DAY, WEEK])
@pytest.mark.parametrize("by", [-1, 0, 1])
def test_edges(edge: int, by: int) -> None:
    at = NOW - edge - by
    assert observed(beat(at, latency(5))).read(AGENT, NOW) == plainly([(at, 5)], NOW)
    assert observed(beat(at, latency(5)), beat(NOW, latency(7))).read(AGENT, NOW) == plainly([(at, 5), (NOW, 7)], NOW)


def test_which_of_one_second_stay_does_not_depend_on_arrival() -> None:
    beats = [beat(NOW, latency(value)) for value in range(MAX_SAMPLES + 50)]
    read = observed(*beats).read(AGENT, NOW)
    assert observed(*reversed(beats)).read(AGENT, NOW) == read
    assert read["beats_24h"] == len(beats)


def test_unknown_agents_are_not_healthy() -> None:
    assert Health().read("anything", NOW) == {**plainly([], NOW), "agent_id": "anything"}
    assert observed(unsigned(1, agent="a")).read(AGENT, NOW) == plainly([], NOW)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "junk",
        "[]",
        "5",
        '"x"',
        "null",
        "{}",
        '{"latency_ms":null}',
        '{"latency_ms":"12"}',
        '{"latency_ms":true}',
        '{"latency_ms":-1}',
        '{"latency_ms":NaN}',
        '{"latency_ms":1e400}',
        '{"latency_ms":[1]}',
        "[" * 50000,
        "\ud800",
    ],
    ids=lambda content: content[:20].encode(errors="replace").decode(),
)
def test_wrong_latencies_count_as_absent(content: str) -> None:
    read = observed(beat(content=content)).read(AGENT, NOW)
    assert (read["p50_latency_ms"], read["p95_latency_ms"]) == (None, None)
    assert read["beats_24h"] == 1 and read["is_healthy"]


def test_latencies() -> None:
    def read(*values: float) -> tuple[object, object]:
        row = observed(*(beat(NOW - place, latency(value)) for place, value in enumerate(values))).read(AGENT, NOW)
        return row["p50_latency_ms"], row["p95_latency_ms"]

    assert read(7) == (7.0, 7.0)
    assert read(0, 10) == (5.0, 10.0)
    assert read(*range(19)) == (9.0, 18.0)
    assert read(*range(20)) == (9.5, 18.0)
    assert read(1.5e308, 1.7e308) == (1.6e308, 1.7e308)


def test_only_the_latest_samples_are_kept() -> None:
    old = [beat(NOW - 60 * place, latency(1_000)) for place in range(MAX_SAMPLES, 2 * MAX_SAMPLES)]
    new = [beat(NOW - 60 * place, latency(10)) for place in range(MAX_SAMPLES)]
    for order in (old + new, new + old):
        read = observed(*order).read(AGENT, NOW)
        assert (read["p50_latency_ms"], read["p95_latency_ms"], read["beats_24h"]) == (10.0, 10.0, 1_440)


def test_more_than_one_beat_a_minute() -> None:
    kept = [(NOW - 20 * place, None) for place in range(3 * 1_440 + 500)]
    read = observed(*(beat(at) for at, _ in kept)).read(AGENT, NOW)
    exact = plainly(kept, NOW)["beats_24h"]
    assert exact <= read["beats_24h"] <= exact + 900 // 20


def test_bounded_and_the_longest_silent_goes_first() -> None:
    health = Health(max_agents=3)
    for agent in ("a", "b", "c", "a", "d"):
        health.apply(beat(agent=agent))
    seen = [agent for agent in "abcd" if health.summary(agent.rjust(64, "0"), NOW)["is_healthy"]]
    assert seen == ["a", "c", "d"]


def test_memory_of_one_agent_is_bounded() -> None:
    health = observed(beat(NOW - 2 * WEEK))
    events = [beat(at, latency(at % 7)) for at in range(NOW - 2 * WEEK, NOW, 300)]
    tracemalloc.start()
    for event in events:
        health.apply(event)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    beats = health._agents[AGENT]
    assert len(beats._numbers) == len(beats._counts) == MAX_BUCKETS
    assert len(beats._times) == len(beats._latencies) == MAX_SAMPLES
    assert size < 50_000


def test_hostile_times_do_no_harm() -> None:
    health = observed(beat(2**53 - 1), beat(0), beat(NOW))
    assert health.read(AGENT, NOW)["uptime_24h_pct"] == round(100 / 96, 2)
    assert health.read(AGENT, 0)["is_healthy"]
