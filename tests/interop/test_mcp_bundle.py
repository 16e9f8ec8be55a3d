"""The bundle for Claude Desktop: the tool of its format takes it, and uv makes of it a server that answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.peers import ROOT

pytestmark = pytest.mark.interop

MCPB = "mcpb@2.1.2"
_PATIENCE_S = 120.0  # uv may have to fetch forty packages


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it as it is built for people."""
    out = tmp_path_factory.mktemp("bundle")
    ran(sys.executable, "mcp_server/bundle/build.py", "--out", out, cwd=ROOT)
    return out / "anporia.mcpb"


@pytest.fixture(scope="module")
def unpacked(bundle: Path) -> Path:
    folder = bundle.parent / "unpacked"
    ran(mcpb(), "unpack", bundle, folder)
    return folder


def test_the_formats_own_tool_takes_it(unpacked: Path, tmp_path: Path) -> None:
    assert "passes" in ran(mcpb(), "validate", unpacked / "manifest.json")
    ran(mcpb(), "validate", ROOT / "mcp_server" / "bundle" / "manifest.json")
    ran(mcpb(), "pack", unpacked, tmp_path / "again.mcpb")
    assert (tmp_path / "again.mcpb").exists()
    tools = json.loads((unpacked / "manifest.json").read_text())["tools"]
    assert {"name": "anporia_post"} in tools


def test_uv_makes_a_server_of_it_that_is_ours(unpacked: Path, tmp_path: Path) -> None:
    about = json.loads((unpacked / "manifest.json").read_text())["server"]["mcp_config"]
    arguments = [one.replace("${__dirname}", str(unpacked)) for one in about["args"]]
    command = [str(Path(sys.executable).with_name(about["command"])), *arguments]
    environ = {**os.environ, **about["env"], "ANPORIA_RELAY_URL": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    environ["ANPORIA_BUNDLE_READ_ONLY"] = "true"
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    lines: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}},
    ]
    answers = spoken(command, environ, lines)
    version = json.loads((unpacked / "manifest.json").read_text())["version"]
    assert answers[1]["result"]["serverInfo"]["version"] == version
    names = {tool["name"] for tool in answers[2]["result"]["tools"]}
    assert "anporia_query" in names and "anporia_post" not in names
    assert list(unpacked.glob(".venv/lib/*/site-packages/anporia_mcp_server/cli.py"))


def spoken(command: list[str], environ: dict[str, str], lines: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Say these lines to a server on stdio; gives its answers by id."""
    wanted = {line["id"] for line in lines if "id" in line}
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None and server.stdout is not None
        found: dict[int, dict[str, Any]] = {}
        try:
            for line in lines:
                server.stdin.write(json.dumps(line).encode() + b"\n")
                server.stdin.flush()
                while line.get("id") in wanted - set(found):
                    answer = json.loads(server.stdout.readline() or b'{"id": 0}')
                    assert answer.get("id") != 0, "the server ended"
                    if "id" in answer:
                        found[answer["id"]] = answer
        finally:
            server.kill()
    return found


def mcpb() -> Path:
    """Give the npm program, installed once under `.peers/`."""
    home = ROOT / ".peers" / MCPB.replace("@", "-")
    if not (home / "complete").exists():
        npm = shutil.which("npm")
        assert npm, "needs node and npm"
        home.mkdir(parents=True, exist_ok=True)
        options = ["--silent", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(home)]
        ran(npm, "install", *options, f"@anthropic-ai/{MCPB}", npm_config_cache=str(home / "cache"))
        (home / "complete").touch()
    return home / "node_modules" / ".bin" / "mcpb"


def ran(*command: str | Path, cwd: Path | None = None, **more: str) -> str:
    """Run a program that must succeed; gives what it printed."""
    environ = {**os.environ, **more}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environ, capture_output=True, text=True, timeout=_PATIENCE_S
    )
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout + done.stderr
