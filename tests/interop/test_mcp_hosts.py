"""Hosts by other projects meet our MCP server: the Inspector, Claude Code and opencode, as they are published.

Each runs with a home folder and an environment of its own, against a relay of the test: the server never sees the
default one.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anporia_client import Agent, Keypair
from tests.interop.npm import CLAUDE, INSPECTOR, NODE, OPENCODE, Npm, npm_program
from tests.mcp_server.host import SERVER, http_server
from tests.relays import RunningRelay

pytestmark = pytest.mark.interop

ERAS = ("legacy", "auto", "modern")
TOKEN = "a-token-of-enough-letters"

# What the Inspector remarks on our schemas, which are without errors.
REMARK = re.compile(r"`type` is an array \(\[.*\"null\"\]\)")

_PATIENCE_S = 120.0  # Claude Code waits 30 s for a server; a cold start of opencode takes some
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine on which nothing is set but a home folder and a folder to work in."""

    home: Path
    project: Path
    relay_url: str

    def run(self, program: Npm | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program that must succeed."""
        path = npm_program(program) if isinstance(program, Npm) else program
        node, claude = npm_program(NODE).parent, npm_program(CLAUDE).parent
        environment = {
            "PATH": f"{claude}:{node}:/usr/bin:/bin",
            "HOME": str(self.home),
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
        }
        done = subprocess.run(
            [path, *arguments],
            cwd=self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def claude(self, *arguments: str) -> str:
        """Run Claude Code."""
        return self.run(CLAUDE, *arguments).stdout

    def listed(self) -> dict[str, str]:
        """Give what Claude Code says of each of its servers, after trying to connect."""
        lines = [line for line in self.claude("mcp", "list").splitlines() if " - " in line]
        return {line.partition(":")[0]: line.partition(" - ")[2] for line in lines}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    for name in ("home", "project"):
        (tmp_path / name).mkdir()
    with RunningRelay(tmp_path) as relay:
        yield Machine(tmp_path / "home", tmp_path / "project", relay.url)


# ----------------------------------------------------------------------------------------------------- the Inspector


@dataclass(frozen=True, slots=True)
class Inspector:
    """The Inspector's command line, each time with a connection of its own to the `target`."""

    machine: Machine
    era: str
    target: tuple[str, ...]

    def ask(self, method: str, *arguments: str) -> tuple[Any, str]:
        """Send a request; gives the answer, and what the Inspector remarks on it."""
        options = ("--protocol-era", self.era, "--method", method, *arguments)
        done = self.machine.run(INSPECTOR, "--cli", *options, *self.target)
        return json.loads(done.stdout), done.stderr

    def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool that must succeed."""
        answer, _ = self.ask("tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        assert answer["isError"] is False
        assert json.loads(answer["content"][0]["text"]) == answer["structuredContent"]
        return answer["structuredContent"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_the_inspector_reads_the_tools_and_calls_them(machine: Machine, era: str, transport: str) -> None:
    with target(machine, transport) as reached:
        inspector = Inspector(machine, era, reached)
        listed, remarks = inspector.ask("tools/list", "--strict")  # it would exit with 6 for a schema with an error
        assert len(listed["tools"]) == 17
        issues = [line.strip() for line in remarks.splitlines() if line.strip().startswith("Issue:")]
        assert [issue for issue in issues if not REMARK.search(issue)] == []
        stats = inspector.call("anporia_get_stats")
        assert stats["relay_url"] == machine.relay_url
        posted = inspector.call("anporia_post", content="inspected", topics=["tea"])
        assert (posted["accepted"], posted["agent_id"]) == (True, stats["your_agent_id"])
    with Agent(Keypair.generate(), machine.relay_url) as reader:
        assert reader.get_event(posted["id"])["content"] == "inspected"


@contextmanager
def target(machine: Machine, transport: str) -> Iterator[tuple[str, ...]]:
    """Give the arguments by which the Inspector reaches our server."""
    if transport == "http":
        with http_server(machine.relay_url, machine.home) as url:
            yield ("--transport", "http", url)
    else:
        yield ("-e", f"ANPORIA_RELAY_URL={machine.relay_url}", "-e", f"HOME={machine.home}", str(SERVER))


# ------------------------------------------------------------------------------------------------------- Claude Code


def test_claude_code_connects_over_stdio(machine: Machine) -> None:
    machine.claude(
        "mcp", "add", "anporia", "--scope", "user", "-e", f"ANPORIA_RELAY_URL={machine.relay_url}", "--", str(SERVER)
    )
    assert machine.listed() == {"anporia": "✔ Connected"}
    assert "Status: ✔ Connected" in machine.claude("mcp", "get", "anporia")
    # the host's own log: the new era was spoken, and the server ended when it was asked to
    (first, *_) = sorted(machine.home.glob(".cache/claude-cli-nodejs/*/mcp-logs-anporia/*.jsonl"))
    log = first.read_text()
    assert '\\"negotiatedProtocolVersion\\":\\"2026-07-28\\"' in log and "exited cleanly" in log


def test_install_tells_claude_code_of_the_server_by_its_own_command(machine: Machine) -> None:
    machine.run(SERVER, "install", "claude-code", "--yes", "--relay", machine.relay_url)
    assert machine.listed() == {"anporia": "✔ Connected"}
    machine.run(SERVER, "install", "claude-code", "--yes", "--remove")
    assert machine.listed() == {}


def test_claude_code_sees_a_project_file_that_install_wrote(machine: Machine) -> None:
    machine.run(SERVER, "install", "claude-code", "--scope", "project", "--yes", "--relay", machine.relay_url)
    written = json.loads((machine.project / ".mcp.json").read_text())
    assert written["mcpServers"]["anporia"]["env"]["ANPORIA_RELAY_URL"] == machine.relay_url
    # it asks its person first; who approves has the server
    assert machine.listed()["anporia"].startswith("⏸ Pending approval")
    approved = machine.home / ".claude" / "settings.json"
    approved.parent.mkdir(exist_ok=True)
    approved.write_text('{"enableAllProjectMcpServers": true}')
    assert machine.listed() == {"anporia": "✔ Connected"}


def test_claude_code_connects_over_http_with_the_token_only(machine: Machine) -> None:
    with http_server(machine.relay_url, machine.home, env={"ANPORIA_MCP_TOKEN": TOKEN}) as url:
        for name, token in (("anporia", TOKEN), ("stranger", f"{TOKEN}x")):
            header = f"Authorization: Bearer {token}"
            machine.claude("mcp", "add", "--transport", "http", name, url, "--header", header)
        listed = machine.listed()
    assert listed["anporia"] == "✔ Connected"
    assert listed["stranger"].startswith("✘ Failed to connect") and "A bearer token is needed" in listed["stranger"]


# ---------------------------------------------------------------------------------------------------------- opencode


def test_opencode_connects(machine: Machine) -> None:
    settings = {
        "type": "local",
        "command": [str(SERVER)],
        "environment": {"ANPORIA_RELAY_URL": machine.relay_url},
        "enabled": True,
    }
    (machine.project / "opencode.json").write_text(json.dumps({"mcp": {"anporia": settings}}))
    done = machine.run(OPENCODE, "mcp", "list")
    assert re.search(r"✓ anporia +connected", _COLOUR.sub("", done.stdout)), done.stdout + done.stderr
    assert (machine.home / ".anporia" / "key.priv").exists(), "the server ran with this home"
