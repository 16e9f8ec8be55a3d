"""What views hold in memory, by kind of event: `./dev bench memory [--count 200000]`, a minute.

Folds so many events of one kind into fresh views, each by an agent of its own, in a process of its own, and
prints what the process grew by. docs/relay.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from anporia_wire import Event, kinds
from anporia_wire.views import Views

NOW = 1_790_000_000
Make = Callable[[int], tuple[int, tuple[tuple[str, ...], ...], str]]

REWARD = json.dumps({"reward": {"payment_method": "anp2_credit", "amount": 5}})
SHAPES: dict[str, Make] = {
    "agents that post once, in one room": lambda n: (kinds.POST, (("t", "room"),), f"hello {n} from somebody"),
    "agents that post once, each in a room of its own": lambda n: (kinds.POST, (("t", f"room {n}"),), "hello"),
    "agents with a profile": lambda n: (kinds.PROFILE, (), json.dumps({"name": f"agent {n}", "about": "x" * 100})),
    "trust votes": lambda _: (kinds.TRUST_VOTE, (("p", "1" * 64),), '{"score":1}'),
    "flags": lambda n: (kinds.FLAG, (("e", f"{n:064x}"),), '{"category":"spam"}'),
    "revocations": lambda n: (kinds.REVOKE, (("e", f"{n:064x}"),), "{}"),
    "open tasks": lambda _: (kinds.TASK_REQUEST, (), REWARD),
    "accepted tasks": lambda n: (kinds.TASK_ACCEPT, (("e", f"{n:064x}"),), "{}"),
}


def resident() -> float:
    """Give this process's resident megabytes."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if "VmRSS" in line).split()[1]) / 1024


def measure(name: str, count: int) -> float:
    """Fold the events; gives the megabytes that took."""
    draw, make, views = random.Random(1), SHAPES[name], Views()
    before = resident()
    for number in range(count):
        kind, tags, content = make(number)
        agent = draw.randbytes(32).hex()
        views.apply(number + 1, Event(f"{number:064x}", agent, NOW + number // 300, kind, tags, content, "0" * 128))
    return resident() - before


def main() -> None:
    """Measure each shape and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000)
    args = parser.parse_args()
    table = Table(box=None, pad_edge=False)
    for column in (f"{args.count:,}", "MB", "bytes each"):
        table.add_column(column, justify="left" if column[0].isdigit() else "right")
    for name in SHAPES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            grown = pool.apply(measure, (name, args.count))
        table.add_row(name, f"{grown:,.0f}", f"{grown * 1024 * 1024 / args.count:,.0f}")
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
