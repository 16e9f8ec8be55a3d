"""What a run saw: written by the process that makes the load, read by the one that judges it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

__all__ = ["Latency", "Memory", "Observations", "StreamSeen", "Tally", "counted"]

_EXAMPLES = 5


def counted(number: int, noun: str) -> str:
    """Give a number with its noun: 1 event, 2 events."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@dataclass(slots=True)
class Tally:
    """How often something was done, how often it went wrong, and the first few ways in which it did."""

    done: int = 0
    faults: int = 0
    examples: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        """Count one that went wrong."""
        self.faults += 1
        if len(self.examples) < _EXAMPLES and text not in self.examples:
            self.examples.append(text)


class Latency(NamedTuple):
    """Milliseconds."""

    number: int
    p50: float
    p95: float
    p99: float
    worst: float

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> Self:
        """Sum up; all zeros when there is nothing."""
        ordered = sorted(milliseconds)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.95, 0.99)]
        return cls(len(ordered), *(round(value, 2) for value in (*at, ordered[-1])))


@dataclass(slots=True)
class StreamSeen:
    """One reader's stream, over all its connections.

    `start`: the place after which it began; `numbers`: the places of its frames, in the order in which they came;
    `left_at`: Unix time at which it stopped reading, connected.
    """

    query: dict[str, str]
    start: int
    numbers: list[int] = field(default_factory=list)
    left_at: float = 0.0
    cuts: int = 0
    resumed: int = 0


@dataclass(slots=True)
class Observations:
    """All that the verdict is made from, besides the relay's own log. Counts are of this run."""

    seconds: float = 0.0
    users: dict[str, int] = field(default_factory=dict)  # at most so many, by class
    did: dict[str, int] = field(default_factory=dict)  # tasks finished, by class
    statuses: dict[str, int] = field(default_factory=dict)
    latencies: dict[str, Latency] = field(default_factory=dict)
    acknowledged: int = 0  # answers that acknowledged: an event that is sent again has several
    answers: Tally = field(default_factory=Tally)  # of all requests: neither missing nor other than the protocol says
    server_errors: Tally = field(default_factory=Tally)
    forgeries: Tally = field(default_factory=Tally)
    misdeeds: Tally = field(default_factory=Tally)
    floods: Tally = field(default_factory=Tally)
    flooded: int = 0  # events refused as too many
    chains: Tally = field(default_factory=Tally)
    streams: list[StreamSeen] = field(default_factory=list)
    stream_faults: Tally = field(default_factory=Tally)
    limited: dict[str, int] = field(default_factory=dict)  # 429 for the address, not for an agent
    exceptions: list[str] = field(default_factory=list)
    waited_for_signer: int = 0
    generator_busy: float = 0.0  # share of one core that the load generator used

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self) | {"latencies": {name: list(value) for name, value in self.latencies.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read back what `to_json` gave. Raises `TypeError` or `KeyError` for anything else."""
        seen = cls(**value)
        for name in ("answers", "server_errors", "forgeries", "misdeeds", "floods", "chains", "stream_faults"):
            setattr(seen, name, Tally(**value[name]))
        seen.latencies = {name: Latency(*figures) for name, figures in value["latencies"].items()}
        seen.streams = [StreamSeen(**one) for one in value["streams"]]
        return seen


class Memory(NamedTuple):
    """Resident bytes of the relay: once it was ready, at most, and at the end; `events` it has stored meanwhile."""

    start: int
    peak: int
    end: int
    events: int
