"""The verdict: each promise of the relay beside what was seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .logcheck import DELIVERED_WITHIN_S, LogCheck
from .observations import Memory, Observations, Tally

__all__ = ["LIMITS_OF_AN_ADDRESS", "Line", "Mark", "Verdict", "judge", "memory_bound"]

# refusals for where a request comes from, not for what it is, and the setting that lifts each
LIMITS_OF_AN_ADDRESS = {
    "rate_peer": "ANPORIA_RATE_EXEMPT",
    "rate_bad_events": "ANPORIA_RATE_EXEMPT",
    "connections_full": "ANPORIA_MAX_CONNECTIONS_PER_PEER",
}

_MIB = 1024 * 1024
# what a relay may take beyond its start: SQLite's page caches, which fill within some 80,000 events and then stay
_CACHES = 256 * _MIB
_OF_AN_EVENT = 512  # views keep less than half of it


class Mark(StrEnum):
    """How a line came out."""

    OK = "ok"
    FAILED = "failed"
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True)
class Line:
    """One promise, how it came out, in a few words, and examples of what went wrong."""

    name: str
    mark: Mark
    text: str
    examples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """All lines, and remarks that are no fault."""

    lines: Sequence[Line]
    notes: Sequence[str] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(line.mark is not Mark.FAILED for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        lines = [{"name": i.name, "mark": i.mark, "text": i.text, "examples": list(i.examples)} for i in self.lines]
        return {"ok": self.ok, "lines": lines, "notes": list(self.notes)}


def judge(seen: Observations, log: LogCheck, memory: Memory | None, p99_ms: float) -> Verdict:
    """Judge a run. `memory` is None when the relay is not ours to look into."""
    lines = [
        _generator(seen),
        _counted("server errors", seen.server_errors, f"of {seen.answers.done:,} answers", "none"),
        _counted(
            "answers", seen.answers, "other than the protocol says, or missing", f"all {seen.answers.done:,} right"
        ),
        _kept(log),
        _streams(seen, log),
        _refused("forged events", seen.forgeries),
        _refused("other misdeeds", seen.misdeeds),
        _floods(seen),
        _chains(seen),
        _fast("publishing", seen, "publish", p99_ms),
        _fast("reading", seen, "read", p99_ms),
        _remembers(memory),
    ]
    return Verdict([line for line in lines if line is not None], _notes(seen))


def memory_bound(memory: Memory) -> int:
    """Give the resident bytes that the relay may reach: what it had, room for its caches, and each event's share."""
    return memory.start + _CACHES + _OF_AN_EVENT * memory.events


def _generator(seen: Observations) -> Line | None:
    if not seen.exceptions:
        return None
    text = "some broke, on an answer they did not expect or by themselves"
    return Line("users", Mark.FAILED, text, seen.exceptions[:5])


def _counted(name: str, tally: Tally, what: str, well: str) -> Line:
    if tally.faults:
        return Line(name, Mark.FAILED, f"{tally.faults:,} {what}", tally.examples)
    return Line(name, Mark.OK, well)


def _kept(log: LogCheck) -> Line:
    name = "acknowledged events"
    if log.error:
        return Line(name, Mark.FAILED, log.error)
    if log.missing:
        by_id = f", {log.unlisted:,} of them to be had by id" if log.unlisted else ""
        return Line(name, Mark.FAILED, f"{len(log.missing):,} of {log.acknowledged:,} missing{by_id}", log.missing[:5])
    if not log.acknowledged:
        return Line(name, Mark.FAILED, "none: nothing was published")
    return Line(name, Mark.OK, f"all {log.acknowledged:,} are in the log")


def _streams(seen: Observations, log: LogCheck) -> Line:
    name, found = "streams", log.streams
    if not seen.streams:
        return Line(name, Mark.UNTRIED, "nobody listened")
    cuts = sum(stream.cuts for stream in seen.streams)
    faults = {"missing": found.gaps, "twice": found.repeats, "stray": found.strays, "broken": seen.stream_faults.faults}
    if any(faults.values()):
        text = f"{found.frames:,} frames, " + ", ".join(f"{n:,} {what}" for what, n in faults.items() if n)
        return Line(name, Mark.FAILED, text, [*found.examples, *seen.stream_faults.examples])
    if log.error:
        return Line(name, Mark.FAILED, "nothing to hold them against")
    text = f"{found.frames:,} frames, streams: {len(seen.streams)}, cuts: {cuts}; no gap, none twice"
    return Line(name, Mark.OK, text)


def _refused(name: str, tally: Tally) -> Line:
    if tally.faults:
        return Line(
            name, Mark.FAILED, f"{tally.faults:,} of {tally.done:,} not refused as they must be", tally.examples
        )
    if not tally.done:
        return Line(name, Mark.UNTRIED, "none was tried")
    return Line(name, Mark.OK, f"all {tally.done:,} refused with their code")


def _floods(seen: Observations) -> Line:
    name, tally = "floods", seen.floods
    if tally.faults:
        return Line(name, Mark.FAILED, f"{tally.faults:,} of {tally.done:,} not met by 429 in time", tally.examples)
    if not tally.done:
        return Line(name, Mark.UNTRIED, "none was finished")
    return Line(name, Mark.OK, f"{tally.done:,} met: {seen.flooded:,} events answered 429 with Retry-After")


def _chains(seen: Observations) -> Line:
    name, tally = "tasks", seen.chains
    if tally.faults:
        return Line(
            name, Mark.FAILED, f"{tally.faults:,} of {tally.done:,} with another state or credit", tally.examples
        )
    if not tally.done:
        return Line(name, Mark.UNTRIED, "none was finished")
    return Line(name, Mark.OK, f"{tally.done:,} chains, each step with the state and credit due")


def _fast(name: str, seen: Observations, group: str, p99_ms: float) -> Line:
    latency = seen.latencies.get(group)
    if latency is None or not latency.number:
        return Line(name, Mark.UNTRIED, "nothing measured")
    mark = Mark.OK if latency.p99 <= p99_ms else Mark.FAILED
    return Line(name, mark, f"p99 {latency.p99:,.1f} ms, allowed are {p99_ms:g} ms")


def _remembers(memory: Memory | None) -> Line:
    name = "memory"
    if memory is None:
        return Line(name, Mark.UNTRIED, "not ours to see")
    bound = memory_bound(memory)
    start, peak, end, most = (round(size / _MIB) for size in (memory.start, memory.peak, memory.end, bound))
    text = f"{start} MiB, at most {peak}, in the end {end}; allowed {most}"
    return Line(name, Mark.OK if memory.peak <= bound else Mark.FAILED, text)


def _notes(seen: Observations) -> list[str]:
    notes = []
    for code, count in sorted(seen.limited.items()):
        setting = LIMITS_OF_AN_ADDRESS.get(code, "ANPORIA_RATE_EXEMPT")
        notes.append(
            f"{count:,} requests were answered {code}: the relay limits the address all of this comes from. That is no "
            f"fault, but less was tested. Start it with {setting}"
            + ("=<this address> to free it." if setting == "ANPORIA_RATE_EXEMPT" else "=0 to lift it.")
        )
    deliver = seen.latencies.get("deliver")
    if deliver and deliver.p99 > DELIVERED_WITHIN_S * 1_000:
        notes.append(f"delivery took more than {DELIVERED_WITHIN_S:g} s for one in a hundred frames.")
    if seen.waited_for_signer > max(20, seen.acknowledged // 100):
        notes.append("signing did not keep up: the load was limited by this machine, not by the relay.")
    if seen.generator_busy > 0.9:
        notes.append("the load generator used a whole core: latencies are partly its own. Take fewer users.")
    return notes
