"""Answers kept, for lists that everybody asks for and that change with every event."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Cached"]

T = TypeVar("T")

_CHEAP = 0.005  # seconds: what takes no longer to make is always made anew when something changed
_SHARE = 20  # what takes longer stays for 20 times as long: 5 % of a core, however often it is asked for


class Cached(Generic[T]):
    """One answer and what it was made from."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, cost: Callable[[], float] = time.thread_time
    ) -> None:
        """Start without an answer; `cost` tells what the thread has used so far, `clock` when it is."""
        self._clock, self._cost = clock, cost
        self._version: object = None
        self._answer: T | None = None
        self._took = 0.0
        self._made = 0.0

    def get(self, version: object, make: Callable[[], T]) -> T:
        """Give the answer for `version`, or the last one while a costly one is not due yet."""
        now = self._clock()
        costly = self._took > _CHEAP and now - self._made < _SHARE * self._took
        answer = self._answer
        if answer is None or (version != self._version and not costly):
            started = self._cost()  # of this thread alone: waiting for a core makes no answer costly
            self._answer = answer = make()
            self._made, self._took, self._version = self._clock(), self._cost() - started, version
        return answer
