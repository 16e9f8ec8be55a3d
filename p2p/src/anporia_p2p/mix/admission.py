"""How many packets one peer may send: looked at before any of its bytes cost a key exchange."""

from __future__ import annotations

from collections import OrderedDict

from .profiles import Profile

__all__ = ["Admission"]

_MOST_PEERS = 4_096  # remembered; a node forgotten and met again begins with a full budget
_TIMES_USUAL = 4.0  # in a network of 6, the smallest, a neighbour sends up to twice `rate`: its own and for others
_LEAST_BURST = 32.0  # packets at once: what queues behind a second of congestion in the slow profiles


class Admission:
    """A token bucket a peer: four times a node's own rate, and two seconds of that at once."""

    def __init__(self, profile: Profile) -> None:
        self._rate = _TIMES_USUAL * profile.rate
        self._burst = max(_LEAST_BURST, 2 * self._rate)
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # tokens, and when they were so many

    def admit(self, now: float, peer: bytes) -> bool:
        """Say whether a packet from `peer` may come in now, and count it if so."""
        tokens, at = self._buckets.pop(peer, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - at) * self._rate)
        admitted = tokens >= 1
        self._buckets[peer] = (tokens - admitted, now)
        if len(self._buckets) > _MOST_PEERS:
            self._buckets.popitem(last=False)
        return admitted
