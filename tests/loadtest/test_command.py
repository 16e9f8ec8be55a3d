"""The command: real runs on fresh and other relays, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anporia_loadtest.cli import main
from tests.loadtest.lying import lying
from tests.relays import RunningRelay

COMMAND = Path(sys.executable).with_name("anporia-loadtest")
USERS = {"Markets", "Mischief", "Posters", "Readers", "Streamers"}


def load(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Give all that was said, and the lines by name."""
    assert done.stderr == ""
    said = json.loads(done.stdout)
    return said, {line["name"]: line for line in said["lines"]}


def relays() -> set[str]:
    """Give the relays that a load test started and that run."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "anporia-relay" in command and "anporia-loadtest-" in command:
            found.add(folder.name)
    return found


def test_a_run_on_a_fresh_relay_is_right_and_leaves_nothing(tmp_path: Path) -> None:
    before = relays()
    html = tmp_path / "report.html"
    done = load("--seconds", "5", "--users", "8", "--json", "--seed", "7", "--html", str(html))
    said, lines = outcome(done)
    assert done.returncode == 0, said
    assert said["ok"] and {line["mark"] for line in lines.values()} == {"ok"}, said
    seen = said["seen"]
    assert set(seen["users"]) == set(seen["did"]) == USERS and min(seen["did"].values()) > 0
    assert said["acknowledged"] > 100 and said["missing"] == [] and "acknowledged" not in seen
    assert said["right"] and not said["limited"] and said["summary"] == "The relay was right."
    assert seen["flooded"] >= 15 and sum(stream["cuts"] for stream in seen["streams"]) > 0
    assert sum(stream["resumed"] for stream in seen["streams"]) > 0
    assert {"publish", "read", "task", "deliver", "refuse"} == set(seen["latencies"])
    assert "<html" in html.read_text()[:500]
    assert relays() <= before


def test_a_relay_that_loses_what_it_acknowledged_is_found_out(tmp_path: Path) -> None:
    with RunningRelay(tmp_path, env={"ANPORIA_RATE_EXEMPT": "127.0.0.0/8"}) as relay, lying(relay.url) as liar:
        done = load("--seconds", "2", "--users", "6", "--host", liar.url, "--json")
    said, lines = outcome(done)
    assert done.returncode == 1 and not said["ok"] and not said["right"] and said["html"] is None
    assert liar.lost and set(said["missing"]) == liar.lost
    number = liar.dropped.split(b"\n")[0].rpartition(b"-")[2].decode()
    assert lines["streams"]["mark"] == "failed" and lines["streams"]["examples"][0].startswith(f"{number} never came")
    assert lines["acknowledged events"]["mark"] == "failed" and "missing" in lines["acknowledged events"]["text"]


def test_a_limit_per_address_is_explained_and_a_tight_bound_fails(tmp_path: Path) -> None:
    with RunningRelay(tmp_path, env={"ANPORIA_PEER_RATE": "30"}) as relay:
        done = load(
            "--seconds",
            "2",
            "--users",
            "6",
            "--host",
            relay.url,
            "--p99-ms",
            "0.01",
            "--html",
            str(tmp_path / "r.html"),
        )
    assert done.returncode == 1, done.stdout
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("✗")]
    assert failed == ["publishing", "reading"], done.stdout
    assert "rate_peer" in done.stdout and "ANPORIA_RATE_EXEMPT" in done.stdout
    last = f"The relay was right, as far as it was tested, but slower than asked. Report: {tmp_path / 'r.html'}"
    assert done.stdout.splitlines()[-1] == last


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--host", "https://relay.example.org"], "--yes-this-is-my-relay"),
        (["--host", "http://10.0.0.7:8080"], "--yes-this-is-my-relay"),
        (["--host", "http://127.0.0.1.example.org"], "--yes-this-is-my-relay"),
        (["--host", "ftp://127.0.0.1"], "no address"),
        (["--host", "http://127.0.0.1:99999"], "no address"),
        (["--host", "http://me:secret@127.0.0.1"], "password"),
        (["--host", "http://127.0.0.1:1"], "no answer"),
        (["--users", "0"], "--users"),
        (["--users", "many"], "--users"),
        (["--seconds", "-1"], "--seconds"),
        (["--shape", "star"], "--shape"),
        (["--p99-ms", "nan"], "--p99-ms"),
        (["--html", "."], "--html"),
        (["--html", "no/such/report.html"], "no folder no/such"),
        (["--seed", "-x"], "--seed"),
        (["--no-such-flag"], "--no-such-flag"),
        (["surplus"], "surplus"),
    ],
)
def test_what_cannot_be_is_refused_on_one_line(
    arguments: list[str],
    word: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == "" and said.err.count("\n") == 1 and word in said.err
    assert "secret" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_nothing_but_its_own_process_meets_locust() -> None:
    code = "import sys, anporia_loadtest.cli, anporia_loadtest.signer; print({'locust', 'gevent'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
