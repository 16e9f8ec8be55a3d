"""./dev demo as a newcomer meets it: what it says, and that it leaves nothing behind."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anporia_client import Agent, Keypair
from tests.relays import RunningRelay

DEMO = Path(__file__).resolve().parents[2] / "demo/demo.py"
DEADLINE_S = 60.0  # typical are two

# rich takes these as orders about colours and width
_LOOKS = ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _LOOKS}
    # a database and a proxy of the user's must not matter
    return {
        **kept,
        "TMPDIR": str(tmp_path),
        "TERM": "xterm",
        "ANPORIA_DB": "/nowhere/x.db",
        "HTTP_PROXY": "http://[::1]:1",
    }


@pytest.fixture
def started(environment: dict[str, str], tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Demos put in here must be gone by the end of the test, with all they started and all they wrote."""
    demos: list[subprocess.Popen[str]] = []
    yield demos
    for demo in demos:
        demo.wait(DEADLINE_S)
        for stream in (demo.stdout, demo.stderr):
            if stream:
                stream.close()
        with pytest.raises(ProcessLookupError):
            os.killpg(demo.pid, signal.SIGKILL)
    assert list(tmp_path.glob("anporia-demo-*")) == []


def start(environment: dict[str, str], stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    # in a process group of its own: what is left of it is what the demo left running
    return subprocess.Popen(
        [sys.executable, str(DEMO)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_it_shows_what_a_relay_does(
    environment: dict[str, str], started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    demo = start(environment)
    started.append(demo)
    out, err = demo.communicate(timeout=DEADLINE_S)
    assert (demo.returncode, err) == (0, "")
    assert "Of 443 lines of the public ANP2 log, 196 were kept and 247 refused." in out
    assert re.findall(r"verified  Ben receives [0-9a-f]{8}: Ada says '(.*)'", out) == [
        "The kettle is on.", "Green or black?", "Who said that? Not me.",
    ]  # fmt: skip
    assert "refused   The relay answers: 400 bad_signature\n" in out
    assert "199 events by 12 agents." in out
    assert "./dev test" in out
    assert "\x1b" not in out and "\r" not in out
    assert [line for line in out.splitlines() if len(line) > 80 or line != line.rstrip()] == []


def test_the_three_lines_it_ends_with_work(environment: dict[str, str], tmp_path: Path) -> None:
    lines = DEMO.read_text().partition(" post to it:\n\n")[2].partition('"""')[0]
    assert lines.count("\n  ") == 2
    with RunningRelay(tmp_path) as relay:
        program = "\n".join(line.strip() for line in lines.splitlines()).replace("http://127.0.0.1:8080", relay.url)
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=DEADLINE_S)
        with Agent(Keypair.generate(), relay.url) as reader:
            assert [event["content"] for event in reader.query(topic="tea")] == ["Hello, Anporia!"]


def test_on_a_terminal_it_has_colours_within_80_columns(
    environment: dict[str, str], started: list[subprocess.Popen[str]]
) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    demo = start(environment, stdout=theirs)
    started.append(demo)
    os.close(theirs)
    shown = read_all(ours)
    assert demo.wait(DEADLINE_S) == 0
    assert "\x1b[32mverified\x1b[0m" in shown and "\x1b[31mrefused\x1b[0m" in shown
    assert "importing" in shown and "100%" in shown
    assert [line for line in re.split(r"[\r\n]+", _COLOUR.sub("", shown)) if len(line) > 80] == []


def read_all(terminal: int) -> str:
    parts = []
    deadline = time.monotonic() + DEADLINE_S
    try:
        while select.select([terminal], [], [], deadline - time.monotonic())[0]:
            part = os.read(terminal, 65_536)
            if not part:
                break
            parts.append(part)
    except OSError:  # how Linux says that nobody holds the other side any more
        pass
    finally:
        os.close(terminal)
    return b"".join(parts).decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_half_way_it_cleans_up(
    environment: dict[str, str], started: list[subprocess.Popen[str]], number: signal.Signals, code: int
) -> None:
    demo = start(environment)
    started.append(demo)
    assert demo.stdout
    for line in demo.stdout:
        if line.startswith("It listens on"):
            break
    demo.send_signal(number)
    assert demo.wait(DEADLINE_S) == code


def test_a_relay_that_does_not_start_is_one_clear_line(
    environment: dict[str, str], started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "uvloop.py").write_text("raise ImportError('no loop here')\n")
    demo = start({**environment, "PYTHONPATH": str(broken)})
    started.append(demo)
    _, err = demo.communicate(timeout=DEADLINE_S)
    assert (demo.returncode, err) == (1, "demo: the relay did not start: ImportError: no loop here\n")
