"""What a terminal gets: no raw control characters of strangers, 80 columns, no colours where nobody sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from anporia_client.cli import screen
from tests.client.cli.conftest import PROGRAM, Run, program
from tests.relays import RunningRelay

HOSTILE = (
    "\x1b[31m\x9b2J\x07\r\x00evil\nanporia: key stolen \u202egnp.exe \u200b\u2066\U000e0041\u2028 " + "\u0416" * 60_0
)
RAW = "\x1b\x9b\x07\r\x00\u202e\u200b\u2066\U000e0041\u2028"


def assert_clean(text: str) -> None:
    assert not set(RAW) & set(text)
    assert [line for line in text.splitlines() if cell_len(line) > 80] == []
    assert not any(line.startswith("anporia: key stolen") for line in text.splitlines())


def test_strangers_words_are_made_visible(run: Run, tmp_path: Path) -> None:
    # NUL cannot stand on a command line; standard input takes everything
    key = ["--key", str(tmp_path / "hostile.key")]
    assert run("whoami", *key).code == 0
    post = run("post", "-", "--topic", "hostile", "--json", *key, stdin=HOSTILE).json["id"]
    name = HOSTILE.replace("\x00", "")
    assert run("profile", "--name", name, "--description", name, *key).code == 0
    me = run("whoami", "--json", *key).json["agent_id"]
    assert run("post", "x", "--topic", name[:60], *key).code == 0
    assert run("join", "--name", name, "--capability", name[:60], *key).code == 0
    assert run("trust", "vote", me, "1", "--reason", name, *key).code == 0
    task = run("task", "request", name[:60], name, "--json", *key).json["task_id"]
    assert run("dm", "send", me, "-", *key, stdin=HOSTILE).code == 0
    assert run("flag", post, "--category", "other", "--reason", name, *key).code == 0
    for args in (
        ("query",), ("query", "--all"), ("search", "evil"), ("event", post), ("agents",), ("agent", me), ("rooms",),
        ("capabilities",), ("trust", "show", me), ("task", "show", task), ("dm", "read", *key), ("stats",),
        ("stream", "--limit", "0"),
    ):  # fmt: skip
        said = run(*args)
        assert_clean(said.out)
        assert_clean(said.err) if args[0] != "stream" else None
    assert "\\x1b[31m" in run("event", post).out
    said = run("query", "--topic", "hostile", "--json")
    assert said.out.isascii() and not set(RAW) & set(said.out.rstrip("\n"))
    assert said.json[0]["content"] == HOSTILE


def test_a_refusal_by_a_stranger_stays_on_one_line() -> None:
    assert screen.shown("a\x1b[2J\n\u202eb") == "a\\x1b[2J\\n\\u202eb"
    assert screen.shown("a\nb\tc", lines=True) == "a\nb\\tc"
    assert screen.shown("👩\u200d💻 caf\u00e9 語") == "👩\u200d💻 caf\u00e9 語"
    assert screen.shown("a\u200db") == "a\\u200db"
    assert screen.shown("\ud800") == "\\ud800"


def test_times_that_no_clock_has() -> None:
    assert [screen.when(value) for value in (None, 2**53, -(2**53), "x")] == ["-", "no such time", "no such time", "-"]
    assert len(screen.when(0)) == 10


def test_no_colours_but_on_a_terminal(relay: RunningRelay) -> None:
    assert "\x1b" not in program("doctor", "--relay", relay.url).out
    assert "\x1b" not in program("doctor", "--relay", relay.url, FORCE_COLOR="1", TERM="xterm-256color").out


@pytest.mark.skipif(sys.platform == "win32", reason="no pty")
def test_colours_on_a_terminal_unless_refused(relay: RunningRelay) -> None:
    import pty

    def doctor(**env: str) -> bytes:
        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", **env}
        environment.pop("NO_COLOR", None) if "NO_COLOR" not in env else None
        command = [*PROGRAM, "doctor", "--relay", relay.url]
        with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=environment) as running:
            os.close(theirs)
            said = b""
            while True:
                try:
                    part = os.read(ours, 65_536)
                except OSError:  # the other end is closed
                    break
                if not part:
                    break
                said += part
            running.communicate(timeout=20)
        os.close(ours)
        return said

    assert b"\x1b[32m" in doctor()
    assert b"\x1b[32m" not in doctor(NO_COLOR="1")


def test_narrow_and_wide(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("post", "w" * 500, "--topic", "wide").code == 0
    for columns in (50, 80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        out = run("query", "--topic", "wide").out
        assert max(map(cell_len, out.splitlines())) <= columns
    assert "w" * 100 in out


def test_help_and_whoami_load_little(tmp_path: Path) -> None:
    heavy = ("httpx", "httpcore", "keyring", "sqlite3", "ssl", "asyncio")
    look = f"import sys; print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    for args in (["--help"], ["whoami", "--key", str(tmp_path / "key")]):
        code = f"from anporia_client.cli import main; main({args}); {look}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_json_lines_of_a_page_parse(run: Run) -> None:
    assert run("post", "one", "--topic", "lines").code == 0
    assert [
        json.loads(line)["content"] for line in run("query", "--all", "--json", "--topic", "lines").out.splitlines()
    ] == ["one"]
