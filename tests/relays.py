"""A real relay as a program of its own, for tests that need one: `with RunningRelay(tmp_path) as relay: relay.url`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["RELAY", "RunningRelay"]

RELAY = Path(sys.executable).parent / "anporia-relay"
READY_S = 20.0  # a cold start takes about one second
STOP_S = 15.0  # the relay itself gives open requests a few seconds

_READY = re.compile(r"\bready\b.*?\burl=(http://\S+)")


class RunningRelay:
    """The relay on a free port with its database in `folder`; entering starts it, leaving stops it.

    `env` comes on top of this process's own environment without any ANPORIA_ variable, `args` on top
    of `--db` and `--port 0`. After `stop()` or `kill9()`, `start()` runs it again on the same
    database, on another port. `stderr` is everything said by all runs so far.
    """

    def __init__(self, folder: Path, *, env: Mapping[str, str] | None = None, args: Sequence[str] = ()) -> None:
        self.db = folder / "relay.db"
        self.url = ""
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("ANPORIA_")}
        self._env.update(env or {})
        self._args = args
        self._process: subprocess.Popen[bytes] | None = None
        self._drain: threading.Thread | None = None
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = True  # no more lines will come from the present run

    def start(self) -> Self:
        """Start it and wait until it listens. Raises `RuntimeError` with what it said if it does not."""
        assert self._process is None, "it is running already"
        command = [str(RELAY), "--db", str(self.db), "--port", "0", *self._args]
        self._ended, first = False, len(self._lines)
        self._process = subprocess.Popen(
            command, env=self._env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._drain = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._drain.start()
        try:
            self.url = self.wait_for(_READY, READY_S, after=first)[1]
        except BaseException:
            self.kill9()
            raise
        return self

    def wait_for(self, pattern: re.Pattern[str], seconds: float = READY_S, *, after: int = 0) -> re.Match[str]:
        """Wait for a line on its stderr, from line number `after` on. Raises `RuntimeError` when none comes."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self._lines[after:]:
                    if found := pattern.search(line):
                        return found
                if self._ended or not self._changed.wait(deadline - time.monotonic()):
                    why = "the relay ended" if self._ended else f"{seconds:g} s went by"
                    raise RuntimeError(f"{why} without a line like {pattern.pattern!r}:\n{self.stderr}")

    @property
    def pid(self) -> int:
        """Its process id; only while it runs."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        with self._changed:
            return "".join(self._lines)

    def stop(self) -> int:
        """Ask it to end (SIGTERM), in the last resort kill it; gives the exit code, negative for a signal."""
        assert self._process is not None, "it is not running"
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._reap()

    def kill9(self) -> None:
        """End it with SIGKILL, as a power cut would."""
        assert self._process is not None, "it is not running"
        self._process.kill()
        self._reap()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()

    def _reap(self) -> int:
        assert self._process is not None and self._drain is not None
        code = self._process.wait()
        self._drain.join(STOP_S)
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._process = self._drain = None
        return code

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        for line in _lines(process):
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    assert process.stderr is not None
    for line in process.stderr:
        yield line.decode("utf-8", "replace")
