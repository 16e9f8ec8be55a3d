"""Publishing no faster than a relay's limits allow, so that a run judges the relay and not its limiter."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable

__all__ = ["Pace"]

PER_KEY = 55  # published relays take 60 a minute from one agent; the rest is margin
IN_ALL = 280  # and 300 a minute from one address
WINDOW_S = 62.0  # their window is 60 s in whole seconds, hits exactly 60 s old included


class Pace:
    """Rolling windows of what was sent: for each key, and in all."""

    def __init__(
        self,
        *,
        per_key: int = PER_KEY,
        in_all: int = IN_ALL,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._per_key, self._in_all = per_key, in_all
        self._clock, self._sleep = clock, sleep
        self._of_key: defaultdict[str, deque[float]] = defaultdict(deque)
        self._all: deque[float] = deque()

    def spend(self, key: str = "", *, unpaced_key: bool = False) -> None:
        """Wait until one more may be sent, then count it."""
        windows = [(self._all, self._in_all)]
        if key and not unpaced_key:
            windows.append((self._of_key[key], self._per_key))
        while wait := max(self._wait(window, most) for window, most in windows):
            self._sleep(wait)
        for window, _ in windows:
            window.append(self._clock())

    def _wait(self, window: deque[float], most: int) -> float:
        now = self._clock()
        while window and now - window[0] >= WINDOW_S:
            window.popleft()
        return 0.0 if len(window) < most else max(0.01, window[0] + WINDOW_S - now)
