"""What a call of the client may raise, besides what `anporia_wire` says about the caller's own event.

AnporiaError
  RelayError                          what can go wrong between us and a relay
    BadAddress        bad_address     the address given is not one of a relay
    RelayUnreachable  unreachable     nothing was sent: refused, no such host, bad certificate
      ProxyTrouble    proxy           the proxy on the way there says no or is down
    AgentClosed       closed          the agent or the stream was closed
    NoAnswer          no_answer       sent, and the answer broke off
      RelayTimeout    timeout         sent, and no answer in time
    OutcomeUnknown    outcome_unknown an event was sent, and nobody knows whether it was taken
    BadAnswer         bad_answer      an answer came, but not one that a relay gives
      NotARelay       not_a_relay     what answers there is something else
    RelayRefused      the relay's     it answered no: `status`, `code`, `retry_at`
      Unauthorized    unauthorized    it wants a password, or another one
      RateLimited     the relay's     too many events; `retry_at` says from when on
      RelayFailing    the relay's     5xx: its own fault, or that of a proxy before it
      ClockSkew       clock_skew      the time of this machine is wrong; `skew` says by how much
    Unsupported       unsupported     a plain ANP2 relay cannot do this
    QuorumMissed      quorum_missed   too few of several relays took the event; `results`
  OutboxError         outbox          the outbox cannot be used
  SettingsError       settings        a variable of the environment cannot be used
  IdentityError       identity        the key cannot be read or made
    KeyLocked         key_locked      the key file is encrypted, and the passphrase missing or wrong
    KeychainError     keychain        the system's keychain does not answer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anporia_wire import AnporiaError, Event

__all__ = [
    "AgentClosed",
    "BadAddress",
    "BadAnswer",
    "ClockSkew",
    "IdentityError",
    "KeyLocked",
    "KeychainError",
    "NoAnswer",
    "NotARelay",
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
    "SettingsError",
    "Unauthorized",
    "Unsupported",
]


class RelayError(AnporiaError):
    """Base of what can go wrong between an agent and a relay.

    `url`: the relay's; `detail`: what happened, in the relay's own words where it gave some (one line,
    printable, at most 500 characters); `advice`: what to do next; `event`: the signed event, when one
    was to be published: `Agent.send(error.event)` sends the very same again, which never makes a second.
    """

    code = "relay"
    advice: str = ""
    event: Event | None = None

    def __init__(self, detail: str, url: str = "", advice: str | None = None) -> None:
        self.detail = detail
        self.url = url
        if advice is not None:
            self.advice = advice
        super().__init__(detail)

    def __str__(self) -> str:
        where = f" (relay {self.url})" if self.url else ""
        what = self.detail.rstrip(".")
        return f"{what}{where}. {self.advice}" if self.advice else f"{what}{where}"


class BadAddress(RelayError):
    """The address given for the relay cannot be one."""

    code = "bad_address"


class RelayUnreachable(RelayError):
    """No connection came about, so nothing was sent."""

    code = "unreachable"
    advice = 'Nothing was sent. Check the address (ANPORIA_RELAY_URL) and the network; "anporia doctor" tells more.'


class ProxyTrouble(RelayUnreachable):
    """The proxy between us and the relay is down or refuses."""

    code = "proxy"
    advice = "Nothing was sent. Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."


class AgentClosed(RelayError):
    """The agent was closed, here; nothing was sent."""

    code = "closed"
    advice = "Make a new agent."


class NoAnswer(RelayError):
    """The request was sent, and the answer broke off or never came."""

    code = "no_answer"
    advice = "Reading again is safe; so is sending the same event again."


class RelayTimeout(NoAnswer):
    """The request was sent, and no whole answer came in time."""

    code = "timeout"


class OutcomeUnknown(RelayError):
    """An event was sent, and nobody knows whether the relay took it: it is in `event`."""

    code = "outcome_unknown"
    advice = (
        "The event may or may not be stored. Sending the same one again is safe: agent.send(error.event); "
        "a new one with the same text could be a second."
    )


class BadAnswer(RelayError):
    """What answers at that address does not speak like a relay."""

    code = "bad_answer"
    advice = "The relay is at fault, or something on the way changes its answers. Try another, or tell its operator."


class NotARelay(BadAnswer):
    """What answers at that address is something else than a relay: a web page, perhaps."""

    code = "not_a_relay"
    advice = "Is this the address of a relay? Some have theirs below a folder, such as https://anporia.com/api"
    status = 200  # of HTTP: 4xx or 5xx when it did not even say yes


class RelayRefused(RelayError):
    """The relay said no. `status`: of HTTP; `code`: the relay's stable word, or `http_<status>` if it sent none.

    `retry_at`: Unix seconds from which the same request may pass, None when the relay named no time.
    """

    advice = "Mend what it names; the same again will be refused again."

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        retry_at: int | None = None,
        url: str = "",
        advice: str | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.retry_at = retry_at
        super().__init__(detail, url, advice)


class Unauthorized(RelayRefused):
    """The relay is private, and takes neither no password nor the one it got."""

    advice = (
        "Set ANPORIA_RELAY_USER and ANPORIA_RELAY_PASSWORD, or give auth=(user, password). Trying again will not help."
    )


class RateLimited(RelayRefused):
    """Too many events of this agent or from this address in the last minute."""

    advice = "Wait until then; the event was not stored."


class RelayFailing(RelayRefused):
    """The relay, or a proxy before it, cannot answer now (HTTP 5xx)."""

    advice = "This is no fault of the request. Try again later."


class ClockSkew(RelayRefused):
    """The relay refused the event's time because this machine's clock is wrong.

    `skew`: seconds by which our clock is ahead of the relay's, negative when it is behind.
    """

    skew: int = 0


class Unsupported(RelayError):
    """The relay is a plain ANP2 relay, or keeps this turned off."""

    code = "unsupported"
    advice = "Ask a relay whose info document lists it (agent.get_info()), or do without."


class QuorumMissed(RelayError):
    """Too few relays took the event. `results`: per relay's address, as in the answer of `publish`."""

    code = "quorum_missed"
    advice = "Sending the same event again is safe: agent.send(error.event)"

    def __init__(self, detail: str, results: Mapping[str, Mapping[str, Any]]) -> None:
        self.results = results
        super().__init__(detail)


class OutboxError(AnporiaError):
    """The outbox's file cannot be opened or written; the text names it."""

    code = "outbox"


class SettingsError(AnporiaError):
    """A setting in the environment cannot be used; the text names the variable, never a secret."""

    code = "settings"


class IdentityError(AnporiaError):
    """The key of an agent cannot be used; the text names its source, never what is in it."""

    code = "identity"


class KeyLocked(IdentityError):
    """The key file is encrypted, and the passphrase is missing or wrong."""

    code = "key_locked"


class KeychainError(IdentityError):
    """The keychain of the operating system is not there, is locked, or does not answer."""

    code = "keychain"
