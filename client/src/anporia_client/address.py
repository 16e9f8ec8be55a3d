"""Addresses of relays: one strict reading, so that nobody takes a host for another."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import BadAddress

__all__ = ["Address"]

_PORTS = {"http": 80, "https": 443}
# Only what every parser reads alike: an ASCII host, perhaps a port and a path; no user, query or fragment.
_ADDRESS = re.compile(
    r"(https?)://(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9._-]{0,252}))(?::([0-9]{1,5}))?((?:/[\w!$&'()*+,;=:@%.~-]*)*)",
    re.ASCII | re.IGNORECASE,
)
_EXAMPLE = "Use an address such as https://anporia.com/api"


@dataclass(frozen=True, slots=True)
class Address:
    """An http or https address.

    `host`: lower case, IPv6 without brackets; `path`: such as "/api", or "", without a slash at its end.
    """

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an address. Raises `BadAddress`, whose text never repeats it: it might hold a password."""
        if not isinstance(url, str):
            raise BadAddress("relay_url is not an address", advice=_EXAMPLE)
        found = _ADDRESS.fullmatch(url)
        if found is None:
            if "@" in url.partition("://")[2].partition("/")[0]:
                raise BadAddress("relay_url must not hold a password", advice="Give auth=(user, password) instead.")
            if not url.isascii():
                raise BadAddress("relay_url is not ASCII", advice="Write the host in its xn-- form.")
            raise BadAddress("relay_url is not an address of a relay", advice=_EXAMPLE)
        scheme = found[1].lower()
        port = int(found[3]) if found[3] else _PORTS[scheme]
        if not 0 < port < 65_536:
            raise BadAddress("relay_url has no such port", advice=_EXAMPLE)
        return cls(scheme, found[2].lower().strip("[]"), port, found[4].rstrip("/"))

    @property
    def authority(self) -> str:
        """Host, and the port where it is not the scheme's own, as in the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port, without the path: what a password is for."""
        return f"{self.scheme}://{self.authority}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this very machine."""
        from ipaddress import ip_address

        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
