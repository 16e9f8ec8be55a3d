"""Entries: how each client writes the server down, which are ours, and which files there are on each system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anporia_client.cli.failures import CommandFailed
from anporia_mcp_server.commands import entries
from anporia_mcp_server.commands.clients import CLIENTS, Machine, place, places
from anporia_mcp_server.commands.entries import Launch

LAUNCH = Launch("/v/bin/anporia-mcp-server", ("--read-only",), {"ANPORIA_RELAY_URL": "http://127.0.0.1:1"})


@pytest.mark.parametrize(
    ("found", "ours"),
    [
        ({"command": "/v/bin/anporia-mcp-server"}, True),
        ({"command": "C:\\v\\Scripts\\anporia-mcp.EXE", "args": []}, True),
        ({"command": "python3", "args": ["-u", "-m", "anporia_mcp_server"]}, True),
        ({"command": "python3", "args": ["anporia_mcp_server", "-m"]}, False),
        ({"command": "uvx", "args": ["anporia-mcp-server"]}, False),
        ({"command": "/v/bin/anporia-mcp-server-of-others"}, False),
        ({"command": ["anporia-mcp"]}, False),
        ({"url": "http://127.0.0.1:8765/mcp"}, False),
        ("anporia-mcp", False),
        (None, False),
    ],
)
def test_which_entries_are_ours(found: Any, ours: bool) -> None:
    assert entries.is_ours(found) is ours


def test_names_that_are_looked_up_on_the_index() -> None:
    for args in (["anporia-mcp-server"], ["anporia-mcp-server@latest"], ["run", "anporia-mcp-server[keychain]==0.3.0"]):
        assert entries.from_the_index({"command": "/usr/bin/uvx", "args": args})
    assert not entries.from_the_index({"command": "uvx", "args": ["--from", "./mcp_server", "anporia-mcp-server"]})
    assert not entries.from_the_index({"command": "uvx", "args": ["else"]})
    named = ["--from", "anporia-mcp-server==0.3.0", "anporia-mcp-server"]
    assert entries.from_the_index({"command": "uvx", "args": named})
    assert not entries.from_the_index({"command": "uvx", "args": ["--find-links", "/dist", *named]})


def test_how_each_client_writes_it_down() -> None:
    typed = {"type": "stdio", "command": LAUNCH.command, "args": ["--read-only"], "env": dict(LAUNCH.env)}
    plain = {key: value for key, value in typed.items() if key != "type"}
    assert json.loads(entries.with_entry("typed", "", "a", entries.entry("typed", LAUNCH))) == {
        "mcpServers": {"a": typed}
    }
    assert json.loads(entries.with_entry("plain", "", "a", entries.entry("plain", LAUNCH))) == {
        "mcpServers": {"a": plain}
    }
    asking = Launch("x", password=entries.input_reference("a"))
    written = entries.with_entry("vscode", "", "a", entries.entry("vscode", asking))
    assert json.loads(written) == {
        "servers": {
            "a": {
                "type": "stdio",
                "command": "x",
                "args": [],
                "env": {"ANPORIA_RELAY_PASSWORD": "${input:a-relay-password}"},
            }
        },
        "inputs": [
            {
                "type": "promptString",
                "id": "a-relay-password",
                "description": "Password of the Anporia relay (leave empty if it wants none)",
                "password": True,
            }
        ],
    }
    assert entries.with_entry("vscode", written, "a", entries.entry("vscode", asking)) == written
    assert json.loads(entries.without_entry("vscode", written, "a")) == {"servers": {}, "inputs": []}
    assert entries.servers("toml", entries.with_entry("toml", "", "a", entries.entry("toml", LAUNCH))) == {"a": plain}


def test_an_input_that_another_server_uses_stays() -> None:
    written = entries.with_entry(
        "vscode", "", "a", entries.entry("vscode", Launch("x", password="${input:a-relay-password}"))
    )
    both = entries.with_entry("vscode", written, "b", {"command": "y", "env": {"P": "${input:a-relay-password}"}})
    assert len(json.loads(entries.without_entry("vscode", both, "a"))["inputs"]) == 1


def test_what_somebody_added_to_our_entry_stays() -> None:
    old = {"command": "old", "args": ["--x"], "env": {"ANPORIA_KEY_FILE": "k", "ANPORIA_RELAY_URL": "u"}, "timeout": 5}
    new = entries.entry("plain", LAUNCH, old)
    assert new["timeout"] == 5 and new["command"] == LAUNCH.command and new["args"] == ["--read-only"]
    assert new["env"] == {"ANPORIA_KEY_FILE": "k", "ANPORIA_RELAY_URL": "http://127.0.0.1:1"}


def test_secrets_are_not_shown() -> None:
    env = {"ANPORIA_RELAY_PASSWORD": "opensesame", "ANPORIA_PRIVATE_KEY": "ab" * 32, "ANPORIA_MCP_TOKEN": "t0"}
    entry = {"command": "x", "env": {**env, "ANPORIA_KEY_FILE": "k", "OTHER_PASSWORD": "${OTHER_PASSWORD:-}"}}
    assert set(entries.secrets_of(entry)) == set(env)
    shown = json.dumps(entries.masked(entry))
    assert not any(value in shown for value in env.values()) and "${OTHER_PASSWORD:-}" in shown and '"k"' in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", "sk-1"),
        ("apiKey", "sk-1"),
        ("KEY_ID", "sk-1"),
        ("PGPASS", "sk-1"),
        ("GITHUB_TOKEN_OF_MINE", "sk-1"),
        ("HTTPS_PROXY", "http://me:hunter2@proxy:3128"),
        ("HTTPS_PROXY", "me:hunter2@proxy:3128"),
        ("ANPORIA_RELAY_URL", "https://me:hunter2@relay"),
    ],
)
def test_what_may_be_a_secret_is_neither_shown_nor_told(name: str, value: str) -> None:
    for found in ({"command": "x", "env": {name: value}}, {"url": "x", "headers": {name: value}}, {name: value}):
        assert value not in json.dumps(entries.masked(found))
    assert value not in json.dumps(entries.masked({"args": [value]})) or "@" not in value
    assert not entries.is_told(name, value)


def test_what_is_no_secret_is_shown() -> None:
    env = {"ANPORIA_KEY_FILE": "C:\\me@here\\k", "KEYBOARD": "de", "ANPORIA_RELAY_PASSWORD_FILE": "/p", "API_KEY": ""}
    found = {"command": "/v/me@x/y", "args": ["--tools", "core"], "env": env, "timeout": 5}
    assert entries.masked(found) == found
    assert entries.is_told("ANPORIA_KEY_FILE", env["ANPORIA_KEY_FILE"]) and not entries.is_told("KEYBOARD", "de")


def machine(platform: str, **environ: str) -> Machine:
    return Machine(platform, Path("/h"), Path("/p"), environ)


@pytest.mark.parametrize(
    ("platform", "desktop", "vscode"),
    [
        (
            "darwin",
            "/h/Library/Application Support/Claude/claude_desktop_config.json",
            "/h/Library/Application Support/Code/User/mcp.json",
        ),
        ("win32", "/a/Claude/claude_desktop_config.json", "/a/Code/User/mcp.json"),
        ("linux", None, "/h/.config/Code/User/mcp.json"),
    ],
)
def test_where_the_files_are_on_each_system(platform: str, desktop: str | None, vscode: str) -> None:
    there = machine(platform, APPDATA="/a")
    found = {(one.client, one.scope): one.file for one in places(there)}
    expected = {
        ("claude-code", "user"): "/h/.claude.json",
        ("claude-code", "project"): "/p/.mcp.json",
        ("cursor", "user"): "/h/.cursor/mcp.json",
        ("cursor", "project"): "/p/.cursor/mcp.json",
        ("vscode", "user"): vscode,
        ("vscode", "project"): "/p/.vscode/mcp.json",
        ("codex", "user"): "/h/.codex/config.toml",
        ("codex", "project"): "/p/.codex/config.toml",
    } | ({("claude-desktop", "user"): desktop} if desktop else {})
    assert found == {key: Path(value) for key, value in expected.items()}
    if desktop is None:
        with pytest.raises(CommandFailed, match="no Claude Desktop"):
            place(there, "claude-desktop", "user")


def test_folders_that_the_environment_names() -> None:
    there = machine("linux", CLAUDE_CONFIG_DIR="/c", CODEX_HOME="/x", XDG_CONFIG_HOME="/y")
    files = {one.client: str(one.file) for one in places(there) if one.scope == "user"}
    assert files["claude-code"] == "/c/.claude.json" and files["codex"] == "/x/config.toml"
    assert files["vscode"] == "/y/Code/User/mcp.json" and set(files) < set(CLIENTS)
