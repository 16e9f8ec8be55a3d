"""Programs from npm, each with an environment of its own under .peers/, made once: `npm_program(NODE)`."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers import ROOT

__all__ = ["CLAUDE", "CONFORMANCE", "INSPECTOR", "NODE", "OPENCODE", "Npm", "npm_program"]

# as it was at the start: a test's own HOME hides the user's caches and certificates
_ENVIRONMENT = dict(os.environ)


@dataclass(frozen=True, slots=True)
class Npm:
    """A package of npm, exactly pinned, and the program of it that is run."""

    package: str
    version: str
    program: str


NODE = Npm("node", "22.23.3", "node")  # of the system's node, 20 is common; the conformance suite needs 22
CONFORMANCE = Npm("@modelcontextprotocol/conformance", "0.2.0-alpha.12", "conformance")
INSPECTOR = Npm("@modelcontextprotocol/inspector", "2.12.0", "mcp-inspector")
CLAUDE = Npm("@anthropic-ai/claude-code", "2.1.328", "claude")
OPENCODE = Npm("opencode-ai", "1.18.33", "opencode")


def npm_program(wanted: Npm) -> Path:
    """Give the program, after installing its package if need be; safe to call in parallel. Needs node and npm."""
    home = ROOT / ".peers" / f"{wanted.package.rpartition('/')[2]}-{wanted.version}"
    if not (home / "complete").exists():
        npm = shutil.which("npm")
        assert npm, "needs node and npm"
        home.mkdir(parents=True, exist_ok=True)
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (home / "complete").exists():
                options = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(home))
                environment = {**_ENVIRONMENT, "npm_config_cache": str(home / "cache")}
                command = [npm, "install", *options, f"{wanted.package}@{wanted.version}"]
                done = subprocess.run(command, env=environment, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr or done.stdout
                shutil.rmtree(home / "cache", ignore_errors=True)
                (home / "complete").touch()
    return home / "node_modules" / ".bin" / wanted.program
