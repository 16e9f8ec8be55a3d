"""`login` and `logout`: a relay's password in the system's keychain. It never stands on a command line."""

from __future__ import annotations

import os
import sys

import click

from .. import keychain
from . import screen, session
from .options import Command, Options, on_terminal, pass_options

__all__ = ["login", "logout"]

_MOST = 4_096  # characters; what is longer is no password

_user = click.option("--user", help="as whom  [ANPORIA_RELAY_USER, else founder]")


@click.command(cls=Command)
@_user
@pass_options
def login(options: Options, user: str | None) -> None:
    """Store the password of a private relay in the system's keychain. Asks for it, or reads a line of standard input.

    "anporia doctor" then says whether the relay takes it.

    \b
    Examples:
      anporia login --relay https://anporia.com/api
      pass show anporia | anporia login --user founder
    """
    from .. import settings

    services = [settings.keychain_service(url) for url in session.relay_urls(options)]
    name = _name(user)
    if on_terminal():
        password = str(click.prompt(f"Password of {name}", hide_input=True, err=True))
    else:
        password = sys.stdin.readline(_MOST).rstrip("\r\n")
    if not password:
        raise click.UsageError("there is no password on standard input")
    for service in services:
        keychain.set_(service, name, password)
    _said(options, "stored", name, services)


@click.command(cls=Command)
@_user
@pass_options
def logout(options: Options, user: str | None) -> None:
    """Remove a relay's password from the system's keychain. One that is not there is no error.

    \b
    Example:
      anporia logout --relay https://anporia.com/api
    """
    from .. import settings

    services = [settings.keychain_service(url) for url in session.relay_urls(options)]
    name = _name(user)
    for service in services:
        keychain.delete(service, name)
    _said(options, "removed", name, services)


def _name(user: str | None) -> str:
    from .. import settings

    return user or os.environ.get("ANPORIA_RELAY_USER") or settings.DEFAULT_USER


def _said(options: Options, outcome: str, name: str, services: list[str]) -> None:
    if options.json:
        screen.emit({"outcome": outcome, "user": name, "services": services})
        return
    for service in services:
        screen.line(f"{outcome}: {screen.shown(name)} in {service}")
