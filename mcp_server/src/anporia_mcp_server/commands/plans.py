"""What `install` would do, worked out before anything is touched: one entry in one file, added, replaced or removed."""

from __future__ import annotations

import contextlib
import difflib
import json
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from anporia_client.cli.failures import USAGE, CommandFailed

from . import config_files, entries, relays, toml_edits
from .clients import Machine, Place
from .entries import Launch

__all__ = ["Plan", "command_line", "difference", "planned", "snippet", "written"]

Action = Literal["add", "replace", "remove", "none"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One change. `before` and `after`: the file's whole text; `commands`: what Claude Code's own program is to run."""

    place: Place
    name: str
    action: Action
    old: Any
    new: dict[str, Any] | None
    before: str | None
    after: str = ""
    commands: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = field(default=())


def planned(place: Place, name: str, launch: Launch | None) -> Plan:
    """Work out the change that puts the server in, or without `launch` the one that takes it out.

    Raises `CommandFailed` for a file that is not plain JSON or TOML, and for an entry of this name that is not ours.
    """
    before = config_files.read(place.file)
    mark, text = config_files.without_mark(before or "")
    try:
        old = entries.servers(place.form, text).get(name)
        if old is not None and not entries.is_ours(old):
            raise CommandFailed(_not_ours(place, name, old), code="not_ours")
        new = None if launch is None else entries.entry(place.form, launch, old)
        plan = Plan(place, name, _action(old, new), old, new, before)
        if place.by_claude:
            return _by_claude(plan)
        after = entries.without_entry(place.form, text, name)
        if new is not None:
            after = entries.with_entry(place.form, text, name, new)
        after.encode()  # half a character, which JSON can hold and a file cannot, is a ValueError too
    except (ValueError, RecursionError) as exc:
        raise CommandFailed(_unreadable(place, name, launch, exc), code="not_plain") from None
    # of an entry that says the same the place in the file may still move: that is no change
    return plan if plan.action == "none" else replace(plan, after=mark + after)


def difference(plan: Plan) -> list[str]:
    """Give the lines of the entry, each with `-`, `+` or a blank in front."""
    old, new = (written(plan.place, plan.name, one) for one in (plan.old, plan.new))
    return [line.rstrip() for line in difflib.ndiff(old, new) if not line.startswith("?")]


def snippet(place: Place, name: str, launch: Launch) -> str:
    """Give what a file of nothing else would hold, for pasting."""
    return entries.with_entry(place.form, "", name, entries.entry(place.form, launch)).rstrip()


def command_line(machine: Machine, command: tuple[str, ...]) -> str:
    """Give a command as it is typed on this machine."""
    return subprocess.list2cmdline(command) if machine.platform == "win32" else shlex.join(command)


def _action(old: Any, new: Mapping[str, Any] | None) -> Action:
    if old == new:
        return "none"
    if new is None:
        return "remove"
    return "add" if old is None else "replace"


def _by_claude(plan: Plan) -> Plan:
    """Give what Claude Code's program has to run: it has no way to replace an entry, so one goes before one comes."""
    if plan.action == "none":
        return plan
    commands: list[tuple[str, ...]] = []
    notes: list[str] = []
    if plan.old is not None:
        commands.append(("claude", "mcp", "remove", plan.name, "--scope", "user"))
    new = plan.new
    if new is not None:
        env = new.get("env", {})
        told = {key: value for key, value in env.items() if entries.is_told(key, value)}
        if relays.named(told) != relays.named(env):  # without it the server would speak to the public one
            text = f"the relay of the entry {plan.name!r} must not hold a user or password; --relay replaces it"
            raise CommandFailed(text, code="bad_address", status=USAGE)
        if left := [key for key in env if key not in told]:
            login = "; for its password see anporia-mcp login" if entries.PASSWORD in left else ""
            notes.append(
                f"Of the old entry's variables these are left out, as a command line is read by others: "
                f"{', '.join(left)}{login}"
            )
        if further := entries.further_keys(new):
            notes.append(f"Of the old entry this is lost, as claude mcp add cannot set it: {', '.join(further)}")
        new = {key: value for key, value in new.items() if key not in ("env", *further)}
        new |= {"env": told} if told else {}
        variables = [part for key, value in told.items() for part in ("-e", f"{key}={value}")]
        start = (plan.name, "--scope", "user", *variables, "--", new["command"], *new["args"])
        commands.append(("claude", "mcp", "add", *start))
    return replace(plan, new=new, commands=tuple(commands), notes=tuple(notes))


def written(place: Place, name: str, entry: Any) -> list[str]:
    """Show an entry as its file has it, but for its secrets."""
    if entry is None:
        return []
    shown = entries.masked(entry)
    if place.form == "toml":
        with contextlib.suppress(ValueError):  # a date in it, which somebody added
            return toml_edits.with_table("", name, shown).splitlines()
    return f"{json.dumps(name)}: {json.dumps(shown, indent=2, ensure_ascii=False, default=str)}".split("\n")


def _not_ours(place: Place, name: str, old: Any) -> str:
    program = entries.program_of(old)
    runs = f"runs {program!r}" if program else "is not one of ours"
    if entries.from_the_index(old):
        runs = "runs a package of others that has this name on the public index"
    return (
        f"{place.file} has a server {name!r} already, which {runs}. It was left alone. "
        "Choose another name with --name, or take that entry out yourself"
    )


def _unreadable(place: Place, name: str, launch: Launch | None, why: Exception) -> str:
    kind = "TOML" if place.form == "toml" else "JSON"
    start = f"{place.file} cannot be changed as plain {kind} ({why}), and was left alone. "
    if launch is None:
        return f"{start}Take the entry {name!r} out of it yourself"
    return f"{start}Put the entry into it yourself: it stands above"
