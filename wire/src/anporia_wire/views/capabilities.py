"""What agents offer: `GET /capabilities`, from the `cap` tags of each agent's latest kind 4 (WIRE section 10)."""

from __future__ import annotations

from typing import Any

from ..events import Event
from ..kinds import CAPABILITY

__all__ = ["Capabilities"]


class Capabilities:
    """Capability names and who declares them now."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[int, str, frozenset[str]]] = {}  # agent: created_at, id, names
        self._providers: dict[str, dict[str, int]] = {}  # name: agent: created_at

    def apply(self, event: Event) -> None:
        """Take one stored event; an agent's newer declaration replaces its older one whole."""
        if event.kind != CAPABILITY:
            return
        agent = event.agent_id
        known = self._latest.get(agent)
        if known is not None:
            if (event.created_at, event.id) <= known[:2]:
                return
            self._withdraw(agent, known[2])
        names = frozenset(event.tag_values("cap"))
        self._latest[agent] = (event.created_at, event.id, names)
        for name in names:
            self._providers.setdefault(name, {})[agent] = event.created_at

    def read(self) -> list[dict[str, Any]]:
        """Give the rows of `/capabilities`: most providers first, then latest declared, then by name."""
        rows = [
            {"capability": name, "providers": len(agents), "last_declared": max(agents.values())}
            for name, agents in self._providers.items()
        ]
        return sorted(rows, key=lambda row: (-row["providers"], -row["last_declared"], row["capability"]))

    def _withdraw(self, agent: str, names: frozenset[str]) -> None:
        for name in names:
            agents = self._providers[name]
            del agents[agent]
            if not agents:
                del self._providers[name]
