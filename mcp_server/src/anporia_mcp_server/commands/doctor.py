"""`doctor`: what can keep the server from its relay or from its clients, looked at in order, with what mends it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from anporia_client import AnporiaError, settings
from anporia_client.cli import screen, session
from anporia_client.cli.checks import Finding
from anporia_client.cli.doctor import examined, report
from anporia_client.cli.failures import CommandFailed
from anporia_client.cli.options import Command, Options, pass_options

from .. import __version__
from . import config_files, entries, notes, relays
from .clients import Machine, Place, places
from .launches import beside_this_python

__all__ = ["doctor"]

_PACKAGE = Path(__file__).resolve().parent.parent
_MEND_INSTALL = "pip uninstall anporia-mcp-server, then in a checkout: pip install ./wire ./client ./mcp_server"
_SDK, _SDK_END = (2, 3), (3,)  # mcp>=2.3,<3 of our pyproject.toml
_MEND_SDK = "pip install 'mcp>=2.3,<3'"
_TOKEN = "ANPORIA_MCP_TOKEN"
_PASSWORDS = (  # in the order in which the client asks them
    "ANPORIA_RELAY_PASSWORD",
    "ANPORIA_RELAY_PASSWORD_FILE",
    "ANPORIA_RELAY_PASSWORD_COMMAND",
    "ANPORIA_BASIC_AUTH",
)


@click.command(cls=Command)
@pass_options
@click.pass_context
def doctor(context: click.Context, options: Options) -> None:
    """Check server, key, relay, password, clock and clients' files, and say how to mend each. Exit 1 if any fails.

    The relay is that of --relay or of this shell. Of each client's entry the relay is named, and not asked.

    \b
    Examples:
      anporia-mcp doctor
      anporia-mcp doctor --relay http://127.0.0.1:8080 --json
    """
    report(context, options, _examined(options))


def _examined(options: Options) -> Iterator[Finding]:
    yield from _server()
    yield _sdk()
    for one in examined(options):
        yield replace(one, detail=screen.renamed(one.detail), fix=screen.renamed(one.fix))
    for url in session.relay_urls(options):
        yield from _password(url, given=len(options.relay) == 1)
    if os.environ.get(_TOKEN):
        yield Finding("bearer token", "ok", f"{_TOKEN} is set: over HTTP the server asks for it")
    yield from _clients(Machine.here(), session.relay_urls(options))


def _server() -> Iterator[Finding]:
    """Look at the package: on the index there is one of others with the name of ours."""
    try:
        found = metadata.distribution("anporia-mcp-server")
        version, needs = found.version, found.requires or ()
    except metadata.PackageNotFoundError:
        yield Finding("server", "warn", f"runs from {_PACKAGE}, not installed", _MEND_INSTALL)
        return
    if version != __version__ or f"anporia-client=={version}" not in [one.replace(" ", "") for one in needs]:
        detail = f"anporia-mcp-server {version} is not, or not only, the package this command is of"
        yield Finding("server", "fail", detail, _MEND_INSTALL)
        return
    yield Finding("server", "ok", f"anporia-mcp-server {version} in {_PACKAGE}")
    program, *module = beside_this_python()
    other = shutil.which("anporia-mcp-server")
    if module:
        yield Finding("program", "warn", f"anporia-mcp-server is not beside {program}", _MEND_INSTALL)
    elif other and not _same(other, program):
        fix = "In clients' files name the first by its whole path, as anporia-mcp install does"
        yield Finding("program", "warn", f"{program}, but the name alone finds another: {other}", fix)
    else:
        yield Finding("program", "ok", program)


def _sdk() -> Finding:
    try:
        version = metadata.version("mcp")
    except metadata.PackageNotFoundError:
        return Finding("mcp SDK", "fail", "is not installed", _MEND_SDK)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if _SDK <= numbers < _SDK_END:
        return Finding("mcp SDK", "ok", f"mcp {version}")
    return Finding("mcp SDK", "fail", f"mcp {version} is not one of those this server is written for", _MEND_SDK)


def _password(url: str, *, given: bool) -> Iterator[Finding]:
    """Say where the relay's password comes from. It is not read from its file or command a second time."""
    named = next((name for name in _PASSWORDS if os.environ.get(name)), None)
    try:
        found = None if named else settings.credentials(url, given=given)
    except AnporiaError:
        return  # the looks at the relay have said it
    if named:
        fix = f"Programs that no terminal started do not see it. For those: {notes.keep_password('anporia-mcp login')}"
        yield Finding("password source", "ok", f"{named}, in the environment of this command", fix)
    else:
        yield Finding("password source", "ok", found.source if found else "none for this relay")


def _clients(machine: Machine, checked: list[str]) -> Iterator[Finding]:
    found = [finding for one in places(machine) for finding in _named(one, checked)]
    yield from found
    if not found:
        fix = "anporia-mcp install lists the clients; anporia-mcp install claude-code connects one"
        yield Finding("clients", "warn", "no client's file names this server", fix)


def _named(one: Place, checked: list[str]) -> Iterator[Finding]:
    """Look at what one client's file says of us. Others' entries are none of our business."""
    title = one.title if one.scope == "user" else f"{one.title}, this folder"
    try:
        text = config_files.without_mark(config_files.read(one.file) or "")[1]
    except CommandFailed as exc:
        yield Finding(title, "warn", str(exc))
        return
    try:
        named = entries.servers(one.form, text)
    except (ValueError, RecursionError) as exc:
        if "anporia" in text:
            detail = f"{one.file} speaks of anporia, and cannot be read ({exc})"
            yield Finding(title, "warn", detail, "See yourself which program it names")
        return
    for name, entry in named.items():
        if entries.is_ours(entry) or entries.from_the_index(entry):
            yield _entry(one, title, name, entry)
            if entries.is_ours(entry):
                yield _relay(one, f"{title}: relay", name, entry, checked)


def _entry(one: Place, title: str, name: str, entry: Any) -> Finding:
    mend = _mend(one, name)
    where = f"{name!r} in {one.file}"
    program = entries.program_of(entry)
    if entries.from_the_index(entry):
        fix = f"Take it out, then: {mend}"
        return Finding(title, "fail", f"{where} runs a package of others that has this name on the index", fix)
    if shutil.which(program) is None:
        return Finding(title, "fail", f"{where} runs {program}, which is not there", mend)
    if hidden := entries.secrets_of(entry):
        fix = f"Take it out of the file. Instead: {notes.keep_password('anporia-mcp login')}"
        return Finding(title, "warn", f"{where} holds {', '.join(hidden)} for everybody who can read it", fix)
    if not _same(program, beside_this_python()[0]):
        return Finding(title, "warn", f"{where} runs another one: {program}", f"If that is not meant: {mend}")
    return Finding(title, "ok", f"{where} runs {program}")


def _relay(one: Place, title: str, name: str, entry: Any, checked: list[str]) -> Finding:
    """Say which relay the client's server will use: its environment is not that of this shell."""
    url = notes.relay_of(entry)
    if url is not None and notes.is_filled_in(url):
        return Finding(title, "ok", f"{name!r} uses the one that {one.title} puts in the place of {url}")
    if url is not None and (wrong := relays.trouble(url)):
        fix = f"{wrong[1]} Then: {_mend(one, name)} --relay URL"
        return Finding(title, "fail", f"the one of {name!r} {wrong[0]}", fix)
    uses = f"{name!r} uses {url or f'the public relay, {relays.DEFAULT}: it names none'}"
    if any(relays.same(url or relays.DEFAULT, other) for other in checked):
        return Finding(title, "ok", uses)
    # an address of this shell that is none may hold a password, and the looks at the relay have said what is wrong
    here = ", ".join(other for other in checked if relays.trouble(other) is None) or "none that can be used"
    fix = f"anporia-mcp doctor --relay {url or relays.DEFAULT} checks that one"
    return Finding(title, "warn", f"{uses}; this shell: {here}", fix)


def _mend(one: Place, name: str) -> str:
    return f"anporia-mcp install {one.client}{'' if one.scope == 'user' else ' --scope project'} --name {name}"


def _same(one: str, other: str) -> bool:
    return os.path.realpath(shutil.which(one) or one) == os.path.realpath(other)
