"""Which relay an entry of a client is for, and whether what it says can be an address. Nothing is connected to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anporia_client import settings
from anporia_client.address import Address
from anporia_client.errors import BadAddress, RelayError
from anporia_client.providers import blocking

__all__ = ["DEFAULT", "VARIABLES", "is_here", "named", "same", "trouble"]

DEFAULT = settings.DEFAULT_RELAY
VARIABLES = ("ANPORIA_RELAY_URL", "ANPORIA_RELAY")  # in the order in which the client asks them
_EXAMPLE = f"Use an address such as {DEFAULT}"


def named(environ: Mapping[str, Any]) -> str | None:
    """Give the relay that these variables name, None for the public one. One that is empty counts as unset."""
    return next((str(found) for name in VARIABLES if (found := environ.get(name))), None)


def trouble(url: str) -> tuple[str, str] | None:
    """Say what is wrong with an address and what to do, or None. The address itself is not repeated with a password."""
    if "@" in url.partition("://")[2].partition("/")[0] or ("://" not in url and "@" in url):
        return "must not hold a user or password", f"Take it out of the address; {_EXAMPLE[0].lower()}{_EXAMPLE[1:]}"
    try:
        blocking(url, None).close()
    except RelayError as exc:
        return exc.detail.removeprefix("relay_url "), exc.advice or _EXAMPLE
    return None


def same(one: str, other: str) -> bool:
    """Say whether two addresses are of one relay."""
    try:
        return Address.parse(one) == Address.parse(other)
    except BadAddress:
        return one.rstrip("/") == other.rstrip("/")


def is_here(url: str) -> bool:
    """Say whether it is a relay on this machine."""
    try:
        return Address.parse(url).is_loopback
    except BadAddress:
        return False
