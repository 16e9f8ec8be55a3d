"""The composition root: builds a relay from a configuration and gives every request its one answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from typing import Any

from anporia_store import Committed, SqliteStore
from anporia_wire import AnporiaError
from anporia_wire.views import BadSnapshot, Health, Views

from . import routes, snapshot
from .config import Config
from .errors import Rejected
from .fanout import Fanout
from .http import (
    Receive,
    Request,
    Response,
    Router,
    Scope,
    Send,
    Streaming,
    authorised,
    headers_of,
    refusal,
)
from .hub import Hub
from .limits import Limits, Peer
from .metrics import Metrics
from .pipeline import Pipeline, internal
from .server import TICKS
from .verifier import Verifier
from .views import TrustRefresh, fold, take

__all__ = ["Relay"]

log = logging.getLogger("anporia.relay")

SETTLED_AT_ONCE = 20_000 // TICKS  # words hashed: 0.1 to 0.3 ms
_OPEN_PATHS = frozenset({"/health"})  # stay open on a private relay (settled 14)


class Relay:
    """One running relay. Make it with `Relay.start`, serve `relay` as an ASGI application, then `stop`."""

    def __init__(self, config: Config, store: SqliteStore, views: Views, snapshot_seq: int = 0) -> None:
        self.config = config
        self.store = store
        self.views = views
        self.health = Health()
        self.metrics = Metrics()
        self.verifier = Verifier()
        self.hub = Hub(store.database_id, config.max_subscribers, time.monotonic)
        self.fanout = Fanout()
        limits = Limits(agent_rate=config.agent_rate, peer_rate=config.peer_rate, bad_event_rate=config.bad_event_rate)
        self.pipeline = Pipeline(store, self.verifier, limits, self.health.apply)
        self.wall = time.time
        self.trust = TrustRefresh(views, store, lambda: self.wall())
        self.router = Router(routes.table(self))
        self._snapshots = snapshot.Snapshots(config.db, snapshot_seq)
        self._tasks: list[asyncio.Task[None]] = []
        self._told_writable = True
        self._peer = lru_cache(maxsize=4_096)(lambda address: Peer.of(address, config.rate_exempt))
        self._trusted = lru_cache(maxsize=4_096)(lambda address: _is_in(address, config))
        self._connect()

    @classmethod
    async def start(cls, config: Config, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Relay:
        """Open the database and bring the views up to it. Raises `StoreError`."""
        store = await SqliteStore.open(config.db, search=config.search)
        try:
            try:
                views = await snapshot.load(store, snapshot.path_of(config.db)) or Views()
            except BadSnapshot as exc:
                log.warning("the views' snapshot is passed over, the log is read instead", extra={"problem": str(exc)})
                views = Views()
            folded = views.seq  # the rest is what no snapshot holds
            await fold(store, views, lambda seq: progress(seq - folded, store.last_seq - folded))
            relay = cls(config, store, views, folded)
        except BaseException:
            await store.close()
            raise
        relay._follow("trust", relay.trust.run())
        if store.index:
            relay._follow("search index", store.index.follow(store))
        return relay

    async def stop(self) -> None:
        """Commit what was acknowledged to come, then release the files."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._snapshots.stop(self.store, self.views)
        await self.store.close()
        self.verifier.close()

    def tick(self) -> None:
        """Once a second: look after the streams, and tell the operator when the disk fills or has space again."""
        self.hub.tick()
        self._snapshots.tick(self.views.seq)
        if self.store.writable != self._told_writable:
            self._told_writable = self.store.writable
            if self._told_writable:
                log.info("the database can be written again")
            else:
                log.error("the database cannot be written, most likely the disk is full: publishing is refused")

    def settle(self) -> None:
        """Every `1 / TICKS` of a second: do a part of what was put off."""
        self.views.neighbors.settle(SETTLED_AT_ONCE)

    def end_streams(self) -> None:
        """Tell every subscriber goodbye."""
        self.hub.stop()

    def count_refused(self, error: AnporiaError) -> None:
        """Count a refusal, of a request or of what was none."""
        self.metrics.refused.labels(error.code).inc()

    def is_trusted_proxy(self, address: str) -> bool:
        """Say whether an address may speak for others."""
        return self._trusted(address)

    def peer(self, request: Request) -> Peer:
        """Give who sent a request: the last X-Forwarded-For entry when a trusted proxy says so."""
        return self.peer_at(request.address, request.headers.get(b"x-forwarded-for"))

    def peer_at(self, address: str, forwarded: bytes | None) -> Peer:
        """Give who sends from an address, which may be a proxy that forwards for another."""
        if forwarded and self._trusted(address):
            return self._peer(forwarded.rpartition(b",")[2].strip().decode("latin-1"))
        return self._peer(address)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; whatever happens, the client gets a typed answer."""
        request = Request.of(scope, receive)
        try:
            response = await self._answer(request)
        except AnporiaError as exc:
            self.count_refused(exc)
            response = refusal(exc)
        except ConnectionResetError:
            return  # the client left while sending; nobody is there to answer
        except Exception:
            log.exception("unexpected error", extra={"method": request.method, "path": request.path})
            response = refusal(internal())
        headers = headers_of(response, cors=b"origin" in request.headers)
        if isinstance(response, Streaming):
            self.metrics.requests.labels("200").inc()
            await _send_stream(response, headers, send)
            return
        self.metrics.requests.labels(str(response.status)).inc()
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _answer(self, request: Request) -> Response | Streaming:
        if request.method == "OPTIONS" and b"access-control-request-method" in request.headers:
            return _preflight(request)
        config = self.config
        if (
            config.private
            and request.method != "OPTIONS"
            and request.path not in _OPEN_PATHS
            and not authorised(request.headers, config.auth_user, config.auth_password)
        ):
            sent = b"authorization" in request.headers
            detail = "wrong user name or password" if sent else "send its user name and password (HTTP Basic)"
            raise Rejected("unauthorized", f"this relay is private: {detail}")
        if len(request.path) > 1 and request.path.endswith("/") and self.router.knows(request.path.rstrip("/")):
            where = scope_path(request.scope).rstrip("/")
            query = request.scope["query_string"].decode("latin-1")
            return Response(307, b"", [(b"location", f"{where}{'?' if query else ''}{query}".encode("latin-1"))])
        return await self.router.find(request).handler(request)

    def _follow(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the requests; its failure is told, and the relay goes on without it."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (exc := task.exception()):
                log.error(f"the {what} no longer follows; restart the relay", exc_info=exc)

        task = asyncio.get_running_loop().create_task(work, name=what)
        task.add_done_callback(ended)
        self._tasks.append(task)

    def _connect(self) -> None:
        store, metrics = self.store, self.metrics
        store.on_commit = self._committed
        store.on_transaction = metrics.observe_commit
        store.on_damage = self._damaged
        self.verifier.on_batch = metrics.observe_verify
        self.hub.on_cut = metrics.cut.inc
        metrics.gauge("anporia_subscribers", "Open streams", lambda: len(self.hub))
        metrics.gauge("anporia_verify_queue", "Signatures waiting for a thread", lambda: self.verifier.queued)
        metrics.gauge("anporia_commit_queue", "Events waiting for their commit", lambda: store.queued)
        metrics.gauge("anporia_log_seq", "Sequence number of the newest event", lambda: store.last_seq)

    def _committed(self, committed: Sequence[Committed]) -> None:
        for item in committed:
            take(self.views, item.seq, item.event)
        self.trust.notice(item.event for item in committed)
        if self.store.index:
            self.store.index.notify()
        try:
            self.hub.publish(committed)
        except Exception:
            log.exception("streaming failed on committed events", extra={"seq": committed[0].seq})
            self.hub.cut_all()

    def _damaged(self, seq: int) -> None:
        self.metrics.damaged.inc()
        log.error("row %d no longer hashes to its id and is not served; run `anporia-relay verify`", seq)


def scope_path(scope: Scope) -> str:
    """Give the path as the client wrote it."""
    raw = scope.get("raw_path") or scope["path"].encode()
    return str(raw.decode("latin-1"))


def _is_in(address: str, config: Config) -> bool:
    return Peer.of(address, config.trusted_proxies).exempt


def _preflight(request: Request) -> Response:
    asked = request.headers.get(b"access-control-request-headers", b"")
    headers = [
        (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
        (b"access-control-max-age", b"86400"),
    ]
    if asked:
        headers.append((b"access-control-allow-headers", asked))
    return Response(200, b"OK", headers, b"text/plain; charset=utf-8")


async def _send_stream(response: Streaming, headers: list[tuple[bytes, bytes]], send: Send) -> None:
    async def write(chunk: bytes) -> None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})

    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await response.run(write)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def every(seconds: float, tick: Callable[[], None]) -> None:
    """Call a tick at intervals until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        try:
            tick()
        except Exception:  # deadlines hang on it, and what strangers wrote is looked at in it
            log.exception("a tick failed")
