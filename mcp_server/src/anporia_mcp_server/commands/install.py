"""`install`: puts this server into the settings of Claude, Cursor, VS Code or Codex, or takes it out; shown first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from anporia_client.cli import screen
from anporia_client.cli.failures import FAILED, USAGE, CommandFailed
from anporia_client.cli.options import Command, Options, on_terminal, pass_options

from . import config_files, entries, plans
from .clients import CLIENTS, SCOPES, Machine, Place, Scope, place, places
from .entries import Launch
from .plans import Plan

__all__ = ["beside_this_python", "install"]

_PROGRAM = "anporia-mcp-server"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)  # what `claude mcp add` takes, and TOML as a bare key
_CLAUDE_S = 60.0  # the program starts within seconds; more is a question that nobody sees
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_NO_CLAUDE = "claude is not on the PATH. Run the command shown where it is"
_NOT_ASKED = "nothing was changed: nobody is here to be asked. Add --yes to have it done"
_COLOURS = {"+": "green", "-": "red"}


@click.command(cls=Command)
@click.argument("client", type=click.Choice(list(CLIENTS)), required=False)
@click.option("--scope", type=click.Choice(SCOPES), default="user", show_default=True, help="or this folder only")
@click.option("--name", default="anporia", show_default=True, help="what the client calls the server")
@click.option("--read-only", is_flag=True, help="only the tools that read")
@click.option("--tools", metavar="LIST", help="which toolsets or tools, such as core,tasks")
@click.option("--command", metavar="PATH", help=f"the program, if not the {_PROGRAM} beside this one")
@click.option("--remove", is_flag=True, help="take the server out again")
@click.option("--dry-run", is_flag=True, help="show what would be done")
@click.option("--yes", is_flag=True, help="do it without asking")
@pass_options
@click.pass_context
def install(
    context: click.Context,
    options: Options,
    client: str | None,
    scope: Scope,
    name: str,
    read_only: bool,
    tools: str | None,
    command: str | None,
    remove: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Make this server known to a client on this machine. Without CLIENT: list the clients and their files.

    Shows the entry and asks first. No password and no key is ever written: --relay and --key name where they are for.

    \b
    Examples:
      anporia-mcp install claude-code
      anporia-mcp install vscode --scope project --relay http://127.0.0.1:8080
      anporia-mcp install cursor --read-only --dry-run
      anporia-mcp install cursor --remove
    """
    machine = Machine.here()
    if client is None:
        _listed(options, machine)
        return
    if not _NAME.fullmatch(name):
        raise click.UsageError("--name takes letters, digits, - and _, at most 64")
    _check_tools(tools)
    there = place(machine, client, scope)
    launch = None if remove else _launch(options, there, name, read_only=read_only, tools=tools, command=command)
    try:
        plan = plans.planned(there, name, launch)
    except CommandFailed as exc:
        if exc.code == "not_plain" and launch is not None and not options.json:
            screen.line(screen.shown(plans.snippet(there, name, launch), lines=True))
        raise
    reply = _reply(machine, plan, launch)
    if not options.json:
        _previewed(reply, plan)
    if plan.action == "none" or dry_run:
        _told(options, reply, "nothing to do" if plan.action == "none" else "nothing was changed (--dry-run)")
        return
    claude = _claude() if plan.commands else ""
    if plan.commands and not claude:
        _failed(context, options, reply, FAILED, "no_claude", _NO_CLAUDE)
        return
    if not yes:
        if not on_terminal():
            _failed(context, options, reply, USAGE, "not_confirmed", _NOT_ASKED)
            return
        click.confirm("Do it?", abort=True, err=True)
    reply |= {"applied": True, "backup": _applied(plan, claude)}
    _told(options, reply, f"done. {there.title} has it when it starts again" if launch else "done")


def beside_this_python() -> tuple[str, ...]:
    """Give the command that starts this very server, by its whole path: elsewhere the name may be another's."""
    found = shutil.which(_PROGRAM, path=str(Path(sys.executable).parent))
    return (os.path.abspath(found),) if found else (sys.executable, "-m", "anporia_mcp_server")


def _check_tools(tools: str | None) -> None:
    from ..settings import BadSetting, chosen

    try:
        chosen(tools or "core")
    except BadSetting as exc:
        raise click.UsageError(f"--tools: {exc}") from None


def _launch(
    options: Options, there: Place, name: str, *, read_only: bool, tools: str | None, command: str | None
) -> Launch:
    start = (_given(command),) if command else beside_this_python()
    args = [*start[1:], *(["--read-only"] if read_only else []), *(["--tools", tools] if tools else [])]
    env, relay = _environment(options)
    password = None
    if there.client == "claude-code" and there.scope == "project":
        password = f"${{{entries.PASSWORD}:-}}"
    elif there.client == "vscode" and not _is_here(relay):  # it would ask in vain: `anporia up` wants no password
        password = entries.input_reference(name)
    return Launch(start[0], tuple(args), env, password)


def _given(command: str) -> str:
    """Check a program that was named. Raises `CommandFailed` for one that is not there, or not this server."""
    found = shutil.which(command)
    if found is None:
        raise CommandFailed(f"there is no program {command}", code="no_program", status=USAGE)
    path = os.path.abspath(found)
    if not entries.is_ours({"command": path}):
        text = f"--command must name a program {_PROGRAM} or anporia-mcp, by which its entry is known again"
        raise CommandFailed(text, code="no_program", status=USAGE)
    return path


def _environment(options: Options) -> tuple[dict[str, str], str | None]:
    """Give the variables of the entry: which relay, as whom, which key file. None of them is a secret."""
    from anporia_client import keyfile
    from anporia_client.address import Address

    if len(options.relay) > 1:
        raise click.UsageError("the server speaks to one relay: give --relay once")
    relay = options.relay[0] if options.relay else os.environ.get("ANPORIA_RELAY_URL")
    env = {}
    if relay:
        Address.parse(relay)  # refuses one that holds a password
        env["ANPORIA_RELAY_URL"] = relay
    if user := os.environ.get("ANPORIA_RELAY_USER"):
        env["ANPORIA_RELAY_USER"] = user
    if key := options.key or os.environ.get("ANPORIA_KEY_FILE"):
        env["ANPORIA_KEY_FILE"] = os.path.abspath(keyfile.expanded(key))
    return env, relay


def _is_here(relay: str | None) -> bool:
    from anporia_client.address import Address

    return relay is not None and Address.parse(relay).host in _LOOPBACK


def _notes(plan: Plan, launch: Launch | None) -> list[str]:
    if launch is None:
        return list(plan.notes)
    # an entry of before may have named the relay
    url = (plan.new or {}).get("env", {}).get("ANPORIA_RELAY_URL")
    relay = f" --relay {url}" if url else ""
    login = f"anporia-mcp login{relay}"
    if launch.password is None:
        said = f'If the relay wants a password, "{login}" keeps it in the keychain, where the server finds it.'
    elif plan.place.client == "vscode":
        said = "VS Code asks for the relay's password once and keeps it; it does not stand in the file."
    else:
        said = f'The relay\'s password comes from {entries.PASSWORD} where claude is started, or by "{login}".'
    return [*plan.notes, said]


def _reply(machine: Machine, plan: Plan, launch: Launch | None) -> dict[str, Any]:
    there = plan.place
    return {
        "client": there.client,
        "scope": there.scope,
        "file": str(there.file),
        "name": plan.name,
        "action": plan.action,
        "entry": entries.masked(plan.new),
        "commands": [plans.command_line(machine, one) for one in plan.commands],
        "notes": _notes(plan, launch),
        "applied": False,
        "backup": None,
    }


def _previewed(reply: Mapping[str, Any], plan: Plan) -> None:
    new = "" if plan.before is not None else ", which is made"
    if plan.action == "none":
        held = "names it so already" if plan.old is not None else f"has no server {plan.name!r}"
        screen.line(screen.shown(f"{plan.place.file} {held}"))
        return
    if plan.commands:
        screen.line("Claude Code's own command:\n")
        for one in reply["commands"]:
            screen.line(f"  {screen.shown(one)}")
    else:
        screen.line(screen.shown(f"In {plan.place.file}{new}:") + "\n")
        for line in plans.difference(plan):
            click.secho(f"  {screen.shown(line)}", fg=_COLOURS.get(line[:1]))
    screen.line("")
    for note in reply["notes"]:
        screen.line(screen.shown(note))


def _told(options: Options, reply: Mapping[str, Any], text: str) -> None:
    if options.json:
        screen.emit(reply)
        return
    if reply["backup"]:
        screen.line(screen.shown(f"The state before is kept in {reply['backup']}"))
    screen.line(text)


def _failed(
    context: click.Context, options: Options, reply: Mapping[str, Any], status: int, code: str, text: str
) -> None:
    screen.note(text)
    if options.json:
        screen.emit({**reply, "error": {"code": code, "message": text, "detail": text, "url": None}})
    context.exit(status)


def _claude() -> str:
    return shutil.which("claude") or ""


def _applied(plan: Plan, claude: str) -> str | None:
    """Do it; gives the backup's path, if there is one."""
    if not plan.commands:
        backup = config_files.write(plan.place.file, plan.after, before=plan.before)
        return None if backup is None else str(backup)
    for command in plan.commands:
        try:
            done = subprocess.run(
                [claude, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=_CLAUDE_S
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise CommandFailed(f"claude could not be run ({type(exc).__name__})", code="claude_failed") from None
        if done.returncode:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-300:]
            text = f"{' '.join(command[:3])} failed with status {done.returncode}: {said}"
            raise CommandFailed(text, code="claude_failed")
    return None


def _listed(options: Options, machine: Machine) -> None:
    rows = [(one, *_held(one)) for one in places(machine)]
    if options.json:
        keys = ("client", "scope", "file", "servers", "trouble")
        found = [(one.client, one.scope, str(one.file), names, trouble) for one, names, trouble in rows]
        screen.emit([dict(zip(keys, row, strict=True)) for row in found])
        return
    table = [(one.client, one.scope, ", ".join(names) or trouble or "-", one.file) for one, names, trouble in rows]
    screen.table(("client", "scope", "named", "file"), table, wide="file", none="", whole=True)
    screen.line("\nanporia-mcp install CLIENT puts the server in; --help tells more.")


def _held(one: Place) -> tuple[list[str], str | None]:
    try:
        text = config_files.without_mark(config_files.read(one.file) or "")[1]
        return [name for name, found in entries.servers(one.form, text).items() if entries.is_ours(found)], None
    except (CommandFailed, ValueError, RecursionError):
        return [], "unreadable"
