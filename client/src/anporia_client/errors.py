"""What a call of the client may raise, besides what `anporia_wire` says about the caller's own event.

AnporiaError
  RelayError                        what can go wrong between us and a relay
    BadAddress        bad_address   relay_url is no address of a relay
    RelayUnreachable  unreachable   no answer came, or it broke off; publishing again is safe
    BadAnswer         bad_answer    an answer came, but not one that a relay gives
    RelayRefused      the relay's   it answered no: `status`, `code`, `retry_at`
  IdentityError       identity      the key file cannot be read or made
"""

from __future__ import annotations

from anporia_wire import AnporiaError

__all__ = ["BadAddress", "BadAnswer", "IdentityError", "RelayError", "RelayRefused", "RelayUnreachable"]


class RelayError(AnporiaError):
    """Base of what can go wrong between an agent and its relay."""

    code = "relay"


class BadAddress(RelayError):
    """The address given for the relay cannot be one."""

    code = "bad_address"


class RelayUnreachable(RelayError):
    """No whole answer came. An event may have been taken all the same; sending it again is harmless."""

    code = "unreachable"


class BadAnswer(RelayError):
    """What answers at that address does not speak like a relay."""

    code = "bad_answer"


class RelayRefused(RelayError):
    """The relay said no. `status`: of HTTP; `code`: the relay's stable word, or `http_<status>` if it sent none.

    `retry_at`: Unix seconds from which the same request may pass, None when the relay named no time.
    """

    def __init__(self, status: int, code: str, detail: str, retry_at: int | None = None) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_at = retry_at
        super().__init__(detail)


class IdentityError(AnporiaError):
    """The file of an agent's key cannot be used; the text names the file, never what is in it."""

    code = "identity"
