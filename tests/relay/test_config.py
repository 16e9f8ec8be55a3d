"""Settings: where they come from, and one clear line with exit code 2 for each that cannot be."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from anporia_relay.config import Config
from anporia_relay.errors import ConfigError
from tests.relays import RELAY, RunningRelay

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = [setting.name for setting in fields(Config)]


def toml(folder: Path, text: str) -> Path:
    file = folder / "relay.toml"
    file.write_text(text, "utf-8")
    return file


# -- where settings come from


def test_defaults() -> None:
    config = Config.load({}, {})
    assert config == Config()
    assert (config.agent_rate, config.peer_rate, config.bad_event_rate) == (60, 300, 300)
    assert (config.max_subscribers, config.max_connections_per_peer, config.private) == (16_384, 512, False)
    assert config.trusted_proxies == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert config.host == "127.0.0.1"


def test_precedence(tmp_path: Path) -> None:
    file = toml(tmp_path, "port = 1\nagent_rate = 2\npeer_rate = 3\n")
    environ = {"ANPORIA_PORT": "4", "ANPORIA_AGENT_RATE": "5"}
    config = Config.load({"port": "6", "agent_rate": None}, environ, file)
    assert (config.port, config.agent_rate, config.peer_rate, config.bad_event_rate) == (6, 5, 3, 300)


def test_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    file = toml(tmp_path, "port = 1\n")
    environ = {f"ANPORIA_{name.upper()}": "" for name in KEYS}
    assert Config.load({}, environ, file).port == 1
    assert Config.load({}, environ) == Config()


def test_every_key_by_every_way(tmp_path: Path) -> None:
    texts = {
        "db": "x.db", "host": "::1", "port": "0", "agent_rate": "1", "peer_rate": "0", "bad_event_rate": "1000000000",
        "rate_exempt": "10.0.0.0/8,2001:db8::/32", "trusted_proxies": "10.1.2.3/8", "public_base_url": "https://a.example/api/",
        "max_subscribers": "0", "max_connections_per_peer": "0", "search": "off",
        "auth_user": "u", "auth_password": "p:w",
    }  # fmt: skip
    assert list(texts) == KEYS
    by_environment = Config.load({}, {f"ANPORIA_{name.upper()}": text for name, text in texts.items()})
    by_flag = Config.load(texts, {})
    by_text = Config.load({}, {}, toml(tmp_path, "".join(f'{name} = "{text}"\n' for name, text in texts.items())))
    assert by_environment == by_flag == by_text
    assert by_flag.trusted_proxies == (ip_network("10.0.0.0/8"),)
    assert by_flag.public_base_url == "https://a.example/api"
    assert by_flag.private and "p:w" not in repr(by_flag)
    native = toml(tmp_path, 'port = 0\nrate_exempt = ["10.0.0.0/8", "2001:db8::/32"]\ntrusted_proxies = []\n')
    config = Config.load({}, {}, native)
    assert (config.rate_exempt, config.trusted_proxies) == (by_flag.rate_exempt, ())


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("port", "65536"),
        ("port", "-1"),
        ("port", "8080.0"),
        ("port", "x"),
        ("port", "٣"),
        ("port", "0x10"),
        ("port", "9" * 5_000),
        ("agent_rate", "1e3"),
        ("peer_rate", "-5"),
        ("bad_event_rate", "many"),
        ("max_subscribers", "1000001"),
        ("max_connections_per_peer", "3 4"),
        ("rate_exempt", "10.0.0.0/33"),
        ("rate_exempt", "example.org"),
        ("trusted_proxies", "10.0.0.1;10.0.0.2"),
        ("public_base_url", "relay.example"),
        ("public_base_url", "ftp://x"),
        ("host", "a\nb"),
        ("auth_user", "a:b"),
        ("auth_user", "only"),
        ("auth_password", "only"),
    ],
)
def test_bad_values(key: str, text: str) -> None:
    environ = {f"ANPORIA_{key.upper()}": text}
    if text == "a:b":
        environ["ANPORIA_AUTH_PASSWORD"] = "x"
    with pytest.raises(ConfigError) as caught:
        Config.load({}, environ)
    assert key in str(caught.value).lower()
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "port = true\n",
        "port = 1.5\n",
        "port = [1]\n",
        "host = 5\n",
        "colour = 1\n",
        "port = \n",
        "[relay]\nport = 1\n",
        "db = 1\n",
        "\udcff",
    ],
)
def test_bad_files(text: str, tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        Config.load({}, {}, file)
    assert str(file) in str(caught.value)


def test_unknown_key_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'colour'; known are db, host, port"):
        Config.load({}, {}, toml(tmp_path, "colour = 1\n"))


# -- the program


def run(*args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **(env or {})}
    return subprocess.run([RELAY, *args], env=environment, capture_output=True, text=True, timeout=60)


def fails(*args: str, says: str, env: Mapping[str, str] | None = None) -> None:
    """It must exit 2 with one line that says so, and nothing that looks like a stack trace."""
    done = run(*args, env=env)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("anporia-relay: ")
    assert re.search(says, lines[0]), lines[0]


def test_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        fails(
            "--db", str(tmp_path / "new.db"), "--port", port, says=f"cannot listen on 127.0.0.1 port {port}: .*in use"
        )
    assert not (tmp_path / "new.db").exists()


def test_bad_flag_and_variable(tmp_path: Path) -> None:
    fails("--port", "99999", says=r"--port: '99999' is not a whole number from 0 to 65535")
    fails("--port", "0", env={"ANPORIA_AGENT_RATE": "x"}, says="ANPORIA_AGENT_RATE: 'x'")
    fails("--config", str(toml(tmp_path, "hosts = 1\n")), says="unknown key 'hosts'")
    fails("--config", str(tmp_path / "absent.toml"), says="absent.toml: cannot be read: No such file")
    fails(env={"ANPORIA_CONFIG": str(tmp_path)}, says="cannot be read: Is a directory")
    fails("--auth-user", "u", says="set both to make the relay private")


def test_bad_host(tmp_path: Path) -> None:
    db = str(tmp_path / "x.db")
    fails("--db", db, "--port", "0", "--host", "a" * 64 + ".example", says="--host aaa")
    fails("--db", db, "--port", "0", "--host", "203.0.113.77", says="cannot listen on 203.0.113.77 port 0: ")


def test_file_that_is_not_a_database(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be taken for one by its size alone\n" * 50)
    before = text.read_bytes()
    fails("--db", str(text), "--port", "0", says="notes.txt is not an SQLite database")
    assert text.read_bytes() == before
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    fails("--db", str(other), "--port", "0", says="other.db is a database of another program")


def test_newer_database(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay:
        assert relay.stop() == 0
    with sqlite3.connect(relay.db) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    fails("--db", str(relay.db), "--port", "0", says=r"newer version \(schema 99")


def test_database_in_use(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay:
        fails("--db", str(relay.db), "--port", "0", says="in use by another process")


def test_folders_that_cannot_hold_a_database(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    fails("--db", str(file / "x.db"), "--port", "0", says="Not a directory")
    fails("--db", str(tmp_path / "absent" / "x.db"), "--port", "0", says="No such file or directory")
    fails("--db", str(tmp_path), "--port", "0", says="is a directory or names no file")
    fails("--db", "", "--port", "0", says="is a directory or names no file")
    fails("--db", "/", "--port", "0", says="is a directory or names no file")
    if os.geteuid() == 0:
        return  # root may write anywhere
    tmp_path.chmod(0o500)
    fails("--db", str(tmp_path / "x.db"), "--port", "0", says="Permission denied")


def test_version_and_help() -> None:
    assert re.fullmatch(r"anporia-relay \d+\.\d+\.\d+\S*\n", run("--version").stdout)
    said = run("--help").stdout
    for name in KEYS:
        assert (f"--{name.replace('_', '-')}" in said) == (name != "auth_password")
        assert f"ANPORIA_{name.upper()}" in said


def test_password_is_no_flag() -> None:
    assert run("--auth-password", "x").returncode == 2


# -- the manual


def test_every_key_is_in_the_manual() -> None:
    text = (ROOT / "docs/relay.md").read_text("utf-8")
    table = re.search(r"^\| key \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    assert table
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| `?([^`|]*?)`? \|", table[0], re.MULTILINE))
    assert list(rows) == KEYS
    for setting in fields(Config):
        shown = {"rate_exempt": "none", "trusted_proxies": "loopback", "search": "on"}.get(
            setting.name, str(setting.default) or "none"
        )
        assert rows[setting.name] == shown, setting.name
