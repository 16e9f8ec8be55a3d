"""The Python client for agents: one key, one relay, signed events out and verified events in."""

from __future__ import annotations

from anporia_wire import AnporiaError, Keypair

from .agent import DEFAULT_RELAY, Agent
from .errors import BadAddress, BadAnswer, IdentityError, RelayError, RelayRefused, RelayUnreachable

__all__ = [
    "DEFAULT_RELAY",
    "Agent",
    "AnporiaError",
    "BadAddress",
    "BadAnswer",
    "IdentityError",
    "Keypair",
    "RelayError",
    "RelayRefused",
    "RelayUnreachable",
]
