"""`doctor`: the client's findings and the server's own, each with what mends it; `login` under this program's name."""

from __future__ import annotations

import json
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from anporia_mcp_server.commands.doctor import _SDK, _SDK_END
from tests.mcp_server.commands.conftest import Run
from tests.mcp_server.commands.test_install import PROGRAM
from tests.peers import ROOT

NOBODY = ("--relay", "http://127.0.0.1:9", "--timeout", "1")


def findings(run: Run, *args: str) -> dict[str, dict[str, Any]]:
    said = run("doctor", "--json", *NOBODY, *args)
    assert said.code == 1  # there is no relay
    return {one["name"]: one for one in said.json["checks"]}


def test_the_clients_findings_and_ours(run: Run) -> None:
    found = findings(run)
    assert {"server", "program", "mcp SDK", "package", "key", "network", "password source"} <= set(found)
    assert "bearer token" not in found
    assert found["server"]["status"] == found["mcp SDK"]["status"] == found["program"]["status"] == "ok"
    assert found["network"]["status"] == "fail" and found["clients"]["status"] == "warn"
    assert "anporia-mcp install" in found["clients"]["fix"]
    shown = run("doctor", *NOBODY)
    assert shown.code == 1 and "What to do:" in shown.out


def test_secrets_are_named_and_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANPORIA_MCP_TOKEN", "t0ken-of-mine")
    monkeypatch.setenv("ANPORIA_RELAY_PASSWORD", "opensesame")
    said = run("doctor", "--json", *NOBODY)
    assert "t0ken" not in said.out + said.err and "opensesame" not in said.out + said.err
    found = {one["name"]: one for one in said.json["checks"]}
    assert "is set" in found["bearer token"]["detail"]
    assert found["password source"]["detail"].startswith("ANPORIA_RELAY_PASSWORD,")
    assert "anporia-mcp login" in found["password source"]["fix"]


def test_a_namesake_from_the_index(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs:
        version = "0.2.0"
        requires = ("mcp>=1.2", "httpx")

    monkeypatch.setattr(metadata, "distribution", lambda _: Theirs)
    found = findings(run)["server"]
    assert found["status"] == "fail" and "pip uninstall anporia-mcp-server" in found["fix"]


@pytest.mark.parametrize(
    ("version", "status"), [("2.2.9", "fail"), ("2.3.0", "ok"), ("2.11", "ok"), ("3.0.0", "fail"), ("2.4rc1", "fail")]
)
def test_the_version_of_the_sdk(version: str, status: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: version)
    assert findings(run)["mcp SDK"]["status"] == status


def test_the_versions_are_those_of_the_project() -> None:
    wanted = tomllib.loads((ROOT / "mcp_server" / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"mcp>={'.'.join(map(str, _SDK))},<{'.'.join(map(str, _SDK_END))}" in wanted


def test_what_clients_files_say(run: Run, home: Path, folder: Path) -> None:
    assert run("install", "cursor", "--yes").code == 0
    assert run("install", "vscode", "--scope", "project", "--yes").code == 0
    servers = {
        "anporia": {"command": "/gone/anporia-mcp-server"},
        "theirs": {"command": "/gone/other"},
    }
    (home / ".claude.json").write_text(json.dumps({"mcpServers": servers}))
    (folder / ".mcp.json").write_text('{"mcpServers": {"a": {"command": "uvx", "args": ["anporia-mcp-server"]}}}')
    (folder / ".cursor").mkdir()
    (folder / ".cursor" / "mcp.json").write_text('{"mcpServers": {}, /* anporia */}')
    (home / ".codex").mkdir()
    text = f'[mcp_servers.x]\ncommand = "{PROGRAM}"\nenv = {{ ANPORIA_RELAY_PASSWORD = "opensesame" }}\n'
    (home / ".codex" / "config.toml").write_text(text)
    found = findings(run)
    assert found["Cursor"]["status"] == found["VS Code, this folder"]["status"] == "ok"
    assert found["Claude Code"]["status"] == "fail" and "not there" in found["Claude Code"]["detail"]
    assert found["Claude Code"]["fix"] == "anporia-mcp install claude-code --name anporia"
    assert found["Claude Code, this folder"]["status"] == "fail"
    assert "package of others" in found["Claude Code, this folder"]["detail"]
    assert found["Cursor, this folder"]["status"] == "warn"
    assert found["Codex"]["status"] == "warn" and "opensesame" not in str(found)
    assert "theirs" not in str(found) and "clients" not in found


def entry(url: str | None) -> dict[str, Any]:
    return {"command": PROGRAM, "env": {} if url is None else {"ANPORIA_RELAY_URL": url}}


@pytest.mark.parametrize(
    ("url", "status", "detail", "fix"),
    [
        ("http://127.0.0.1:9/", "ok", "'a' uses http://127.0.0.1:9/", ""),
        ("${MINE:-http://127.0.0.1:9}", "ok", "Cursor puts in the place of ${MINE", ""),
        ("http://127.0.0.1:8", "warn", "this shell: http://127.0.0.1:9", "doctor --relay http://127.0.0.1:8"),
        (None, "warn", "the public relay, https://anporia.com/api", "doctor --relay https://anporia.com/api"),
        (
            "127.0.0.1:8080",
            "fail",
            "no scheme",
            "Did you mean http://127.0.0.1:8080 ? Then: anporia-mcp",
        ),
        ("http://me:opensesame@h", "fail", "must not hold", "Take it out"),
        ("me:1opensesame@h", "fail", "must not hold", "Take it out"),
        ("there", "fail", "not an address", "Use an address such as"),
    ],
)
def test_which_relay_a_client_will_use(
    url: str | None, status: str, detail: str, fix: str, run: Run, home: Path
) -> None:
    (home / ".cursor").mkdir()
    (home / ".cursor" / "mcp.json").write_text(json.dumps({"mcpServers": {"a": entry(url)}}))
    found = findings(run)["Cursor: relay"]
    assert found["status"] == status and detail in found["detail"] and fix in found["fix"]
    assert "opensesame" not in str(found) and bool(found["fix"]) is (status != "ok")


def test_an_address_of_this_shell_that_is_none_is_not_repeated(run: Run, home: Path) -> None:
    (home / ".cursor").mkdir()
    (home / ".cursor" / "mcp.json").write_text(json.dumps({"mcpServers": {"a": entry("http://127.0.0.1:8")}}))
    said = run("doctor", "--json", "--relay", "http://me:opensesame@h")
    assert said.code == 1 and "opensesame" not in said.out + said.err and "none that can be used" in said.out


def test_without_keyring_login_is_not_advised(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anporia_client.keychain.available", lambda: False)
    monkeypatch.setenv("ANPORIA_RELAY_PASSWORD", "opensesame")
    assert "ANPORIA_RELAY_PASSWORD_FILE" in findings(run)["password source"]["fix"]


def test_login_bears_this_programs_name(run: Run) -> None:
    said = run("login", "--help")
    assert said.code == 0 and "anporia-mcp login --relay" in said.out and "pass show anporia | anporia-mcp" in said.out
    assert "anporia-mcp logout" in run("logout", "--help").out
    assert run("login", *NOBODY[:2]).code == 2  # nothing on standard input
