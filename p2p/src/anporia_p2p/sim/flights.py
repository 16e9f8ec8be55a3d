"""A packet on a link, what it costs at the end of it, and who is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Costs", "Flight", "Tap"]


@dataclass(frozen=True, slots=True)
class Costs:
    """What a processor takes for a packet, in seconds: to unwrap one that came, to build one of its own."""

    unwrap: float = 0.0
    build: float = 0.0


@dataclass(slots=True)
class Flight:
    """One packet on one link. `cause`: the flight that brought it, where a corrupt node passes it on; else None."""

    serial: int
    sender: int
    receiver: int
    packet: bytes
    cause: Flight | None = None
    notes: Any = None
    """Whatever the tap knows of it."""


class Tap(Protocol):
    """An observer of all links."""

    def sent(self, now: float, flight: Flight) -> None:
        """A packet leaves its sender."""

    def arrived(self, now: float, flight: Flight) -> None:
        """A packet reaches its receiver."""

    def handled(self, now: float, flight: Flight, held: bool) -> None:
        """Its receiver has looked at it, and holds it for another; for observers that are told more than links show."""
