"""A bench run by itself: its command line, its table, its file. `python -m bench` runs them all instead."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from bench._figures import Figure, print_table, write_json

__all__ = ["alone", "progress"]

T = TypeVar("T")


def progress(steps: Iterable[T], saying: str) -> Iterator[T]:
    """Go through steps with a bar on a terminal; it vanishes when all is done."""
    shown = Console(stderr=True)
    yield from track(steps, saying, console=shown, disable=not sys.stderr.isatty(), transient=True)


def alone(title: str, about: str | None, figures: Callable[[int, bool, int | None], list[Figure]], events: int) -> None:
    """Measure as the command line says, and print; `events`: how many a run are, unless told otherwise."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--runs", type=int, help="default: 5, with --quick 1")
    parser.add_argument("--events", type=int, help=f"events a run, default {events:,}")
    parser.add_argument("--quick", action="store_true", help="a few events, once: tries the bench, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    args = parser.parse_args()
    found = figures(args.runs or (1 if args.quick else 5), args.quick, args.events)
    print_table(title, found)
    if args.json:
        write_json(args.json, found)
