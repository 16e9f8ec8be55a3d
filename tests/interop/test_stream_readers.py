"""Readers of server-sent events by other projects follow our stream, and resume it by themselves.

npm's `eventsource` (the browser's EventSource for Node) reconnects with Last-Event-ID on its own: it must see
each event once and in order across a restart of the relay. `httpx-sse` is what most Python programs read with.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from anporia_wire import Event, Keypair
from tests.peers import ROOT, peer_python
from tests.relays import RunningRelay

pytestmark = pytest.mark.interop

EVENTSOURCE = "eventsource@3.0.7"
NASTY = ["plain", "two\nlines", "U+2028:\u2028 U+0085:\u0085", "日本語 😀", 'quote " and \\ backslash']
_PATIENCE_S = 40.0  # EventSource waits some seconds before it reconnects

_NODE = """
import { EventSource } from 'eventsource'
const source = new EventSource(process.argv[2])
source.onopen = () => console.error('open')
source.onmessage = (message) => console.log(JSON.stringify([message.lastEventId, JSON.parse(message.data).content]))
"""

_PYTHON = """
import json, sys, httpx, httpx_sse
with httpx.Client(timeout=20) as client, httpx_sse.connect_sse(client, "GET", sys.argv[1]) as source:
    print("open", file=sys.stderr, flush=True)
    for message in source.iter_sse():
        print(json.dumps([message.id, json.loads(message.data)["content"]]), flush=True)
"""


def test_eventsource_of_npm_resumes_by_itself(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node, "needs node"
    script = _npm_home() / "reader.mjs"
    script.write_text(_NODE)
    # a fixed port, so that the reader finds the relay again
    with (
        RunningRelay(tmp_path, args=("--port", _free_port())) as relay,
        _reader([node, str(script), f"{relay.url}/stream"], tmp_path) as reader,
    ):
        sent = publish(relay.url, NASTY)
        reader.wait_for(len(NASTY))
        relay.kill9()
        relay.start()
        sent += publish(relay.url, [f"after {n}" for n in range(20)])
        assert [content for _, content in reader.wait_for(len(sent))] == sent
        numbers = [int(id_.rpartition("-")[2]) for id_, _ in reader.seen()]
        assert numbers == list(range(1, len(sent) + 1))


def test_httpx_sse_reads_every_frame(tmp_path: Path) -> None:
    python = peer_python("httpx-sse")
    with (
        RunningRelay(tmp_path) as relay,
        _reader([str(python), "-c", _PYTHON, f"{relay.url}/stream"], tmp_path) as reader,
    ):
        sent = publish(relay.url, NASTY)
        assert [content for _, content in reader.wait_for(len(sent))] == sent


def publish(url: str, contents: list[str]) -> list[str]:
    """Publish one event a text; gives the texts."""
    author = Keypair.generate()
    with httpx.Client() as client:
        for content in contents:
            event = Event.create(author, 1, content, [["t", "reading"]], created_at=int(time.time()))
            answer = client.post(f"{url}/events", content=event.to_json(), headers={"content-type": "application/json"})
            assert answer.status_code == 200, answer.text
    return contents


class _reader:
    """A reading program; `seen()` gives what it has printed so far."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._command = command
        self._out, self._err = folder / "reader.out", folder / "reader.err"

    def __enter__(self) -> _reader:
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=err, env=dict(os.environ))
        deadline = time.monotonic() + _PATIENCE_S
        while "open" not in self._err.read_text():
            assert time.monotonic() < deadline and self._process.poll() is None, self._err.read_text()
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def seen(self) -> list[list[str]]:
        # by "\n" alone: splitlines() would fall into the very trap that U+2028 sets
        return [json.loads(line) for line in self._out.read_text().split("\n")[:-1]]

    def wait_for(self, count: int) -> list[list[str]]:
        deadline = time.monotonic() + _PATIENCE_S
        while len(self.seen()) < count:
            assert time.monotonic() < deadline, (self.seen(), self._err.read_text())
            time.sleep(0.05)
        time.sleep(0.5)  # one more than expected would come by now
        return self.seen()


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _npm_home() -> Path:
    home = ROOT / ".peers" / EVENTSOURCE.replace("@", "-")
    if not (home / "complete").exists():
        home.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "npm_config_cache": str(home / "cache")}
        subprocess.run(
            [
                "npm",
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--no-package-lock",
                "--prefix",
                home,
                EVENTSOURCE,
            ],
            check=True,
            env=environment,
        )
        (home / "complete").touch()
    return home
