"""Where and as whom to connect: in a fixed order, to the origin that was meant, and no password in any text."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest

from anporia_client import keychain, settings
from anporia_client.errors import BadAddress, SettingsError
from anporia_client.settings import (
    DEFAULT_RELAY,
    Credentials,
    credentials,
    keychain_service,
    relay_url,
)
from anporia_wire import AnporiaError
from tests.client.test_keychain import Memory, Raising

SECRET = "correct:horse battery"
RELAY = "https://relay.example/api"
SAYS = f"{shlex.quote(sys.executable)} -c 'print(\"{SECRET}\")'"


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    backend = Memory()
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    monkeypatch.setattr(settings, "_warned", set())
    yield backend
    keyring.set_keyring(before)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "my password"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    return file


def raises(call: Callable[[], object], error: type[AnporiaError], *says: str) -> str:
    """Hold an error to its type and words, and to showing no secret anywhere."""
    with pytest.raises(AnporiaError) as caught:
        call()
    assert type(caught.value) is error, caught.value
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert [word for word in says if word not in str(caught.value)] == [], caught.value
    return str(caught.value)


def found(url: str = RELAY, **variables: str) -> Credentials | None:
    return credentials(url, {"ANPORIA_RELAY_URL": RELAY, **variables})


# the relay


def test_the_relay_is_named_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"ANPORIA_RELAY_URL": "http://a", "ANPORIA_RELAY": "http://b"}
    assert relay_url(both) == "http://a"
    assert relay_url({**both, "ANPORIA_RELAY_URL": ""}) == "http://b"
    assert relay_url(dict.fromkeys(both, "")) == relay_url({}) == relay_url() == "https://anporia.com/api"
    monkeypatch.setenv("ANPORIA_RELAY_URL", "http://c")
    assert relay_url() == "http://c"


# the order


def test_the_order_of_passwords(password_file: Path, memory: Memory) -> None:
    memory.held["anporia-relay:relay.example", "founder"] = "from the keychain"
    variables = {
        "ANPORIA_RELAY_PASSWORD": "from the variable",
        "ANPORIA_RELAY_PASSWORD_FILE": str(password_file),
        "ANPORIA_RELAY_PASSWORD_COMMAND": "echo from the command",
        "ANPORIA_BASIC_AUTH": "ada:from: the pair",
    }
    wanted = ["from the variable", SECRET, "from the command", "from: the pair"]
    for name, password in zip(list(variables), wanted, strict=True):
        user = "ada" if name == "ANPORIA_BASIC_AUTH" else "founder"
        assert found(**variables) == Credentials(user, password, name)
        variables[name] = ""
    last = found(**variables)
    assert last == Credentials("founder", "from the keychain", "keychain (anporia-relay:relay.example)")
    memory.held.clear()
    assert found(**variables) is None


def test_the_user_is_founder_unless_named() -> None:
    assert found(ANPORIA_RELAY_PASSWORD="x", ANPORIA_RELAY_USER="") == Credentials(
        "founder", "x", "ANPORIA_RELAY_PASSWORD"
    )
    variables = {"ANPORIA_RELAY_URL": RELAY, "ANPORIA_RELAY_USER": "ada", "ANPORIA_RELAY_PASSWORD": "x"}
    for user, wanted in [(None, "ada"), ("bob", "bob"), ("", "ada")]:
        got = credentials(RELAY, variables, user=user)
        assert got and got.user == wanted


def test_a_pair_is_for_its_user_only() -> None:
    variables = {"ANPORIA_RELAY_URL": RELAY, "ANPORIA_BASIC_AUTH": "ada:x", "ANPORIA_RELAY_USER": "bob"}
    assert credentials(RELAY, variables) == credentials(RELAY, variables, user="ada")
    assert credentials(RELAY, variables, user="eve") is None
    raises(lambda: found(ANPORIA_BASIC_AUTH="correct"), SettingsError, "ANPORIA_BASIC_AUTH must be user:password")


def test_the_process_environment_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANPORIA_RELAY_PASSWORD", "x")
    assert credentials(DEFAULT_RELAY) == Credentials("founder", "x", "ANPORIA_RELAY_PASSWORD")


def test_no_text_shows_a_password() -> None:
    got = found(ANPORIA_RELAY_PASSWORD=SECRET)
    assert got and got.password == SECRET
    assert f"{got} {got!r}".count(SECRET) == 0 and "founder" in repr(got)


# files


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o601, 0o666])
def test_a_file_that_others_reach_is_refused(password_file: Path, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    password_file.chmod(bits)

    def call() -> Credentials | None:
        return found(ANPORIA_RELAY_PASSWORD_FILE=str(password_file))

    said = raises(call, SettingsError, "ANPORIA_RELAY_PASSWORD_FILE", f"{bits:04o}")
    assert os.system(said.partition("Run: ")[2]) == 0
    assert call() == Credentials("founder", SECRET, "ANPORIA_RELAY_PASSWORD_FILE")
    password_file.chmod(bits)
    monkeypatch.setattr(settings, "_POSIX", False)
    assert call() is not None


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"a\nb", b"\xff\xfe", b"x" * 5_000, b"a\0b", SECRET.encode() + b"\nuser: ada\n"]
)
def test_a_file_without_one_password_is_refused(password_file: Path, content: bytes) -> None:
    password_file.write_bytes(content)
    said = raises(lambda: found(ANPORIA_RELAY_PASSWORD_FILE=str(password_file)), SettingsError)
    assert said.startswith("ANPORIA_RELAY_PASSWORD_FILE: ")


@pytest.mark.parametrize("path", ["/nowhere/at all", "~no-such-user-here/x", "nul\0", "/"])
def test_a_file_that_cannot_be_read_is_told(path: str) -> None:
    raises(lambda: found(ANPORIA_RELAY_PASSWORD_FILE=path), SettingsError, "ANPORIA_RELAY_PASSWORD_FILE")


def test_a_file_may_lie_below_home(password_file: Path) -> None:
    Path(os.environ["HOME"], "pass").write_text("päss\r\n")
    Path(os.environ["HOME"], "pass").chmod(0o400)
    got = found(ANPORIA_RELAY_PASSWORD_FILE="~/pass")
    assert got and got.password == "päss"


# commands


def python(program: str) -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}"


def test_a_command_gives_the_password_and_sees_no_shell_and_no_input(tmp_path: Path) -> None:
    got = found(ANPORIA_RELAY_PASSWORD_COMMAND=SAYS)
    assert got == Credentials("founder", SECRET, "ANPORIA_RELAY_PASSWORD_COMMAND")
    got = found(ANPORIA_RELAY_PASSWORD_COMMAND=f"echo '  $HOME' ; touch {tmp_path}/made | cat")
    assert got and got.password == f"$HOME ; touch {tmp_path}/made | cat"
    got = found(ANPORIA_RELAY_PASSWORD_COMMAND=python("import sys; print(len(sys.stdin.read()))"))
    assert got and got.password == "0"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (python(f"import sys; print({SECRET!r}); sys.exit({SECRET!r} and 3)"), "status 3"),
        (python(f"import sys; sys.stderr.write({SECRET!r} * 2); sys.exit(1)"), "status 1"),
        (python("pass"), "not one line"),
        (python("print('a'); print('b')"), "not one line"),
        (python("import sys; sys.stdout.buffer.write(b'\\xff')"), "not UTF-8"),
        (f"/no/such/program --token '{SECRET}'", "cannot be run: No such file"),
        (f"echo '{SECRET}", "bad quoting"),
        (" ", "bad quoting"),
        ("nul\0", "cannot be run"),
    ],
)
def test_a_command_that_fails_is_told_but_not_repeated(
    command: str, says: str, capfd: pytest.CaptureFixture[str]
) -> None:

    def call() -> Credentials | None:
        return found(ANPORIA_RELAY_PASSWORD_COMMAND=command)

    raises(call, SettingsError, "ANPORIA_RELAY_PASSWORD_COMMAND", says)
    assert capfd.readouterr() == ("", "")


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_COMMAND_S", 0.5)
    program = python(f"import time; print({SECRET!r}, flush=True); time.sleep(30)")
    started = time.monotonic()
    raises(lambda: found(ANPORIA_RELAY_PASSWORD_COMMAND=program), SettingsError, "within 0.5 s")
    assert time.monotonic() - started < 15


def test_windows_splits_arguments_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def run(arguments: object, **_: object) -> subprocess.CompletedProcess[bytes]:
        seen.append(arguments)
        return subprocess.CompletedProcess([], 0, SECRET.encode() + b"\r\n")

    monkeypatch.setattr(settings, "_POSIX", False)
    monkeypatch.setattr(subprocess, "run", run)
    command = r'"C:\Program Files\pass.exe" show C:\relay'
    got = found(ANPORIA_RELAY_PASSWORD_COMMAND=command)
    assert got and got.password == SECRET and seen == [command]


# to whom

ORIGINS = [
    ("https://relay.example/api", "https://RELAY.example:443/other", True),
    ("http://relay.example", "http://relay.example:80/", True),
    ("http://[::1]:8080", "http://[::1]:8080/x", True),
    ("https://relay.example", "http://relay.example", False),
    ("https://relay.example", "https://relay.example:8443", False),
    ("https://relay.example", "https://relay.example.evil.example", False),
    ("https://relay.example", "https://evil.example/https://relay.example", False),
    ("http://127.0.0.1:1", "http://localhost:1", False),
]


# what two parsers might read as two hosts is no address at all
ODD = [
    "https://münchen.example",
    "https://relay.example@evil.example",
    "https://evil.example\\@relay.example",
    "https://relay.example#@evil.example",
    "https://relay.example:443:80",
    "https://relay.example ",
    "https://relay.example/a b",
    "https:relay.example",
    "https:///relay.example",
    "https://relay.example\n",
    "https://[::1",
    "https://relay.example:65536",
]


@pytest.mark.parametrize("odd", ODD)
def test_an_address_that_can_be_read_in_two_ways_is_none(odd: str) -> None:
    with pytest.raises(BadAddress):
        credentials(odd, {"ANPORIA_RELAY_PASSWORD": "x", "ANPORIA_RELAY_URL": "https://relay.example"})


@pytest.mark.parametrize(("named", "asked", "same"), ORIGINS)
@pytest.mark.parametrize("given", [False, True])
def test_the_password_is_for_the_origin_the_environment_names(named: str, asked: str, same: bool, given: bool) -> None:
    for variable in ("ANPORIA_RELAY_URL", "ANPORIA_RELAY"):
        environ = {variable: named, "ANPORIA_RELAY_PASSWORD": "x"}
        assert (credentials(asked, environ, given=given) is not None) is same


def test_where_none_is_named_it_is_for_the_one_the_program_gives() -> None:
    environ = {"ANPORIA_RELAY_PASSWORD": "x"}
    assert credentials("http://127.0.0.1:8080", environ, given=True)
    assert credentials("http://127.0.0.1:8080", environ) is None  # heard of somewhere
    assert credentials(DEFAULT_RELAY, environ) and credentials(DEFAULT_RELAY, environ, given=True)


@pytest.mark.parametrize("variable", ["PASSWORD", "PASSWORD_FILE", "PASSWORD_COMMAND", "BASIC"])
def test_withholding_is_told_with_both_hosts_and_nothing_is_run(
    variable: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "ANPORIA_BASIC_AUTH" if variable == "BASIC" else f"ANPORIA_RELAY_{variable}"
    environ = {"ANPORIA_RELAY_URL": "https://relay.example/api", name: f"touch {tmp_path}/{SECRET}"}
    assert credentials("https://other.example:99/x", environ) is None
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "the relay password in the environment is for https://relay.example and was not used for "
        "https://other.example:99"
    )
    assert os.listdir(tmp_path) == []


def test_the_keychain_is_asked_by_host(memory: Memory, caplog: pytest.LogCaptureFixture) -> None:
    memory.held["anporia-relay:other.example", "ada"] = SECRET
    environ = {"ANPORIA_RELAY_URL": RELAY, "ANPORIA_RELAY_PASSWORD": "x"}
    assert keychain_service("http://OTHER.example:99/api") == "anporia-relay:other.example"
    got = credentials("http://other.example:99", environ, user="ada")
    assert got == Credentials("ada", SECRET, "keychain (anporia-relay:other.example)")
    assert credentials("http://other.example", environ) is None
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", ["", "relay.example", "https://", "http://[::1", f"//u:{SECRET}", f"http://{SECRET}:x"])
def test_an_address_that_is_none_is_not_repeated(url: str) -> None:
    raises(lambda: credentials(url, {}), BadAddress)
    raises(lambda: credentials(RELAY, {"ANPORIA_RELAY_URL": url or "x", "ANPORIA_RELAY_PASSWORD": "x"}), BadAddress)


# the keychain


def test_a_keychain_that_fails_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    keyring.set_keyring(Raising(RuntimeError(SECRET)))
    for _ in range(3):
        assert credentials(RELAY, {}) is None
    [record] = caplog.records
    assert record.levelno == logging.WARNING and SECRET not in caplog.text
    for word in ("ANPORIA_RELAY_PASSWORD,", "ANPORIA_RELAY_PASSWORD_FILE", "ANPORIA_RELAY_PASSWORD_COMMAND"):
        assert word in record.getMessage()


def test_without_keyring_nothing_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(keychain, "available", lambda: False)
    assert credentials(RELAY, {}) is None and caplog.records == []


def test_it_is_not_asked_where_the_environment_answers() -> None:
    keyring.set_keyring(Raising(RuntimeError("asked")))
    assert found(ANPORIA_RELAY_PASSWORD="x")
