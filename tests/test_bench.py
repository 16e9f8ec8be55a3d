"""The benches measure what they say, do not sum up runs that failed, and draw what they found. No speed is asserted."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from anporia_wire import BadId, BadSignature, Event
from bench import _charts, _flamegraph
from bench.__main__ import said
from bench._events import BATCH_EVENTS, ORDER, batches, forged, signed_events, wrong_id
from bench._figures import Figure, print_table, rows, spread, write_json
from bench._load import Outcome, drive, http_post, pace
from bench._samples import Sample, Verification, calibrate, figure, percentile

ROOT = Path(__file__).resolve().parent.parent
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n" + b'{"accepted":true}'


def sample(failures: int = 0, cpu_s: float = 0.1) -> Sample:
    return Sample(1_000, 1.0, cpu_s, failures, 1.0, 2.0, 10.0)


@pytest.mark.parametrize(
    ("runs", "goal", "more_is_better", "met"),
    [
        ([1.8, 1.9, 2.5], 1.9, False, True),
        ([1.8, 2.0, 2.5], 1.9, False, False),
        ([29, 30, 31], 30, True, True),
        ([29, 29, 31], 30, True, False),
        ([1.0], None, False, None),
    ],
)
def test_a_goal_is_held_against_the_median(
    runs: list[float], goal: float | None, more_is_better: bool, met: bool | None
) -> None:
    assert Figure("a", "times", runs, goal, more_is_better).met is met


def test_a_ratio_of_runs_with_more_than_one_per_cent_of_failures_is_not_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = Figure("kept", "times", [45.678], 30, True, requests=1_000, failures=10)
    refused = Figure("refused", "times", [98.765], 30, True, requests=1_000, failures=11)
    assert kept.valid and kept.met
    assert not refused.valid and refused.met is False
    print_table("Both", [kept, refused])
    printed = capsys.readouterr().out
    assert "45.7" in printed and "10 of 1,000 requests failed" in printed
    assert "98.8" not in printed and "11 of 1,000 requests failed" in printed
    assert "98.8" not in said([refused])
    write_json(tmp_path / "figures.json", [kept, refused])
    first, second = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert first["median"] == 45.678
    assert "median" not in second and "runs" not in second and second["invalid_runs"] == [98.765]


def test_one_failed_run_of_five_spoils_a_figure_even_where_the_sum_would_pass() -> None:
    spoiled = [*[sample()] * 4, sample(failures=11)]
    assert not figure("a", "us/event", lambda s: s.cpu_us, spoiled).valid
    clean = [sample()] * 5
    ratio = figure("b", "times", lambda ours, theirs: ours.rate / theirs.rate, clean, spoiled)
    assert not ratio.valid and ratio.requests == 10_000 and ratio.failures == 11
    assert figure("c", "us/event", lambda s: s.cpu_us, clean).valid


def test_a_figure_has_one_value_a_run_of_what_was_measured_side_by_side() -> None:
    verified = [Verification(50.0, 4e4, 25.0, 8e4, 50.0), Verification(40.0, 5e4, 20.0, 1e5, 40.0)]
    found = figure("a", "times", lambda s, v: s.cpu_us / v.bare_us, [sample(), sample(cpu_s=0.2)], verified, goal=2.5)
    assert found.runs == [2.0, 5.0]
    assert found.met is False


def test_said_counts_the_goals_that_are_met() -> None:
    figures = [Figure("a", "ms", [1], 2), Figure("b", "ms", [3], 2), Figure("c", "ms", [3])]
    assert said(figures).splitlines()[0] == "1 of 2 goals are met"
    assert "b" in said(figures).splitlines()[1]


def test_numbers_are_short() -> None:
    assert spread([1_234.5, 1_000.0, 2_000.0]) == "1,234 (1,000-2,000)"
    assert spread([0.12345]) == "0.123"
    assert percentile(range(100), 0.5) == 50
    assert percentile(range(100), 0.99) == 99
    assert percentile([7], 0.99) == 7


def test_answers_other_than_expected_and_missing_ones_are_failures() -> None:
    outcome = Outcome()
    outcome.statuses.update({200: 48, 400: 51, 429: 1})
    assert outcome.unexpected({200: 50, 400: 50}) == 2
    assert outcome.unexpected({200: 100}) == 52
    assert outcome.unexpected({200: 48, 400: 51, 429: 1, 500: 3}) == 3  # never answered


def test_forged_events_cost_a_whole_verification_and_hold_in_no_case() -> None:
    events = signed_events(40)
    for raw, spoiled in zip(events, forged(events), strict=True):
        event = Event.parse(spoiled)
        assert int.from_bytes(bytes.fromhex(event.sig)[32:], "little") < ORDER
        assert event.id == Event.parse(raw).id
        with pytest.raises(BadSignature):
            event.check()
    for raw in wrong_id(events):
        with pytest.raises(BadId):
            Event.parse(raw).check()


def test_batches_hold_every_event_once() -> None:
    events = [b"%d" % at for at in range(BATCH_EVENTS + 1)]
    lines = [line for request in batches(events) for line in request.partition(b"\r\n\r\n")[2].split(b"\n")]
    assert lines == events


def test_calibration_verifies_with_libsodium_and_with_ours() -> None:
    found = calibrate(signed_events(250, 250))
    assert min(found.bare_us, found.bare_all, found.ours_us, found.ours_all, found.ours_new_us) > 0


def test_a_closed_loop_waits_for_each_answer_and_counts_them() -> None:
    with _Slow(0.0) as server:
        outcome = drive(server.port, [http_post("/", b"{}")] * 30, 3)
    assert outcome.statuses == {200: 30} and outcome.accepted == 30 and len(outcome.latencies) == 30


def test_an_open_loop_charges_a_slow_server_for_what_should_have_been_sent_meanwhile() -> None:
    # one connection, 20 ms an answer, one due each ms: the last waits for all before it, not for 20 ms
    with _Slow(0.02) as server:
        outcome = pace(server.port, [http_post("/", b"{}")] * 10, 1, 1_000.0)
    assert outcome.statuses == {200: 10}
    assert outcome.latencies == sorted(outcome.latencies)
    assert outcome.latencies[-1] >= 10 * 0.02 - 0.01
    assert len(outcome.late) == 10 and min(outcome.late) >= 0


class _Slow:
    """A server that takes so long for each answer, and knows no HTTP."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> _Slow:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while connection.recv(65_536):
                time.sleep(self._seconds)
                connection.sendall(ANSWER)


def made_up() -> list[dict[str, Any]]:
    def row(name: str, median: float, **details: Any) -> dict[str, Any]:
        return {"name": name, "median": median, "runs": [median * 0.9, median, median * 1.1], **details}

    found = [row(f"{whose} {n}", n, chart="published", whose=whose, bar=f"{whose} {n}")
             for whose, n in (("ours", 9_000), ("ours", 20_000), ("published", 270))]  # fmt: skip
    found += [row("a", 70 + at, chart="growth", way=way, stored=10**at) for at in (5, 6) for way in ("POST", "batch")]
    found += [row("a", at / 500, chart="latency", series=s, offered=at) for at in (500, 4_000) for s in ("p50", "p99")]
    found += [row("flat out: deliveries", 150_000, bench="fanout")]
    found += [row("a", 20, chart="cpu", way="POST", part=part, us=[14.0, 16.0]) for part in _charts.PARTS]
    return found


def test_charts_are_pictures_and_the_same_each_time(tmp_path: Path) -> None:
    from matplotlib.image import imread

    drawn = _charts.draw(tmp_path / "one", made_up())
    assert [path.name for path in drawn] == [
        "published.png", "growth.png", "latency.png", "deliveries.png", "cpu.png",
    ]  # fmt: skip
    for path in drawn:
        picture = imread(path)
        assert picture.shape[1] == 1_280 and 300 <= picture.shape[0] <= 700
        assert picture.min() < 0.5 < picture.max()
    again = _charts.draw(tmp_path / "two", made_up())
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in drawn]


def test_what_failed_is_not_drawn(tmp_path: Path) -> None:
    failed = Figure("a", "events/s", [1.0], requests=10, failures=5, details={"chart": "published", "whose": "ours"})
    assert _charts.draw(tmp_path, rows([failed])) == []


def test_a_flame_graph_shows_what_works_and_not_what_waits() -> None:
    main = "thread (1): MainThread;<module> (x.py:1);Runner.run (asyncio/runners.py:3);uv_run (core.c:4)"
    stacks = _flamegraph.read(
        f"{main};publish (anporia_relay/routes/publish.py:5);parse (orjson.so) 60\n"
        f"{main};publish (anporia_relay/routes/publish.py:9);parse<&> (orjson.so) 20\n"
        f"{main};epoll_pwait (libc.so.6) 500\n"
        "thread (2): verify_0;_worker (concurrent/futures/thread.py:8);0x7f12 (libc.so.6);verify_many (_v.pyx:7) 20\n"
    )
    assert stacks == {
        ("event loop", "publish (anporia_relay/routes/publish.py)", "parse (orjson.so)"): 60,
        ("event loop", "publish (anporia_relay/routes/publish.py)", "parse<&> (orjson.so)"): 20,
        ("verifier threads", "verify_many (_v.pyx)"): 20,
    }
    picture = ElementTree.fromstring(_flamegraph.svg(stacks, "POST & <all>"))
    titles = {title.text for title in picture.iter("{http://www.w3.org/2000/svg}title")}
    assert "publish (anporia_relay/routes/publish.py): 80.0%" in titles
    assert "parse<&> (orjson.so): 20.0%" in titles


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the benches are for Linux")
def test_the_whole_bench_can_be_tried_in_seconds(tmp_path: Path) -> None:
    written, charts = tmp_path / "deep" / "bench.json", tmp_path / "charts"
    command = [sys.executable, "-m", "bench", "--quick", "--only", "publish,latency,forged"]
    done = subprocess.run(
        [*command, "--json", str(written), "--charts", str(charts)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d of \d goals are met$", done.stdout, re.MULTILINE)
    figures = json.loads(written.read_text())["figures"]
    names = [(row["bench"], row["name"]) for row in figures]
    assert len(names) == len(set(names))
    assert {
        ("publish", "one bare libsodium verification"),
        ("publish", "POST, 128 connections"),
        ("publish", "POST: CPU / verification"),
        ("publish", "batch / bare verifying, all cores"),
        ("publish", "batch / bare verifying, one core"),
        ("latency", "one in flight: p50"),
        ("latency", "500/s offered: p99"),
        ("forged", "a forgery costs beyond a wrong id"),
        ("forged", "honest among forged / expected"),
        ("forged", "honest among known / expected"),
    } <= set(names)
    assert [row["name"] for row in figures if row["failures"]] == []
    assert sorted(path.name for path in charts.iterdir()) == ["latency.png", "published.png"]


def test_a_bench_without_goals_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from bench.__main__ import main

    with pytest.raises(SystemExit) as stopped:
        main(["--only", "publish,nonsense"])
    assert stopped.value.code == 2
    assert "nonsense" in capsys.readouterr().err
