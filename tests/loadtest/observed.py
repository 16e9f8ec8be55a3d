"""A run in which all went well, made up; tests spoil one thing each."""

from __future__ import annotations

from anporia_loadtest.logcheck import LogCheck, StreamsCheck
from anporia_loadtest.observations import Latency, Memory, Observations, StreamSeen, Tally

__all__ = ["good_log", "good_memory", "good_run"]


def good_run() -> Observations:
    """Give what a run without fault saw."""
    return Observations(
        seconds=60,
        users={"Posters": 2},
        latencies={name: Latency(1_000, 2, 10, 20, 90) for name in ("publish", "read", "deliver")},
        acknowledged=500,
        answers=Tally(done=2_000),
        forgeries=Tally(done=30),
        misdeeds=Tally(done=30),
        floods=Tally(done=2),
        flooded=30,
        chains=Tally(done=10),
        streams=[StreamSeen({}, 0, [1, 2, 3], left_at=100.0, cuts=2, resumed=2)],
    )


def good_log() -> LogCheck:
    """Give what the log says after it."""
    return LogCheck(acknowledged=500, streams=StreamsCheck(frames=3))


def good_memory() -> Memory:
    """Give what the relay took."""
    return Memory(40 * 2**20, 60 * 2**20, 50 * 2**20, 500)
