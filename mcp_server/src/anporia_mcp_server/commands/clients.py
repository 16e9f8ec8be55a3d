"""The clients that can be given this server, and where each looks for it. No I/O: the machine is only described."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anporia_client.cli.failures import USAGE, CommandFailed

from .entries import Form

__all__ = ["CLIENTS", "SCOPES", "Machine", "Place", "Scope", "place", "places"]

Scope = Literal["user", "project"]
SCOPES: tuple[Scope, ...] = ("user", "project")

CLIENTS = {
    "claude-code": "Claude Code",
    "claude-desktop": "Claude Desktop",
    "cursor": "Cursor",
    "vscode": "VS Code",
    "codex": "Codex",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Where we are. `folder`: the project's, in which the command was called."""

    platform: str
    home: Path
    folder: Path
    environ: Mapping[str, str]

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine."""
        return cls(sys.platform, Path.home(), Path.cwd(), os.environ)


@dataclass(frozen=True, slots=True)
class Place:
    """A file that may name this server. `by_claude`: it is Claude Code's own, changed by its command alone."""

    client: str
    scope: Scope
    file: Path
    form: Form
    by_claude: bool = False

    @property
    def title(self) -> str:
        """The client's name as people write it."""
        return CLIENTS[self.client]


def place(machine: Machine, client: str, scope: Scope) -> Place:
    """Say where a client looks. Raises `CommandFailed` where there is no such client or scope."""
    home = machine.home
    match client, scope:
        case "claude-code", "project":
            return Place(client, scope, machine.folder / ".mcp.json", "typed")
        case "claude-code", "user":
            folder = Path(machine.environ.get("CLAUDE_CONFIG_DIR") or home)
            return Place(client, scope, folder / ".claude.json", "typed", by_claude=True)
        case "claude-desktop", "user":
            if machine.platform not in ("darwin", "win32"):
                text = "there is no Claude Desktop for this system. Claude Code: anporia-mcp install claude-code"
                raise CommandFailed(text, code="no_such_client")
            return Place(client, scope, _applications(machine) / "Claude" / "claude_desktop_config.json", "plain")
        case "claude-desktop", "project":
            raise CommandFailed("Claude Desktop knows no projects: leave --scope out", code="no_scope", status=USAGE)
        case "cursor", _:
            return Place(client, scope, (home if scope == "user" else machine.folder) / ".cursor" / "mcp.json", "typed")
        case "vscode", "project":
            return Place(client, scope, machine.folder / ".vscode" / "mcp.json", "vscode")
        case "vscode", _:
            return Place(client, scope, _applications(machine) / "Code" / "User" / "mcp.json", "vscode")
        case "codex", "user":
            folder = Path(machine.environ.get("CODEX_HOME") or home / ".codex")
            return Place(client, scope, folder / "config.toml", "toml")
        case "codex", _:
            return Place(client, scope, machine.folder / ".codex" / "config.toml", "toml")
    raise CommandFailed(f"there is no client {client!r}", code="no_such_client", status=USAGE)


def places(machine: Machine) -> list[Place]:
    """Give all files that may name this server on this machine and in this folder."""
    found: list[Place] = []
    for client in CLIENTS:
        for scope in SCOPES:
            try:
                one = place(machine, client, scope)
            except CommandFailed:
                continue
            if one.file not in [other.file for other in found]:  # in the home folder the two scopes may be one file
                found.append(one)
    return found


def _applications(machine: Machine) -> Path:
    """Give the folder in which desktop programs keep their settings."""
    if machine.platform == "darwin":
        return machine.home / "Library" / "Application Support"
    if machine.platform == "win32":
        return Path(machine.environ.get("APPDATA") or machine.home / "AppData" / "Roaming")
    return Path(machine.environ.get("XDG_CONFIG_HOME") or machine.home / ".config")
