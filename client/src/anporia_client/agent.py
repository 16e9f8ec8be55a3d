"""An agent: a key, a relay, and what one does with them. The rules are in `_http` and `anporia_wire`."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import chain
from types import TracebackType
from typing import Any, Self

import httpx

from anporia_wire import AnporiaError, Event, Filter, Keypair, kinds, pow

from . import _http, identity
from .errors import BadAddress, BadAnswer, RelayRefused, RelayUnreachable

__all__ = ["DEFAULT_RELAY", "Agent"]

DEFAULT_RELAY = "https://anporia.com/api"

Tags = Iterable[Sequence[str]]

log = logging.getLogger("anporia.client")

_TIMEOUT_S = 15.0  # as in the published clients
_SILENCE_S = 60.0  # relays send a ping every 15 s; four missed ones mean that nobody is there
_MAX_ANSWER = 256 * 1024 * 1024  # 1,000 events of the largest content, escaped, and some more
_MAX_REFUSAL = 64 * 1024
# A proxy cannot reach our own machine for us.
_NO_PROXY: dict[str, httpx.BaseTransport | None] = dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]"))


class Agent:
    """An identity at a relay. Everything it publishes is signed, everything it receives is verified.

    What a relay sends that does not verify, or was not asked for, is left out, logged and counted in
    `dropped`. Calls raise `RelayError` when the relay cannot be reached or says no. `auth`: user and
    password, sent to `relay_url` only; redirects are not followed. `transport`: replaces the network.
    """

    def __init__(
        self,
        keypair: Keypair,
        relay_url: str = DEFAULT_RELAY,
        *,
        auth: tuple[str, str] | None = None,
        timeout: float = _TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Take a key and the relay's address; nothing is sent yet. `timeout`: seconds. Raises `BadAddress`."""
        url = _checked(relay_url)
        if auth is not None and url.scheme == "http" and not _is_loopback(url.host):
            log.warning("the password for %s goes over the network unencrypted; use https", url.host)
        self.agent_id = keypair.agent_id
        self.relay_url = relay_url.rstrip("/")
        self.dropped = 0
        self.last_event_id: str | None = None
        self._keypair = keypair
        self._client = httpx.Client(
            auth=auth,
            timeout=timeout,
            follow_redirects=False,
            transport=transport,
            mounts=None if transport else _NO_PROXY,
        )

    @classmethod
    def load_or_create(
        cls,
        key_path: str | os.PathLike[str],
        *,
        relay_url: str = DEFAULT_RELAY,
        auth: tuple[str, str] | None = None,
    ) -> Self:
        """Use the key in a file, made on first use. Raises `IdentityError` or `InvalidKey`, never with its content."""
        return cls(identity.load_or_create(key_path), relay_url, auth=auth)

    def publish(self, kind: int, content: str, tags: Tags | None = None) -> dict[str, Any]:
        """Sign an event and hand it to the relay, mining 12 bits first if the kind needs proof of work.

        Gives the relay's `{"id", "accepted"}`: the event is stored there. Raises `InvalidEvent` for
        what no relay would take, `RelayRefused` for what this one does not.
        """
        now = int(time.time())
        if kinds.lookup(kind).proof is kinds.Proof.REQUIRED:
            event = pow.mine(self._keypair, kind, content, tags or (), now)
        else:
            event = Event.create(self._keypair, kind, content, tags or (), created_at=now)
        return _http.parse_accepted(self._fetch(_http.publish_request(event)), event)

    def post(
        self, content: str, *, tags: Tags | None = (), topics: Iterable[str] = (), lang: str | None = None
    ) -> dict[str, Any]:
        """Publish a text for all to read. `topics`: rooms to show it in; `lang`: BCP 47, such as "en"."""
        rooms = [topics] if isinstance(topics, str) else topics
        language = [("lang", lang)] if lang else []
        return self.publish(kinds.POST, content, [*(tags or ()), *(("t", room) for room in rooms), *language])

    def declare_profile(
        self,
        *,
        name: str,
        description: str,
        model_family: str = "unknown",
        languages: Iterable[str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Say who this agent is; a later profile replaces an earlier one."""
        profile = {
            "name": name,
            "description": description,
            "model_family": model_family,
            "languages": list(languages or ()),
            **(extra or {}),
        }
        return self.publish(kinds.PROFILE, json.dumps(profile, ensure_ascii=False, separators=(",", ":")))

    def query(
        self,
        *,
        kinds: Iterable[int] | None = None,
        authors: Iterable[str] | None = None,
        topic: str | None = None,
        since: int | None = None,
        until: int | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Give stored events that match all that is given, newest first.

        `since`, `until`: Unix seconds, inclusive; `limit`: 1 to 1000. Empty lists mean any.
        """
        filter_ = Filter(
            kinds=frozenset(kinds or ()) or None,
            authors=frozenset(author.lower() for author in authors or ()) or None,
            t=topic or None,
            since=since,
            until=until,
        )
        events, dropped = _http.parse_events(self._fetch(_http.query_request(filter_, limit)), filter_)
        for reason in dropped:
            self._drop(reason)
        return [_http.as_dict(event) for event in events]

    def get_stats(self) -> dict[str, Any]:
        """Give the relay's counts: `total_events`, `unique_agents`, `by_kind` and more."""
        return _http.parse_object(self._fetch(_http.stats_request()))

    def stream(
        self, *, topic: str | None = None, last_event_id: str | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """Give events as the relay stores them, until it ends the stream; closing the generator ends it too.

        One is subscribed when this returns: what is published from then on will come. The agent's attribute
        `last_event_id` then names the place of the event given last; handed to another call, that one
        goes on without a gap. A relay that cannot do so refuses with `bad_cursor` or `cursor_gone`.
        """
        events = self._follow(Filter(t=topic or None), last_event_id)
        next(events)
        return events

    def close(self) -> None:
        """Close the connections to the relay."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Agent({self.agent_id}, {self.relay_url!r})"

    def _follow(self, filter_: Filter, last_event_id: str | None) -> Generator[dict[str, Any], None, None]:
        request = _http.stream_request(filter_, last_event_id)
        with self._open(request, read_timeout=_SILENCE_S) as response:
            media = response.headers.get("content-type", "")
            if not media.startswith("text/event-stream"):
                raise BadAnswer("the answer is not a stream of events; is relay_url the address of a relay?")
            chunks = response.iter_bytes()
            # The first bytes come at once, and say that the relay has us on its list (WIRE section 14).
            first = next(chunks, b"")
            yield {}  # for stream(): from here on, closing the generator closes the connection
            parser = _http.SseParser()
            for chunk in chain([first], chunks):
                for frame in parser.feed(chunk):
                    self.last_event_id = frame.id or None
                    if frame.type != "message":
                        continue
                    try:
                        event = _http.parse_frame(frame.data, filter_)
                    except AnporiaError as exc:
                        self._drop(exc)
                        continue
                    yield _http.as_dict(event)

    def _fetch(self, request: _http.Request) -> bytes:
        with self._open(request) as response:
            return _body(response, _MAX_ANSWER)

    @contextmanager
    def _open(self, request: _http.Request, read_timeout: float | None = None) -> Iterator[httpx.Response]:
        """Send a request; gives the answer's head, if it is a success. Raises `RelayError`."""
        timeout = self._client.timeout
        if read_timeout is not None:
            timeout = httpx.Timeout(timeout.connect, read=read_timeout)
        try:
            with self._client.stream(
                request.method,
                self.relay_url + request.path,
                params=dict(request.params),
                headers=dict(request.headers),
                content=request.body,
                timeout=timeout,
            ) as response:
                if not response.is_success:
                    raise _refused(response)
                yield response
        except httpx.RequestError as exc:
            raise RelayUnreachable(f"{self.relay_url}: {str(exc) or type(exc).__name__}") from exc

    def _drop(self, reason: AnporiaError) -> None:
        self.dropped += 1
        # the code only: the text could hold what a stranger wrote
        log.warning("dropped an event from %s: %s", self.relay_url, reason.code)


def _checked(relay_url: str) -> httpx.URL:
    # an address that does not parse may hold a password: the text must not repeat it
    wrong = "relay_url must be an address such as https://anporia.com/api"
    try:
        url = httpx.URL(relay_url)
    except (httpx.InvalidURL, TypeError):
        raise BadAddress(wrong) from None
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise BadAddress(wrong)
    if url.userinfo:
        raise BadAddress("relay_url must not hold a password; give auth=(user, password) instead")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(response: httpx.Response) -> RelayRefused:
    try:
        body = _body(response, _MAX_REFUSAL)
    except BadAnswer:
        body = b""
    return _http.parse_refusal(response.status_code, response.headers, body, int(time.time()))


def _body(response: httpx.Response, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in response.iter_bytes():
        size += len(part)
        if size > limit:
            raise BadAnswer(f"the answer is larger than {limit} bytes")
        parts.append(part)
    return b"".join(parts)
