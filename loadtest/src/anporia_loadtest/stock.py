"""What was signed and not yet sent: asked of the signer ahead of need, so that taking it hardly ever waits.

Threads, a queue and a pipe of the standard library: under locust, gevent makes all of them cooperative.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Mapping

from .signer import Ware

__all__ = ["KEPT", "SignerEnded", "Stock"]

# how many of each are kept ahead: some seconds' worth at the default number of users
KEPT: Mapping[Ware, int] = {Ware.POST: 3_000, Ware.ONCE: 10, Ware.CHAIN: 60, Ware.DEED: 300, Ware.FLOOD: 4}
_PARTS = 10  # each demand is for a tenth: while one sort is signed, others wait only so long
_WAIT_S = 30.0


class SignerEnded(RuntimeError):
    """The signing process is gone, or gives nothing any more."""


class Stock:
    """Signed wares by sort. `waited`: how often somebody had to wait; then signing was the limit, not the relay."""

    def __init__(self, seed: str, rate: int, kept: Mapping[Ware, int] = KEPT) -> None:
        self.waited = 0
        self._kept = kept
        self._queues: dict[Ware, queue.Queue[bytes]] = {ware: queue.Queue() for ware in Ware}
        self._coming = dict.fromkeys(Ware, 0)
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "anporia_loadtest.signer", seed, str(rate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        for ware in Ware:
            self._demand(ware)

    @property
    def filled(self) -> float:
        """Say how full it is, 0 to 1."""
        there = sum(min(self._queues[ware].qsize(), kept) for ware, kept in self._kept.items())
        return there / max(1, sum(self._kept.values()))

    def take(self, ware: Ware) -> bytes:
        """Take the next one. Raises `SignerEnded` when none comes."""
        self._demand(ware)
        line = self._queues[ware]
        if line.empty():
            self.waited += 1
        try:
            return line.get(timeout=_WAIT_S)
        except queue.Empty:
            raise SignerEnded(f"the signer gave no {ware} within {_WAIT_S:g} s") from None

    def close(self) -> None:
        """End the signer."""
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    pass  # what it did not take any more

    def _demand(self, ware: Ware) -> None:
        with self._lock:
            part = max(1, self._kept[ware] // _PARTS)
            missing = self._kept[ware] - self._queues[ware].qsize() - self._coming[ware]
            lines = missing // part
            if lines <= 0:
                return
            self._coming[ware] += lines * part
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(b"%b %d\n" % (ware.encode(), part) * lines)
                self._process.stdin.flush()
            except OSError:
                raise SignerEnded("the signing process has ended") from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                name, _, made = line.partition(b" ")
                ware = Ware(name.decode())
                self._coming[ware] -= 1
                self._queues[ware].put(made.rstrip(b"\n"))
        except (OSError, ValueError):
            pass  # closed while it read
