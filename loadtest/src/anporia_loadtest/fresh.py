"""A relay of one's own for one run: on loopback, on a free port, with a temporary database."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from .target import TargetError

__all__ = ["FreshRelay"]

_READY = re.compile(r"\bready\b.*?\burl=(http://\S+)")
_START_S, _STOP_S = 20.0, 15.0


class FreshRelay:
    """Entering starts it, leaving stops it. Its limits per agent are on; this machine is freed of those per address."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.ready_at = 0.0
        self._folder = folder
        self._log = folder / "relay.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; only while it runs."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """The exit code it ended with by itself, None while it runs."""
        return self._process.poll() if self._process else None

    def resident(self) -> tuple[int, int] | None:
        """Give its resident bytes now and at most so far; None where the system does not tell."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
            now, most = (int(re.findall(rf"^{name}:\s+(\d+) kB", text, re.M)[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        except (OSError, IndexError):
            return None
        return now, most

    def last_words(self) -> str:
        """Give the last line it said."""
        return (self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]

    def __enter__(self) -> Self:
        program = shutil.which("anporia-relay", path=str(Path(sys.executable).parent)) or shutil.which("anporia-relay")
        if program is None:
            raise TargetError("anporia-relay is not installed here; install it, or name a running one with --host")
        env = {name: value for name, value in os.environ.items() if not name.startswith("ANPORIA_")}
        env["ANPORIA_RATE_EXEMPT"] = "127.0.0.0/8"
        command = [program, "--db", str(self._folder / "relay.db"), "--port", "0"]
        with self._log.open("wb") as out:
            # a session of its own: Ctrl-C reaches us alone, and we stop it in order
            self._process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        try:
            self.url = self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait_until_ready(self) -> str:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if found := _READY.search(self._log.read_text(errors="replace")):
                return found[1]
            if self.ended is not None:
                break
            time.sleep(0.02)
        raise TargetError(f"the relay did not start: {self.last_words()}")

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
