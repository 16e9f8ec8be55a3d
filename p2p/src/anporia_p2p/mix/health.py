"""What one's own loops say of the mixes: each loop that does not come home accuses the mixes it went through.

It finds mixes that are dead, that drop, and those whose traffic somebody cuts off (an n-1 attack that drops must drop
the loops too, for it cannot tell them from the packets it wants to be rid of; one that only delays them a little goes
unseen). It cannot say who did it.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Collection, Iterable

__all__ = ["Health"]

_SKIP_BELOW = 0.8  # of the median: with a tenth of the mixes dead, loops through a good one come home 73 times of 100
_LEAST_PROBES = 4.0  # weighted, so five loops; a good one has lost all of them with probability 0.27^5 = 0.14 %
_DEVIATIONS = 2.0  # below what that share of its probes would give on average: chance goes so far one time in 40
_KEPT = 0.95  # of what older probes weigh at each new one: some 20 probes count, and a mix that came back is found so
_MOST_SKIPPED = 1 / 3  # of the mixes: a liar must not be able to choose our paths by making others look bad
_MAX_LOOPS = 4_096  # under way; the fast profile has under ten


class Health:
    """Loops under way, and how those through each mix fared."""

    def __init__(self) -> None:
        self._under_way: dict[bytes, tuple[bytes, ...]] = {}
        self._due: list[tuple[float, bytes]] = []
        self._came: dict[bytes, float] = {}
        self._probes: dict[bytes, float] = {}
        self._judged: tuple[Collection[bytes], frozenset[bytes]] | None = None
        self.sent = 0
        self.lost = 0

    def sent_loop(self, nonce: bytes, mixes: Iterable[bytes], due: float) -> None:
        """Expect the loop `nonce` to come home through `mixes` until `due`."""
        if len(self._under_way) < _MAX_LOOPS:
            self.sent += 1
            self._under_way[nonce] = tuple(mixes)
            heapq.heappush(self._due, (due, nonce))

    def came_home(self, nonce: bytes) -> bool:
        """Credit the mixes of a loop; says whether it was expected."""
        mixes = self._under_way.pop(nonce, None)
        if mixes is None:
            return False
        self._count(mixes, 1.0)
        return True

    def expire(self, now: float) -> None:
        """Count as lost all loops that are due."""
        while self._due and self._due[0][0] <= now:
            mixes = self._under_way.pop(heapq.heappop(self._due)[1], None)
            if mixes is not None:
                self.lost += 1
                self._count(mixes, 0.0)

    def deadline(self) -> float:
        """Say when the next loop is due; infinity when none is under way."""
        return self._due[0][0] if self._due else float("inf")

    def score(self, mix: bytes) -> float | None:
        """Give the share of recent loops through a mix that came home, 0 to 1; None before it was probed enough."""
        probes = self._probes.get(mix, 0.0)
        return self._came[mix] / probes if probes >= _LEAST_PROBES else None

    def suspects(self, mixes: Collection[bytes]) -> frozenset[bytes]:
        """Give those of `mixes` to be left out: below 80 % of the median by more than chance, a third at most."""
        if self._judged is not None and self._judged[0] is mixes:
            return self._judged[1]  # a path is chosen ten times for each probe that comes home
        scores = {mix: score for mix in mixes if (score := self.score(mix)) is not None}
        median = statistics.median(scores.values()) if scores else 0.0
        bad = sorted((score, mix) for mix, score in scores.items() if self.accused(mix, median))
        suspects = frozenset(mix for _, mix in bad[: int(len(mixes) * _MOST_SKIPPED)])
        self._judged = (mixes, suspects)
        return suspects

    def accused(self, mix: bytes, usual: float) -> bool:
        """Say whether a mix is below 80 % of the `usual` score by more than chance; False before it is judged."""
        score = self.score(mix)
        if score is None:
            return False
        bound = _SKIP_BELOW * usual
        return score < bound - _DEVIATIONS * math.sqrt(bound * (1 - bound) / self._probes[mix])

    def forget(self, known: Collection[bytes]) -> None:
        """Drop what is known of mixes that are not in `known`."""
        for mix in [mix for mix in self._probes if mix not in known]:
            del self._probes[mix], self._came[mix]

    def _count(self, mixes: tuple[bytes, ...], came: float) -> None:
        self._judged = None
        for mix in mixes:
            self._came[mix] = self._came.get(mix, 0.0) * _KEPT + came
            self._probes[mix] = self._probes.get(mix, 0.0) * _KEPT + 1.0
