"""`anporia-node sim` as its users have it: a process, its two streams, its exit status."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anporia_p2p.cli import main
from anporia_p2p.sim import curve

COMMAND = [sys.executable, "-m", "anporia_p2p"]
SMALL = ["sim", "--nodes", "8", "--profile", "fast", "--minutes", "0.02", "--seed", "7", "--unwrap-us", "130"]


def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def figures(*more: str) -> dict[str, Any]:
    done = run(*SMALL, "--json", *more)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_json_has_what_scripts_rely_on() -> None:
    found = figures()
    assert found["sent"] == found["delivered"] > 0
    assert set(found["latency_ms"]) >= {"mean", "p50", "p95"}
    bits = found["h_user_bits"]
    assert 0 <= bits["min"] <= bits["mean"] <= bits["max_possible"]
    assert found["unwrap_us_median"] == 130
    assert found["packet_bytes"] == 16_380
    assert found["bytes_per_delivery"] > 16_380
    assert 0 < found["cover_share"] < 1
    assert found["drops"] == {}


def test_a_run_repeats_where_nothing_is_measured() -> None:
    first, second, other = figures(), figures(), figures("--seed", "8")
    for found in (first, second, other):
        del found["wall_seconds"]
    assert first == second != other


def test_settings_do_what_they_say() -> None:
    plain, corrupt, lossy = figures(), figures("--corrupt", "0.5"), figures("--loss", "0.2", "--dead", "0.1")
    assert corrupt["corrupt_nodes"] == 4 and corrupt["h_user_bits"]["mean"] < plain["h_user_bits"]["mean"]
    assert lossy["dead_nodes"] == 1 and lossy["loops"]["lost"] > 0
    assert lossy["drops"]["lost_on_link"] > 0 and lossy["drops"]["node_down"] > 0
    assert (plain["h_user_bits"]["max_possible"], lossy["h_user_bits"]["max_possible"]) == (3.0, 2.807)  # of 8, of 7
    assert (corrupt["loss"], lossy["loss"], lossy["told"]) == (0.0, 0.2, False)
    slow_links = figures("--link-ms", "100")
    assert slow_links["latency_ms"]["mean"] > plain["latency_ms"]["mean"] + 300
    assert figures("--told")["h_user_bits"]["mean"] < plain["h_user_bits"]["mean"]


def test_real_packets_give_the_same_figures() -> None:
    keyless, real = figures(), figures("--real-packets")
    for found in (keyless, real):
        del found["wall_seconds"], found["real_packets"]
    assert keyless == real


def test_the_table_fits_a_terminal_and_has_no_colours_in_a_file() -> None:
    done = run(*SMALL)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout + done.stderr
    assert "bits" in done.stdout and done.stderr == ""


def test_on_a_terminal_there_is_a_progress_bar() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    with subprocess.Popen([*COMMAND, *SMALL, "--minutes", "0.1"], stdout=theirs, stderr=theirs, env=environment) as run:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4_096):
                shown += part
        except OSError:  # Linux says so when the other end is closed
            pass
        assert run.wait(60) == 0
    os.close(ours)
    assert re.search(rb"\d+%", shown) and b"\x1b[" in shown


def test_the_plot_is_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(curve, "_FLIGHTS", 400)  # as many as it wants for a curve take a minute
    file = tmp_path / "curve.png"
    main([*SMALL, "--plot", str(file)])
    assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 10_000
    assert str(file) in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "VERB"),
        (("fly",), "fly"),
        (("sim", "--nodes", "3"), "--nodes"),
        (("sim", "--nodes", "many"), "many"),
        (("sim", "--nodes", "9" * 5_000), "--nodes"),
        (("sim", "--nodes", "١٢"), "--nodes"),
        (("sim", "--profile", "warp"), "warp"),
        (("sim", "--minutes", "nan"), "--minutes"),
        (("sim", "--minutes", "inf"), "--minutes"),
        (("sim", "--minutes", "-1"), "--minutes"),
        (("sim", "--corrupt", "2"), "--corrupt"),
        (("sim", "--nodes", "7", "--corrupt", "0.9"), "--corrupt"),
        (("sim", "--seed", "-1"), "--seed"),
        (("sim", "--nodes", "8", "--dead", "0.5"), "--dead"),
        (("sim", "--profile", "fast", "--link-ms", "450"), "at most 27"),
        (("sim", "--plot", "curve.gif"), ".png"),
        (("sim", "--plot", "no/such/folder/curve.png"), "no/such/folder"),
        (("sim", "--prof", "fast"), "--prof"),
        (("sim", "extra"), "extra"),
    ],
)
def test_an_order_that_makes_no_sense_gets_one_line(arguments: tuple[str, ...], word: str) -> None:
    done = run(*arguments, status=2)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and word in done.stderr and len(done.stderr) < 6_000


def test_a_plot_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken.png").mkdir()
    done = run(*SMALL, "--plot", str(tmp_path / "taken.png"), status=2)
    assert len(done.stderr.splitlines()) == 1


def test_without_numpy_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['numpy'] = None\nfrom anporia_p2p.cli import main\nmain(['sim'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "anporia-p2p[sim]" in done.stderr and len(done.stderr.splitlines()) == 1
