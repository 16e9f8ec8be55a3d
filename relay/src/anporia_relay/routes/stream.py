"""The live stream: server-sent events, resumable without gap, duplicate or reorder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from anporia_store import StoreDamaged
from anporia_wire import Filter, InvalidFilter

from ..errors import Rejected
from ..fanout import LiveStream, Socket
from ..http import Request, Route, Streaming
from ..hub import CONNECTED, Subscriber, chunk, frame
from .events import FILTER_PARAMS

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["routes"]

_REPLAY_ROWS = 256  # a write of some 150 kB: within the network's buffers, so that a slow reader is felt at once

# What /events takes and a stream cannot do (settled 9).
_NOT_HERE = (
    "since",
    "until",
    "limit",
    "cursor",
    "as_of",
    "include_revoked",
    "include_hidden",
    "branch",
    "references",
    "q",
    "order",
)

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def routes(relay: Relay) -> list[Route]:
    """Give the route of the live stream."""

    async def stream(request: Request) -> Streaming:
        for name in _NOT_HERE:
            if name in request.query:
                msg = "not on a stream; resume with the Last-Event-ID header, read the past from /events"
                raise InvalidFilter.of("extra_forbidden", name, msg)
        filter_ = Filter.parse(request.query)
        after = _resume_after(relay, request.headers.get(b"last-event-id", b"").decode("latin-1").strip())
        subscriber = relay.hub.admit(filter_)
        if after is None:  # from here on, with nothing lost between these two lines and the first frame
            after = relay.store.last_seq
        place = b"%b-%d" % (relay.store.database_id.encode(), after)
        connection = request.scope["extensions"]["anporia.connection"]["connection"]

        async def run(write: Callable[[bytes], Awaitable[None]]) -> None:
            try:
                await _serve(relay, subscriber, connection, after, write)
            finally:
                relay.hub.leave(subscriber)

        return Streaming(run, [*_HEADERS, (b"anporia-place", place)])

    return [
        Route("GET", "/stream", stream,
              "New events as they are stored (text/event-stream); Last-Event-ID resumes after a frame's id",
              FILTER_PARAMS, "stream",
              codes=("invalid_filter", "bad_cursor", "cursor_gone", "subscribers_full", "stopping")),
    ]  # fmt: skip


def _resume_after(relay: Relay, last_event_id: str) -> int | None:
    """Read where to resume. Raises `Rejected` for a place that is not of this log."""
    if not last_event_id:
        return None
    database, _, number = last_event_id.partition("-")
    if not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise Rejected("bad_cursor", "Last-Event-ID is not of this relay: expected <database>-<number>")
    if database != relay.store.database_id:
        raise Rejected("bad_cursor", "Last-Event-ID is of another database; start anew without it")
    if int(number) > relay.store.last_seq:
        raise Rejected("bad_cursor", "Last-Event-ID lies in the future of this log")
    oldest = relay.store.first_seq
    if int(number) < oldest - 1:
        detail = (
            f"events after {last_event_id} are gone; the oldest that can be resumed from is {database}-{oldest - 1}"
        )
        raise Rejected("cursor_gone", detail)
    return int(number)


async def _serve(
    relay: Relay, subscriber: Subscriber, socket: Socket, after: int, write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Replay from a place to the log's end, then stand by while the stream is live."""
    loop = asyncio.get_running_loop()
    stream = LiveStream(subscriber, socket, relay.fanout)
    await write(CONNECTED)
    store = relay.store
    # Nothing awaits between the last comparison and go_live, so no commit can fall in between.
    while after < store.last_seq and not stream.ended.is_set():
        try:
            part = await store.replay(after, subscriber.filter, _REPLAY_ROWS)
        except StoreDamaged:
            socket.cut(chunk(b": cut, the log is damaged here; ask the operator to run verify\n\n"))
            return
        if part.rows:
            await write(b"".join(frame(store.database_id, seq, raw) for seq, raw in part.rows))
            subscriber.wrote(0, loop.time())  # it takes what it is sent, so it is catching up, not stuck
        after = part.complete_to
    if stream.ended.is_set():
        return
    relay.hub.go_live(subscriber)
    stream.go_live()
    await stream.ended.wait()
