"""A relay for all tests of the command, and the command itself, run in this process or as a program of its own."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anporia_client.cli import main
from tests.relays import RunningRelay

PROGRAM = [sys.executable, "-m", "anporia_client.cli"]


@dataclass(frozen=True)
class Ran:
    """What a run of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON value."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRelay]:
    """One relay for all, without limits of events."""
    with RunningRelay(tmp_path_factory.mktemp("relay"), args=["--agent-rate", "0", "--peer-rate", "0"]) as running:
        yield running


@pytest.fixture
def run(relay: RunningRelay, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command in this process, 80 columns wide, with that relay and a home of its own."""
    monkeypatch.setenv("ANPORIA_RELAY_URL", relay.url)
    monkeypatch.setenv("COLUMNS", "80")
    log = logging.getLogger("anporia.client")
    before = log.handlers[:], log.level

    def command(*args: str, stdin: str | bytes = b"") -> Ran:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))
        capsys.readouterr()
        code = main(args)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Ran(code, said.out, said.err)

    yield command
    log.handlers[:], log.level = before


def program(*args: str, stdin: bytes = b"", **env: str) -> Ran:
    """Run the command as a program of its own."""
    done = subprocess.run([*PROGRAM, *args], input=stdin, capture_output=True, env={**os.environ, **env}, timeout=60)
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def other_key(tmp_path: Path, run: Run) -> list[str]:
    """Options that make the command another agent."""
    options = ["--key", str(tmp_path / "other.key")]
    assert run("whoami", *options).code == 0
    return options
