"""README and docs do what they say: each fenced `sh` and `python` block is run, in order, as a reader would.

A block marked `no-test: reason` is not. Ports and paths are the reader's own: 8080 becomes a free port, and the
working folder is a fresh one that holds links to what a clone holds.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    "README.md",
    "client/README.md",
    "mcp_server/README.md",
    "loadtest/README.md",
    "p2p/README.md",
    "docs/client.md",
    "docs/mcp.md",
    "docs/relay.md",
    "docs/protocol.md",
    "docs/performance.md",
    "docs/conformance.md",
    "docs/p2p.md",
    "CONTRIBUTING.md",
]
_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# as it was at the start: a test's own HOME would hide the caches that installing uses
_ENVIRONMENT = dict(os.environ)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_blocks_of_a_document_run(document: str, tmp_path: Path) -> None:
    text = (ROOT / document).read_text()
    folder = _clone_like(tmp_path / "clone")
    port = str(_free_port())
    environment = {**_ENVIRONMENT, "HOME": str(tmp_path), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for name in ("XDG_CACHE_HOME", "UV_CACHE_DIR"):
        environment.setdefault(name, str(Path(_ENVIRONMENT.get("HOME", "")) / ".cache" / ("uv" * (name[0] == "U"))))
    with ExitStack() as stack:
        blocks = _blocks(text.replace("8080", port))
        if port in text.replace("8080", port) and not any(re.search(r"anporia-relay .*--port", b) for _, b in blocks):
            start = f".venv/bin/anporia-relay --db relay.db --port {port}"  # the page takes a running relay for granted
            stack.enter_context(_in_background(start, folder, environment, port))
        for language, block in blocks:
            if re.search(r"anporia-relay .*--port", block):
                stack.enter_context(_in_background(block, folder, environment, port))
                continue
            command = ["bash", "-euc", block] if language == "sh" else [sys.executable, "-c", block]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{document}:\n{block}\n{done.stdout}\n{done.stderr}"


def test_every_link_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def _blocks(text: str) -> list[tuple[str, str]]:
    """Give (language, text) of what is to be run; Python blocks that follow each other are one program."""
    blocks: list[tuple[str, str]] = []
    for language, remark, block in _FENCE.findall(text):
        if "no-test" in remark or language not in ("sh", "python"):
            continue
        if language == "python" and blocks and blocks[-1][0] == "python":
            block = blocks.pop()[1] + block
        blocks.append((language, block))
    return blocks


def _clone_like(folder: Path) -> Path:
    folder.mkdir()
    for name in (".venv", "dev", "demo", "docs", "dist"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@contextmanager
def _in_background(block: str, folder: Path, environment: dict[str, str], port: str) -> Iterator[None]:
    with subprocess.Popen(["bash", "-euc", f"exec {_last_command(block)}"], cwd=folder, env=environment) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                    break
                except OSError:
                    assert process.poll() is None, block
                    assert time.monotonic() < deadline, block
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()
            assert process.wait(30) == 0


def _last_command(block: str) -> str:
    """Give the block's relay command, its leading variables as `env` takes them."""
    return "env " + next(line for line in block.splitlines() if "anporia-relay" in line)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
