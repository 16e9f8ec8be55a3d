"""How failures end: the exit code for scripts, one line for people, an object for programs, never a traceback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from anporia_client import RateLimited, Unauthorized
from anporia_client.cli import failures
from tests.client.cli.conftest import PROGRAM, Ran, Run, program
from tests.relays import RunningRelay

Serve = Callable[[int, dict[str, str], bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answer everything with one status, some headers and a body; gives the address."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, headers: dict[str, str], body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815, RUF100  # the server's names

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def failed(ran: Ran, code: int, name: str) -> None:
    assert ran.code == code, ran
    error = json.loads(ran.out)["error"]
    assert error["code"] == name and error["message"] and error.keys() >= {"detail", "url"}
    assert ran.err.startswith("anporia: ") and ran.err.splitlines()[-1].startswith("anporia: ")


def test_one(run: Run) -> None:
    failed(run("event", "0" * 64, "--json"), 1, "event_not_found")


@pytest.mark.parametrize(
    "args",
    [
        ["query", "--limit", "0"], ["query", "--kind", "nothing"], ["query", "--since", "soon"], ["event", "12"],
        ["post", " "], ["post"], ["outbox", "show"], ["nothing"], ["task", "request", "x", "y", "--reward", "-1"],
        ["dm", "send", "ff" * 32, "hi"], ["key", "show", "--private"], ["send", "-"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_two_for_wrong_use(args: list[str], run: Run) -> None:
    failed(run(*args, "--json"), 2, "usage")


def test_two_for_an_address(run: Run) -> None:
    failed(run("stats", "--json", "--relay", "ftp://x"), 2, "bad_address")
    secret = run("stats", "--json", "--relay", "http://user:opensesame@x")
    failed(secret, 2, "bad_address")
    assert "opensesame" not in secret.out + secret.err


def test_three(run: Run, serve: Serve) -> None:
    failed(run("stats", "--json", "--relay", "http://127.0.0.1:9"), 3, "unreachable")
    failed(run("stats", "--json", "--relay", serve(200, {}, b"<html>")), 3, "not_a_relay")


def test_four(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"ANPORIA_AUTH_USER": "founder", "ANPORIA_AUTH_PASSWORD": "opensesame"}
    with RunningRelay(tmp_path, env=secret) as private:
        failed(run("post", "hi", "--json", "--relay", private.url), 4, "unauthorized")
        monkeypatch.setenv("ANPORIA_RELAY_PASSWORD", "opensesame")
        stranger = run("post", "hi", "--relay", private.url)  # the environment's relay is another one
        assert stranger.code == 4 and "was not used for" in stranger.err
        monkeypatch.delenv("ANPORIA_RELAY_URL")
        assert run("post", "hi", "--relay", private.url).code == 0
        monkeypatch.setenv("ANPORIA_RELAY_PASSWORD", "0pensesame")
        wrong = run("doctor", "--json", "--relay", private.url)
        assert wrong.code == 1
        found = {one["name"]: one for one in wrong.json["checks"]}
        assert found["password"]["status"] == "fail" and "user founder" in found["password"]["detail"]
        assert "0pensesame" not in wrong.out and "anporia login" in found["password"]["fix"]
        monkeypatch.setenv("ANPORIA_RELAY_PASSWORD", "opensesame")
        right = run("doctor", "--json", "--relay", private.url)
        assert right.code == 0 and "opensesame" not in right.out
        assert {one["name"]: one for one in right.json["checks"]}["password"]["detail"].startswith("accepted")
    monkeypatch.setenv("ANPORIA_RELAY_PASSWORD", "")
    monkeypatch.setenv("ANPORIA_RELAY_PASSWORD_FILE", str(tmp_path / "missing"))
    failed(run("stats", "--json", "--relay", "http://127.0.0.1:9"), 4, "settings")


def test_five(run: Run, serve: Serve) -> None:
    url = serve(429, {"retry-after": "600", "anporia-code": "rate_agent"}, b'{"detail": "slow down"}')
    failed(run("post", "hi", "--json", "--relay", url), 5, "rate_agent")


def test_six(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad.key"
    bad.write_text("no key")
    failed(run("whoami", "--json", "--key", str(bad)), 6, "invalid_key")
    # a slip of the pen in a path must not speak as somebody new
    failed(run("post", "hi", "--json", "--key", str(bad.parent / "no-such.key")), 6, "no_key")
    assert not (bad.parent / "no-such.key").exists()
    monkeypatch.setenv("ANPORIA_PRIVATE_KEY", "5e" * 3)
    said = run("post", "hi", "--json")
    failed(said, 6, "invalid_key")
    assert "5e5e5e" not in said.out + said.err


def test_seven_and_the_same_event_again(run: Run, serve: Serve) -> None:
    lost = run("post", "hi", "--json", "--timeout", "1", "--relay", serve(502, {}, b"bad gateway"))
    failed(lost, 7, "outcome_unknown")
    event = lost.json["error"]["event"]
    again = run("send", "-", "--json", stdin=json.dumps(event))
    assert again.code == 0 and again.json[0]["id"] == event["id"]
    assert "anporia send" in lost.err and "agent.send" not in lost.err
    forged = run("send", "-", "--json", stdin=json.dumps({**event, "content": "forged"}))
    assert forged.code == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_interrupted(relay: RunningRelay) -> None:
    following = subprocess.Popen(
        [*PROGRAM, "stream", "-v", "--relay", relay.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert following.stderr is not None
    assert b"subscribed" in following.stderr.readline()
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=20)
    assert following.returncode == 130 and b"Traceback" not in err and err.endswith(b"anporia: interrupted\n")


def test_a_reader_that_leaves_is_no_failure(run: Run, relay: RunningRelay) -> None:
    for number in range(40):
        assert run("post", f"{number} " + "x" * 2_000).code == 0
    script = f"{' '.join(PROGRAM)} query --all --json --relay {relay.url} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stderr == b"" and done.stdout.count(b"\n") == 1


def test_a_mistake_of_ours_shows_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oops \x1b[31m")

    monkeypatch.setattr("anporia_client.cli.session.reader", broken)
    said = run("stats", "--json")
    failed(said, 1, "internal")
    assert "\x1b" not in said.err and "ANPORIA_DEBUG" in said.err


def test_debug_shows_where(relay: RunningRelay) -> None:
    said = program("event", "0" * 64, "--relay", relay.url, ANPORIA_DEBUG="1")
    assert said.code == 1 and "Traceback" in said.err


def test_several_relays_share_a_code() -> None:
    from anporia_client import QuorumMissed

    def code(*codes: str) -> int:
        return failures.exit_code(QuorumMissed("", {c: {"accepted": False, "code": c} for c in codes}))

    assert code("unreachable", "timeout") == 3
    assert code("unreachable", "outcome_unknown") == 7
    assert code("unauthorized") == 4
    assert code("bad_time", "unreachable") == 1


def test_advice_speaks_of_commands() -> None:
    assert "anporia login" in failures.sentence(Unauthorized(401, "unauthorized", "no"))
    assert failures.exit_code(RateLimited(429, "rate_agent", "no")) == 5
