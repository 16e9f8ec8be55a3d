"""The command `anporia-relay` as an operator meets it: what it prints, what it exits with, what it leaves behind."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import pytest

from anporia_wire import Event
from tests.e2e.traffic import NOT_RATED, Publisher, read_log, signed_events
from tests.relays import RELAY, RunningRelay

SAMPLE = Path(__file__).resolve().parents[2] / "demo/sample.jsonl"
KEPT, REFUSED = 196, 247  # of the sample; one of the kept lacks the proof its kind needs

PATIENCE_S = 60.0

Run = Callable[..., "subprocess.CompletedProcess[Any]"]  # of str, of bytes with text=False


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def run(db: Path) -> Run:
    """Run the command on `db`; gives what came of it."""

    def command(*words: object, **more: Any) -> subprocess.CompletedProcess[Any]:
        given = [str(RELAY), "--db", str(db), *map(str, words)]
        more = {"stdin": subprocess.DEVNULL, **more} if more.get("input") is None else more
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.run(given, **{**pipes, "text": True, "timeout": PATIENCE_S, **more})

    return command


@pytest.fixture
def filled(run: Run, db: Path) -> Path:
    """A database that holds the sample."""
    assert run("import", SAMPLE).returncode == 0
    return db


def one_line(done: subprocess.CompletedProcess[Any], *words: str) -> None:
    """Hold a failure against its promise: exit 2, and one line that says why."""
    assert done.returncode == 2, done
    assert re.fullmatch(r"anporia-relay: [^\n]+\n", done.stderr), done.stderr
    for word in words:
        assert word in done.stderr
    assert done.stdout == ""


def ids(db: Path) -> list[str]:
    return [json.loads(raw)["id"] for _, raw in read_log(db)]


def as_lines(events: Sequence[Event]) -> bytes:
    return b"".join(event.to_json() + b"\n" for event in events)


# -- import ---------------------------------------------------------------------------------------


def test_version() -> None:
    done = subprocess.run([RELAY, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"anporia-relay {version('anporia-relay')}\n")


@pytest.mark.parametrize("source", ["file", "-"])
def test_import_of_the_sample(run: Run, db: Path, source: str) -> None:
    words = ("import", "--json", SAMPLE if source == "file" else "-")
    done = run(*words, input=SAMPLE.read_bytes() if source == "-" else None, text=False)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["examples"][0][:2] == [1, "bad_id"]
    del report["examples"]
    assert report == {
        "lines": KEPT + REFUSED,
        "kept": KEPT,
        "duplicate": 0,
        "unproven": 1,
        "not_stored": 0,
        "refused": {"bad_id": REFUSED},
    }
    assert len(ids(db)) == KEPT
    again = json.loads(run("import", "--json", SAMPLE).stdout)
    assert (again["kept"], again["duplicate"], again["refused"]) == (0, KEPT, {"bad_id": REFUSED})


def test_an_import_that_could_use_nothing_fails(run: Run, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.jsonl"
    nothing.write_text('{"a":1}\nnot json\n')
    done = run("import", nothing)
    assert done.returncode == 1, done.stderr
    assert "refused: malformed" in done.stdout


def test_import_can_ask_for_proofs(run: Run, db: Path) -> None:
    report = json.loads(run("import", SAMPLE, "--require-pow", "--json").stdout)
    assert (report["kept"], report["refused"]) == (KEPT - 1, {"bad_id": REFUSED, "bad_pow": 1})
    assert len(ids(db)) == KEPT - 1
    assert json.loads(run("import", SAMPLE, "--json").stdout)["kept"] == 1  # without, it is let in


def test_import_tells_people_by_reason(run: Run) -> None:
    done = run("import", SAMPLE)
    rows = dict(re.findall(r"^ *(\S.*?) +(\d+)$", done.stdout, re.MULTILINE))
    assert rows == {
        "kept": str(KEPT),
        "of these without the proof their kind needs": "1",
        "refused: bad_id": str(REFUSED),
    }
    assert "line 1: event id mismatch" in done.stderr
    assert f"and {REFUSED - 5} more" in done.stderr


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_an_interrupted_import_goes_on_where_it_stopped(run: Run, db: Path, how: signal.Signals, code: int) -> None:
    events = signed_events(4_000, Random(21))
    lines = as_lines(events)
    cut = len(as_lines(events[:1_600])) + 40  # in the midst of a line
    command = [str(RELAY), "--db", str(db), "import", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(lines[:cut])
        process.stdin.flush()
        _wait_until(lambda: db.exists() and len(_ids_if_any(db)) >= 1_500)
        process.send_signal(how)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert b"Traceback" not in said
    before = ids(db)
    assert before == [event.id for event in events[: len(before)]]
    report = json.loads(run("import", "-", "--json", input=lines, text=False).stdout)
    assert (report["kept"], report["duplicate"]) == (len(events) - len(before), len(before))
    assert ids(db) == [event.id for event in events]
    assert run("verify").returncode == 0


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _ids_if_any(db: Path) -> list[str]:
    try:
        return ids(db)
    except sqlite3.OperationalError:  # being made
        return []


def test_import_beside_a_relay_is_refused(run: Run, tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay:
        one_line(run("import", SAMPLE), str(relay.db), "in use")
        one_line(run("--port", "0"), str(relay.db), "in use")
    assert run("import", SAMPLE).returncode == 0


# -- export ---------------------------------------------------------------------------------------


def test_what_is_exported_can_be_imported(run: Run, filled: Path, tmp_path: Path) -> None:
    to_stdout = run("export", text=False)
    assert to_stdout.returncode == 0
    assert to_stdout.stdout == b"".join(raw + b"\n" for _, raw in read_log(filled))
    assert to_stdout.stderr == b"196 events written\n"
    file = tmp_path / "events.jsonl"
    assert run("export", "-o", file).returncode == 0
    assert file.read_bytes() == to_stdout.stdout
    assert not file.with_name("events.jsonl.partial").exists()

    other = tmp_path / "other.db"
    report = json.loads(run("--db", other, "import", "-", "--json", input=to_stdout.stdout, text=False).stdout)
    assert (report["kept"], report["refused"]) == (KEPT, {})
    assert ids(other) == ids(filled)
    done = run("--db", other, "verify", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"rows": KEPT, "findings": []})


def test_export_from_a_running_relay(run: Run, tmp_path: Path) -> None:
    with RunningRelay(tmp_path, env=NOT_RATED) as relay, Publisher(relay.url) as publisher:
        sent = [answer["id"] for answer in publisher.batch(signed_events(300, Random(1)))]
        exported = run("export", text=False).stdout
    assert [json.loads(line)["id"] for line in exported.splitlines()] == sent


def test_export_to_a_reader_that_leaves(run: Run, db: Path) -> None:
    run("import", "-", input=as_lines(signed_events(2_000, Random(22))), text=False)
    reader, writer = os.pipe()
    with subprocess.Popen([RELAY, "--db", db, "export"], stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        os.read(reader, 100)
        os.close(reader)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, said) == (1, b"")


def test_export_to_a_full_standard_output(run: Run, filled: Path) -> None:
    with open("/dev/full", "w") as full:
        for words in ("export", "verify --json", f"import {SAMPLE}"):
            done = run(*words.split(" "), stdout=full)
            assert done.returncode == 2
            assert "Traceback" not in done.stderr
            assert done.stderr.splitlines()[-1] == "anporia-relay: standard output: No space left on device"


def test_export_leaves_a_pipe_in_its_place(run: Run, filled: Path, tmp_path: Path) -> None:
    # writing to a new file beside it and renaming would replace the pipe, or /dev/null
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    assert run("export", "-o", pipe).returncode == 0
    reader.join(PATIENCE_S)
    assert got[0].count(b"\n") == KEPT
    assert pipe.is_fifo()


def test_export_says_where_it_could_not_write(run: Run, filled: Path, tmp_path: Path) -> None:
    one_line(run("export", "-o", tmp_path / "none/events.jsonl"), "none/events.jsonl")
    one_line(run("export", "-o", tmp_path), str(tmp_path))


# -- files that are not ours ---------------------------------------------------------------------


def _not_ours(file: Path) -> str:
    with closing(sqlite3.connect(file)) as made:
        made.execute("CREATE TABLE things (name TEXT)")
    return "another program"


def _newer(file: Path) -> str:
    subprocess.run([RELAY, "--db", file, "import", SAMPLE], check=True, capture_output=True)
    with closing(sqlite3.connect(file)) as made:
        made.execute("PRAGMA user_version = 99")
    return "newer version"


def _garbage(file: Path) -> str:
    file.write_bytes(Random(4).randbytes(20_000))
    return "not an SQLite database"


@pytest.mark.parametrize("make", [_not_ours, _newer, _garbage])
def test_a_file_that_is_not_ours_is_left_alone(make: Callable[[Path], str], run: Run, db: Path, tmp_path: Path) -> None:
    why = make(db)
    before = db.read_bytes()
    target = tmp_path / "new"
    every: list[list[object]] = [
        ["--port", "0"],
        ["verify"],
        ["import", SAMPLE],
        ["export", "-o", target],
        ["backup", target],
    ]
    for words in every if make is _not_ours else every[:2]:
        one_line(run(*words), str(db), why)
    assert db.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("relay.db")]


def test_a_database_that_is_missing_is_not_made_by_readers(run: Run, db: Path, tmp_path: Path) -> None:
    for words in (["verify"], ["export"], ["backup", tmp_path / "copy"]):
        one_line(run(*words), str(db), "does not exist")
    assert list(tmp_path.iterdir()) == []


# -- backup ---------------------------------------------------------------------------------------


def test_backup_while_publishing(run: Run, tmp_path: Path) -> None:
    events = signed_events(2_000, Random(23))
    copy = tmp_path / "copies/copy.db"
    copy.parent.mkdir()
    with RunningRelay(tmp_path, env=NOT_RATED) as relay:
        published: list[str] = []
        enough = threading.Event()

        def publish() -> None:
            with Publisher(relay.url) as publisher:
                for at in range(0, len(events), 10):
                    published.extend(answer["id"] for answer in publisher.batch(events[at : at + 10]))
                    if len(published) > 200:
                        enough.set()

        publisher = threading.Thread(target=publish)
        publisher.start()
        assert enough.wait(PATIENCE_S)
        before = list(published)
        done = run("backup", copy)
        publisher.join(PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in copy.parent.iterdir()] == ["copy.db"], "nothing but the copy"
    copied = ids(copy)
    assert copied[: len(before)] == before and len(before) <= len(copied) <= len(events)
    assert f"{len(copied):,} events" in done.stderr
    assert run("--db", copy, "verify").returncode == 0
    assert ids(tmp_path / "relay.db") == [event.id for event in events]

    before_again = copy.read_bytes()
    one_line(run("backup", copy), str(copy), "exists")
    assert copy.read_bytes() == before_again
    one_line(run("backup", tmp_path / "none/copy.db"), "none")


# -- what people see ------------------------------------------------------------------------------


def test_a_taken_port_is_said_before_the_database_is_touched(run: Run, db: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one_line(run("--port", port), str(port), "in use")
    assert not db.exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--port", "70000"], "--port"),
        (["--peer-rate", "many"], "--peer-rate"),
        (["--auth-user", "x"], "auth_password"),
    ],
)
def test_a_wrong_setting_is_named(run: Run, db: Path, words: list[str], named: str) -> None:
    one_line(run(*words), named)
    assert not db.exists()


def test_help_fits_eighty_columns() -> None:
    env = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    for command in ([], ["import"], ["export"], ["verify"], ["backup"]):
        done = subprocess.run([RELAY, *command, "--help"], capture_output=True, text=True, env=env)
        assert done.returncode == 0
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert "..." not in done.stdout.partition("[COMMAND]")[2].partition("\n")[2], "a summary is cut"


@contextmanager
def terminal() -> Iterator[tuple[int, Callable[[], str]]]:
    """Make a terminal of 80 columns: (its file descriptor for a program, what reads all it was shown)."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    shown: list[bytes] = []

    def read() -> str:
        while select.select([ours], [], [], 0.2)[0]:
            try:
                shown.append(os.read(ours, 65_536))
            except OSError:  # the last one to hold it has left
                break
        return b"".join(shown).decode()

    try:
        yield theirs, read
    finally:
        os.close(ours)
        os.close(theirs)


def test_progress_is_shown_on_a_terminal_only(run: Run, db: Path, tmp_path: Path) -> None:
    lines = tmp_path / "events.jsonl"
    lines.write_bytes(as_lines(signed_events(1_500, Random(24))))
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    steps: list[tuple[str, list[object]]] = [
        ("importing", ["import", lines]),
        ("exporting", ["export", "-o", tmp_path / "out.jsonl"]),
        ("verifying", ["verify"]),
        ("copying", ["backup", tmp_path / "copy.db"]),
    ]
    for doing, words in steps:
        with terminal() as (theirs, read):
            done = run(*words, stderr=theirs, stdout=theirs, env=env)
            shown = read()
        assert done.returncode == 0
        assert doing in shown and "%" in shown, shown
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
        assert max(len(line) for line in re.split(r"[\r\n]+", plain) if doing in line) <= 80, plain
    (tmp_path / "copy.db").unlink()
    db.unlink()
    for doing, words in steps:
        done = run(*words, env=env)
        assert done.returncode == 0
        assert "%" not in done.stderr and doing not in done.stderr and "\x1b" not in done.stdout + done.stderr
        assert max(map(len, done.stdout.splitlines()), default=0) <= 80
