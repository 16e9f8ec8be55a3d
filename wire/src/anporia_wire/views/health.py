"""Who is alive: the beats (kind 11), kept in memory only and bounded (WIRE section 13).

Uptime counts the 900-second buckets, aligned to `now`, that hold a beat. Of each bucket of absolute
time the first and the last beat are kept: however `now` cuts through it, those two say exactly which
side is alive, so nothing is lost by forgetting the beats between.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Any

from ..events import Event
from ..jsontext import shown
from ..kinds import BEAT

__all__ = ["MAX_AGENTS", "MAX_BUCKETS", "MAX_SAMPLES", "Health"]

MAX_AGENTS = 50_000  # at 35 kB for an agent that beats each minute for a week; the one longest silent goes first
MAX_SAMPLES = 1_446  # latest beats kept one by one: a day and 300 s ahead of one a minute, and one before them
MAX_BUCKETS = 674  # 672 of a week, one more as both ends are cut, one more as clocks may run 300 s ahead

_HEALTHY = 1_800  # seconds since the last beat (WIRE section 13)
_BUCKET = 900  # seconds (WIRE section 13)
_DAY_BUCKETS = 96
_WEEK_BUCKETS = 672
_DAY = _DAY_BUCKETS * _BUCKET
_WEEK = _WEEK_BUCKETS * _BUCKET
_FEW = 20  # samples below which p95 is the maximum (WIRE section 13)
_NO_LATENCY = -1.0


class Health:
    """Beats of each agent, over the last seven days by `created_at`."""

    def __init__(self, max_agents: int = MAX_AGENTS) -> None:
        """Start empty, keeping at most `max_agents` agents."""
        self._max_agents = max_agents
        self.version = 0
        """Grows with each beat."""
        self._agents: dict[str, _Beats] = {}  # in the order of their last beat's arrival

    def apply(self, event: Event) -> None:
        """Take one beat; other kinds are ignored. When agents are too many, the longest silent is dropped."""
        if event.kind != BEAT:
            return
        self.version += 1
        beats = self._agents.pop(event.agent_id, None) or _Beats()
        beats.add(event.created_at, _latency(event.content))
        self._agents[event.agent_id] = beats
        if len(self._agents) > self._max_agents:
            del self._agents[next(iter(self._agents))]

    def summary(self, agent_id: str, now: int) -> dict[str, Any]:
        """Give what listings of agents show: `is_healthy`, `uptime_24h_pct`, `last_seen_at` or None."""
        beats = self._agents.get(agent_id)
        last = None if beats is None else beats.last_seen()
        if beats is None or last is None or now - last >= _WEEK:
            return {"is_healthy": False, "uptime_24h_pct": 0.0, "last_seen_at": None}
        return {
            "is_healthy": now - last <= _HEALTHY,
            "uptime_24h_pct": _percent(beats.alive(now, _DAY_BUCKETS), _DAY_BUCKETS),
            "last_seen_at": last,
        }

    def read(self, agent_id: str, now: int) -> dict[str, Any]:
        """Give the answer of `/agents/{id}/health`; an unknown agent is simply not healthy.

        Latencies are in milliseconds, over the latest `MAX_SAMPLES` beats; p95 is the maximum below
        20 of them. `beats_24h` is exact for a beat a minute, and may count up to 900 s more beyond that.
        """
        beats = self._agents.get(agent_id)
        latencies = [] if beats is None else beats.latencies(now)
        brief = self.summary(agent_id, now)
        return {
            "agent_id": agent_id,
            "last_seen_at": brief["last_seen_at"],
            "is_healthy": brief["is_healthy"],
            "uptime_24h_pct": brief["uptime_24h_pct"],
            "uptime_7d_pct": 0.0 if beats is None else _percent(beats.alive(now, _WEEK_BUCKETS), _WEEK_BUCKETS),
            "beats_24h": 0 if beats is None else beats.within_a_day(now),
            "p50_latency_ms": _median(latencies),
            "p95_latency_ms": _p95(latencies),
            "status_notes": [],
        }


class _Beats:
    """One agent's beats: buckets in parallel arrays sorted by number, and the latest samples sorted by time."""

    __slots__ = ("_counts", "_first", "_last", "_latencies", "_numbers", "_times")

    def __init__(self) -> None:
        self._numbers = array("q")
        self._first = array("H")  # offsets within the bucket, in seconds
        self._last = array("H")
        self._counts = array("L")
        self._times = array("q")
        self._latencies = array("d")

    def add(self, at: int, latency: float) -> None:
        number, offset = divmod(at, _BUCKET)
        place = bisect_left(self._numbers, number)
        if place < len(self._numbers) and self._numbers[place] == number:
            self._first[place] = min(self._first[place], offset)
            self._last[place] = max(self._last[place], offset)
            self._counts[place] += 1
        else:
            for column, value in ((self._numbers, number), (self._first, offset), (self._last, offset)):
                column.insert(place, value)
            self._counts.insert(place, 1)
            if len(self._numbers) > MAX_BUCKETS:
                for column in (self._numbers, self._first, self._last, self._counts):
                    del column[0]
        self._add_sample(at, latency)

    def last_seen(self) -> int:
        return self._numbers[-1] * _BUCKET + self._last[-1]

    def alive(self, now: int, buckets: int) -> int:
        """Count the buckets, of so many before `now`, that hold a beat; beats ahead of `now` count in the first."""
        found: set[int] = set()
        for place in range(len(self._numbers) - 1, -1, -1):
            start = self._numbers[place] * _BUCKET
            youngest = max(0, now - start - self._last[place]) // _BUCKET
            if youngest >= buckets:
                break
            found.add(youngest)
            found.add(max(0, now - start - self._first[place]) // _BUCKET)
        found.discard(buckets)  # the first beat of the oldest one may lie just outside
        return len(found)

    def within_a_day(self, now: int) -> int:
        since = now - _DAY + 1
        if len(self._times) < MAX_SAMPLES or self._times[0] < since:
            return len(self._times) - bisect_left(self._times, since)
        place = bisect_left(self._numbers, since // _BUCKET)
        return sum(self._counts[place:])

    def latencies(self, now: int) -> list[float]:
        place = bisect_right(self._times, now - _WEEK)
        return sorted(value for value in self._latencies[place:] if value >= 0)

    def _add_sample(self, at: int, latency: float) -> None:
        # Ordered by time, then latency, so that which samples stay does not depend on arrival.
        low, high = bisect_left(self._times, at), bisect_right(self._times, at)
        place = bisect_left(self._latencies, latency, low, high)
        self._times.insert(place, at)
        self._latencies.insert(place, latency)
        if len(self._times) > MAX_SAMPLES:
            del self._times[0]
            del self._latencies[0]


def _latency(content: str) -> float:
    value = (shown(content) or {}).get("latency_ms")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return _NO_LATENCY
    return float(value)


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2)


def _median(ordered: list[float]) -> float | None:
    if not ordered:
        return None
    middle = len(ordered) // 2
    # Halved before adding: two huge latencies must not overflow to infinity.
    return ordered[middle] if len(ordered) % 2 else ordered[middle - 1] / 2 + ordered[middle] / 2


def _p95(ordered: list[float]) -> float | None:
    if not ordered:
        return None
    return ordered[-1] if len(ordered) < _FEW else ordered[int(0.95 * len(ordered)) - 1]
