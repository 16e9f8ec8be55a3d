"""`doctor`: everything that can keep an agent from the network, looked at in order, with what mends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from . import screen, session
from .checks import Finding, here, identity_of, proxies
from .options import Command, Options, pass_options

if TYPE_CHECKING:
    from anporia_wire import Keypair

__all__ = ["doctor", "examined", "report"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(cls=Command)
@pass_options
@click.pass_context
def doctor(context: click.Context, options: Options) -> None:
    """Check key, relay, password, clock and limits, and say how to mend each. Publishes nothing. Exit 1 if any fails.

    \b
    Examples:
      anporia doctor
      anporia doctor --relay http://127.0.0.1:8080 --json
    """
    report(context, options, examined(options))


def report(context: click.Context, options: Options, findings: Iterable[Finding]) -> None:
    """Print what was found, and end with exit code 1 if any of it failed. Other programs have findings of their own."""
    found = list(findings)
    failed = any(one.status == "fail" for one in found)
    if options.json:
        screen.emit({"ok": not failed, "checks": [asdict(one) for one in found]})
    else:
        rows = [(screen.styled((one.status, _STYLES[one.status])), one.name, screen.shown(one.detail)) for one in found]
        screen.table(("", "check", "found"), rows, wide="found", none="", whole=True)
        fixes = [one for one in found if one.fix]
        if fixes:
            screen.line("\nWhat to do:")
        for one in fixes:
            screen.block(f"{one.name}: {one.fix}")
    if failed:
        context.exit(1)


def examined(options: Options) -> Iterator[Finding]:
    """Look at installation, key, proxies and the relays that are meant."""
    yield from here()
    keypair: Keypair | None = None
    for finding, opened in identity_of(options):
        yield finding
        keypair = opened or keypair
    yield from proxies()
    from .probing import relay

    for url in session.relay_urls(options):
        yield from relay(options, url, keypair)
