"""Which transport speaks an address.

http and https are here. A package may bring another for addresses of a scheme of its own, by an entry point of
the group `anporia.transports` named like the scheme: an object with `blocking(url, auth)` and
`awaiting(url, auth)`, which give a `Transport` and an `AsyncTransport`.
"""

from __future__ import annotations

import re
from typing import Any

from .errors import BadAddress
from .transport import AsyncTransport, Auth, Transport

__all__ = ["awaiting", "blocking"]

_GROUP = "anporia.transports"


def blocking(url: str, auth: Auth | None) -> Transport:
    """Make the transport for plain calls to an address. Raises `BadAddress`."""
    if _is_http(url):
        from .http_transport import Http  # slow to import: only agents that talk need it

        return Http(url, auth)
    transport: Transport = _package(url).blocking(url, auth)
    return transport


def awaiting(url: str, auth: Auth | None) -> AsyncTransport:
    """Make the transport for an event loop. Raises `BadAddress`."""
    if _is_http(url):
        from .http_async import AsyncHttp

        return AsyncHttp(url, auth)
    transport: AsyncTransport = _package(url).awaiting(url, auth)
    return transport


def _is_http(url: str) -> bool:
    # without any scheme too: the reading of addresses has the better words for what is wrong
    return ":" not in url or url.lower().startswith(("http:", "https:"))


def _package(url: str) -> Any:
    from importlib.metadata import entry_points

    if re.match(r"[\w.-]+:[0-9]", url) and "@" not in url:  # else it may hold a password, which is not repeated
        raise BadAddress("relay_url has no scheme", advice=f"Did you mean http://{url[:100]} ?")
    scheme = url.partition(":")[0].lower()
    for found in entry_points(group=_GROUP, name=scheme):
        return found.load()
    raise BadAddress(
        "relay_url has a scheme that nothing here speaks", advice="Use an address such as https://anporia.com/api"
    )
