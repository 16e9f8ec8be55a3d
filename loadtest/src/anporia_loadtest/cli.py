"""The command `anporia-loadtest`: load on a relay for a while, then a verdict; exit status 0, 1, or 2 for no run."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from .curves import SHAPES, usual_seconds
from .report import StatusLine, print_outcome, to_json
from .run import LoadFailed, Order, run
from .target import NOT_YOURS, PERMISSION, Target, TargetError

__all__ = ["main"]

USERS = 50
P99_MS = 250.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it on one line."""
        self.exit(2, f"{self.prog}: {message}\n")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds above 0")
    return value


def parse(arguments: Sequence[str]) -> tuple[Order, bool]:
    """Read the command line; says also whether JSON is wanted. Ends the program for what cannot be."""
    parser = _Parser(
        prog="anporia-loadtest",
        description="Load on a fresh relay on this machine, and whether it stayed right.",
        epilog=f"Exit status: 0 right, 1 not right or too slow, 2 not run. A relay elsewhere needs {PERMISSION}.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--users", type=_whole(1, 10_000), default=USERS, help="agents at once at most (default %(default)s)")
    add("--seconds", type=_whole(1, 604_800), help="how long (default 60; of a soak 1,800)")
    add("--shape", choices=SHAPES, default="steady", help="how the number of users moves (default %(default)s)")
    add("--host", metavar="URL", help="a running relay instead of a fresh one")
    add(PERMISSION, action="store_true", dest="mine", help="allows a --host that is not this machine")
    add("--seed", help="what is said and done by whom follows from it (default: another each time)")
    add("--json", action="store_true", help="the outcome as one JSON object on stdout")
    add(
        "--html",
        type=Path,
        metavar="PATH",
        help="where locust's report is written (default: a new file among the temporary ones, none with --json)",
    )
    add("--p99-ms", type=_milliseconds, default=P99_MS, help="allowed p99 of publishing and of reading (default 250)")
    given = parser.parse_args(arguments)
    host = None
    if given.host is not None:
        try:
            host = Target.parse(given.host)
        except TargetError as exc:
            parser.error(f"--host: {exc}")
        if not host.loopback and not given.mine:
            parser.error(f"{host.url} {NOT_YOURS}")
    seed = given.seed if given.seed is not None else secrets.token_hex(4)
    if not seed.isprintable() or len(seed) > 64 or seed.startswith("-"):
        parser.error("--seed: at most 64 printable characters that begin with no '-'")
    html = given.html
    if html is not None:
        if html.is_dir() or not html.name:
            parser.error(f"--html: {html} is a directory")
        if not html.parent.is_dir():
            parser.error(f"--html: there is no folder {html.parent}")
        if not os.access(html.parent, os.W_OK):
            parser.error(f"--html: the folder {html.parent} cannot be written to")
    elif not given.json:
        handle, name = tempfile.mkstemp(prefix="anporia-loadtest-", suffix=".html")
        os.close(handle)
        html = Path(name)
    seconds = given.seconds or usual_seconds(given.shape)
    return Order(host, given.users, seconds, given.shape, seed, html, given.p99_ms), given.json


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    order, as_json = parse(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped on the way out
    try:
        with tempfile.TemporaryDirectory(prefix="anporia-loadtest-") as folder, StatusLine(order.seconds) as line:
            outcome = run(order, Path(folder), line.show)
    except (TargetError, LoadFailed, OSError) as exc:
        sys.exit(_refused(str(exc)))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        if order.html is not None and order.html.exists() and not order.html.stat().st_size:
            order.html.unlink()  # a temporary file that nothing was written to
    if as_json:
        print(json.dumps(to_json(order, outcome)))
    else:
        print_outcome(Console(highlight=False), order, outcome)
    sys.exit(0 if outcome.verdict.ok else 1)


def _refused(why: str) -> int:
    print(f"anporia-loadtest: {why}", file=sys.stderr)
    return 2
