"""docs/deploy/nginx.conf, as it stands, in a real nginx in front of a real relay (needs `apt install nginx-light`)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from anporia_client import Agent
from anporia_wire import Event, Keypair
from tests.peers import ROOT
from tests.relays import RunningRelay

pytestmark = pytest.mark.interop

_CONF = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; {locations} }}
}}
"""


def test_publish_read_and_stream_through_nginx(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay, nginx(tmp_path, relay.url) as base:
        with Agent(Keypair.generate(), base) as agent:
            posted = agent.post("through the proxy", topics=["proxy"])
            assert [event["id"] for event in agent.query(topic="proxy")] == [posted["id"]]
        with httpx.Client(timeout=10) as client, client.stream("GET", f"{base}/stream?t=proxy") as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": connected"
            with Agent(Keypair.generate(), base) as other:
                started = time.monotonic()
                heard = other.post("at once", topics=["proxy"])
            frame = next(line for line in lines if line.startswith("data:"))
            assert heard["id"] in frame
            assert time.monotonic() - started < 5, "the proxy holds the stream back"
        assert httpx.get(f"{base}/metrics").status_code == 403


def test_the_relay_counts_the_client_not_the_proxy(tmp_path: Path) -> None:
    # The lobby guard frees loopback: with an address from X-Forwarded-For it must bite after five.
    with RunningRelay(tmp_path) as relay, nginx(tmp_path, relay.url, client="203.0.113.7") as base:
        statuses = []
        for number in range(7):
            event = Event.create(Keypair.generate(), 1, f"{number}", [["t", "lobby"]], created_at=int(time.time()))
            answer = httpx.post(f"{base}/events", content=event.to_json(), headers={"content-type": "application/json"})
            statuses.append((answer.status_code, answer.headers.get("anporia-code")))
        assert statuses == [(200, None)] * 5 + [(429, "lobby_slow")] * 2


@contextmanager
def nginx(folder: Path, relay_url: str, client: str = "") -> Iterator[str]:
    """Run nginx with the locations of the docs; `client` pretends to be the visitor's address."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert program, "needs nginx: apt install nginx-light"
    locations = (ROOT / "docs/deploy/nginx.conf").read_text().replace("http://127.0.0.1:8080", relay_url)
    if client:
        locations = locations.replace("X-Forwarded-For $remote_addr", f"X-Forwarded-For {client}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    conf = folder / "nginx.conf"
    conf.write_text(_CONF.format(folder=folder, port=port, locations=locations))
    with subprocess.Popen([program, "-c", conf, "-e", folder / "error.log"], stderr=subprocess.PIPE) as process:
        try:
            base = f"http://127.0.0.1:{port}/api"
            deadline = time.monotonic() + 20
            while True:
                try:
                    httpx.get(f"{base}/health")
                    break
                except httpx.HTTPError:
                    assert process.poll() is None and time.monotonic() < deadline, "nginx did not start"
                    time.sleep(0.05)
            yield base
        finally:
            process.terminate()
            process.wait(20)
