"""The command `anporia-node`: as yet one verb, `sim`, which simulates a network and says how anonymous it was.

Exit status 0; 1 where the simulation could not be finished; 2 for an order that makes no sense; 130 where it was
stopped.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from .mix.guards import GUARDS
from .mix.profiles import PROFILES
from .sphinx import MAX_HOPS

if TYPE_CHECKING:
    from .sim.scenario import Scenario

__all__ = ["main"]

_MIN_NODES = MAX_HOPS + 2  # five mixes that are neither the author nor each other, and one to choose among
_MAX_NODES = 1_000  # a gigabyte of memory and an hour for a minute of `fast`


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it on one line."""
        self.exit(2, f"{self.prog}: {message}\n")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low:,} to {high:,}")
        return int(text)

    return read


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return read


def _parser() -> _Parser:
    parser = _Parser(prog="anporia-node", description="A node of the anonymous network.", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    sim = verbs.add_parser(
        "sim",
        help="simulate a network, and measure what an observer of all its links learns",
        description="Simulate a network in virtual time, with the real cores, and measure what an observer learns.",
        epilog="What the figures mean, and what they do not: docs/p2p.md.",
        allow_abbrev=False,
    )
    add = sim.add_argument
    add("--nodes", type=_whole(_MIN_NODES, _MAX_NODES), default=50, help="default %(default)s")
    add("--profile", choices=PROFILES, default="balanced", help="packets a second and delays (default %(default)s)")
    add("--seed", type=_whole(0, 2**31), default=7, help="all chance follows from it (default %(default)s)")
    add("--minutes", type=_number(0.01, 1_440), default=1.0, help="of virtual time (default %(default)g)")
    add("--corrupt", type=_number(0, 0.95), default=0.0, metavar="SHARE", help="of nodes that work for the observer")
    add("--dead", type=_number(0, 0.5), default=0.0, metavar="SHARE", help="of nodes that are known and do not answer")
    add("--loss", type=_number(0, 0.5), default=0.0, metavar="SHARE", help="of packets lost on links")
    add("--link-ms", type=_number(0, 100_000), default=5.0, metavar="MS", help="one way (default %(default)g)")
    add(
        "--load",
        type=_number(0.001, 0.9),
        default=0.1,
        metavar="SHARE",
        help="of the slots that are no loop's: with a message",
    )
    add("--guards", type=_whole(1, 20), default=GUARDS, help="mixes a node's packets enter by (default %(default)s)")
    add("--told", action="store_true", help="the observer is also told which packets end at which mix")
    add("--real-packets", action="store_true", help="with keys and 16 KiB; some 7 times as slow, the same figures")
    add(
        "--unwrap-us",
        type=_number(0, 1e6),
        metavar="US",
        help="what a mix takes to unwrap a packet (default: measured now, so that runs differ a little)",
    )
    add("--json", action="store_true", help="all figures as one JSON object on stdout")
    add("--plot", type=Path, metavar="FILE.png", help="draw bits against latency for all profiles (half a minute more)")
    return parser


def _scenario(parser: _Parser, given: argparse.Namespace) -> Scenario:
    for name in ("numpy", *(["matplotlib"] if given.plot else [])):
        if not _installed(name):
            parser.exit(2, f"anporia-node sim: {name} is not installed: it comes with anporia-p2p[sim]\n")
    from .sim.costs import measure
    from .sim.flights import Costs
    from .sim.scenario import Scenario

    measured, _ = measure()
    unwrap = measured.unwrap if given.unwrap_us is None else given.unwrap_us / 1e6
    # what is given in place of a measurement makes the whole run repeat: building takes some six times as long
    build = measured.build if given.unwrap_us is None else _BUILD_TO_UNWRAP * unwrap
    return Scenario(
        nodes=given.nodes,
        profile=PROFILES[given.profile],
        seed=given.seed,
        minutes=given.minutes,
        costs=Costs(unwrap, build),
        corrupt=given.corrupt,
        dead=given.dead,
        link=given.link_ms / 1e3,
        loss=given.loss,
        load=given.load,
        told=given.told,
        real=given.real_packets,
        guards=given.guards,
    )


_BUILD_TO_UNWRAP = 6.0  # five encapsulations and five layers, against one of each


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # taken out on purpose
        return False


def _check(parser: _Parser, given: argparse.Namespace) -> None:
    honest = given.nodes - round(given.corrupt * given.nodes)
    alive = honest - round(given.dead * honest)
    if alive < 2:
        parser.error(f"--corrupt and --dead leave {alive} honest nodes that work: at least 2 are needed")
    working = given.nodes - (honest - alive)
    if working <= MAX_HOPS:
        parser.error(f"--dead leaves {working} nodes that work: an author needs {MAX_HOPS} others")
    most_ms = 1e3 * 2 * PROFILES[given.profile].expected_latency / MAX_HOPS
    if given.link_ms > most_ms:
        parser.error(f"--link-ms: {given.profile} gives up before {given.link_ms:g} ms links: at most {most_ms:.0f}")
    if given.plot is not None:
        if given.plot.suffix.lower() != ".png":
            parser.error(f"--plot: {str(given.plot)!r} does not end in .png")
        if not given.plot.parent.is_dir():
            parser.error(f"--plot: the folder {str(given.plot.parent)!r} does not exist")
        # now, and not after minutes of work
        if given.plot.is_dir() or not os.access(given.plot if given.plot.exists() else given.plot.parent, os.W_OK):
            parser.error(f"--plot: {str(given.plot)!r} cannot be written")


def _simulate(parser: _Parser, given: argparse.Namespace) -> None:
    scenario = _scenario(parser, given)
    from .sim.curve import draw, sweep
    from .sim.scenario import simulate
    from .sim.table import print_outcome

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        run = bars.add_task(f"{given.nodes} nodes, {given.profile}", total=1.0)
        outcome = simulate(scenario, lambda done: bars.update(run, completed=done))
        if given.plot is not None:
            curve = bars.add_task("curve", total=1.0)
            points = sweep(scenario, lambda done: bars.update(curve, completed=done))
            honest = given.nodes - outcome.corrupt
            whom = "all" if honest == given.nodes else f"{honest} of them"
            title = f"{given.nodes} nodes, {whom} honest: an observer of all links"
            draw(points, title, given.plot)
    if given.json:
        print(json.dumps(outcome.as_dict()))
    else:
        print_outcome(outcome)
    if given.plot is not None:
        Console(stderr=True).print(f"drawn: {given.plot}", soft_wrap=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ends the process with its status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    _check(parser, given)
    try:
        _simulate(parser, given)
    except OSError as exc:
        parser.exit(1, f"anporia-node sim: {exc.strerror or exc}\n")
    except KeyboardInterrupt:
        parser.exit(130, "anporia-node sim: stopped\n")
