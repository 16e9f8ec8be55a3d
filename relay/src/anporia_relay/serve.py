"""Running a relay: open, listen, say so, serve until a signal, stop without breaking a promise."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import socket
import sys

import uvloop
from rich.console import Console
from rich.progress import Progress

from .app import Relay, every
from .config import Config
from .errors import ConfigError
from .express import connection_to
from .routes.about import VERSION
from .server import TICKS, Door, Server

__all__ = ["run"]

log = logging.getLogger("anporia.relay")

# How long a thread keeps Python's lock while another waits for it. With Python's own 5 ms the writer, which needs it
# for a moment after each statement, spends more time waiting for the event loop than writing.
SWITCH_S = 0.0002

# An event makes some 20 objects that stay. With Python's own 700 the collector runs every 35 events: 6 % of all time.
YOUNG_OBJECTS = 20_000


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT. Raises `ConfigError` or `StoreError` before anything listens."""
    # A connection is a descriptor: the usual soft limit of 1,024 would end at a tenth of max_subscribers.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config))


async def _serve(config: Config) -> None:
    listener = _listen(config)
    try:
        relay = await _start(config)
    except BaseException:
        listener.close()
        raise

    # The views are millions of objects that stay: without this, each full collection walks them all, 100 ms at a time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)  # older ones seldom: nearly all of them stay

    def say_ready() -> None:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info(
            "ready",
            extra={
                "url": f"http://{shown}:{port}",
                "version": VERSION,
                "db": config.db,
                "events": relay.store.last_seq,
                "access": "private" if config.private else "open",
            },
        )

    door = Door(config.max_connections_per_peer, relay.is_trusted_proxy, relay.count_refused)
    server = Server(relay, door, connection_to(relay), on_ready=say_ready, before_stop=relay.end_streams)
    loop = asyncio.get_running_loop()
    often = 1 / TICKS
    ticks = [
        loop.create_task(every(1, relay.tick)),
        loop.create_task(every(often, relay.settle)),
        loop.create_task(every(often, lambda: door.tick(loop.time()))),
    ]
    try:
        await server.serve([listener])
    finally:
        for task in ticks:
            task.cancel()
        await relay.stop()
        log.info("stopped", extra={"events": relay.store.last_seq})


async def _start(config: Config) -> Relay:
    """Open the log and rebuild the views, with a bar on a terminal when that takes a while."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("reading the log", total=None)
        return await Relay.start(config, lambda done, all_: bar.update(task, completed=done, total=all_))


def _listen(config: Config) -> socket.socket:
    """Bind first: a taken port is found before the database is touched."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except (OSError, ValueError) as exc:  # ValueError: what cannot even be asked for, such as a label of 64 letters
        raise ConfigError(f"--host {config.host}: {getattr(exc, 'strerror', None) or exc}") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as exc:
        listener.close()
        raise ConfigError(f"cannot listen on {config.host} port {config.port}: {exc.strerror or exc}") from exc
    return listener
