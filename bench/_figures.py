"""What a bench found: a figure, its runs, and the goal it is held against."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "machine", "markdown", "print_table", "rows", "spread", "write_json"]

MOST_FAILURES = 0.01  # above this share of failed requests a run says nothing, and no ratio of it is printed


@dataclass(slots=True)
class Figure:
    """One line of a table. `runs`: one value a run, in `unit`; `goal`: the bound the median must keep, if any."""

    name: str
    unit: str
    runs: list[float]
    goal: float | None = None
    more_is_better: bool = False
    requests: int = 0
    failures: int = 0
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    failed_runs: int = 0
    """Runs of which more than that share failed: one is enough to spoil a median."""

    @property
    def valid(self) -> bool:
        """Say whether so few requests failed that the figure means something."""
        return self.failures <= self.requests * MOST_FAILURES and not self.failed_runs

    @property
    def median(self) -> float:
        """The middle of the runs."""
        return statistics.median(self.runs)

    @property
    def met(self) -> bool | None:
        """Say whether the goal is kept; None without one."""
        if self.goal is None:
            return None
        return self.valid and (self.median >= self.goal if self.more_is_better else self.median <= self.goal)

    def goal_text(self) -> str:
        """Write the goal, such as `<= 1.9`."""
        return "" if self.goal is None else f"{'>=' if self.more_is_better else '<='} {number(self.goal)}"


def number(value: float) -> str:
    """Write a number with three significant digits, or whole thousands."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """Write a median with its lowest and highest; a single value alone."""
    if len(values) == 1:
        return number(values[0])
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{number(middle)} ({number(low)}-{number(high)})"


def print_table(title: str, figures: Sequence[Figure]) -> None:
    """Print figures in a table that fits 80 columns on a terminal."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for column in ("", "median (low-high)", "unit", "goal", ""):
        table.add_column(column, justify="right" if "median" in column else "left")
    for figure in figures:
        shown = spread(figure.runs) if figure.valid else "not shown"
        mark = {True: "met", False: "not met", None: ""}[figure.met]
        if figure.failures or not figure.valid:
            mark = f"{mark} {figure.failures:,} of {figure.requests:,} requests failed".strip()
        table.add_row(figure.name, shown, figure.unit, figure.goal_text(), mark)
        if figure.note:
            table.add_row(f"  {figure.note}")
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if most := max((figure.requests for figure in figures), default=0):
        failed = sum(bool(figure.failures) for figure in figures)
        print(f"up to {most:,} requests a figure; " + (f"some failed in {failed} of them" if failed else "none failed"))


def markdown(title: str, figures: Sequence[Figure]) -> str:
    """Write figures as a section for a page."""
    lines = [f"## {title}", "", "| | median (lowest-highest) | unit | goal | |", "|---|---|---|---|---|"]
    for figure in figures:
        shown = spread(figure.runs) if figure.valid else "not shown"
        mark = {True: "met", False: "**not met**", None: ""}[figure.met]
        failed = f" {figure.failures:,} of {figure.requests:,} failed" if figure.failures else ""
        note = f" ({figure.note})" if figure.note else ""
        lines.append(f"| {figure.name}{note} | {shown} | {figure.unit} | {figure.goal_text()} | {mark}{failed} |")
    return "\n".join(lines) + "\n\n"


def machine() -> dict[str, Any]:
    """Say what was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    return {"cpu": model, "python": platform.python_version(), "system": platform.system()}


def rows(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Give figures as plain values; an invalid one keeps its runs under `invalid_runs` only."""
    return [
        {
            "name": figure.name,
            "unit": figure.unit,
            "goal": figure.goal,
            "met": figure.met,
            "requests": figure.requests,
            "failures": figure.failures,
            "runs" if figure.valid else "invalid_runs": figure.runs,
            **({"median": figure.median} if figure.valid else {}),
            **figure.details,
        }
        for figure in figures
    ]


def write_json(path: Path, figures: Sequence[Figure]) -> None:
    """Write figures for scripts and charts."""
    path.write_text(json.dumps({"machine": machine(), "figures": rows(figures)}, indent=1) + "\n")
