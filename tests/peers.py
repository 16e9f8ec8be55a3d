"""Other projects' packages, each in an environment of its own under .peers/, for tests that talk to them as programs.

peers.toml says which. They never share our environment: one of them has the name and the module of our client.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "tests/peers.toml").read_text())

# as it was at the start: a test's own environment hides the user's caches and certificates
_ENVIRONMENT = dict(os.environ)


def peer_python(name: str) -> Path:
    """Return the interpreter of `name`'s environment, after making it if need be; safe to call in parallel."""
    peer = PEERS[name]
    constraints = _constraints(peer["requirements"])
    made_from = json.dumps(peer) + constraints + sys.version
    home = ROOT / ".peers" / f"{name}-{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"
    python, complete = home / "bin/python", home / "complete"
    if complete.exists():
        return python
    home.parent.mkdir(exist_ok=True)
    with (home.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists():
            return python
        # made in its final place, since scripts hold its path; what was left half made has no `complete`
        for old in home.parent.glob(f"{name}-" + "[0-9a-f]" * 12):
            shutil.rmtree(old)
        pins = home.parent / f"{name}.constraints"
        pins.write_text(constraints)
        _install(home, python, ["-c", str(pins), *peer["requirements"]])
        _run(python, "-c", f"import {peer['module']}")
        complete.touch()
    return python


def _constraints(requirements: list[str]) -> str:
    """Give our pins, but for packages that the peer pins itself: it may need another `mcp` than we do."""
    own = {one.partition("==")[0] for one in requirements}
    pins = (ROOT / "constraints.txt").read_text().splitlines(keepends=True)
    return "".join(pin for pin in pins if pin.partition("==")[0] not in own)


def _install(home: Path, python: Path, wanted: list[str]) -> None:
    uv = Path(sys.executable).with_name("uv")
    if uv.exists() and _ENVIRONMENT.get("ANPORIA_DEV_NO_UV") != "1":
        _run(uv, "venv", "-q", "--python", sys.executable, home)
        _run(uv, "pip", "install", "-q", "--python", python, *wanted)
    else:
        _run(sys.executable, "-m", "venv", home)
        _run(python, "-m", "pip", "install", "-qq", "--no-compile", *wanted)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()[-2000:]}")
