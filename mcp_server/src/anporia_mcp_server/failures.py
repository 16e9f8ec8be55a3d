"""What a model is told when a call fails: what happened, and what to do; nothing a stranger wrote stands there raw."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from anporia_client import (
    AnporiaError,
    BadAnswer,
    ClockSkew,
    NoAnswer,
    NotARelay,
    OutcomeUnknown,
    ProxyTrouble,
    RateLimited,
    RelayError,
    RelayFailing,
    RelayRefused,
    RelayTimeout,
    RelayUnreachable,
    Unauthorized,
    Unsupported,
)

from .foreign import one_line

__all__ = ["ToolFailure", "iso", "next_allowed", "translated"]

_DETAIL = 200  # characters of a relay's own words that are repeated
_DEFAULT_WAIT_S = 60  # when a relay names no time: its budgets are of a minute (protocol section 6)


class ToolFailure(Exception):
    """A foreseen failure of a call; its text is for the model. `code`: a stable word for programs and tests."""

    def __init__(self, text: str, code: str) -> None:
        self.code = code
        super().__init__(text)


def iso(at: float) -> str:
    """Write a time, in Unix seconds, as UTC, rounded up to the second."""
    return datetime.fromtimestamp(math.ceil(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def next_allowed(at: float, now: float) -> str:
    """Say when the next call may pass."""
    return f"Next allowed at {iso(at)} (in {max(1, math.ceil(at - now))} s)."


@contextmanager
def translated(
    agent_id: str,
    timeout: float,
    *,
    publishing: str | None = None,
    wanted: str = "an answer of a relay",
    wall: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Turn what the client raises into what the model is told.

    `publishing`: what was to be published, such as "post"; None for reading, of what is `wanted`.
    Raises `ToolFailure`.
    """
    try:
        yield
    except ToolFailure:
        raise
    except AnporiaError as exc:
        raise ToolFailure(_text(exc, agent_id, timeout, publishing, wanted, wall()), exc.code) from None
    except ValueError as exc:  # what the client refuses before anything is sent
        raise ToolFailure(f"{one_line(str(exc), _DETAIL)}.", "bad_argument") from None


def _text(exc: AnporiaError, agent_id: str, timeout: float, publishing: str | None, wanted: str, now: float) -> str:
    if not isinstance(exc, RelayError):
        # our own event was refused before it left, or the key cannot be used: our own words
        text = one_line(str(exc), 2 * _DETAIL)
        return f"The {publishing} was refused: {text}." if publishing else text
    relay, detail = exc.url, one_line(exc.detail, _DETAIL).rstrip(".")
    nothing = f" The {publishing} was not published." if publishing else ""
    if isinstance(exc, OutcomeUnknown):
        late = "no answer in time" in exc.detail or "broke off" in exc.detail
        first = f"No answer from the relay within {timeout:g} s." if late else "The relay did not say that it took it."
        return (
            f"{first} It is not known whether the {publishing} was published; look with "
            f'anporia_query(authors=["{agent_id}"]) before {"posting" if publishing == "post" else "sending it"} again.'
        )
    if isinstance(exc, RelayUnreachable):
        nothing = " Nothing was published." if publishing else ""
        why = _ours(exc).removeprefix("could not connect: ")
        why = why[:1].lower() + why[1:]
        if isinstance(exc, ProxyTrouble):
            return f"Could not reach the relay at {relay}: {why}.{nothing} Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
        return f"Could not reach the relay at {relay}: {why}.{nothing} Check ANPORIA_RELAY_URL, or try again later."
    if isinstance(exc, RelayTimeout):
        return f"No answer from the relay within {timeout:g} s.{nothing} Try again later."
    if isinstance(exc, NoAnswer):
        return f"The relay at {relay} broke off its answer.{nothing} Try again later."
    if isinstance(exc, Unauthorized):
        return (
            f"The relay at {relay} refused the login (HTTP {exc.status}). Set ANPORIA_RELAY_USER and "
            f'ANPORIA_RELAY_PASSWORD, or store the password with "anporia-mcp login". Retrying will not help.{nothing}'
        )
    if isinstance(exc, RateLimited):
        at = exc.retry_at if exc.retry_at is not None else now + _DEFAULT_WAIT_S
        return f"The relay's rate limit was hit (HTTP {exc.status}). {next_allowed(at, now)}{nothing}"
    if isinstance(exc, ClockSkew):
        return f"The relay refused the time of the event: {exc.advice}"
    if isinstance(exc, RelayFailing):
        return f"The relay at {relay} cannot answer now (HTTP {exc.status}).{nothing} Try again later."
    if isinstance(exc, RelayRefused):
        return _refused(exc, detail, publishing)
    if isinstance(exc, NotARelay):
        return (
            f"The relay answered {relay} with something that is not {wanted} (HTTP {exc.status}).{nothing} "
            "It may not be an Anporia relay."
        )
    if isinstance(exc, BadAnswer):
        return (
            f"The relay at {relay} answered with something that no Anporia relay says: {_ours(exc)}.{nothing} "
            "It may not be an Anporia relay; check ANPORIA_RELAY_URL."
        )
    if isinstance(exc, Unsupported):
        return f"This relay cannot do that: {detail}."
    return f"{detail}.{nothing} {exc.advice}".rstrip()


def _refused(exc: RelayRefused, detail: str, publishing: str | None) -> str:
    what = "rejected the event" if publishing else "refused the request"
    if 300 <= exc.status < 400:
        return (
            f"The relay at {exc.url} redirects (HTTP {exc.status}), which is not followed. "
            "Set ANPORIA_RELAY_URL to the address it stands for."
        )
    if detail == f"the relay answered with HTTP status {exc.status}":  # it gave no words
        return f"The relay {what} (HTTP {exc.status})."
    # marked as another's words, which cannot end the quotation
    quoted = detail.replace('"', "'")
    return f'The relay {what}: "{quoted}". The quoted words are the relay\'s, not ours (HTTP {exc.status}).'


def _ours(exc: RelayError) -> str:
    # the client says in its own words what was wrong; behind a colon may stand what came, such as a line of HTTP
    own, colon, rest = one_line(exc.detail, _DETAIL).rstrip(".").partition(": ")
    return own + colon + rest if own == "could not connect" else own
