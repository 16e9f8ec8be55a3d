"""The signed event of ANP2, its filter and its rules: pure values, no I/O, no clock."""

from __future__ import annotations

from . import dm, intents, kinds, pow
from .canonical import MAX_INTEGER, canonical_bytes, event_id, id_of_serialised, is_id, splice_canonical
from .errors import (
    AnporiaError,
    BadId,
    BadSignature,
    DirectMessageError,
    EventTooLarge,
    InvalidEvent,
    InvalidFilter,
    InvalidKey,
    MalformedEvent,
    Problem,
    RuleBroken,
)
from .events import MAX_CONTENT_BYTES, MAX_EVENT_BYTES, MAX_TAG_MEMBER_BYTES, MAX_TAGS, Event, Tags
from .filters import MAX_FILTER_VALUES, Filter
from .kernels import ACCELERATED, FilterSet, verify, verify_many
from .keys import PASSPHRASE_ITERATIONS, PASSPHRASE_SALT, Keypair, seed_from_passphrase

__all__ = [
    "ACCELERATED",
    "MAX_CONTENT_BYTES",
    "MAX_EVENT_BYTES",
    "MAX_FILTER_VALUES",
    "MAX_INTEGER",
    "MAX_TAGS",
    "MAX_TAG_MEMBER_BYTES",
    "PASSPHRASE_ITERATIONS",
    "PASSPHRASE_SALT",
    "AnporiaError",
    "BadId",
    "BadSignature",
    "DirectMessageError",
    "Event",
    "EventTooLarge",
    "Filter",
    "FilterSet",
    "InvalidEvent",
    "InvalidFilter",
    "InvalidKey",
    "Keypair",
    "MalformedEvent",
    "Problem",
    "RuleBroken",
    "Tags",
    "canonical_bytes",
    "dm",
    "event_id",
    "id_of_serialised",
    "intents",
    "is_id",
    "kinds",
    "pow",
    "seed_from_passphrase",
    "splice_canonical",
    "verify",
    "verify_many",
]
