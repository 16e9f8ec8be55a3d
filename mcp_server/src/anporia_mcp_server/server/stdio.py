"""Serves both eras of the protocol on one pipe, message by message.

The SDK fixes the era by a connection's first request and then refuses the other. Some hosts probe with
`server/discover`, of the new era, and then send `initialize`, of the old, on the same pipe. So each message goes to
one of two loops by its own shape; both share the server and its lifespan.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream
from mcp.server import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

__all__ = ["serve"]

_ENVELOPE = "io.modelcontextprotocol/protocolVersion"  # every request of the new era names its version there
_AHEAD = 64  # messages a loop may lag behind the pipe
_LAST_WORDS_S = 3.0  # for calls under way when the host leaves: what was just published is still acknowledged
_ASKED = 1_000  # requests remembered, so that what cancels one goes where it went

_Item = SessionMessage | Exception


async def serve(server: Server[Any]) -> None:
    """Serve until the host closes our standard input. Standard output carries the protocol and nothing else."""
    try:
        # `write` is closed last: stdio_server leaves only when it is
        async with (
            stdio_server() as (read, write),
            write,
            read,
            server.lifespan(server) as state,
            anyio.create_task_group() as tasks,
        ):
            router = _Router(server, state, tasks, write)
            async for item in read:
                if isinstance(item, SessionMessage):  # what was no JSON-RPC message is passed over, as the SDK does
                    await router.take(item)
            with anyio.move_on_after(_LAST_WORDS_S):
                await router.answered()
            router.close()
    except* (BrokenPipeError, anyio.BrokenResourceError):  # the host closed our standard output as well
        pass


class _Router:
    def __init__(self, server: Server[Any], state: Any, tasks: TaskGroup, write: Any) -> None:
        self._server, self._state, self._tasks, self._write = server, state, tasks, write
        self._legs: dict[bool, MemoryObjectSendStream[_Item]] = {}
        self._asked: OrderedDict[str | int, bool] = OrderedDict()
        self._calls: set[str | int] = set()  # of tools, not answered yet
        self._fewer = anyio.Event()

    async def take(self, item: SessionMessage) -> None:
        """Hand a message to the loop of its era."""
        message = item.message
        if isinstance(message, JSONRPCRequest):
            modern = self._asked[message.id] = _is_modern(message)
            if message.method == "tools/call":
                self._calls.add(message.id)
            while len(self._asked) > _ASKED:
                self._asked.popitem(last=False)
        elif isinstance(message, JSONRPCNotification):
            named = (message.params or {}).get("requestId")
            modern = self._asked.get(named, False) if isinstance(named, (str, int)) else _is_modern(message)
            if message.method == "notifications/cancelled":
                self._done(named)
        else:
            modern = False  # answers to what we asked: only the old era's server asks
        if isinstance(message, JSONRPCRequest) or modern in self._legs:
            await self._leg(modern).send(item)

    async def answered(self) -> None:
        """Return when no tool is being called any more."""
        while self._calls:
            await self._fewer.wait()

    def _done(self, id_: object) -> None:
        if id_ in self._calls:
            self._calls.discard(id_)
            self._fewer.set()
            self._fewer = anyio.Event()

    def close(self) -> None:
        """Tell the loops that nothing more comes."""
        for leg in self._legs.values():
            leg.close()

    def _leg(self, modern: bool) -> MemoryObjectSendStream[_Item]:
        if modern not in self._legs:
            into, inside = anyio.create_memory_object_stream[_Item](_AHEAD)
            outside, out = anyio.create_memory_object_stream[SessionMessage](_AHEAD)

            async def run() -> None:
                await serve_dual_era_loop(
                    self._server,
                    inside,
                    outside,
                    lifespan_state=self._state,
                    init_options=self._server.create_initialization_options(),
                )

            async def pass_on() -> None:
                async with out:
                    async for message in out:
                        await self._write.send(message)
                        if isinstance(message.message, (JSONRPCResponse, JSONRPCError)):
                            self._done(message.message.id)

            self._tasks.start_soon(run)
            self._tasks.start_soon(pass_on)
            self._legs[modern] = into
        return self._legs[modern]


def _is_modern(message: JSONRPCRequest | JSONRPCNotification) -> bool:
    meta = (message.params or {}).get("_meta")
    return message.method != "initialize" and isinstance(meta, dict) and _ENVELOPE in meta
