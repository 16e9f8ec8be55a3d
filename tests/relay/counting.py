"""What a relay does for what it is asked, counted, not timed: calls, tasks, signatures, statements, writes.

The counts are the same on any machine, since nothing is left to chance: a `Counted` relay has two threads for
signatures, no clock ticks in it, and the requests of a burst are all in the sockets before its loop sees the first.
Calls are what `sys.setprofile` reports in the relay's own threads, those of this module left out.
"""

from __future__ import annotations

import asyncio
import os
import select
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, Self, cast
from unittest.mock import patch

import aiosqlite

from anporia_relay.server import Connection
from anporia_store import checkpoint, reader
from anporia_store.thread import within
from anporia_wire import Event, Filter
from tests.relay import served
from tests.relay.served import PATIENCE_S, Answer, Served, Wire, until

__all__ = ["Counted", "Counts"]

THREADS = 2  # for signatures, whatever the machine has
NO_TICK_S = 3_600.0
TURNS = 20  # of the loop, until what follows on an answer is over too
MANY = 1_000_000  # no limit is reached, but each is looked at

_OURS = {__file__, served.__file__}


@dataclass
class Counts:
    """What was counted. `calls`, `c_calls`: of functions in Python and in C, by thread (loop, verify, store)."""

    calls: Counter[str] = field(default_factory=Counter)
    c_calls: Counter[str] = field(default_factory=Counter)
    by_name: Counter[str] = field(default_factory=Counter)
    """Both, by the function's name: `Event.to_json`, `openssl_sha256`."""
    by_caller: Counter[str] = field(default_factory=Counter)
    """The same, those in C with who called them: `len in Event.check_sizes`."""
    tasks: int = 0
    verified: int = 0
    verify_batches: int = 0
    transactions: int = 0
    statements: list[str] = field(default_factory=list)
    """SQL on any connection of the store, without the values."""
    hops: int = 0
    """Calls handed to a thread of the store."""
    passes: int = 0
    """Of checkpoints."""
    matches: int = 0
    writes: int = 0
    """On sockets of streams."""
    scans: int = 0
    """Steps of SQLite's machine at which it looks whether to stop, in reads."""

    def started(self, word: str) -> int:
        """Count the statements that begin with a word."""
        return sum(statement.lstrip().upper().startswith(word) for statement in self.statements)

    def dearest(self, most: int = 15) -> str:
        """Name the functions called most often."""
        return "\n".join(f"{count:8,}  {name}" for name, count in self.by_caller.most_common(most))


class Counted(Served):
    """A relay that counts between `begin` and `end`. Without search: its index follows in its own time."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        limits = {"agent_rate": MANY, "peer_rate": MANY, "bad_event_rate": MANY, "max_connections_per_peer": 0}
        super().__init__(folder, tick_s=NO_TICK_S, **{"search": False, **limits, **settings})
        self._on = False
        self._calls: Counter[tuple[int, str, CodeType | tuple[str, CodeType]]] = Counter()
        self._counts = Counts()
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        threading.setprofile(self._profile)  # for the relay's threads, which all begin from here on
        try:
            with patch.object(os, "cpu_count", lambda: THREADS):
                super().__enter__()
            try:
                self._watch()
            except BaseException:
                self.__exit__(None, None, None)
                raise
        finally:
            threading.setprofile(cast("Any", None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patches.close()
        super().__exit__(kind, error, trace)

    # -- asking

    def wires(self, count: int) -> list[Wire]:
        """Open connections."""
        opened = [self.wire() for _ in range(count)]
        ours = {wire.socket.getsockname() for wire in opened}
        assert until(lambda: ours <= self.call(lambda: {connection.client for connection in self.door.connections}))
        return opened

    def burst(self, wires: Sequence[Wire], requests: Sequence[bytes]) -> list[Answer]:
        """Send a request on each connection so that all meet the same turn of the loop; give the answers."""
        self.send(wires, requests)
        return [wire.answer() for wire in wires]

    def send(self, wires: Sequence[Wire], requests: Sequence[bytes]) -> None:
        """Send a request on each connection so that all meet the same turn of the loop."""
        with self._loop_held():
            for wire, request in zip(wires, requests, strict=True):
                wire.send(request)
            self._all_arrived(wires)

    def queues(self, events: int) -> bool:
        """Say whether so many events wait for a transaction, and all that came were verified."""
        return self.call(lambda: self.relay.store.queued == events and not self.relay.pipeline._under_way)

    def checkpointed(self) -> bool:
        """Say whether no checkpoint is under way."""
        commits = self.relay.store._commits
        return commits is None or commits._checkpoints._task is None

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """Count what happens in the block, and what still follows from it; the figures are there behind it."""
        counts = self._counts = Counts()
        self._calls.clear()
        self._on = True
        try:
            yield counts
        finally:
            over = threading.Event()
            self.loop.call_soon_threadsafe(self._end, TURNS, over)
            assert over.wait(PATIENCE_S)
        roles = {thread.ident: _role(thread.name, thread is self._thread) for thread in threading.enumerate()}
        for (ident, event, what), count in self._calls.items():
            role = roles.get(ident, "gone")
            (counts.calls if event == "call" else counts.c_calls)[role] += count
            counts.by_name[_name(what)] += count
            if isinstance(what, tuple):
                counts.by_caller[f"{_name(what)} in {what[1].co_qualname}"] += count
            else:
                counts.by_caller[_name(what)] += count

    def _end(self, turns: int, over: threading.Event) -> None:
        if turns:
            self.loop.call_soon(self._end, turns - 1, over)
        else:
            self._on = False
            over.set()

    @contextmanager
    def writer_held(self) -> Iterator[None]:
        """Keep the store's writer from beginning its next transaction."""
        gate, held = threading.Event(), threading.Event()

        def wait(_: sqlite3.Connection | None = None) -> None:
            held.set()
            gate.wait(PATIENCE_S)

        waiting = asyncio.run_coroutine_threadsafe(self._in_thread(self.relay.store._writer, wait), self.loop)
        assert held.wait(PATIENCE_S)
        try:
            yield
        finally:
            gate.set()
            waiting.result(PATIENCE_S)

    @contextmanager
    def _loop_held(self) -> Iterator[None]:
        gate, held = threading.Event(), threading.Event()

        def wait() -> None:
            counting, self._on = self._on, False
            held.set()
            gate.wait(PATIENCE_S)
            self._on = counting

        self.loop.call_soon_threadsafe(wait)
        assert held.wait(PATIENCE_S)
        try:
            yield
        finally:
            gate.set()

    def _all_arrived(self, wires: Sequence[Wire]) -> None:
        """Wait until the relay's ends of these connections have something to read."""
        ends = {connection.client: connection for connection in self.door.connections}
        poll = select.poll()
        for wire in wires:
            end = ends[wire.socket.getsockname()]
            poll.register(end.transport.get_extra_info("socket").fileno(), select.POLLIN)
        assert until(lambda: len(poll.poll(0)) == len(wires))

    # -- counting

    def _watch(self) -> None:
        relay, store = self.relay, self.relay.store
        counts = self._count
        # both threads from the start: when the pool makes the second would be chance
        barrier = threading.Barrier(THREADS)
        for work in [relay.verifier._pool.submit(barrier.wait, PATIENCE_S) for _ in range(THREADS)]:
            work.result(PATIENCE_S)
        self.loop.call_soon_threadsafe(lambda: self.loop.set_task_factory(cast("Any", self._make_task)))
        on_batch, on_transaction = relay.verifier.on_batch, store.on_transaction

        def batch(size: int, seconds: float) -> None:
            counts("verified", size)
            counts("verify_batches", bool(size))
            on_batch(size, seconds)

        def transaction(events: int, seconds: float) -> None:
            counts("transactions")
            on_transaction(events, seconds)

        relay.verifier.on_batch, store.on_transaction = batch, transaction
        relay.hub._live = cast("Any", _Matching(relay.hub._live, counts))
        execute: Any = aiosqlite.Connection._execute
        one_pass = checkpoint.Checkpoints._pass

        def hop(connection: aiosqlite.Connection, *args: Any) -> Any:
            counts("hops")
            return execute(connection, *args)

        def passed(checkpoints: checkpoint.Checkpoints, mode: str) -> Coroutine[Any, Any, tuple[int, int, int]]:
            counts("passes")
            return one_pass(checkpoints, mode)

        def read(
            connection: aiosqlite.Connection, work: Callable[[sqlite3.Connection], Any]
        ) -> Coroutine[Any, Any, Any]:
            return within(connection, lambda raw: work(cast("Any", _Scanned(raw, counts))))

        self._patches.enter_context(patch.object(aiosqlite.Connection, "_execute", hop))
        self._patches.enter_context(patch.object(checkpoint.Checkpoints, "_pass", passed))
        self._patches.enter_context(patch.object(reader, "within", read))
        for connection in (store._writer, *store._all_readers):
            self.run(self._trace(connection))

    def watch_streams(self) -> None:
        """Count the writes on the sockets of all streams that are open now."""
        for connection in self.door.connections:
            if connection.on_lost:
                connection.transport = cast("Any", _Written(connection, self._count))

    def _count(self, what: str, by: int = 1) -> None:
        if self._on:
            setattr(self._counts, what, getattr(self._counts, what) + by)

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        # threads write to keys of their own, so none of them can lose another's count
        if self._on and frame.f_code.co_filename not in _OURS:
            if event == "call":
                self._calls[threading.get_ident(), event, frame.f_code] += 1
            elif event == "c_call":
                name = getattr(arg, "__qualname__", "?")
                self._calls[threading.get_ident(), event, (name, frame.f_code)] += 1

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **kwargs: Any
    ) -> asyncio.Task[Any]:
        if cast("Any", work).cr_code.co_filename not in _OURS:
            self._count("tasks")
        return asyncio.Task(work, loop=loop, **kwargs)

    async def _trace(self, connection: aiosqlite.Connection) -> None:
        def statement(sql: str) -> None:
            if self._on:
                self._counts.statements.append(sql[:100])

        await connection.set_trace_callback(statement)

    async def _in_thread(self, connection: aiosqlite.Connection, work: Callable[[], None]) -> None:
        await connection._execute(work)  # type: ignore[no-untyped-call]


def _role(name: str, is_loop: bool) -> str:
    return "loop" if is_loop else "verify" if name.startswith("verify") else "store"


def _name(what: CodeType | tuple[str, CodeType]) -> str:
    return what[0] if isinstance(what, tuple) else what.co_qualname


class _Matching:
    """A `FilterSet` that counts."""

    def __init__(self, live: Any, count: Callable[[str], None]) -> None:
        self._live, self._count = live, count

    def match(self, event: Event) -> list[Any]:
        self._count("matches")
        return cast("list[Any]", self._live.match(event))

    def add(self, key: Any, filter_: Filter) -> None:
        self._live.add(key, filter_)

    def discard(self, key: Any) -> None:
        self._live.discard(key)

    def __len__(self) -> int:
        return len(self._live)


class _Written:
    """A transport that counts."""

    def __init__(self, connection: Connection, count: Callable[[str], None]) -> None:
        self._transport, self._count = connection.transport, count

    def write(self, data: bytes) -> None:
        self._count("writes")
        self._transport.write(data)

    def writelines(self, data: Sequence[bytes]) -> None:
        self._count("writes")
        self._transport.writelines(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Scanned:
    """A reading connection whose statements report the steps of SQLite's machine."""

    def __init__(self, connection: sqlite3.Connection, count: Callable[[str], None]) -> None:
        self._connection, self._count = connection, count

    def set_progress_handler(self, _handler: object, _steps: int) -> None:
        self._connection.set_progress_handler(self._step, 1)

    def _step(self) -> int:
        self._count("scans")
        return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
