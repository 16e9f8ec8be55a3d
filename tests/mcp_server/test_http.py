"""Over HTTP: who may call, from which pages, with how much; and how it ends."""

from __future__ import annotations

import datetime
import json
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from anporia_mcp_server import cli
from anporia_mcp_server.server import build
from anporia_mcp_server.server import http as served
from anporia_mcp_server.settings import BadSetting
from tests.mcp_server.host import SERVER, environment, over_http
from tests.mcp_server.pipe import CLIENT, ended
from tests.mcp_server.sessions import Sessions, hanging_relay
from tests.relays import RunningRelay

_TOKEN = "a-token-of-some-length"
_HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT},
}  # fmt: skip
_TAKES = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not to read all certificates for each call
_READY = re.compile(r"ready url=(\S+)")


class Running:
    """A server over HTTP as a program, and what it said."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.base = url.removesuffix("/mcp")
        self.port = int(self.base.rpartition(":")[2])


@contextmanager
def running(relay: str, home: Path, *args: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    with subprocess.Popen(
        [str(SERVER), "--http", "--port", "0", *args],
        env=environment(relay, home, {"ANPORIA_AUTO_PROFILE": "0", **(env or {})}),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None and process.stdout is not None
        try:
            lines: list[str] = []
            while not (found := _READY.search(lines[-1] if lines else "")):
                line = process.stderr.readline()
                assert line, lines
                lines.append(line)
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield Running(process, found[1])
        finally:
            process.terminate()
            process.wait(10)
        assert process.stdout.read() == ""


@pytest.fixture(scope="module")
def plain(open_relay: RunningRelay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(open_relay.url, tmp_path_factory.mktemp("home"), "--tools", "all") as server:
        yield server


@pytest.fixture(scope="module")
def guarded(open_relay: RunningRelay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("home")
    (home / "token").write_text(_TOKEN + "\n")
    (home / "token").chmod(0o600)
    args = ["--token-file", str(home / "token"), "--host", "0.0.0.0", "--allow-host", "relay.example"]
    with running(open_relay.url, home, *args, env={"ANPORIA_MCP_TOKEN": "another-token-than-that"}) as server:
        yield server


def post(url: str, message: Any = _HELLO, **more: Any) -> httpx.Response:
    headers = httpx.Headers(_TAKES)
    headers.update(more.pop("headers", {}))
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return httpx.post(url, content=body, headers=headers, timeout=20, verify=_NO_TLS, **more)


def test_it_listens_on_this_machine_alone(plain: Running) -> None:
    assert plain.base.startswith("http://127.0.0.1:")
    assert post(plain.url).status_code == 200
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        with socket.socket() as probe:
            assert probe.connect_ex((address, plain.port)) != 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1:1"}, 421),
        ({"host": "localhost:{port}"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://localhost:{port}"}, 403),
        ({"origin": "http://localhost:{port}"}, 200),
    ],
)
def test_pages_of_others_cannot_call(plain: Running, headers: dict[str, str], status: int) -> None:
    given = {name: value.format(port=plain.port) for name, value in headers.items()}
    answer = post(plain.url, headers=given)
    assert answer.status_code == status
    # the new era's requests are held to the same
    assert (httpx.get(plain.url, headers={**_TAKES, **given}, timeout=5, verify=_NO_TLS).status_code < 400) is False


async def test_nobody_changes_the_identity_for_all(plain: Running) -> None:
    async with over_http(plain.url) as host:
        names = {tool.name for tool in (await host.client.list_tools()).tools}
    assert "anporia_use_identity" not in names and {"anporia_list_identities", "anporia_get_task"} <= names


def test_a_large_body_is_refused(plain: Running) -> None:
    large = {**_HELLO, "params": {**_HELLO["params"], "padding": "x" * 1_100_000}}  # type: ignore[dict-item]
    assert post(plain.url, large).status_code == 413
    allowed = {**_HELLO, "params": {**_HELLO["params"], "padding": "x" * 500_000}}  # type: ignore[dict-item]
    assert post(plain.url, allowed).status_code in (200, 400)
    assert post(plain.url, b"not JSON").status_code == 400


def test_health_tells_nothing_but_that_it_runs(plain: Running, guarded: Running) -> None:
    for server in (plain, guarded):
        answer = httpx.get(f"http://127.0.0.1:{server.port}/health", verify=_NO_TLS)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    "given",
    [
        [],
        [("authorization", "Bearer wrong-token-of-some-length")],
        [("authorization", "another-token-than-that")],
        [("authorization", "Bearer another-token-than-that")],  # the file counts, not the variable
        [("authorization", f"Basic {_TOKEN}")],
        [("authorization", f"Bearer {_TOKEN}"), ("authorization", f"Bearer {_TOKEN}")],
        [("authorization", "Bearer ü".encode("latin-1"))],
    ],
)
def test_without_the_token_nobody_is_let_in(guarded: Running, given: list[tuple[str, Any]]) -> None:
    url = f"http://127.0.0.1:{guarded.port}"
    for path in ("/mcp", "/", "/health/", "/nothing"):
        headers = [*_TAKES.items(), *given]
        answer = httpx.post(url + path, content=json.dumps(_HELLO).encode(), headers=headers, verify=_NO_TLS)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert _TOKEN not in answer.text


def test_with_the_token_one_is(guarded: Running) -> None:
    headers = {"authorization": f"Bearer {_TOKEN}"}
    assert post(f"http://127.0.0.1:{guarded.port}/mcp", headers=headers).status_code == 200
    for host, status in (("relay.example", 200), (f"relay.example:{guarded.port}", 200), ("other.example", 421)):
        answer = post(f"http://127.0.0.1:{guarded.port}/mcp", headers={**headers, "host": host})
        assert answer.status_code == status, host


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, content, mode in (("open", _TOKEN, 0o644), ("empty", "", 0o600)):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(mode)
    return tmp_path


@pytest.mark.parametrize(
    ("args", "token", "text"),
    [
        (["--host", "::"], None, "--host :: needs a token"),
        ([], "short", "must be one word of at least 16 ASCII characters"),
        ([], "two words of some length", "must be one word"),
        (["--token-file", "{files}/open"], None, "others can read it. Run: chmod 600"),
        (["--token-file", "{files}/gone"], None, "gone"),
        (["--token-file", "{files}/empty"], None, "must be one word"),
        (["--tls-cert", "{files}/open"], None, "--tls-cert and --tls-key are needed together"),
        (["--path", "mcp"], None, "--path must begin with /"),
        (["--path", "/health"], None, "--path /health is taken"),
    ],
)
def test_what_must_not_be_served(
    files: Path, args: list[str], token: str | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv("ANPORIA_MCP_TOKEN", token)
    context = cli.command.make_context("x", ["--http", *(arg.format(files=files) for arg in args)])
    with pytest.raises((BadSetting, OSError)) as refused:
        cli._http(context.params)
    assert text in str(refused.value) and "two words" not in str(refused.value)


@pytest.mark.parametrize(
    ("args", "token", "text"),
    [
        (["--host", "0.0.0.0"], None, "--host 0.0.0.0 needs a token, since whoever may call speaks as you"),
        (["--tls-cert", "{files}/open", "--tls-key", "{files}/open"], None, "--tls-cert {files}/open, --tls-key"),
        (["--port", "{taken}"], None, "cannot listen on 127.0.0.1:{taken}: Address already in use"),
    ],
)
def test_what_cannot_be_served_ends_the_start(files: Path, args: list[str], token: str | None, text: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        known = {"files": str(files), "taken": str(listener.getsockname()[1])}
        given = [arg.format(**known) for arg in args]
        env = {"ANPORIA_PRIVATE_KEY": "ab" * 32} | ({"ANPORIA_MCP_TOKEN": token} if token else {})
        port = [] if "--port" in given else ["--port", "0"]
        code, said = ended("http://127.0.0.1:9", files, "--http", *port, *given, env=env)
    assert code == 2
    assert text.format(**known) in said and said.count("\n") == 1
    assert "Traceback" not in said and "ready url" not in said


def test_sessions_of_the_old_era_are_few_and_end_by_themselves(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "_SESSIONS", 3)
    monkeypatch.setattr(served, "_IDLE_S", 0.6)
    with in_thread(sessions, served.Http()) as url, httpx.Client(headers=_TAKES, timeout=10, verify=_NO_TLS) as client:
        opened = [client.post(url, json=_HELLO) for _ in range(3)]
        assert [answer.status_code for answer in opened] == [200] * 3
        ids = [answer.headers["mcp-session-id"] for answer in opened]
        assert len(set(ids)) == 3 and client.post(url, json=_HELLO).status_code == 503
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        assert client.post(url, json=ping, headers={"mcp-session-id": ids[0]}).status_code == 200
        assert client.post(url, json=ping, headers={"mcp-session-id": "made-up"}).status_code == 404
        deadline = time.monotonic() + 10
        while client.post(url, json=_HELLO).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert client.post(url, json=ping, headers={"mcp-session-id": ids[0]}).status_code == 404


async def test_without_sessions_every_call_stands_alone(sessions: Sessions) -> None:
    with in_thread(sessions, served.Http(stateless=True)) as url:
        assert "mcp-session-id" not in post(url).headers
        for mode in ("auto", "legacy"):
            async with over_http(url, mode=mode) as host:
                assert (await host.call("anporia_post", content="x"))["accepted"] is True


def a_certificate(folder: Path) -> tuple[Path, Path]:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=localhost")
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


def test_tls_and_the_end_while_a_call_hangs(tmp_path: Path) -> None:
    certificate, key = a_certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(certificate))
    args = ["--tls-cert", str(certificate), "--tls-key", str(key), "--host", "localhost"]
    with hanging_relay() as relay, running(relay, tmp_path, *args) as server:
        assert server.url.startswith("https://localhost:")
        with httpx.Client(headers=_TAKES, verify=context, timeout=20) as client:
            opened = client.post(server.url, json=_HELLO, headers={"origin": server.base})
            assert opened.status_code == 200
            assert client.post(server.url, json=_HELLO, headers={"origin": f"http://localhost:{server.port}"}).is_error
            call = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "anporia_get_rooms"}}
            ended_: list[Any] = []

            def hang() -> None:
                try:
                    ended_.append(
                        client.post(server.url, json=call, headers={"mcp-session-id": opened.headers["mcp-session-id"]})
                    )
                except httpx.HTTPError as exc:
                    ended_.append(exc)

            caller = threading.Thread(target=hang)
            caller.start()
            time.sleep(0.3)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(5) in (0, -signal.SIGTERM)
            assert time.monotonic() - began < 5
            caller.join(10)
            assert len(ended_) == 1


@contextmanager
def in_thread(sessions: Sessions, http: served.Http) -> Iterator[str]:
    """The same application in this process, so that its limits can be made small."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        served.application(build(sessions()), http, port), log_config=None, access_log=False, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
