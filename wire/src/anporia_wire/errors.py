"""Every error of Anporia has a stable `code`; texts may change, codes do not.

AnporiaError
  InvalidEvent              the sender's bytes break the protocol
    MalformedEvent          malformed       the envelope itself (HTTP 422)
    EventTooLarge           too_large       content, tags or the whole event
    BadId                   bad_id          id is not the hash of the event
    BadSignature            bad_signature   signature does not verify
    RuleBroken              bad_time, bad_shape, bad_pow ...   a publish rule
  InvalidFilter             invalid_filter  query parameters
  InvalidKey                invalid_key     key material of the caller
  DirectMessageError        bad_dm          a direct message that cannot be opened
  pq.PqUnavailable          pq_unavailable  a second signature where `cryptography` is not installed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

__all__ = [
    "AnporiaError",
    "BadId",
    "BadSignature",
    "DirectMessageError",
    "EventTooLarge",
    "InvalidEvent",
    "InvalidFilter",
    "InvalidKey",
    "MalformedEvent",
    "Problem",
    "RuleBroken",
    "query_problem",
]


class Problem(TypedDict):
    """One bad field, in the shape published relays answer 422 with (WIRE section 4)."""

    type: str
    loc: list[str | int]
    msg: str
    input: Any


class AnporiaError(Exception):
    """Base of every error this project raises on purpose."""

    code: str = "error"


class InvalidEvent(AnporiaError):
    """The event is not valid, whoever judges it."""

    code = "invalid_event"


class MalformedEvent(InvalidEvent):
    """The envelope is not that of an event; `problems` names each bad field."""

    code = "malformed"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(_listed(self.problems))


class EventTooLarge(InvalidEvent):
    """Content, tags or the canonical form exceed the protocol's sizes."""

    code = "too_large"


class BadId(InvalidEvent):
    """The id is not the SHA-256 of the canonical bytes."""

    code = "bad_id"


class BadSignature(InvalidEvent):
    """The signature does not verify under libsodium's rule."""

    code = "bad_signature"


class RuleBroken(InvalidEvent):
    """A publish rule says no; `code` names the rule's family."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(detail)


class InvalidFilter(AnporiaError):
    """Query parameters are out of their range; `problems` names each."""

    code = "invalid_filter"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(_listed(self.problems))

    @classmethod
    def of(cls, type_: str, name: str, msg: str, given: str = "") -> InvalidFilter:
        """Say what is wrong with one parameter."""
        return cls([query_problem(type_, name, msg, given)])


class InvalidKey(AnporiaError):
    """Key material is not a key; the text never repeats the value."""

    code = "invalid_key"


class DirectMessageError(AnporiaError):
    """A direct message cannot be opened: wrong key, tampered, or badly padded."""

    code = "bad_dm"


def query_problem(type_: str, name: str, msg: str, given: str) -> Problem:
    """Describe one bad query parameter, its value cut to what an answer should repeat."""
    return {"type": type_, "loc": ["query", name], "msg": msg, "input": given[:64]}


def _listed(problems: Sequence[Problem]) -> str:
    return "; ".join(f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems)
