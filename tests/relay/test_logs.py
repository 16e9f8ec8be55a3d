"""The log: one line an event, nothing a stranger can forge, nothing secret."""

from __future__ import annotations

import base64
import io
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anporia_relay import logs
from anporia_relay.app import Relay
from anporia_relay.http import Request
from anporia_wire import kinds
from tests.relay.served import NOW, Served, Wire, head, keys, post, sign
from tests.relays import RunningRelay

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (debug|info|warning|error|critical) ")
HOSTILE = 'x\n2026-11-21T00:00:00+0000 info ready access=open\r\x1b[31m\u2028y" level=forged "'


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What is logged from here on, in the form it has on stderr."""
    root = logging.getLogger("anporia")
    before = root.handlers[:], root.level, root.propagate
    logs.set_up()
    stream = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield stream
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])


def test_form(said: io.StringIO) -> None:
    logging.getLogger("anporia.relay").info(
        "ready", extra={"url": "http://a:1", "db": "my file.db", "n": 5, "empty": ""}
    )
    line = said.getvalue()
    assert LINE.match(line)
    assert line.endswith(' info ready url=http://a:1 db="my file.db" n=5 empty=\n')


def test_values_cannot_forge_lines_or_keys(said: io.StringIO) -> None:
    logging.getLogger("anporia.relay").error("unexpected error", extra={"method": "GET", "path": HOSTILE})
    line = said.getvalue()
    assert line.count("\n") == 1 and line.isascii() and line[:-1].isprintable()
    value = re.search(r'path="((?:[^"\\]|\\.)*)"\n', line)  # a quoted value ends at its own quote
    assert value and value[1].endswith(r"level=forged \"")


def test_an_exceptions_text_cannot_forge_lines(said: io.StringIO) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("anporia.relay").exception("unexpected error")
    first, *rest = said.getvalue().splitlines()
    assert LINE.match(first)
    assert len(rest) >= 3
    assert all(line.startswith("  ") and line.isprintable() for line in rest)


def test_unexpected_error_is_answered_500_and_logged_once(
    tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Relay, request: Request) -> None:
        raise RuntimeError(f"broken by {request.path}")

    with Served(tmp_path) as relay:
        monkeypatch.setattr(Relay, "_answer", broken)
        answer = relay.get("/events/%0a2026-11-21T00:00:00+0000%20info%20forged")
        monkeypatch.undo()
        assert (answer.status, answer.code) == (500, "internal")
        assert answer.json() == {"detail": "internal error; the operator's log has the details"}
        assert relay.get("/health").status == 200
    starts = [line for line in said.getvalue().splitlines() if not line.startswith("  ")]
    assert len(starts) == 1 and " error unexpected error method=GET path=" in starts[0]


def test_nothing_secret_and_no_line_for_each_request(tmp_path: Path) -> None:
    """A private relay is sent secrets in every place where one can stand; stderr must hold none of them."""
    password, content, key = "Sw0rdfish-p4ssword", "c0ntent-that-is-private", keys(7)
    settings = {"ANPORIA_AUTH_USER": "founder", "ANPORIA_AUTH_PASSWORD": password}
    token = base64.b64encode(f"founder:{password}".encode()).decode()
    secret = {"Authorization": f"Basic {token}"}
    with RunningRelay(tmp_path, env=settings) as relay:
        port = int(relay.url.rpartition(":")[2])
        event = sign(content, by=7, at=int(time.time()))
        wire = Wire(port)
        assert wire.ask(post("/events", event.to_json(), secret)).status == 200
        assert wire.ask(post("/events", event.to_json(), {"Authorization": f"Basic {token}x"})).status == 401
        assert wire.ask(head("GET", f"/events?t={content}&x={password}%0aforged", secret)).status == 200
        assert wire.ask(head("GET", f"/{content}%0a{password}", secret)).status == 404
        assert wire.ask(post("/events", f'{{"content":"{content}"'.encode(), secret)).status == 422
        assert wire.ask(post("/events", sign(content, kinds.FLAG, at=NOW).to_json(), secret)).status == 400
        wire.close()
        wire = Wire(port).send(f"GET /{content} {password}\r\n{token}\r\n\r\n".encode())
        assert wire.answer().status == 400
        wire.close()
        assert relay.stop() == 0
        said = relay.stderr
    for word in (password, content, token, key.to_hex() if hasattr(key, "to_hex") else "", event.sig):
        assert not word or word not in said
    lines = said.splitlines()
    assert [bool(LINE.match(line)) for line in lines] == [True] * len(lines)
    assert "access=private" in lines[0]
    assert len(lines) == 2, said  # ready, stopped
