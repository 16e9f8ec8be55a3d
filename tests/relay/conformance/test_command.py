"""The command: what it prints, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from anporia_relay.conformance import CHECKS, Client, Unreachable, meet, select
from anporia_relay.conformance.check import LEVELS
from anporia_relay.conformance.cli import conformance
from tests.relay.conformance.broken import Broken, Exchange
from tests.relay.conformance.conftest import NO_LIMITS
from tests.relays import RELAY, RunningRelay


def _not_gone(exchange: Exchange) -> None:
    if exchange.status == 410:
        exchange.status = 404


def command(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(conformance, arguments, env=env)


def test_all_passed_exits_0(ours: RunningRelay) -> None:
    done = command(ours.url, "--fast", "--area", "single")
    assert done.exit_code == 0, done.output
    assert "10 passed, 0 failed, 0 skipped" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stderr == ""


def test_a_failure_exits_1_and_says_what_came(ours: RunningRelay) -> None:
    with Broken(ours.url, after=_not_gone) as relay:
        done = command(relay.url, "--fast", "--area", "single", "--level", "core")
    assert done.exit_code == 1
    assert "single.revoked-is-410" in done.stdout
    assert "status 410" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json(ours: RunningRelay) -> None:
    with Broken(ours.url, after=_not_gone) as relay:
        done = command(relay.url, "--fast", "--area", "single", "--area", "home", "--json")
    report = json.loads(done.stdout)
    assert report["levels"]["core"] == {"passed": 9, "failed": 1, "skipped": 0}
    failed = next(check for check in report["checks"] if check["name"] == "single.revoked-is-410")
    assert failed["outcome"] == "failed"
    assert failed["expected"].endswith("status 410")
    assert {check["area"] for check in report["checks"]} == {"single", "home"}


@pytest.mark.parametrize(
    "arguments",
    [(), ("not a url",), ("http://127.0.0.1:1",), ("http://x", "--area", "nowhere"), ("ftp://x",), ("http://u:p@x",)],
)
def test_wrong_use_exits_2(arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr


def test_a_private_relay_is_asked_with_its_password(tmp_path: Path) -> None:
    env = {**NO_LIMITS, "ANPORIA_AUTH_USER": "ada", "ANPORIA_AUTH_PASSWORD": "secret"}
    with RunningRelay(tmp_path, env=env) as relay:
        asked = (relay.url, "--fast", "--area", "single")
        assert "--auth" in command(*asked).stderr
        right = command(*asked, "--auth", "ada", env={"ANPORIA_CONFORMANCE_PASSWORD": "secret"})
        wrong = command(*asked, "--auth", "ada", env={"ANPORIA_CONFORMANCE_PASSWORD": "guess"})
    assert (right.exit_code, wrong.exit_code) == (0, 2)
    assert len(wrong.stderr.splitlines()) == 1


def test_list_names_the_checks() -> None:
    lines = command("--list", "--area", "pow").stdout.splitlines()
    assert len([line for line in lines if not line.startswith(" ")]) == len(select(LEVELS, ["pow"]))
    assert max(map(len, lines)) <= 80
    assert len(json.loads(command("--list", "--json").stdout)) == len(CHECKS)


def test_it_is_a_command_of_the_relay() -> None:
    done = subprocess.run([RELAY, "conformance", "--list"], capture_output=True, text=True, check=True)
    assert len([line for line in done.stdout.splitlines() if not line.startswith(" ")]) == len(CHECKS)


def test_what_is_no_relay_is_said_at_once() -> None:
    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "9")
            self.end_headers()
            self.wfile.write(b"<!doctype")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = command(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.exit_code == 2 and "not as a relay" in done.stderr


def test_a_password_that_is_not_set_is_said() -> None:
    done = command("http://127.0.0.1:9", "--auth", "ada", env={"ANPORIA_CONFORMANCE_PASSWORD": ""})
    assert done.exit_code == 2 and "ANPORIA_CONFORMANCE_PASSWORD" in done.stderr


def test_nobody_there_is_said() -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        meet(Client("http://127.0.0.1:1"))
