"""What an operator watches: counters and histograms in the text form of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # up to the largest batch
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """The figures of one relay, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.accepted = Counter("anporia_events_accepted", "Events stored or, for beats, taken", registry=r)
        self.duplicates = Counter("anporia_events_duplicate", "Known events acknowledged again", registry=r)
        self.refused = Counter("anporia_refused", "Refusals by stable code", ["code"], registry=r)
        self.requests = Counter("anporia_requests", "Answered requests by status", ["status"], registry=r)
        self.verify_size = Histogram("anporia_verify_batch", "Signatures a batch", buckets=_SIZES, registry=r)
        self.verify_time = Histogram(
            "anporia_verify_seconds", "Time of a batch of signatures", buckets=_SECONDS, registry=r
        )
        self.commit_size = Histogram("anporia_commit_batch", "Events a transaction", buckets=_SIZES, registry=r)
        self.commit_time = Histogram("anporia_commit_seconds", "Time of a transaction", buckets=_SECONDS, registry=r)
        self.cut = Counter("anporia_subscribers_cut", "Streams ended because their reader fell behind", registry=r)
        self.damaged = Counter("anporia_damaged_rows", "Rows left out because their bytes changed on disk", registry=r)

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Add a figure that is read when asked for."""
        Gauge(name, about, registry=self.registry).set_function(read)

    def observe_verify(self, size: int, seconds: float) -> None:
        """Note one batch of signatures."""
        self.verify_size.observe(size)
        self.verify_time.observe(seconds)

    def observe_commit(self, size: int, seconds: float) -> None:
        """Note one transaction."""
        self.commit_size.observe(size)
        self.commit_time.observe(seconds)

    def text(self) -> bytes:
        """Give the exposition."""
        return generate_latest(self.registry)
