"""What a run says: a table of areas and levels, each failure with what was expected and what came; or all as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .check import LEVELS
from .probe import Probe
from .run import Result

__all__ = ["as_json", "show"]

_OUTCOMES = ("passed", "failed", "skipped")
_SHORT = {"passed": "pass", "failed": "fail", "skipped": "skip"}


def as_json(probe: Probe, results: Sequence[Result]) -> dict[str, Any]:
    """Give the run as plain values."""
    levels = {
        level: {outcome: sum(r.check.level == level and r.outcome == outcome for r in results) for outcome in _OUTCOMES}
        for level in LEVELS
    }
    return {
        "relay": probe.client.url,
        "software": {name: probe.info.get(name) for name in ("name", "version")},
        "levels": levels,
        "checks": [
            {
                "name": result.check.name,
                "area": result.check.area,
                "level": result.check.level,
                "claim": result.check.claim,
                "outcome": result.outcome,
                **({"expected": result.expected, "got": result.got} if result.outcome == "failed" else {}),
                **({"reason": result.got} if result.outcome == "skipped" else {}),
                "seconds": round(result.seconds, 3),
            }
            for result in results
        ],
    }


def show(console: Console, probe: Probe, results: Sequence[Result]) -> None:
    """Print the table, then each failure, then the reasons of what was skipped."""
    levels = [level for level in LEVELS if any(result.check.level == level for result in results)]
    console.print(f"Conformance of {escape(probe.client.url)}\n")
    table = Table(box=None, pad_edge=False)
    table.add_column("area", no_wrap=True)
    for level in levels:
        for outcome in _OUTCOMES:
            head = f"{level}\n{_SHORT[outcome]}" if outcome == "passed" else f"\n{_SHORT[outcome]}"
            table.add_column(head, justify="right", no_wrap=True)
    for area in dict.fromkeys(result.check.area for result in results):
        table.add_row(area, *_row([result for result in results if result.check.area == area], levels))
    table.add_section()
    table.add_row("[bold]all[/]", *_row(results, levels))
    console.print(table)
    failures = [result for result in results if result.outcome == "failed"]
    for result in failures:
        check = result.check
        console.print(f"\n[bold red]{escape(check.name)}[/] ({check.level})")
        for label, text in (("claim", check.claim), ("expected", result.expected), ("got", result.got)):
            console.print(f"  {label:<9} {escape(text)}")
    skipped = Counter(result.got for result in results if result.outcome == "skipped")
    if skipped:
        console.print()
    for reason, count in skipped.items():
        console.print(f"[dim]skipped {count}: {escape(reason)}[/]")
    passed = sum(result.outcome == "passed" for result in results)
    console.print(f"\n{passed} passed, {len(failures)} failed, {skipped.total()} skipped")


def _row(results: Sequence[Result], levels: Sequence[str]) -> list[str]:
    cells = []
    for level in levels:
        counted = Counter(result.outcome for result in results if result.check.level == level)
        for outcome in _OUTCOMES:
            count = counted[outcome]
            text = str(count) if count else "·"
            cells.append(f"[red]{text}[/]" if outcome == "failed" and count else text)
    return cells
