"""An outcome for people: one table that fits 80 columns."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from .outcome import Outcome

__all__ = ["print_outcome"]

_WIDTH = 80


def print_outcome(outcome: Outcome) -> None:
    """Print all figures; colours only on a terminal."""
    figures = outcome.as_dict()
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    settings = ", ".join(f"{name} {value}" for name, value in outcome.settings.items() if value)
    title = (
        f"{outcome.nodes} nodes, {outcome.profile.name}, seed {outcome.seed}, {outcome.minutes:g} min of virtual time"
    )
    for row in _rows(outcome, figures):
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    with console.capture() as shown:
        console.print(title, style="bold")
        console.print(settings, style="dim")
        console.print(table)
    # the table fills its lines with spaces, which a file need not have
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in shown.get().splitlines()))


def _rows(outcome: Outcome, figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    latency, bits = figures["latency_ms"], figures["h_user_bits"]
    rows = [("messages", f"{figures['sent']:,} sent, {figures['delivered']:,} delivered, {figures['failed']:,} failed")]
    tries = {number: count for number, count in figures["heard_by_try"].items() if count}
    rows.append(("heard", ", ".join(f"{count:,} in try {number}" for number, count in tries.items()) or "none"))
    if latency["mean"] is not None:
        rows.append(("one way", f"mean {_ms(latency['mean'])}, p50 {_ms(latency['p50'])}, p95 {_ms(latency['p95'])}"))
    if bits["mean"] is not None:
        rows += [
            (
                "anonymity",
                f"mean {bits['mean']:.2f} bits, least {bits['min']:.2f}, of {bits['max_possible']:.2f} possible",
            ),
            ("", f"as if {2 ** bits['mean']:.0f} of {2 ** bits['max_possible']:.0f} authors were equally likely"),
            ("surprise", f"{bits['surprise']:.2f} bits: less than the mean would mean that it overstates"),
        ]
        linked = {count: left for count, left in figures["h_linked_bits"].items() if left is not None}
        if linked:
            left = ", ".join(f"{bits:.2f} bits after {count} events" for count, bits in linked.items())
            rows.append(("many of a key", left))
    if outcome.corrupt:
        rows.append(("corrupt", f"{outcome.corrupt} nodes work for the observer"))
    if outcome.dead:
        rows.append(("dead", f"{outcome.dead} nodes do not answer"))
    per_delivery = figures["bytes_per_delivery"]
    rows += [
        ("packets", f"{figures['packets']:,} of {figures['packet_bytes']:,} bytes on links"),
        ("cover", f"{figures['cover_share']:.1%} of what nodes send of their own"),
        ("a delivery", "-" if per_delivery is None else f"{per_delivery / 1e6:.2f} MB on all links, cover and all"),
        ("a node a day", f"{figures['gigabytes_a_day']:.3g} GB out, and as much in"),
        ("processor", f"unwrap {figures['unwrap_us_median']:.0f} us, build {figures['build_us_median']:.0f} us"),
        ("loops", f"{figures['loops']['sent']:,} sent, {figures['loops']['lost']:,} lost"),
        ("drops", ", ".join(f"{reason} {count:,}" for reason, count in figures["drops"].items()) or "none"),
    ]
    return rows


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value < 10_000 else f"{value / 1e3:,.1f} s"
