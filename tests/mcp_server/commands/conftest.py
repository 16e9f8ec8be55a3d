"""The commands beside serving, run in this process as one program, with a home and a project's folder of their own."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anporia_client.cli import run as run_program
from anporia_client.cli import screen
from anporia_mcp_server.commands import PROGRAM, program
from tests.client.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder that does not hold the project's."""
    there = tmp_path / "home"
    there.mkdir()
    monkeypatch.setenv("HOME", str(there))
    monkeypatch.setenv("USERPROFILE", str(there))
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    return there


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The project's folder, in which the command is called."""
    there = tmp_path / "project"
    there.mkdir()
    monkeypatch.chdir(there)
    return there


@pytest.fixture
def run(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command with no program `claude` on the path, unless a test puts one there."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PATH", str(folder / "bin"))
    log = logging.getLogger("anporia.client")
    before = log.handlers[:], log.level

    def command(*args: str, stdin: str = "") -> Ran:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        capsys.readouterr()
        code = run_program(program, PROGRAM, args)
        said = capsys.readouterr()
        assert "Traceback" not in said.err and "\x1b" not in said.out
        return Ran(code, said.out, said.err)

    yield command
    log.handlers[:], log.level = before
    screen.speak_as("anporia")
