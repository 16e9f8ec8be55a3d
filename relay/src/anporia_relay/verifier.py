"""Signatures in micro-batches on worker threads, so that the event loop never waits for Ed25519."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from anporia_wire import verify_many

__all__ = ["Verifier"]

Signed = tuple[bytes, bytes, bytes]

MAX_BATCH = 64  # about 4 ms of one core: large enough to hide the thread hop, small enough to share the threads


class Verifier:
    """Collects signatures while its threads are busy and hands each free thread up to `MAX_BATCH` of them."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or os.cpu_count() or 1
        self.on_batch: Callable[[int, float], None] = lambda _size, _seconds: None
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="verify")
        self._waiting: deque[tuple[Signed, asyncio.Future[bool]]] = deque()
        self._busy = 0

    @property
    def queued(self) -> int:
        """How many signatures wait for a thread."""
        return len(self._waiting)

    async def verify(self, signed: Sequence[Signed]) -> list[bool]:
        """Verify (public key, message, signature) triples; one answer each, in order."""
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[bool]] = [loop.create_future() for _ in signed]
        self._waiting.extend(zip(signed, answers, strict=True))
        # One turn of the loop first: requests that arrived together then share a batch.
        loop.call_soon(self._start)
        return [await answer for answer in answers]

    def close(self) -> None:
        """Let the threads finish what they hold."""
        self._pool.shutdown(wait=True)

    def _start(self) -> None:
        while self._waiting and self._busy < self.threads:
            # A fair share for each free thread, so that 65 signatures do not become 64 + 1.
            share = -(-len(self._waiting) // (self.threads - self._busy))
            taken = [self._waiting.popleft() for _ in range(min(share, MAX_BATCH))]
            self._busy += 1
            asyncio.get_running_loop().create_task(self._run(taken))

    async def _run(self, taken: list[tuple[Signed, asyncio.Future[bool]]]) -> None:
        started = time.perf_counter()
        work = asyncio.get_running_loop().run_in_executor(self._pool, verify_many, [signed for signed, _ in taken])
        try:
            results = await work
        except Exception as exc:
            for _, answer in taken:
                if not answer.done():
                    answer.set_exception(exc)
            return
        finally:
            self._busy -= 1
            self._start()
        self.on_batch(len(taken), time.perf_counter() - started)
        for (_, answer), good in zip(taken, results, strict=True):
            if not answer.done():
                answer.set_result(good)
