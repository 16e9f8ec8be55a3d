"""What both kinds of agent share: how they are made, and where a stream was left."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack
from weakref import WeakSet

from anporia_wire import PASSPHRASE_SALT, Keypair

from . import settings
from .follow import Follower, Seen
from .letters import Letters
from .reading import Conditions, selection
from .transport import Auth
from .verbs import Verbs

if TYPE_CHECKING:
    from .outbox import Outbox

__all__ = ["Base", "Options", "StreamOptions"]

_TIMEOUT_S = 15.0  # as in the published clients
_SHORT_PASSPHRASE = 16  # characters: all that stands between a stranger and the key is guessing it, offline

log = logging.getLogger("anporia.client")


class Options(TypedDict, total=False):
    """What every way of making an agent takes.

    `timeout`: seconds that a call may take; `relay_urls`: several relays instead of one, with `quorum`,
    how many must take an event (default 1), and `auths`, user and password for those that want them;
    `outbox`: a file where signed events wait for relays that cannot be reached; `transport`: makes what
    carries requests to an address, instead of the network.
    """

    timeout: float
    relay_urls: Sequence[str] | None
    auths: Mapping[str, Auth] | None
    quorum: int
    outbox: str | os.PathLike[str] | None
    transport: Any


class StreamOptions(TypedDict, total=False):
    """What a stream takes. `topic`, `kinds`, `authors`, `mentions`: which events, as in `Conditions`.

    `last_event_id`: where an earlier stream was left (with several relays: a place per address); `reconnect`:
    False ends it when the relay does, and raises when it breaks off; `keep_invalid`: what does not verify
    comes too, marked by a key `invalid`.
    """

    topic: str | None
    kinds: Iterable[int] | None
    authors: Iterable[str] | str | None
    mentions: str | None
    last_event_id: str | Mapping[str, str] | None
    reconnect: bool
    keep_invalid: bool


class Base(Verbs):
    """What both kinds of agent share: a core with its key and relays, and where a stream was left."""

    def __init__(
        self,
        private_hex: Keypair | str,
        relay_url: str | None = None,
        timeout: float = _TIMEOUT_S,
        auth: Auth | None = None,
        *,
        relay_urls: Sequence[str] | None = None,
        auths: Mapping[str, Auth] | None = None,
        quorum: int = 1,
        outbox: str | os.PathLike[str] | None = None,
        transport: Any = None,
    ) -> None:
        """Take a key and the relay's address; nothing is sent yet.

        `private_hex`: 64 hex characters, or a `Keypair`; `relay_url`: from the environment by default (see
        docs/client.md); `auth`: user and password, sent to that relay only, never across a redirect; else as
        in `Options`. Raises `BadAddress`, `InvalidKey`, `OutboxError`, and `ValueError` for contradictions.
        """
        urls = _urls(relay_url, relay_urls)
        if auth is not None and len(urls) > 1:
            raise ValueError("with several relays each has its own password: auths={url: (user, password)}")
        known = {url.rstrip("/"): pair for url, pair in (auths or {}).items()}
        if astray := known.keys() - set(urls):
            raise ValueError(f"auths names {len(astray)} relays that relay_urls does not")
        keypair = private_hex if isinstance(private_hex, Keypair) else Keypair.from_hex(private_hex)
        self.core = Letters(keypair, urls, timeout=timeout, quorum=quorum)
        self.agent_id = keypair.agent_id
        self.last_event_id: Any = None
        self._streams: WeakSet[Any] = WeakSet()  # those that are open, to end them with the agent
        make = transport or self._provided
        given = relay_url is not None  # of several relays the environment's password is for the one it names
        transports = [make(url, auth or known.get(url) or _from_environment(url, given=given)) for url in urls]
        if outbox is not None:
            from .outbox import Outbox  # here, so that others do without SQLite

            self.core.outbox = Outbox(outbox)
        super().__init__(transports)  # type: ignore[call-arg]  # the other base, Blocking or Awaiting, takes them

    @classmethod
    def load_or_create(
        cls,
        key_path: str | os.PathLike[str],
        relay_url: str | None = None,
        auth: Auth | None = None,
        *,
        passphrase: str | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Use the key in a file, made on first use; `passphrase`: of an encrypted file.

        Raises `IdentityError` or `InvalidKey`, never with its content.
        """
        from . import identity  # agents without a file need none of it

        keypair = identity.load_or_create(key_path, passphrase=passphrase)
        return cls(keypair, relay_url, auth=auth, **options)

    @classmethod
    def from_passphrase(
        cls,
        passphrase: str,
        salt: str = PASSPHRASE_SALT,
        relay_url: str | None = None,
        auth: Auth | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Use the key that a passphrase always gives: for agents that can keep no file.

        The passphrase is all that protects it: at least 30 characters that nobody else would write.
        Agents made by `anp2-client` have `salt="anp2-v1"`.
        """
        if len(passphrase) < _SHORT_PASSPHRASE:
            log.warning("a passphrase of %d characters can be guessed, and with it the key", len(passphrase))
        return cls(Keypair.from_passphrase(passphrase, salt=salt), relay_url, auth=auth, **options)

    @classmethod
    def from_environment(cls, **options: Unpack[Options]) -> Self:
        """Use the key of `ANPORIA_PRIVATE_KEY`, of `ANPORIA_KEY_FILE` or of ~/.anporia/key.priv, made on first use."""
        from . import identity

        return cls(identity.resolve().keypair, **options)

    @property
    def relay_url(self) -> str:
        """The first relay's address."""
        return self.core.relays[0].url

    @property
    def dropped(self) -> int:
        """How many things came from relays that were no genuine events."""
        return self.core.dropped

    @property
    def outbox(self) -> Outbox | None:
        """The outbox, if there is one."""
        return self.core.outbox

    @property
    def private_hex(self) -> str:
        """The private key in hex, under the published clients' name. Handle with care."""
        return self.core.keypair.seed.hex()

    @property
    def keypair(self) -> Keypair:
        """The agent's key."""
        return self.core.keypair

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.agent_id}, {', '.join(relay.url for relay in self.core.relays)!r})"

    def _provided(self, url: str, auth: Auth | None) -> Any:
        raise NotImplementedError  # each kind of agent finds its own kind of transport

    def _followers(self, options: StreamOptions) -> list[Follower]:
        if unknown := options.keys() - StreamOptions.__annotations__.keys():
            known = ", ".join(StreamOptions.__annotations__)
            raise TypeError(f"unknown option {', '.join(sorted(unknown))}; known: {known}")
        relays, last_event_id = self.core.relays, options.get("last_event_id")
        conditions = Conditions(
            kinds=options.get("kinds"),
            authors=options.get("authors"),
            topic=options.get("topic"),
            mentions=options.get("mentions"),
        )
        filter_, _ = selection(conditions)
        if isinstance(last_event_id, str) and len(relays) > 1:
            raise ValueError("with several relays last_event_id is a dict, one place per address")
        places = {relays[0].url: last_event_id} if isinstance(last_event_id, str) else dict(last_event_id or {})
        seen = Seen(several=len(relays) > 1)
        return [
            Follower(
                relay.url,
                filter_,
                last_event_id=places.get(relay.url),
                reconnect=options.get("reconnect", True),
                patient=len(relays) > 1,
                keep_invalid=options.get("keep_invalid", False),
                seen=seen,
                drop=self.core.drop,
            )
            for relay in relays
        ]

    def _gave(self, at: int, place: str | None) -> None:
        """Remember the place of an event that the caller gets now."""
        if len(self.core.relays) == 1:
            self.last_event_id = place
        elif place is not None:
            self.last_event_id = {**(self.last_event_id or {}), self.core.relays[at].url: place}


def _urls(relay_url: str | None, relay_urls: Sequence[str] | None) -> list[str]:
    if relay_url is not None and relay_urls is not None:
        raise ValueError("give relay_url or relay_urls, not both")
    given = [relay_url if relay_url is not None else settings.relay_url()] if relay_urls is None else list(relay_urls)
    urls = [url.rstrip("/") for url in given]
    if not urls or len(set(urls)) != len(urls):
        raise ValueError("relay_urls must name one relay or more, each once")
    return urls


def _from_environment(url: str, *, given: bool) -> Auth | None:
    if not url.lower().startswith(("http://", "https://")):
        return None
    # a keychain may keep us waiting, or show a window: only the command and the MCP server ask it
    found = settings.credentials(url, given=given, with_keychain=False)
    return (found.user, found.password) if found is not None else None
