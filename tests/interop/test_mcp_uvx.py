"""The line for uv that the docs give: it runs this server from our wheels, and not the namesake on the index."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import anporia_mcp_server
from tests.peers import ROOT

pytestmark = pytest.mark.interop

MEMBERS = ("wire", "client", "mcp_server")
_PATIENCE_S = 120.0  # uv may have to fetch forty packages


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheels as `./dev dist` builds them."""
    folder = tmp_path_factory.mktemp("dist")
    for member in MEMBERS:
        ran(sys.executable, "-m", "build", "--wheel", "--installer", "uv", "--outdir", folder, ROOT / member)
    return folder


@pytest.mark.parametrize("document", ["docs/mcp.md", "mcp_server/README.md"])
def test_the_line_of_the_docs_runs_ours(document: str, dist: Path, tmp_path: Path) -> None:
    [given] = re.findall(r"\buvx (--find-links \S*dist --from \S+ anporia-mcp-server)\b", (ROOT / document).read_text())
    start = re.sub(r"\S*dist\b", str(dist), given).split()
    # of its own: what is cached elsewhere under these versions may be older
    own = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_CACHE_DIR": str(tmp_path / "cache")}
    uv = Path(sys.executable).with_name("uv")
    assert ran(uv, "tool", "run", *start, "--version", **own).strip() == (
        f"anporia-mcp-server, version {anporia_mcp_server.__version__}"
    )
    # the namesake has no such command
    said = ran(uv, "tool", "run", *start, "install", "--json", **own)
    assert '"client": "claude-code"' in said


def ran(*command: str | Path, **more: str) -> str:
    """Run a program that must succeed; gives what it printed."""
    environ = {**os.environ, **more}
    done = subprocess.run(list(map(str, command)), env=environ, capture_output=True, text=True, timeout=_PATIENCE_S)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout
