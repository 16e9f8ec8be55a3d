"""How often one may publish: rolling windows and the lobby guard. Sans-IO: seconds come in as numbers.

Nothing here is spent by an event whose signature has not been verified, so nobody can use up another
agent's budget; failed signatures have a ceiling of their own, per address.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from ipaddress import ip_address

from anporia_wire import Event, kinds

from .config import Networks
from .errors import Rejected

__all__ = ["Limits", "Peer", "RollingWindow", "TokenBucket"]

WINDOW_S = 60  # rates are per minute (WIRE section 7)
LOBBY_RATE = 60  # lobby events a minute, relay-wide (WIRE section 7)
LOBBY_BURST, LOBBY_REFILL_S = 5, 300  # per address: a bucket of 5, one token in 300 s (WIRE section 7)


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a request came from. `key`: the IPv4 address, or the /64 that one IPv6 host owns."""

    address: str
    key: str
    exempt: bool
    loopback: bool

    @classmethod
    def of(cls, address: str, exempt: Networks = ()) -> Peer:
        """Read an address as text; what is none stands for itself."""
        if address.count(":") == 1 or "]:" in address:  # some proxies forward the port too: no key of its own for each
            address = address.rpartition(":")[0]
        try:
            ip = ip_address(address.strip("[]"))
        except ValueError:
            return cls(address, address, False, address == "localhost")
        ip = getattr(ip, "ipv4_mapped", None) or ip
        free = any(ip.version == net.version and ip in net for net in exempt)
        key = str(ip) if ip.version == 4 else ip.exploded[:19]
        return cls(str(ip), key, free, ip.is_loopback)


class RollingWindow:
    """At most `limit` hits a key in any 60 seconds, hits exactly 60 s old still counting; 0 = no limit.

    Keys are kept in two generations, so that a million one-shot keys are forgotten within two
    windows without ever walking over them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._young: dict[str, deque[int]] = {}
        self._old: dict[str, deque[int]] = {}
        self._turned = 0

    def wait(self, key: str, now: int) -> int:
        """Give the seconds until a hit would be allowed, 0 when it is allowed now."""
        if not self.limit:
            return 0
        hits = self._hits(key, now)
        if hits is None or len(hits) < self.limit:
            return 0
        return hits[0] + WINDOW_S + 1 - now

    def left(self, key: str, now: int) -> int | None:
        """Give how many hits are still allowed; None = no limit."""
        if not self.limit:
            return None
        return self.limit - len(self._hits(key, now) or ())

    def hit(self, key: str, now: int) -> None:
        """Count one hit."""
        if not self.limit:
            return
        hits = self._hits(key, now)
        if hits is None:
            hits = self._young[key] = deque()
        hits.append(now)

    def _hits(self, key: str, now: int) -> deque[int] | None:
        if now - self._turned > WINDOW_S:
            self._old, self._young = self._young, {}
            self._turned = now
        hits = self._young.get(key)
        if hits is None:
            hits = self._old.pop(key, None)
            if hits is None:
                return None
            self._young[key] = hits
        while hits and hits[0] < now - WINDOW_S:
            hits.popleft()
        return hits


class TokenBucket:
    """A bucket of `burst` tokens a key that refills by one each `refill_s` seconds."""

    def __init__(self, burst: int, refill_s: int) -> None:
        self._burst, self._refill_s = burst, refill_s
        self._full_at: dict[str, float] = {}  # when the bucket will be full again; absent = full

    def wait(self, key: str, now: int) -> int:
        """Give the seconds until a token is there, 0 when one is there now."""
        missing = max(0.0, self._full_at.get(key, now) - now)
        over = missing - (self._burst - 1) * self._refill_s
        return max(0, -int(-over // 1))

    def take(self, key: str, now: int) -> None:
        """Take one token."""
        if len(self._full_at) > 100_000:  # full buckets need no entry; sweeping this many takes 5 ms
            self._full_at = {k: at for k, at in self._full_at.items() if at > now}
        self._full_at[key] = max(now, self._full_at.get(key, now)) + self._refill_s


class Limits:
    """All of a relay's publish limits. `now` is a steady clock in whole seconds."""

    def __init__(self, *, agent_rate: int, peer_rate: int, bad_event_rate: int) -> None:
        self._agents = RollingWindow(agent_rate)
        self._peers = RollingWindow(peer_rate)
        self._bad = RollingWindow(bad_event_rate)
        self._lobby = RollingWindow(LOBBY_RATE)
        self._lobby_peers = TokenBucket(LOBBY_BURST, LOBBY_REFILL_S)

    def verifications_left(self, peer: Peer, now: int) -> int | None:
        """Give how many forged events this address may still send; None = any number."""
        return None if peer.exempt else self._bad.left(peer.key, now)

    def count_bad(self, peer: Peer, now: int) -> None:
        """Count a failed signature against the address."""
        if not peer.exempt:
            self._bad.hit(peer.key, now)

    def check(self, event: Event, peer: Peer, now: int) -> None:
        """Refuse what has no budget left, spending nothing: called before a signature is verified."""
        if not peer.exempt:
            _refuse(
                self._bad.wait(peer.key, now), "rate_bad_events", f"too many bad signatures ({self._bad.limit}/60s)"
            )
            detail = f"rate limit exceeded ({self._peers.limit}/60s per IP)"
            _refuse(self._peers.wait(peer.key, now), "rate_peer", detail)
        detail = f"rate limit exceeded ({self._agents.limit}/60s per agent_id)"
        _refuse(self._agents.wait(event.agent_id, now), "rate_agent", detail)
        if kinds.in_lobby(event) and not peer.loopback:
            detail = f"network chat capacity reached ({LOBBY_RATE}/60s); retry shortly"
            _refuse(self._lobby.wait("", now), "lobby_full", detail)
            detail = f"posting too fast for the lobby; {LOBBY_BURST} at once, then one in {LOBBY_REFILL_S}s"
            if not peer.exempt:
                _refuse(self._lobby_peers.wait(peer.key, now), "lobby_slow", detail)

    def spend(self, event: Event, peer: Peer, now: int) -> None:
        """Check once more and count the event, in one step: between two awaits nobody can slip past."""
        self.check(event, peer, now)
        if not peer.exempt:
            self._peers.hit(peer.key, now)
        self._agents.hit(event.agent_id, now)
        if kinds.in_lobby(event) and not peer.loopback:
            self._lobby.hit("", now)
            if not peer.exempt:
                self._lobby_peers.take(peer.key, now)


def _refuse(wait: int, code: str, detail: str) -> None:
    if wait > 0:
        raise Rejected(code, detail, retry_in=wait)
