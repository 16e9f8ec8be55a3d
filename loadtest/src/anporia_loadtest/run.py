"""A run from beginning to end: locust as a program of its own, then the relay's log, then the verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import swarm
from .fresh import FreshRelay
from .logcheck import LogCheck, check_log, place_now, read_acknowledged
from .observations import Memory, Observations
from .target import PERMISSION, Target
from .verdict import Line, Mark, Verdict, judge

__all__ = ["ACKNOWLEDGED", "OBSERVED", "STATUS", "LoadFailed", "Order", "Outcome", "run"]

ACKNOWLEDGED, OBSERVED, STATUS = "acknowledged.txt", "observed.json", "status.json"  # what the child writes
STOP_S = 15  # so long may users finish what they are at
_PATIENCE_S = 120  # beyond the run itself: signing ahead, finishing, the report

Watch = Callable[[Mapping[str, Any]], None]


class LoadFailed(Exception):
    """The load generator did not do its work; the text is one line."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for. `host`: None for a fresh relay; `html`: None for no report."""

    host: Target | None
    users: int
    seconds: int
    shape: str
    seed: str
    html: Path | None
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    seen: Observations
    log: LogCheck
    memory: Memory | None
    verdict: Verdict


def run(order: Order, folder: Path, watch: Watch) -> Outcome:
    """Run it, in a folder for temporary files. Raises `TargetError` or `LoadFailed`."""
    busy = _busy()
    with ExitStack() as stack:
        relay = None
        if order.host is None:
            watch({"state": "starting a relay"})
            relay = stack.enter_context(FreshRelay(folder))
        target = order.host or Target.parse(relay.url if relay else "")
        info = target.info()
        before = relay.resident() if relay is not None else None
        start, since = place_now(target), int(time.time())
        seen = _load(order, target, info, folder, watch)
        watch({"state": "reading the log"})
        log = check_log(target, read_acknowledged(folder / ACKNOWLEDGED), seen.streams, start, since)
        memory = _memory(relay, before, log)
        verdict = judge(seen, log, memory, order.p99_ms, busy)
        if relay is not None and relay.ended is not None:
            died = Line("relay", Mark.FAILED, f"ended by itself with {relay.ended}: {relay.last_words()}")
            verdict = replace(verdict, lines=[died, *verdict.lines])
        return Outcome(seen, log, memory, verdict)


def _busy() -> float:
    """Say how much is going on here already: the load average of a core."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return 0.0


def _memory(relay: FreshRelay | None, before: tuple[int, int] | None, log: LogCheck) -> Memory | None:
    after = relay.resident() if relay is not None else None
    if before is None or after is None:
        return None
    return Memory(before[0], after[1], after[0], log.acknowledged)


def _load(order: Order, target: Target, info: Mapping[str, Any], folder: Path, watch: Watch) -> Observations:
    log = folder / "locust.log"
    rate = max(8.0, order.users / 4)  # users a second, of a steady run
    command = [
        *(sys.executable, "-m", "locust", "-f", str(Path(swarm.__file__).with_name("locustfile.py"))),
        *("--headless", "--only-summary", "--exit-code-on-error", "0", "--host", target.url),
        *("--users", str(order.users), "--spawn-rate", f"{rate:g}", "--run-time", f"{order.seconds}s"),
        *("--stop-timeout", str(STOP_S), "--logfile", str(log)),
        *("--shape", order.shape, "--seed", order.seed, "--notes", str(folder)),
        *("--agent-rate", str(info["limits"].get("agent_rate", 60))),
    ]
    if order.html is not None:
        command += ["--html", str(order.html.resolve())]
    if not target.loopback:
        command.append(PERMISSION)  # which was given, or we were not here
    # the settings of whoever runs this are for their own tests
    env = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")} | {"HOME": str(folder)}
    with (folder / "locust.out").open("wb") as out:
        child = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            _wait(child, order.seconds + _PATIENCE_S, folder / STATUS, watch)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    try:
        return Observations.from_json(json.loads((folder / OBSERVED).read_text()))
    except (OSError, ValueError, TypeError, KeyError):
        said = [*_lines(folder / "locust.out"), *_lines(log)] or ["it said nothing"]
        raise LoadFailed(f"locust ended with {child.returncode}: {said[-1]}") from None


def _wait(child: subprocess.Popen[bytes], seconds: float, status: Path, watch: Watch) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            child.wait(0.25)
            return
        except subprocess.TimeoutExpired:
            pass
        if time.monotonic() > deadline:
            raise LoadFailed(f"locust did not end within {seconds:g} s")
        try:
            watch(json.loads(status.read_text()))
        except (OSError, ValueError):
            pass  # not written yet


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").strip().splitlines()
    except OSError:
        return []
