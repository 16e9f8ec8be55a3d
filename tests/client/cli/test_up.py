"""`up`: a relay as a program of its own, once; and what it says when it cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.cli.conftest import PROGRAM, Run, program
from tests.client.cli.test_exits import Serve, serve
from tests.relays import RunningRelay

__all__ = ["serve"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the relay needs POSIX")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_up_and_up_again(end: signal.Signals, tmp_path: Path) -> None:
    db = tmp_path / "folder" / "relay.db"
    command = [*PROGRAM, "up", "--port", "0", "--db", str(db), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as up:
        try:
            assert up.stdout is not None
            said = json.loads(up.stdout.readline())
            url, port = said["url"], said["url"].rpartition(":")[2]
            assert said["export"] == f"export ANPORIA_RELAY_URL={url}"
            assert f"-e ANPORIA_RELAY_URL={url} -- " in said["claude"] and said["claude"].startswith(
                "claude mcp add anporia"
            )
            assert said["install"].endswith(f"anporia-mcp install cursor --relay {url}")
            assert program("post", "hi", "--relay", url).code == 0
            again = program("up", "--port", port, "--json")
            assert again.code == 0 and json.loads(again.out)["already_running"]
            shown = program("up", "--port", port)
            assert f"export ANPORIA_RELAY_URL={url}" in shown.out and "claude mcp add anporia --scope user" in shown.out
            assert said["install"] in shown.out
        finally:
            up.send_signal(end)
            _, err = up.communicate(timeout=30)
    assert up.returncode == 0 and b"has stopped" in err and b"Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(said["pid"], 0)
    assert db.exists() and db.parent.stat().st_mode & 0o777 == 0o700


def test_a_port_that_is_taken(run: Run, serve: Serve) -> None:
    port = serve(404, {}, b"").rpartition(":")[2]
    said = run("up", "--port", port, "--json")
    assert said.code == 1 and said.json["error"]["code"] == "port_taken"


def test_a_relay_that_cannot_start(run: Run, tmp_path: Path) -> None:
    (tmp_path / "not.db").write_text("this is no database, as anybody can see" * 50)
    said = run("up", "--port", "0", "--db", str(tmp_path / "not.db"), "--json")
    assert said.code == 1 and said.json["error"]["code"] == "relay_ended" and "anporia-relay: " in said.err


def test_no_relay_installed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    said = run("up", "--port", "0")
    assert said.code == 1 and "pip install ./wire ./store ./cython_ext ./relay" in said.err


def test_the_server_of_mcp_by_its_path_or_how_to_install_it(
    run: Run, relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = relay.url.rpartition(":")[2]
    monkeypatch.setattr("anporia_client.cli.up._program", lambda name: f"/some folder/{name}")
    said = run("up", "--port", port, "--json").json
    assert said["claude"].endswith(" -- '/some folder/anporia-mcp-server'") and said["note"] is None
    assert said["install"].startswith("'/some folder/anporia-mcp' install ")
    monkeypatch.setattr("anporia_client.cli.up._program", lambda _: None)
    said = run("up", "--port", port, "--json").json
    assert said["claude"].endswith(" -- anporia-mcp-server")
    assert "pip install ./wire ./client ./mcp_server" in said["note"]
    assert said["note"] in run("up", "--port", port).out
