"""Where the relay's CPU goes under POST and under batches: `./dev bench flame [--charts DIR]`, a minute.

A flame graph of each from py-spy's native stacks (flame-post.svg, flame-batch.svg), and a table: signature, kernel,
Python, SQLite and the rest. The table is `perf`'s where that is installed (Debian: linux-perf), since it samples
without stopping the relay and sees the kernel; else it is counted in py-spy's stacks, in which the kernel's time
is its caller's. Both need the right to look into another process: root, or CAP_SYS_PTRACE.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench._alone import progress
from bench._charts import PARTS, draw
from bench._events import batches, posts, signed_events
from bench._figures import Figure, print_table, rows, write_json
from bench._flamegraph import Stacks, read, svg
from bench._samples import Sample, figure, measure
from bench._servers import our_relay
from bench.publish import BATCH_CONNECTIONS, MAIN_CONNECTIONS

__all__ = ["figures", "record"]

EVENTS, QUICK_EVENTS = 40_000, 1_000
PY_SPY_RATE, PERF_RATE = 250, 997  # samples a second; 997 is in step with no timer
WAYS = {"POST": (posts, MAIN_CONNECTIONS), "batch": (batches, BATCH_CONNECTIONS)}
STARTING_S = 1.0  # until a profiler has read the symbols

# by the file that the code came from; "signature" is libsodium and our own verifier
_DSOS = {
    "signature": r"sodium|_verify\.|ed25519",
    "SQLite": r"sqlite",
    "kernel": r"^\[kernel|^\[vdso|^\[k\]|\.ko$",
    "Python": r"^libpython|^python",
}
# by function names in a stack, for py-spy
_FRAMES = {"signature": r"verify_many|crypto_sign|ge25519|fe25519", "SQLite": r"sqlite3", "Python": r"."}


class CannotAttachError(Exception):
    """A profiler may not look into the relay; the text says what it said."""


@contextmanager
def _profiled(command: Sequence[str]) -> Iterator[None]:
    """Run a profiler beside the block; raises `CannotAttachError`."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as profiler:
        time.sleep(STARTING_S)
        try:
            if profiler.poll() is None:
                yield
                profiler.send_signal(signal.SIGINT)
        finally:
            said = profiler.communicate()[1]
    # perf ends as its signal says, with a whole file
    if profiler.returncode not in (0, -signal.SIGINT):
        raise CannotAttachError(f"{command[0]}: {said.strip()[-500:]}")


def record(way: str, events: int) -> Stacks:
    """Give the stacks that py-spy saw under load."""
    py_spy = shutil.which("py-spy", path=Path(sys.executable).parent) or shutil.which("py-spy")
    if not py_spy:
        raise CannotAttachError("py-spy is not installed: pip install -r requirements-dev.txt")
    with tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder, our_relay() as server:
        out = Path(folder, "raw")
        how = ["--native", "--threads", "--function", "--rate", str(PY_SPY_RATE), "--format", "raw"]
        requests, connections = _load(way, events)
        with _profiled([py_spy, "record", *how, "--output", str(out), "--pid", str(server.pid)]):
            measure(server, requests, connections, events)
        return read(out.read_text())


def _load(way: str, events: int) -> tuple[list[bytes], int]:
    made: Callable[[Sequence[bytes]], list[bytes]]
    made, connections = WAYS[way]
    return made(signed_events(events)), connections


def shares_by_perf(way: str, events: int) -> tuple[dict[str, float], Sample]:
    """Give the share of each part by the file its code is in, and what was measured meanwhile."""
    with tempfile.TemporaryDirectory(prefix="anporia-bench-") as folder, our_relay() as server:
        data = str(Path(folder, "perf.data"))
        requests, connections = _load(way, events)
        with _profiled(["perf", "record", "-F", str(PERF_RATE), "-o", data, "-p", str(server.pid)]):
            sample = measure(server, requests, connections, events)
        report = ["perf", "report", "-i", data, "--sort", "dso", "--stdio", "-F", "overhead,dso", "-t", "|"]
        said = subprocess.run(report, capture_output=True, text=True, check=True).stdout
    found: Counter[str] = Counter()
    for percent, file in re.findall(r"^\s*([\d.]+)%\s*\|\s*(\S+)", said, re.MULTILINE):
        found[_part(_DSOS, file)] += float(percent)  # type: ignore[assignment]  # a Counter counts floats as well
    return _of_all(found), sample


def shares_of(stacks: Stacks) -> dict[str, float]:
    """Give the share of each part by the functions on its stacks."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[_part(_FRAMES, ";".join(stack))] += count
    return _of_all(found)


def _of_all(found: Counter[str]) -> dict[str, float]:
    total = sum(found.values())
    if not total:
        raise CannotAttachError("the profiler ran, and saw nothing")
    return {part: found[part] / total for part in PARTS}


def _part(patterns: dict[str, str], text: str) -> str:
    return next((part for part, pattern in patterns.items() if re.search(pattern, text)), "rest")


def _shares(way: str, events: int) -> tuple[dict[str, float], Sample, str]:
    """Take perf's word if it has one, else py-spy's."""
    if shutil.which("perf"):
        try:
            return *shares_by_perf(way, events), "perf, by file"
        except CannotAttachError as exc:
            print(f"perf may not look into the relay, so py-spy's stacks are counted: {exc}", file=sys.stderr)
    with our_relay() as server:
        requests, connections = _load(way, events)
        sample = measure(server, requests, connections, events)
    return shares_of(record(way, events)), sample, "py-spy; the kernel's time is its caller's"


def figures(runs: int, quick: bool, events: int | None = None) -> list[Figure]:
    """Measure the shares of the CPU."""
    found = []
    count = events or (QUICK_EVENTS if quick else EVENTS)
    for way in WAYS:
        taken = [_shares(way, count) for _ in progress(range(runs), f"where the CPU goes: {way}")]
        samples = [sample for _, sample, _ in taken]
        found.append(figure(f"{way}: CPU", "us/event", lambda s: s.cpu_us, samples, note=f"by {taken[0][2]}"))
        for part in PARTS:
            parts = [share[part] * 100 for share, _, _ in taken]
            us = [share[part] * sample.cpu_us for share, sample, _ in taken]
            about: dict[str, Any] = {"chart": "cpu", "way": way, "part": part, "us": us}
            found.append(figure(f"{way}: {part}", "% of CPU", lambda value, _: value, parts, samples, **about))
    return found


def main() -> None:
    """Record, draw, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--charts", type=Path, default=Path("build/charts"), metavar="DIR", help="for the pictures")
    parser.add_argument("--runs", type=int, default=1, help="of the table")
    parser.add_argument("--events", type=int)
    parser.add_argument("--quick", action="store_true", help="a few events: tries the bench, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    args = parser.parse_args()
    args.charts.mkdir(parents=True, exist_ok=True)
    events = args.events or (QUICK_EVENTS if args.quick else EVENTS)
    try:
        for way in WAYS:
            path = args.charts / f"flame-{way.lower()}.svg"
            path.write_text(svg(record(way, events), f"{way}: CPU time of the relay, {events:,} events"))
            print(f"drawn: {path}, {path.stat().st_size / 1024:.0f} kB")
        found = figures(args.runs, args.quick, args.events)
    except CannotAttachError as exc:
        sys.exit(
            f"bench flame: a profiler may not look into the relay: {exc}\n"
            "It needs root, or CAP_SYS_PTRACE (docker: --cap-add SYS_PTRACE), or kernel.yama.ptrace_scope=0."
        )
    print_table("Where the CPU goes", found)
    draw(args.charts, rows(found))
    if args.json:
        write_json(args.json, found)


if __name__ == "__main__":
    main()
