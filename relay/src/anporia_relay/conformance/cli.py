"""The command `anporia-relay conformance`: exit 0 all passed, 1 some check failed, 2 wrong use or no relay there."""

from __future__ import annotations

import json
import os
import sys
import textwrap

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .areas import AREAS
from .check import LEVELS, Check
from .client import Client
from .report import as_json, show
from .run import Result, Unreachable, meet, run, select

__all__ = ["conformance"]

_PASSWORD = "ANPORIA_CONFORMANCE_PASSWORD"


@click.command(short_help="Hold any relay against the protocol, by its URL.")
@click.argument("url", required=False)
@click.option("--level", type=click.Choice([*LEVELS, "all"]), default="all", show_default=True, help="which claims")
@click.option(
    "--area", "areas", multiple=True, type=click.Choice(AREAS), metavar="NAME", help="only this area; may be repeated"
)
@click.option("--json", "as_json_", is_flag=True, help="print all results as JSON")
@click.option("--auth", metavar="USER", default="", help=f"HTTP Basic user; the password is in {_PASSWORD}")
@click.option("--fast", is_flag=True, help="no pacing, for one's own relay with its limits off")
@click.option("--list", "list_", is_flag=True, help="name the checks and ask nothing")
def conformance(
    url: str | None, level: str, areas: tuple[str, ...], as_json_: bool, auth: str, fast: bool, list_: bool
) -> None:
    """Hold the relay at URL against the protocol, seen from outside.

    Several hundred events are published under fresh keys, paced below the limits of published relays.
    Exit 0: all passed; 1: some check failed; 2: wrong use, or no relay answers there.
    """
    checks = select(LEVELS if level == "all" else (level,), areas)
    if list_:
        _list(checks, as_json_)
        return
    if auth and not os.environ.get(_PASSWORD):
        raise click.UsageError(f"--auth needs the password in {_PASSWORD}")
    if not url:
        raise click.UsageError("Missing argument 'URL'.")
    try:
        probe = meet(Client(url, user=auth, password=os.environ.get(_PASSWORD, "")), fast=fast)
    except (Unreachable, ValueError) as exc:
        click.echo(f"anporia-relay: {exc}", err=True)
        sys.exit(2)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=len(checks))
        results: list[Result] = []
        broken_off, why = 0, ""
        try:
            run(
                probe,
                checks,
                asked_for=areas,
                progress=lambda check: bar.update(task, description=f"{check.area:<10}", advance=1),
                into=results,
            )
        except Unreachable as exc:
            broken_off, why = 2, str(exc)
        except KeyboardInterrupt:
            broken_off, why = 130, f"stopped after {len(results)} of {len(checks)} checks"
        finally:
            probe.client.close()
    if as_json_:
        print(json.dumps(as_json(probe, results), ensure_ascii=False))
    else:
        show(Console(highlight=False, width=None if sys.stdout.isatty() else 80), probe, results)
    if broken_off:
        click.echo(f"anporia-relay: {why}", err=True)
        sys.exit(broken_off)
    sys.exit(1 if any(result.outcome == "failed" for result in results) else 0)


def _list(checks: list[Check], as_json_: bool) -> None:
    if as_json_:
        print(json.dumps([{k: getattr(c, k) for k in ("name", "area", "level", "claim")} for c in checks]))
        return
    for check in checks:
        print(f"{check.name} ({check.level})")
        print(textwrap.fill(check.claim, 80, initial_indent="    ", subsequent_indent="    "))
