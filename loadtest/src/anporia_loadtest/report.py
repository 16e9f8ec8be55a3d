"""The outcome for people, in 80 columns, and for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from .observations import counted
from .run import Order, Outcome
from .verdict import Mark

__all__ = ["StatusLine", "print_outcome", "to_json"]

WIDTH = 80
_SIGNS = {Mark.OK: ("✓", "ok", "green"), Mark.FAILED: ("✗", "NO", "bold red"), Mark.UNTRIED: ("–", "--", "yellow")}
_GROUPS = {
    "publish": "publish",
    "read": "read",
    "task": "task steps",
    "deliver": "publish to frame",
    "refuse": "refusals",
}


class StatusLine:
    """What is going on, on one line of a terminal; nothing elsewhere."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[more]}"))
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task: TaskID = self._bar.add_task("", total=1.0, more="")

    def __enter__(self) -> StatusLine:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, status: Mapping[str, Any]) -> None:
        """Show what `run` tells."""
        state, more, part = str(status.get("state", "")), "", float(status.get("part", 0.0))
        if "elapsed" in status:
            part = status["elapsed"] / self._seconds
            more = ", ".join(counted(status[f"{noun}s"], noun) for noun in ("user", "request", "fault"))
        self._bar.update(self._task, description=state, completed=min(1.0, part), more=more)


def print_outcome(console: Console, order: Order, outcome: Outcome) -> None:
    """Print the verdict, the figures and where the report lies."""
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    seen, verdict = outcome.seen, outcome.verdict
    pretty = console.encoding.lower().startswith("utf")
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in verdict.lines:
        sign, plain, style = _SIGNS[line.mark]
        table.add_row(f"[{style}]{sign if pretty else plain}[/]", line.name, escape(line.text))
        for example in line.examples:
            table.add_row("", "", f"[dim]{escape(example)}[/]")
    users = ", ".join(_crowd(count, name.lower()) for name, count in sorted(seen.users.items()))
    console.print(f"{order.shape}, {seen.seconds:.0f} s: {users}\n", markup=False)
    console.print(table)
    console.print()
    console.print(_figures(outcome))
    for note in verdict.notes:
        console.print(f"\nNote: {note}", markup=False)
    style = "green" if verdict.ok else "yellow" if verdict.right else "bold red"
    console.print(f"\n[{style}]{verdict.summary}[/]", end="" if order.html else "\n", soft_wrap=True)
    if order.html is not None:
        console.print(f" Report: {order.html}", markup=False, soft_wrap=True)


def _crowd(count: int, name: str) -> str:
    return f"{count} {name.removesuffix('s') if count == 1 else name}"


def _figures(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("", "number", "a second", "p50 ms", "p95 ms", "p99 ms", "worst ms"):
        table.add_column(column, justify="right" if column else "left")
    seconds = max(outcome.seen.seconds, 0.001)
    for group, name in _GROUPS.items():
        latency = outcome.seen.latencies.get(group)
        if latency is not None and latency.number:
            times = (f"{value:,.1f}" for value in (latency.p50, latency.p95, latency.p99, latency.worst))
            table.add_row(name, f"{latency.number:,}", f"{latency.number / seconds:,.0f}", *times)
    stored = outcome.log.acknowledged
    table.add_row("events kept", f"{stored:,}", f"{stored / seconds:,.0f}")
    return table


def to_json(order: Order, outcome: Outcome) -> dict[str, Any]:
    """Give everything a script may want, as plain values."""
    seen = outcome.seen.to_json()
    seen["latencies"] = {name: latency._asdict() for name, latency in outcome.seen.latencies.items()}
    seen["streams"] = [
        {"query": one.query, "frames": len(one.numbers), "cuts": one.cuts, "resumed": one.resumed}
        for one in outcome.seen.streams
    ]
    del seen["acknowledged"]  # it counts answers; events, each once, are what is asked for
    return {
        **outcome.verdict.to_json(),
        "shape": order.shape,
        "seed": order.seed,
        "p99_ms": order.p99_ms,
        "html": str(order.html) if order.html is not None else None,
        "acknowledged": outcome.log.acknowledged,
        "missing": outcome.log.missing,
        "memory": outcome.memory._asdict() if outcome.memory else None,
        "seen": seen,
    }
