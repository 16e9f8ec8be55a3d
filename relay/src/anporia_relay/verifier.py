"""Signatures: few at once on the spot, many in batches on worker threads, so that the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from anporia_wire import verify_many

__all__ = ["Verifier"]

Signed = tuple[bytes, bytes, bytes]

MAX_BATCH = 64  # 1 to 3 ms of one core: large enough to hide the thread hop, small enough to share the threads
# So many cost the loop 50 to 160 us, about what handing them to a thread and back costs it under load.
ON_THE_SPOT = 4


@dataclass(slots=True)
class _Question:
    """One call of `verify`: its answers fill up as its parts come back."""

    signed: Sequence[Signed]
    answers: list[bool]
    done: asyncio.Future[list[bool]]
    begun: int = 0
    missing: int = 0


_Parts = list[tuple[_Question, int, int]]  # which stretches of which questions a batch holds
_Work = Future[tuple[list[bool], float]]


class Verifier:
    """Collects signatures while its threads are busy and hands each free thread up to `MAX_BATCH` of them."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or os.cpu_count() or 1
        self.on_batch: Callable[[int, float], None] = lambda _size, _seconds: None
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="verify")
        self._waiting: deque[_Question] = deque()
        self._busy = 0
        self.queued = 0
        """How many signatures wait for a thread."""

    async def verify(self, signed: Sequence[Signed]) -> list[bool]:
        """Verify (public key, message, signature) triples; one answer each, in order."""
        if not signed:
            return []
        if len(signed) <= ON_THE_SPOT and not self._busy:
            started = time.perf_counter()
            answers = verify_many(signed)
            self.on_batch(len(signed), time.perf_counter() - started)
            return answers
        loop = asyncio.get_running_loop()
        question = _Question(signed, [False] * len(signed), loop.create_future(), missing=len(signed))
        self._waiting.append(question)
        self.queued += len(signed)
        # One turn of the loop first: requests that arrived together then share a batch.
        loop.call_soon(self._start, loop)
        return await question.done

    def close(self) -> None:
        """Let the threads finish what they hold."""
        self._pool.shutdown(wait=True)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while self.queued and self._busy < self.threads:
            # A fair share for each free thread, so that 65 signatures do not become 64 + 1.
            parts = self._take(min(-(-self.queued // (self.threads - self._busy)), MAX_BATCH))
            batch = [one for question, begin, end in parts for one in question.signed[begin:end]]
            try:
                work = self._pool.submit(_timed, batch)
            except RuntimeError as exc:  # no thread to be had
                _fail(parts, exc)
                continue
            self._busy += 1
            work.add_done_callback(partial(self._back, loop, parts))

    def _take(self, size: int) -> _Parts:
        """Take so many signatures off the queue: stretches of one question or several."""
        self.queued -= size
        parts: _Parts = []
        while size:
            question = self._waiting[0]
            end = min(question.begun + size, len(question.signed))
            parts.append((question, question.begun, end))
            size -= end - question.begun
            question.begun = end
            if end == len(question.signed):
                self._waiting.popleft()
        return parts

    def _back(self, loop: asyncio.AbstractEventLoop, parts: _Parts, work: _Work) -> None:
        loop.call_soon_threadsafe(self._ended, loop, parts, work)

    def _ended(self, loop: asyncio.AbstractEventLoop, parts: _Parts, work: _Work) -> None:
        self._busy -= 1
        try:
            answers, seconds = work.result()
            self.on_batch(len(answers), seconds)
        except Exception as exc:
            _fail(parts, exc)
        else:
            at = 0
            for question, begin, end in parts:
                question.answers[begin:end] = answers[at : at + end - begin]
                question.missing -= end - begin
                at += end - begin
                if not question.missing and not question.done.done():  # done: the caller was cancelled
                    question.done.set_result(question.answers)
        self._start(loop)


def _fail(parts: _Parts, exc: Exception) -> None:
    for question, _, _ in parts:
        if not question.done.done():
            question.done.set_exception(exc)


def _timed(batch: list[Signed]) -> tuple[list[bool], float]:
    started = time.perf_counter()
    return verify_many(batch), time.perf_counter() - started
