"""`install`: puts this server into the settings of Claude, Cursor, VS Code or Codex, or takes it out; shown first."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import click

from anporia_client.cli import screen
from anporia_client.cli.failures import FAILED, USAGE, CommandFailed
from anporia_client.cli.options import Command, Options, on_terminal, pass_options

from . import config_files, entries, notes, plans
from .clients import CLIENTS, SCOPES, Machine, Place, Scope, place, places
from .launches import PROGRAM, Choices, check_relay, launch
from .plans import Plan

__all__ = ["install"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)  # what `claude mcp add` takes, and TOML as a bare key
_CLAUDE_S = 60.0  # the program starts within seconds; more is a question that nobody sees
_NO_CLAUDE = "claude is not on the PATH. Run the command shown where it is"
_DECLINED = "nothing was changed"
_NOT_ASKED = "nothing was changed: nobody is here to be asked. Add --yes to have it done"
_COLOURS = {"+": "green", "-": "red"}


@click.command(cls=Command)
@click.argument("client", type=click.Choice(list(CLIENTS)), required=False)
@click.option("--scope", type=click.Choice(SCOPES), default="user", show_default=True, help="or this folder only")
@click.option("--name", default="anporia", show_default=True, help="what the client calls the server")
@click.option("--read-only", is_flag=True, help="only the tools that read")
@click.option("--tools", metavar="LIST", help="which toolsets or tools, such as core,tasks")
@click.option("--trusted-only", is_flag=True, help="show words of trusted agents only")
@click.option("--min-trust", metavar="N", help="weighted score needed to be trusted; 0.5 by default")
@click.option("--allow", metavar="ID", multiple=True, help="an agent trusted whatever its score; may be repeated")
@click.option("--confirm", metavar="WHAT", help="what to be asked about first: never, votes (default) or writes")
@click.option("--command", metavar="PATH", help=f"the program, if not the {PROGRAM} beside this one")
@click.option("--remove", is_flag=True, help="take the server out again")
@click.option("--dry-run", is_flag=True, help="show what would be done")
@click.option("--yes", is_flag=True, help="do it without asking")
@pass_options
@click.pass_context
def install(
    context: click.Context,
    options: Options,
    /,
    client: str | None,
    scope: Scope,
    name: str,
    command: str | None,
    remove: bool,
    dry_run: bool,
    yes: bool,
    **choices: Any,
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
        if remove:
            raise CommandFailed(f"--remove needs a CLIENT. {_whereabouts(machine)}", code="usage", status=USAGE)
        _listed(options, machine)
        return
    if not _NAME.fullmatch(name):
        raise click.UsageError("--name takes letters, digits, - and _, at most 64")
    there = place(machine, client, scope)
    start = None if remove else launch(options, there, name, Choices(**choices), command)
    try:
        plan = plans.planned(there, name, start)
    except CommandFailed as exc:
        if exc.code == "not_plain" and start is not None and not options.json:
            screen.line(screen.shown(plans.snippet(there, name, start), lines=True))
        raise
    if (relay := notes.relay_of(plan.new)) is not None and not notes.is_filled_in(relay):
        check_relay(relay, f"the relay of the entry {name!r}, which --relay replaces,")
    reply = _reply(machine, plan)
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
        if not click.confirm("Do it?", err=True):
            _failed(context, options, reply, FAILED, "declined", _DECLINED)
            return
    if plan.commands:
        if lost := _ordered(plan, claude, reply):
            if not options.json:
                _restoring(reply, plan)
            _failed(context, options, reply, FAILED, "claude_failed", lost)
            return
    else:
        reply["backup"] = _written(plan)
    reply["applied"] = True
    _told(options, reply, f"done. {there.title} has it when it starts again" if start else "done")


def _reply(machine: Machine, plan: Plan) -> dict[str, Any]:
    there = plan.place
    return {
        "client": there.client,
        "scope": there.scope,
        "file": str(there.file),
        "name": plan.name,
        "action": plan.action,
        "entry": entries.masked(plan.new),
        "commands": [plans.command_line(machine, one) for one in plan.commands],
        "notes": [*plan.notes, *notes.of(plan)],
        "applied": False,
        "backup": None,
        "removed": None,
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
        # of Claude Code's own file the state before the last entry was taken out is the one that is worth something
        later = "" if reply["commands"] else "; later changes leave that alone"
        screen.line(screen.shown(f"The file as it was before this change is kept in {reply['backup']}{later}"))
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


def _written(plan: Plan) -> str | None:
    """Replace the file; gives the backup's path, if one was made."""
    # in a project's folder it would be committed with the rest, and --remove gives the file back anyway
    keep = plan.place.scope == "user"
    backup = config_files.write(plan.place.file, plan.after, before=plan.before, keep=keep)
    return None if backup is None else str(backup)


def _ordered(plan: Plan, claude: str, reply: dict[str, Any]) -> str | None:
    """Have Claude Code's program do it; the reply tells the backup, and an entry that is gone for good.

    Gives what went wrong after the earlier entry was removed. Raises `CommandFailed` if nothing was changed.
    """
    file = plan.place.file
    if plan.old is not None and (text := config_files.read(file)) is not None:
        reply["backup"] = str(config_files.back_up(file, text))
    for number, command in enumerate(plan.commands):
        trouble = _trouble(claude, command)
        if trouble is None:
            continue
        if not number:
            raise CommandFailed(trouble, code="claude_failed")
        reply["removed"] = entries.masked(plan.old)
        kept = f" {file} as it was before is kept in {reply['backup']}" if reply["backup"] else ""
        return f"The earlier entry {plan.name!r} was removed, and the new one could not be added: {trouble}.{kept}"
    return None


def _trouble(claude: str, command: tuple[str, ...]) -> str | None:
    """Run one command; gives what went wrong."""
    try:
        done = subprocess.run([claude, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=_CLAUDE_S)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"claude could not be run ({type(exc).__name__})"
    if not done.returncode:
        return None
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-300:]
    return f"{' '.join(command[:3])} failed with status {done.returncode}: {said}"


def _restoring(reply: Mapping[str, Any], plan: Plan) -> None:
    """Say how an entry that is gone comes back."""
    source = f"; what is not shown stands in {reply['backup']}" if reply["backup"] else ""
    screen.line(screen.shown(f'To have it back, put this under "mcpServers" in {plan.place.file}{source}:') + "\n")
    for line in plans.written(plan.place, plan.name, plan.old):
        screen.line(f"  {screen.shown(line)}")
    screen.line("\nOr run again the last command shown above.")


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


def _whereabouts(machine: Machine) -> str:
    """Say from where a server of ours could be taken out."""
    found = []
    for one in places(machine):
        scope = "" if one.scope == "user" else " --scope project"
        found += [f"{one.client}{scope}{'' if name == 'anporia' else f' --name {name}'}" for name in _held(one)[0]]
    return f"The server is in: {'; '.join(found)}" if found else "No client's file names the server"


def _held(one: Place) -> tuple[list[str], str | None]:
    try:
        text = config_files.without_mark(config_files.read(one.file) or "")[1]
        return [name for name, found in entries.servers(one.form, text).items() if entries.is_ours(found)], None
    except (CommandFailed, ValueError, RecursionError):
        return [], "unreadable"
