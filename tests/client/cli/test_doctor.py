"""`doctor`: what it finds, and that it says how to mend it."""

from __future__ import annotations

import os
import socket
from email.utils import formatdate
from importlib import metadata
from pathlib import Path
from time import time
from typing import Any

import pytest

from tests.client.cli.conftest import Ran, Run
from tests.client.cli.test_exits import Serve, serve

__all__ = ["serve"]


def checks(ran: Ran) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in ran.json["checks"]}


def test_all_is_well(run: Run) -> None:
    assert run("whoami").code == 0
    said = run("doctor", "--json")
    assert said.code == 0 and said.json["ok"]
    found = checks(said)
    assert {one["status"] for one in found.values()} == {"ok"}
    assert found.keys() == {
        "python", "package", "key", "key file", "key lock", "proxy", "address", "network", "relay", "password", "clock",
        "limits", "features", "signing",
    }  # fmt: skip
    assert "your key" in found["signing"]["detail"] and "dry run" in found["signing"]["detail"]
    before = run("stats", "--json").json["total_events"]
    assert run("doctor").code == 0
    assert run("stats", "--json").json["total_events"] == before


def test_it_makes_no_key(run: Run, tmp_path: Path) -> None:
    said = run("doctor", "--json", "--key", str(tmp_path / "none"))
    assert said.code == 0 and checks(said)["key"]["status"] == "warn" and not (tmp_path / "none").exists()


def test_a_key_that_others_can_read(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "key"
    assert run("whoami", "--key", str(file)).code == 0
    file.chmod(0o644)
    said = run("doctor", "--json", "--key", str(file))
    found = checks(said)["key file"]
    assert said.code == 1 and found["status"] == "fail" and found["fix"] == f"chmod 600 {file}"
    file.chmod(0o600)
    (tmp_path / ".key-left").write_text("x")
    os.utime(tmp_path / ".key-left", (1, 1))
    said = run("doctor", "--json", "--key", str(file))
    assert said.code == 0 and checks(said)["key file"]["status"] == "warn"


def test_a_key_that_is_none(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("x" * 64)
    assert checks(run("doctor", "--json", "--key", str(tmp_path / "key")))["key"]["status"] == "fail"
    monkeypatch.setenv("ANPORIA_PRIVATE_KEY", "abc")
    said = run("doctor")
    assert said.code == 1 and "ANPORIA_PRIVATE_KEY" in said.out


def test_no_relay_there(run: Run) -> None:
    said = run("doctor", "--json", "--relay", "http://127.0.0.1:9")
    assert (
        said.code == 1
        and checks(said)["network"]["status"] == "fail"
        and "anporia up" in checks(said)["network"]["fix"]
    )
    said = run("doctor", "--json", "--relay", "http://nowhere.invalid")
    assert said.code == 1 and "no host" in checks(said)["network"]["detail"]
    assert checks(run("doctor", "--json", "--relay", "gopher://x"))["address"]["status"] == "fail"


def test_something_else_there(run: Run, serve: Serve) -> None:
    for url in (serve(200, {}, b"<html>"), serve(404, {}, b""), serve(200, {}, b'{"features": 5}')):
        said = run("doctor", "--json", "--relay", url)
        assert said.code == 1 and checks(said)["relay"]["status"] == "fail" and "--relay" in str(said.json)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        said = run("doctor", "--json", "--timeout", "0.5", "--relay", f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert said.code == 1 and checks(said)["relay"]["status"] == "fail"
        tls = run("doctor", "--json", "--timeout", "0.5", "--relay", f"https://127.0.0.1:{mute.getsockname()[1]}")
        assert tls.code == 1 and checks(tls)["TLS"]["status"] == "fail"
    assert checks(run("doctor", "--json", "--relay", serve(200, {}, b"<html>").replace("http", "https")))["TLS"]["fix"]


def test_a_plain_relay(run: Run, serve: Serve) -> None:
    said = run("doctor", "--json", "--relay", serve(200, {}, b"[]"))
    assert said.code == 0 and "plain ANP2" in checks(said)["relay"]["detail"] and "signing" not in checks(said)


@pytest.mark.parametrize(("ahead", "status"), [(0, "ok"), (-60, "warn"), (3_600, "fail"), (None, "warn")])
def test_the_clock(ahead: int | None, status: str, run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    date = "" if ahead is None else formatdate(time() - ahead, usegmt=True)
    # the server's own date is of now
    monkeypatch.setattr("http.server.BaseHTTPRequestHandler.date_time_string", lambda *_: date)
    said = run("doctor", "--json", "--relay", serve(200, {}, b"[]"))
    found = checks(said)["clock"]
    assert found["status"] == status and bool(found["fix"]) == (status != "ok")
    assert said.code == (status == "fail")


def test_proxies_are_named_without_their_password(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:opensesame@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.org")
    said = run("doctor", "--json", "--timeout", "1", "--relay", "https://relay.invalid")
    assert "opensesame" not in said.out
    assert checks(said)["proxy"]["detail"] == "HTTPS_PROXY=127.0.0.1:9, NO_PROXY=example.org"
    assert "through the proxy" in checks(said)["network"]["detail"] and said.code == 1


def test_a_namesake_from_the_index(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs:
        version = "0.2.1"
        requires = ("httpx",)

    monkeypatch.setattr(metadata, "distribution", lambda _: Theirs)
    said = run("doctor", "--json")
    assert said.code == 1 and "pip uninstall anporia-client" in checks(said)["package"]["fix"]
