"""All benches that have goals, one after the other: `./dev bench`, an hour on a quiet machine.

Prints a table for each, says how many goals are met, and writes all to build/bench.json and .md. `--only a,b` takes
some of them; `--charts DIR` draws PNGs too, also of an earlier file: `--only none --json FILE --charts DIR`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from bench._alone import progress
from bench._figures import Figure, markdown, print_table, write_json

__all__ = ["main"]

# in the order of the goals; a module of that name in this folder, with figures(runs, quick) -> list[Figure]
GOALS = {
    "publish": "Publishing",
    "latency": "Latency",
    "forged": "Forged events and duplicates",
    "fanout": "Fan-out",
    "crowds": "Crowds",
    "reads": "Reading",
    "growth": "As the log grows",
    "p2p": "The anonymous network",
}
FURTHER = {"flame": "Where the CPU goes"}  # no goals: only when asked for


def measure(names: list[str], runs: int, quick: bool, json_file: Path) -> list[Figure]:
    """Run the benches in turn; prints the table of each and writes all figures so far, also as a page of tables."""
    titles = {**GOALS, **FURTHER}
    found: list[Figure] = []
    page = json_file.with_suffix(".md")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("")
    for name in progress(names, "benches"):
        started = time.monotonic()
        figures: list[Figure] = importlib.import_module(f"bench.{name}").figures(runs, quick)
        for figure in figures:
            figure.details["bench"] = name
        print_table(titles[name], figures)
        print(f"{(time.monotonic() - started) / 60:.1f} minutes\n", flush=True)
        found += figures
        write_json(json_file, found)
        with page.open("a") as file:
            file.write(markdown(titles[name], figures))
    return found


def said(figures: list[Figure]) -> str:
    """Say how many goals are met, and which are not."""
    with_goal = [figure for figure in figures if figure.goal is not None]
    missed = [figure for figure in with_goal if not figure.met]
    lines = [f"{len(with_goal) - len(missed)} of {len(with_goal)} goals are met"]
    for figure in missed:
        why = f"{figure.median:.3g} {figure.unit}" if figure.valid else "too many requests failed to say"
        lines.append(f"  not met: {figure.details.get('bench', '')}: {figure.name} {figure.goal_text()}: {why}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for. The exit status is 0 whether or not goals are met."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="A,B", help=f"of {', '.join([*GOALS, *FURTHER])}; none: draw only")
    parser.add_argument("--runs", type=int, help="default: 5, with --quick 1")
    parser.add_argument("--quick", action="store_true", help="tries the benches in seconds, measures nothing")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), metavar="FILE")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw PNGs there")
    args = parser.parse_args(arguments)
    names = list(GOALS) if args.only is None else [name for name in args.only.split(",") if name != "none"]
    if unknown := set(names) - {*GOALS, *FURTHER}:
        parser.error(f"no bench with goals: {', '.join(sorted(unknown))}")
    if names:
        figures = measure(names, args.runs or (1 if args.quick else 5), args.quick, args.json)
        print(said(figures))
        print(f"all figures: {args.json}, and as tables {args.json.with_suffix('.md')}")
    if args.charts:
        from bench._charts import draw

        rows: list[dict[str, Any]] = json.loads(args.json.read_text())["figures"]
        Console(stderr=True).print(*(f"drawn: {path}" for path in draw(args.charts, rows)), sep="\n")


if __name__ == "__main__":
    main()
