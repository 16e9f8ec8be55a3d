"""What agents offer: `GET /capabilities` and `/capabilities/search` (WIRE section 10).

Names come from the `cap` tags of each agent's latest kind 4, searchable offers from the list
`capabilities` in its content. An offer of the wrong shape is no offer; a wrong field of it is absent.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from ..events import Event
from ..jsontext import shown
from ..kinds import CAPABILITY

__all__ = ["MAX_OFFERS", "Capabilities", "OfferQuery"]

MAX_OFFERS = 100  # of one declaration, the first ones
MAX_NAMES = 10_000  # rows of `/capabilities`


@dataclass(frozen=True, slots=True)
class OfferQuery:
    """What a search asks for; None means any. `name` also finds `name.anything`; prices are in USD."""

    name: str | None = None
    min_trust: float | None = None
    max_latency_ms: int | None = None
    max_price_usd: float | None = None
    language: str | None = None
    tag: str | None = None
    extension_uri: str | None = None
    sort_by: str = "trust"
    include_conflicts: bool = True
    limit: int = 50


class Capabilities:
    """Capability names and who declares them now."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[int, str, frozenset[str]]] = {}  # agent: created_at, id, names
        self._providers: dict[str, dict[str, int]] = {}  # name: agent: created_at
        self._offers: dict[str, list[dict[str, Any]]] = {}  # agent: offers with a name
        self.version = 0
        """Grows with each declaration that counts."""

    def apply(self, event: Event) -> None:
        """Take one stored event; an agent's newer declaration replaces its older one whole."""
        if event.kind != CAPABILITY:
            return
        known = self._latest.get(event.agent_id)
        if known is not None and (event.created_at, event.id) <= known[:2]:
            return
        declared = (shown(event.content) or {}).get("capabilities")
        offers = declared if isinstance(declared, list) else []
        offers = [offer for offer in offers if isinstance(offer, dict) and isinstance(offer.get("name"), str)][
            :MAX_OFFERS
        ]
        self._declare(event.agent_id, event.created_at, event.id, frozenset(event.tag_values("cap")), offers)

    def read(self) -> list[dict[str, Any]]:
        """Give the rows of `/capabilities`: most providers first, then latest declared, then by name."""
        rows = [
            {"capability": name, "providers": len(agents), "last_declared": max(agents.values())}
            for name, agents in self._providers.items()
        ]
        return heapq.nsmallest(
            MAX_NAMES, rows, key=lambda row: (-row["providers"], -row["last_declared"], row["capability"])
        )

    def tags_of(self, agent: str) -> frozenset[str]:
        """Give the `cap` tags of an agent's latest declaration."""
        return self._latest[agent][2] if agent in self._latest else frozenset()

    def search(self, query: OfferQuery, trust: Callable[[str], float]) -> list[dict[str, Any]]:
        """Give the rows of `/capabilities/search`, best first; `trust` gives an agent's weighted score."""
        rows = [
            _Row(agent, self._latest[agent][0], offer, trust(agent))
            for agent, offers in self._offers.items()
            for offer in offers
            if _fits(offer, query)
        ]
        if query.min_trust is not None:
            rows = [row for row in rows if row.trust >= query.min_trust]
        first: dict[str, tuple[int, str]] = {}
        for row in rows:
            name = row.offer["name"]
            first[name] = min(first.get(name, row.age), row.age)
        if not query.include_conflicts:
            rows = [row for row in rows if first[row.offer["name"]] == row.age]
        measure, better = _ORDERS[query.sort_by]
        most = max((measure(row) for row in rows if math.isfinite(measure(row))), default=0.0)
        rows.sort(key=lambda row: (better * measure(row), row.offer["name"], row.age))
        return [row.read(first, _score(query.sort_by, measure(row), most)) for row in rows[: query.limit]]

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [
            [agent, at, id_, sorted(names), self._offers[agent]]
            for agent, (at, id_, names) in sorted(self._latest.items())
        ]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        for agent, at, id_, names, offers in state:
            view._declare(agent, at, id_, frozenset(names), offers)
        return view

    def _declare(self, agent: str, at: int, id_: str, names: frozenset[str], offers: list[dict[str, Any]]) -> None:
        if agent in self._latest:
            self._withdraw(agent, self._latest[agent][2])
        self._latest[agent] = (at, id_, names)
        for name in names:
            self._providers.setdefault(name, {})[agent] = at
        self._offers[agent] = offers
        self.version += 1

    def _withdraw(self, agent: str, names: frozenset[str]) -> None:
        for name in names:
            agents = self._providers[name]
            del agents[agent]
            if not agents:
                del self._providers[name]


@dataclass(slots=True)
class _Row:
    agent: str
    declared_at: int
    offer: dict[str, Any]
    trust: float

    @property
    def age(self) -> tuple[int, str]:
        return self.declared_at, self.agent

    def read(self, first: dict[str, tuple[int, str]], score: float) -> dict[str, Any]:
        return {
            "name": self.offer["name"],
            "version": self.offer.get("version", "1.0"),  # as published relays have it
            "provider_agent_id": self.agent,
            "metadata": self.offer,
            "trust_score": self.trust,
            "declared_at": self.declared_at,
            "is_canonical": first[self.offer["name"]] == self.age,
            "score": score,
        }


def _latency(offer: dict[str, Any]) -> float:
    return _number(_object(offer.get("constraints")).get("p95_latency_ms"))


def _price(offer: dict[str, Any]) -> float:
    return _number(_object(offer.get("pricing")).get("amount"))


def _price_in_usd(offer: dict[str, Any]) -> float:
    return _price(offer) if _object(offer.get("pricing")).get("currency", "USD") == "USD" else math.inf


# How a sort measures a row, and which way is better.
_ORDERS: dict[str, tuple[Callable[[_Row], float], int]] = {
    "trust": (lambda row: row.trust, -1),
    "latency": (lambda row: _latency(row.offer), 1),
    "price": (lambda row: _price(row.offer), 1),
}


def _score(sort_by: str, value: float, most: float) -> float:
    """Score a row between 0 and 1 among the rows found (WIRE section 10)."""
    if sort_by == "trust":
        return value / (most + 1) if most > 0 else 0.0
    if not math.isfinite(value):
        return 1.0 if sort_by == "price" else 0.0
    return 1 - value / most if most > 0 else 1.0


def _fits(offer: dict[str, Any], query: OfferQuery) -> bool:
    name: str = offer["name"]
    extensions = _list(offer.get("extensions"))
    return (
        (query.name is None or name == query.name or name.startswith(query.name + "."))
        and (query.max_latency_ms is None or _latency(offer) <= query.max_latency_ms)
        and (query.max_price_usd is None or _price_in_usd(offer) <= query.max_price_usd)
        and (
            query.language is None
            or query.language in _list(_object(offer.get("constraints")).get("supported_languages"))
        )
        and (query.tag is None or query.tag in _list(offer.get("tags")))
        and (query.extension_uri is None or any(_object(e).get("uri") == query.extension_uri for e in extensions))
    )


def _number(value: object) -> float:
    """Give a number from 0, or infinity for what is none: it then fits no bound and sorts last."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return math.inf
    return float(value)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
