"""The Python client for agents: one key, one relay or several, signed events out and verified events in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anporia_wire import AnporiaError, Event, InvalidKey, Keypair

from . import crypto
from .agent import Agent, join
from .answers import payload
from .crypto import (
    agent_id_from_private,
    compute_event_id,
    derive_keypair_from_passphrase,
    generate_keypair,
    sign_event_id,
    verify_signature,
)
from .errors import (
    AgentClosed,
    BadAddress,
    BadAnswer,
    ClockSkew,
    IdentityError,
    KeychainError,
    KeyLocked,
    NoAnswer,
    NotARelay,
    OutboxError,
    OutcomeUnknown,
    ProxyTrouble,
    QuorumMissed,
    RateLimited,
    RelayError,
    RelayFailing,
    RelayRefused,
    RelayTimeout,
    RelayUnreachable,
    SettingsError,
    Unauthorized,
    Unsupported,
)
from .listening import Events
from .settings import DEFAULT_RELAY
from .transport import AsyncTransport, Request, Response, Transport

if TYPE_CHECKING:
    from .async_agent import AsyncAgent
    from .async_listening import AsyncEvents
    from .outbox import Outbox, Undelivered

__version__ = "0.3.0"

__all__ = [
    "DEFAULT_RELAY",
    "Agent",
    "AgentClosed",
    "AnporiaError",
    "AsyncAgent",
    "AsyncEvents",
    "AsyncTransport",
    "BadAddress",
    "BadAnswer",
    "ClockSkew",
    "Event",
    "Events",
    "IdentityError",
    "InvalidKey",
    "KeyLocked",
    "KeychainError",
    "Keypair",
    "NoAnswer",
    "NotARelay",
    "Outbox",
    "OutboxError",
    "OutcomeUnknown",
    "ProxyTrouble",
    "QuorumMissed",
    "RateLimited",
    "RelayError",
    "RelayFailing",
    "RelayRefused",
    "RelayTimeout",
    "RelayUnreachable",
    "Request",
    "Response",
    "SettingsError",
    "Transport",
    "Unauthorized",
    "Undelivered",
    "Unsupported",
    "agent_id_from_private",
    "compute_event_id",
    "crypto",
    "derive_keypair_from_passphrase",
    "generate_keypair",
    "join",
    "payload",
    "sign_event_id",
    "verify_signature",
]

# imported when they are first used: with them come asyncio and SQLite, a quarter of the package's import time
_LATER = {"AsyncAgent": "async_agent", "AsyncEvents": "async_listening", "Outbox": "outbox", "Undelivered": "outbox"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
