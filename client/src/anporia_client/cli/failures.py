"""What a failure means for a script: its exit code, its line for people and its JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anporia_wire import AnporiaError, InvalidKey

from .. import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AUTHORIZATION",
    "CODES",
    "FAILED",
    "INTERRUPTED",
    "KEY",
    "LIMITED",
    "OK",
    "UNKNOWN",
    "UNREACHABLE",
    "USAGE",
    "CommandFailed",
    "described",
    "exit_code",
    "sentence",
]

OK, FAILED, USAGE, UNREACHABLE, AUTHORIZATION, LIMITED, KEY, UNKNOWN = range(8)
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

CODES = {
    OK: "done",
    FAILED: "failed, or refused by the relay",
    USAGE: "wrong use",
    UNREACHABLE: "relay unreachable, no answer in time, or not a relay",
    AUTHORIZATION: "the relay wants a password, or another one",
    LIMITED: "too many events for the relay; try later",
    KEY: "trouble with the key or the keychain",
    UNKNOWN: "the event was sent, and nobody knows whether it was taken",
    INTERRUPTED: "interrupted",
}

# the library's advice speaks of its own parameters; here it is what to type
_ADVICE: dict[type[AnporiaError], str] = {
    errors.BadAddress: "Give --relay or ANPORIA_RELAY_URL an address such as https://anporia.com/api",
    errors.Unauthorized: 'Store the password with "anporia login", or set ANPORIA_RELAY_USER and '
    "ANPORIA_RELAY_PASSWORD. Trying again will not help.",
    errors.OutcomeUnknown: "It may or may not be stored. With --json the error holds the signed event: "
    '"anporia send" sends the very same again, which never makes a second.',
    errors.QuorumMissed: "With --json the error holds the signed event and what each relay said.",
}
_FAR = {"unreachable", "proxy", "no_answer", "timeout", "bad_answer", "not_a_relay", "pending"}


class CommandFailed(AnporiaError):
    """A command cannot go on, for a reason of its own. `status`: the exit code."""

    def __init__(self, detail: str, *, code: str = "failed", status: int = FAILED) -> None:
        self.code = code
        self.status = status
        super().__init__(detail)


def exit_code(error: AnporiaError) -> int:
    """Say with which code the command ends."""
    match error:
        case CommandFailed():
            return error.status
        case errors.BadAddress():
            return USAGE
        case errors.RelayUnreachable() | errors.NoAnswer() | errors.BadAnswer():
            return UNREACHABLE
        case errors.Unauthorized():
            return AUTHORIZATION
        case errors.RateLimited():
            return LIMITED
        case errors.OutcomeUnknown():
            return UNKNOWN
        case errors.QuorumMissed():
            return _of_several(error.results)
        case errors.IdentityError() | InvalidKey():
            return KEY
        case errors.SettingsError():
            return AUTHORIZATION
    return FAILED


def sentence(error: AnporiaError) -> str:
    """Give what happened and what to do next."""
    advice = next((_ADVICE[kind] for kind in type(error).__mro__ if kind in _ADVICE), None)
    if not isinstance(error, errors.RelayError) or advice is None:
        return str(error)
    if isinstance(error, errors.BadAddress) and error.advice.startswith("Did you mean"):
        advice = error.advice
    where = f" (relay {error.url})" if error.url else ""
    return f"{error.detail.rstrip('.')}{where}. {advice}"


def described(error: AnporiaError) -> dict[str, Any]:
    """Give a failure as JSON."""
    about: dict[str, Any] = {
        "code": error.code,
        "message": sentence(error),
        "detail": str(getattr(error, "detail", error)),
        "url": getattr(error, "url", "") or None,
    }
    if getattr(error, "retry_at", None) is not None:
        about["retry_at"] = getattr(error, "retry_at", None)
    event = getattr(error, "event", None)
    if event is not None:
        about["event"] = event.to_dict()
    if isinstance(error, errors.QuorumMissed):
        about["relays"] = error.results
    return {"error": about}


def _of_several(results: Mapping[str, Mapping[str, Any]]) -> int:
    codes = {str(one.get("code")) for one in results.values() if not one.get("accepted")}
    if "outcome_unknown" in codes:
        return UNKNOWN
    if codes <= _FAR:
        return UNREACHABLE
    return AUTHORIZATION if codes == {"unauthorized"} else FAILED
