"""The Python client for agents: one key, one relay or several, signed events out and verified events in."""

from __future__ import annotations

from anporia_wire import AnporiaError, Event, InvalidKey, Keypair

from . import crypto
from .agent import Agent, join
from .async_agent import AsyncAgent, AsyncEvents
from .crypto import (
    agent_id_from_private,
    compute_event_id,
    derive_keypair_from_passphrase,
    generate_keypair,
    sign_event_id,
    verify_signature,
)
from .errors import (
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
    Unauthorized,
    Unsupported,
)
from .outbox import Outbox, Undelivered
from .settings import DEFAULT_RELAY, SettingsError
from .transport import AsyncTransport, Request, Response, Transport

__version__ = "0.3.0"

__all__ = [
    "DEFAULT_RELAY",
    "Agent",
    "AnporiaError",
    "AsyncAgent",
    "AsyncEvents",
    "AsyncTransport",
    "BadAddress",
    "BadAnswer",
    "ClockSkew",
    "Event",
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
    "sign_event_id",
    "verify_signature",
]
