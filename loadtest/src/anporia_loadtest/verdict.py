"""The verdict: each promise of the relay beside what was seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .logcheck import DELIVERED_WITHIN_S, LogCheck
from .observations import Memory, Observations, Tally, counted

__all__ = ["LIMITS_OF_AN_ADDRESS", "Line", "Mark", "Verdict", "judge", "memory_bound"]

# refusals for where a request comes from, not for what it is, and the setting that lifts each
LIMITS_OF_AN_ADDRESS = {
    "rate_peer": "ANPORIA_RATE_EXEMPT",
    "rate_bad_events": "ANPORIA_RATE_EXEMPT",
    "connections_full": "ANPORIA_MAX_CONNECTIONS_PER_PEER",
}

# lines that say how well, not whether it is right, and what is said when one of them fails
_BOUNDS = {"publishing": "slower than asked", "reading": "slower than asked", "memory": "larger than allowed"}

_BUSY = 0.5  # load average of a core before the test began
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
    """All lines, and remarks that are no fault. `limited`: not all was tested, since the relay limits our address."""

    lines: Sequence[Line]
    notes: Sequence[str] = field(default=())
    limited: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self._failed

    @property
    def right(self) -> bool:
        """Whether nothing failed but bounds of time and memory."""
        return self._failed <= _BOUNDS.keys()

    @property
    def summary(self) -> str:
        """All of it in one sentence."""
        if not self.right:
            return "The relay was NOT right."
        over = [_BOUNDS[line.name] for line in self.lines if line.mark is Mark.FAILED]
        tested = ", as far as it was tested" if self.limited else ""
        return f"The relay was right{tested}" + (f", but {' and '.join(dict.fromkeys(over))}." if over else ".")

    @property
    def _failed(self) -> set[str]:
        return {line.name for line in self.lines if line.mark is Mark.FAILED}

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        lines = [{"name": i.name, "mark": i.mark, "text": i.text, "examples": list(i.examples)} for i in self.lines]
        said = {"ok": self.ok, "right": self.right, "limited": self.limited, "summary": self.summary}
        return {**said, "lines": lines, "notes": list(self.notes)}


def judge(seen: Observations, log: LogCheck, memory: Memory | None, p99_ms: float, busy: float = 0.0) -> Verdict:
    """Judge a run. `memory` is None when the relay is not ours to look into; `busy`: load of a core beforehand."""
    lines = [
        _generator(seen),
        _counted("server errors", seen.server_errors, f"of {counted(seen.answers.done, 'answer')}", "none"),
        _counted(
            "answers", seen.answers, "other than the protocol says, or missing", f"{_all(seen.answers.done)} right"
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
    return Verdict([line for line in lines if line is not None], _notes(seen, busy), bool(seen.limited))


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
    return Line(name, Mark.OK, f"{_all(log.acknowledged)} {'is' if log.acknowledged == 1 else 'are'} in the log")


def _streams(seen: Observations, log: LogCheck) -> Line:
    name, found = "streams", log.streams
    if not seen.streams:
        return Line(name, Mark.UNTRIED, "nobody listened")
    cuts = sum(stream.cuts for stream in seen.streams)
    faults = {"missing": found.gaps, "twice": found.repeats, "stray": found.strays, "broken": seen.stream_faults.faults}
    if any(faults.values()):
        text = f"{counted(found.frames, 'frame')}, " + ", ".join(f"{n:,} {what}" for what, n in faults.items() if n)
        return Line(name, Mark.FAILED, text, [*found.examples, *seen.stream_faults.examples])
    if log.error:
        return Line(name, Mark.FAILED, "nothing to hold them against")
    text = f"{counted(found.frames, 'frame')}, streams: {len(seen.streams)}, cuts: {cuts}; no gap, none twice"
    return Line(name, Mark.OK, text)


def _refused(name: str, tally: Tally) -> Line:
    right = f"{_all(tally.done)} refused with {'its' if tally.done == 1 else 'their'} code"
    return _tallied(name, tally, "not refused as they must be", "none was tried", right)


def _floods(seen: Observations) -> Line:
    right = f"{seen.floods.done:,} met: {counted(seen.flooded, 'event')} answered 429 with Retry-After"
    return _tallied("floods", seen.floods, "not met by 429 in time", "none was finished", right)


def _chains(seen: Observations) -> Line:
    right = f"{counted(seen.chains.done, 'chain')}, each step with the state and credit due"
    return _tallied("tasks", seen.chains, "with another state or credit", "none was finished", right)


def _tallied(name: str, tally: Tally, wrong: str, untried: str, right: str) -> Line:
    if tally.faults:
        return Line(name, Mark.FAILED, f"{tally.faults:,} of {tally.done:,} {wrong}", tally.examples)
    if not tally.done:
        return Line(name, Mark.UNTRIED, untried)
    return Line(name, Mark.OK, right)


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


def _all(number: int) -> str:
    return f"{'' if number == 1 else 'all '}{number:,}"


def _notes(seen: Observations, busy: float) -> list[str]:
    notes = []
    for code, count in sorted(seen.limited.items()):
        setting = LIMITS_OF_AN_ADDRESS.get(code, "ANPORIA_RATE_EXEMPT")
        notes.append(
            f"{counted(count, 'request')} {'was' if count == 1 else 'were'} answered {code}: the relay limits the "
            f"address all of this comes from. That is no fault, but less was tested. Start it with {setting}"
            + ("=<this address> to free it." if setting == "ANPORIA_RATE_EXEMPT" else "=0 to lift it.")
        )
    deliver = seen.latencies.get("deliver")
    if deliver and deliver.p99 > DELIVERED_WITHIN_S * 1_000:
        notes.append(f"delivery took more than {DELIVERED_WITHIN_S:g} s for one in a hundred frames.")
    if seen.waited_for_signer > max(20, seen.acknowledged // 100):
        notes.append("signing did not keep up: the load was limited by this machine, not by the relay.")
    if seen.generator_busy > 0.9:
        notes.append("the load generator used a whole core: latencies are partly its own. Take fewer users.")
    if busy > _BUSY:
        notes.append(
            f"this machine was busy when the test began (load of a core {busy:.1f}): latencies are partly that."
        )
    return notes
