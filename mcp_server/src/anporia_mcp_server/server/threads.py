"""Runs calls in threads, so many at once, however long a relay keeps them and whoever has given them up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from ..failures import ToolFailure

__all__ = ["Threads"]

_T = TypeVar("_T")


class Threads:
    """At most `most` calls at once. One that was cancelled, or took too long, counts until its thread has ended."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = threading.BoundedSemaphore(most)
        # the count is the semaphore's, which threads give back themselves: anyio's ends with the waiting
        self._limiter = anyio.CapacityLimiter(2 * most)

    async def __call__(self, call: Callable[[], _T], longest: float | None) -> _T:
        """Run a call, for `longest` seconds at most, None for as long as it takes. Raises `ToolFailure`."""
        if not self._free.acquire(blocking=False):
            text = f"{self._most} calls are under way already, all waiting for the relay. Try again later."
            raise ToolFailure(text, "busy")

        def run() -> _T:
            try:
                return call()
            finally:
                self._free.release()

        with anyio.move_on_after(longest):
            return await anyio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=self._limiter)
        raise ToolFailure(f"The relay was too slow: no answer within {longest:g} s. Try again later.", "timeout")
