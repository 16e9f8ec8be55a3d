"""What a simulation found, as figures: for people in a table, for scripts as JSON."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..mix.messages import MAX_TRIES
from ..mix.profiles import Profile
from ..sphinx import PACKET_BYTES
from .flights import Costs
from .observer import Guess
from .world import Letter

__all__ = ["LINKED", "Outcome", "gigabytes_a_day"]

LINKED = (8, 30)  # events of one pseudonym: a day of a quiet one, and of a busy one
_DAY = 86_400
_LEAST = 1e-6  # likelihood that one guess may take an author down to: a guess is never certain


def gigabytes_a_day(packets_per_second: float) -> float:
    """Give what so many packets a second are a day, in GB (10^9 bytes)."""
    return packets_per_second * PACKET_BYTES * _DAY / 1e9


@dataclass(frozen=True, slots=True)
class Outcome:
    """One simulation's figures.

    `settings`: what else was asked for; `corrupt`, `dead`: numbers of nodes; `flights`: packets on links within the
    measured time; `sent`: packets by what they were; `loops`: `sent`, `lost`; `costs`, `wall_seconds`: seconds.
    """

    nodes: int
    profile: Profile
    seed: int
    minutes: float
    settings: Mapping[str, float | bool]
    corrupt: int
    dead: int
    costs: Costs
    letters: Sequence[Letter]
    guesses: Sequence[Guess]
    max_bits: float
    flights: int
    sent: Counter[str]
    drops: Counter[str]
    loops: Counter[str]
    wall_seconds: float

    @property
    def latencies(self) -> list[float]:
        """Milliseconds from each message's publication until it came out, sorted."""
        return sorted(1e3 * (letter.came_out - letter.at) for letter in self.letters if letter.came_out is not None)

    @property
    def heard_by_try(self) -> dict[int, int]:
        """How many messages were heard in which try, 1 to 5."""
        counted = Counter(letter.tries for letter in self.letters if letter.tries is not None)
        return {number: counted[number] for number in range(1, MAX_TRIES + 1)}

    @property
    def bits(self) -> list[float]:
        """The observer's entropy over the authors of each message that came out."""
        return [guess.bits for guess in self.guesses]

    def linked_bits(self, messages: int) -> float | None:
        """Give the entropy that is left when so many messages are known to be of one author; None with too few.

        The likelihoods are multiplied, as whoever reads a pseudonym's posts can; each author's messages are taken in
        groups as they came out, and the mean over groups is given.
        """
        by_author: dict[int, list[Guess]] = {}
        for guess in self.guesses:
            by_author.setdefault(guess.author, []).append(guess)
        left = []
        for guesses in by_author.values():
            for at in range(0, len(guesses) - messages + 1, messages):
                left.append(_joint_bits(guesses[at : at + messages]))
        return _mean(left)

    @property
    def cover_share(self) -> float:
        """The share of cover among the packets nodes sent of their own, 0 to 1."""
        own = self.sent["real"] + self.sent["loop"] + self.sent["drop"]
        return 1 - self.sent["real"] / own if own else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Give all figures as plain values; null where nothing was measured."""
        latencies, bits = self.latencies, self.bits
        surprises = [guess.surprise for guess in self.guesses if math.isfinite(guess.surprise)]
        delivered = len(latencies)
        return {
            "nodes": self.nodes,
            "profile": self.profile.name,
            "seed": self.seed,
            "minutes": self.minutes,
            **self.settings,
            "corrupt_nodes": self.corrupt,
            "dead_nodes": self.dead,
            "sent": len(self.letters),
            "delivered": delivered,
            "heard_by_try": {str(number): count for number, count in self.heard_by_try.items()},
            "failed": sum(letter.failed for letter in self.letters),
            "latency_ms": {
                "mean": _rounded(_mean(latencies)),
                "p50": _rounded(_quantile(latencies, 0.5)),
                "p95": _rounded(_quantile(latencies, 0.95)),
            },
            "h_user_bits": {
                "mean": _rounded(_mean(bits)),
                "min": _rounded(min(bits, default=None)),
                "max_possible": _rounded(self.max_bits),
                "surprise": _rounded(_mean(surprises)),
            },
            "h_linked_bits": {str(count): _rounded(self.linked_bits(count)) for count in LINKED},
            "unwrap_us_median": _rounded(1e6 * self.costs.unwrap),
            "build_us_median": _rounded(1e6 * self.costs.build),
            "packet_bytes": PACKET_BYTES,
            "packets": self.flights,
            "bytes_per_delivery": round(self.flights * PACKET_BYTES / delivered) if delivered else None,
            "gigabytes_a_day": _rounded(gigabytes_a_day(self.flights / (60 * self.minutes) / (self.nodes - self.dead))),
            "cover_share": _rounded(self.cover_share),
            "loops": {"sent": self.loops["sent"], "lost": self.loops["lost"]},
            "drops": dict(sorted(self.drops.items())),
            "wall_seconds": _rounded(self.wall_seconds),
        }


def _joint_bits(guesses: Sequence[Guess]) -> float:
    logs = sum(np.log(np.maximum(guess.likely, _LEAST)) for guess in guesses)
    joint = np.exp(logs - np.max(logs))
    joint /= joint.sum()
    some = joint[joint > 0.0]
    return abs(float((some * np.log2(some)).sum()))


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Give the smallest value that at least `share` of the values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
