"""Relays under measurement: ours and the published one, each a process of its own, and what it uses of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers import peer_python

__all__ = ["Server", "our_relay", "process", "reference_relay", "running"]

# The published relay has no setting for its ceiling per address.
_REFERENCE = """
import anp2_relay.server as server
server.RATE_LIMIT_MAX_PER_IP = 10**9
from anp2_relay.__main__ import main
main()
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A relay that listens on loopback."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Read its user and system time; the system counts in hundredths of a second."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Read its resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if "VmRSS" in line).split()[1]) * 1024

    def pin(self, cores: Sequence[int]) -> None:
        """Hold all its threads to these cores."""
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


@contextmanager
def our_relay(**settings: str) -> Iterator[Server]:
    """Run our relay on a fresh database."""
    with (
        tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder,
        running(db=f"{folder}/relay.db", **settings) as server,
    ):
        yield server


@contextmanager
def running(**settings: str) -> Iterator[Server]:
    """Run our relay with settings, its limits per address lifted."""
    env = {**os.environ, "ANPORIA_RATE_EXEMPT": "127.0.0.0/8", "ANPORIA_MAX_CONNECTIONS_PER_PEER": "0"}
    env |= {f"ANPORIA_{name.upper()}": value for name, value in settings.items()}
    with process([Path(sys.executable).with_name("anporia-relay"), "--port", "0"], env, "url=") as server:
        yield server


@contextmanager
def reference_relay() -> Iterator[Server]:
    """Run the published relay on a fresh database, its ceiling per address lifted."""
    with tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder:
        env = {**os.environ, "ANP2_DB": f"{folder}/relay.db", "ANP2_PORT": "0", "ANP2_HOST": "127.0.0.1"}
        with process([peer_python("anp2-relay"), "-c", _REFERENCE], env, "running on") as server:
            yield server


@contextmanager
def process(command: Sequence[str | Path], env: dict[str, str], ready: str) -> Iterator[Server]:
    """Run a server that says `ready` and its address on standard error."""
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr
        line = ""
        while ready not in line:
            said, line = line, process.stderr.readline()
            if not line:
                raise SystemExit(f"{command[0]} did not start: {said}")
        port = int(line.split("http://127.0.0.1:")[1].split()[0])
        # what it logs from now on is drained by the system, not by us
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        try:
            yield Server(port, process.pid)
        finally:
            process.terminate()
            process.wait(30)
            drain.wait(5)
