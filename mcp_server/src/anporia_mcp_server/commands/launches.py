"""How the server is to be started: what was given to `install`, checked as the server itself would check it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from anporia_client.cli.failures import USAGE, CommandFailed
from anporia_client.cli.options import Options

from . import entries, relays
from .clients import Place
from .entries import Launch

__all__ = ["PROGRAM", "Choices", "beside_this_python", "check_relay", "launch"]

PROGRAM = "anporia-mcp-server"


@dataclass(frozen=True, slots=True)
class Choices:
    """What the server is to offer, to show and to ask; None where its own default stands."""

    read_only: bool = False
    tools: str | None = None
    trusted_only: bool = False
    min_trust: str | None = None
    allow: tuple[str, ...] = ()
    confirm: str | None = None

    def arguments(self) -> Iterator[str]:
        """Give what stands on the server's command line."""
        if self.read_only:
            yield "--read-only"
        if self.tools is not None:
            yield from ("--tools", self.tools)
        if self.trusted_only:
            yield "--trusted-only"
        if self.min_trust is not None:
            yield from ("--min-trust", self.min_trust)
        for one in self.allow:
            yield from ("--allow", one)
        if self.confirm is not None:
            yield from ("--confirm", self.confirm)


def launch(options: Options, there: Place, name: str, choices: Choices, program: str | None) -> Launch:
    """Give the start of the server. Raises `UsageError` and `CommandFailed` for what it would not start with."""
    given = tuple(choices.arguments())
    _check(given)
    start = (_given(program),) if program else beside_this_python()
    env, relay = _environment(options)
    password = None
    if there.client == "claude-code" and there.scope == "project":
        password = f"${{{entries.PASSWORD}:-}}"
    elif there.client == "vscode" and not (relay and relays.is_here(relay)):
        password = entries.input_reference(name)  # a relay of `anporia up` wants none: it would ask in vain
    return Launch(start[0], (*start[1:], *given), env, password)


def beside_this_python() -> tuple[str, ...]:
    """Give the command that starts this very server, by its whole path: elsewhere the name may be another's."""
    found = shutil.which(PROGRAM, path=str(Path(sys.executable).parent))
    return (os.path.abspath(found),) if found else (sys.executable, "-m", "anporia_mcp_server")


def check_relay(url: str, source: str) -> None:
    """Refuse what is no address. Raises `CommandFailed`."""
    if found := relays.trouble(url):
        raise CommandFailed(f"{source} {found[0]}. {found[1]}", code="bad_address", status=USAGE)


def _check(given: tuple[str, ...]) -> None:
    """Let the server read its own arguments."""
    from .. import cli
    from ..settings import BadSetting

    try:
        cli.read(given)
    except (click.UsageError, BadSetting) as exc:
        text = exc.format_message() if isinstance(exc, click.UsageError) else str(exc)
        raise CommandFailed(text, code="usage", status=USAGE) from None


def _given(program: str) -> str:
    """Check a program that was named. Raises `CommandFailed` for one that is not there, or not this server."""
    found = shutil.which(program)
    if found is None:
        raise CommandFailed(f"there is no program {program}", code="no_program", status=USAGE)
    path = os.path.abspath(found)
    if not entries.is_ours({"command": path}):
        text = f"--command must name a program {PROGRAM} or anporia-mcp, by which its entry is known again"
        raise CommandFailed(text, code="no_program", status=USAGE)
    return path


def _environment(options: Options) -> tuple[dict[str, str], str | None]:
    """Give the variables of the entry: which relay, as whom, which key file. None of them is a secret."""
    from anporia_client import keyfile

    if len(options.relay) > 1:
        raise click.UsageError("the server speaks to one relay: give --relay once")
    env = {}
    relay, source = _relay(options, os.environ)
    if relay is not None:
        check_relay(relay, source)
        env["ANPORIA_RELAY_URL"] = relay
    if user := os.environ.get("ANPORIA_RELAY_USER"):
        env["ANPORIA_RELAY_USER"] = user
    if key := options.key or os.environ.get("ANPORIA_KEY_FILE"):
        env["ANPORIA_KEY_FILE"] = os.path.abspath(keyfile.expanded(key))
    return env, relay


def _relay(options: Options, environ: Mapping[str, str]) -> tuple[str | None, str]:
    if options.relay:
        return options.relay[0], "--relay"
    source = next((name for name in relays.VARIABLES if environ.get(name)), "")
    return relays.named(environ), source
