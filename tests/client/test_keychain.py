"""The system's keychain: asked for three seconds, never trusted with plain text, never quoted."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import chainer, fail, null
from keyring.errors import InitError, KeyringError, KeyringLocked, NoKeyringError, PasswordDeleteError

from anporia_client import keychain
from anporia_client.errors import KeychainError
from anporia_client.keychain import KEY_SERVICE, delete, get, set_

SECRET = "correct horse battery"
RELAY = "anporia-relay:example.com"


class Memory(KeyringBackend):
    """A keychain as good as any, for as long as the test runs."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.held[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.held.pop((service, username), None) is None:
            raise PasswordDeleteError("no such password")


class Plain(Memory):
    priority = 0.5  # type: ignore[assignment]


class Slow(Memory):
    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def get_password(self, service: str, username: str) -> str | None:
        self.go_on.wait(30)
        return None


class Raising(Memory):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def get_password(self, service: str, username: str) -> str | None:
        raise self.error

    def set_password(self, service: str, username: str, password: str) -> None:
        raise type(self.error)(f"cannot store {password}")


@pytest.fixture(autouse=True)
def own_keychain() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)
    for slow in [thread for thread in threading.enumerate() if thread.name == "anporia-keychain"]:
        slow.join(5)


def use(backend: KeyringBackend) -> None:
    keyring.set_keyring(backend)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(KeychainError) as caught:
        call()
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert caught.value.code == "keychain"
    return str(caught.value)


def test_a_secret_is_kept_given_back_and_removed() -> None:
    use(Memory())
    assert get(RELAY, "ada") is None
    set_(RELAY, "ada", SECRET)
    set_(RELAY, "ada", SECRET + "!")
    assert (get(RELAY, "ada"), get(RELAY, "bob"), get(KEY_SERVICE, "ada")) == (SECRET + "!", None, None)
    delete(RELAY, "ada")
    delete(RELAY, "ada")
    assert get(RELAY, "ada") is None


def test_a_keychain_that_hangs_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keychain, "_LIMIT_S", 0.05)
    slow = Slow()
    use(slow)
    started = time.monotonic()
    said = refused(lambda: get(RELAY, "ada"))
    slow.go_on.set()
    assert time.monotonic() - started < 5
    assert "no answer within 0.05 s" in said and "ANPORIA_RELAY_PASSWORD_COMMAND" in said


def test_a_thread_that_hangs_does_not_keep_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keychain, "_LIMIT_S", 0.05)
    slow = Slow()
    use(slow)
    refused(lambda: get(RELAY, "ada"))
    assert [t.daemon for t in threading.enumerate() if t.name == "anporia-keychain"] == [True]
    slow.go_on.set()


@pytest.mark.parametrize(
    "call", [lambda: get(RELAY, "a"), lambda: set_(RELAY, "a", SECRET), lambda: delete(RELAY, "a")]
)
def test_keychains_in_plain_text_are_refused(call: Callable[[], object]) -> None:
    backend = Plain()
    use(backend)
    said = refused(call)
    assert "Plain does not keep secrets safe" in said and "ANPORIA_RELAY_PASSWORD_FILE" in said
    assert backend.held == {}


def test_a_chain_is_as_good_as_the_link_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = chainer.ChainerBackend()  # type: ignore[no-untyped-call]
    plain, good = Plain(), Memory()
    for backends in ([plain], []):
        monkeypatch.setattr(chainer.ChainerBackend, "backends", backends)
        use(chain)
        refused(lambda: set_(RELAY, "ada", SECRET))
    monkeypatch.setattr(chainer.ChainerBackend, "backends", [plain, good])
    set_(RELAY, "ada", SECRET)
    assert (plain.held, good.held) == ({}, {(RELAY, "ada"): SECRET})


def test_a_machine_without_one_says_so() -> None:
    use(fail.Keyring())  # type: ignore[no-untyped-call]
    assert "there is no keychain on this machine" in refused(lambda: get(RELAY, "ada"))
    assert "ANPORIA_KEY_FILE" in refused(lambda: get(KEY_SERVICE, "ab" * 32))


def test_one_that_is_turned_off_holds_nothing_and_takes_nothing() -> None:
    use(null.Keyring())  # type: ignore[no-untyped-call]
    assert get(RELAY, "ada") is None
    refused(lambda: set_(RELAY, "ada", SECRET))


class PanicError(BaseException):
    """What the bindings of some other languages raise."""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NoKeyringError("x"), "there is no keychain"),
        (InitError("Prompt dismissed"), "locked"),
        (KeyringLocked("x"), "locked"),
        (KeyringError("x"), "it failed (KeyringError)"),
        (OSError(5, "bus"), "it failed (OSError)"),
        (RuntimeError("x"), "it failed (RuntimeError)"),
        (PanicError("x"), "it failed (PanicError)"),
    ],
)
def test_what_it_raises_becomes_ours_and_is_not_repeated(error: BaseException, says: str) -> None:
    use(Raising(error))
    assert says in refused(lambda: get(RELAY, "ada"))
    assert says in refused(lambda: set_(RELAY, "ada", SECRET))


def test_a_backend_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "no.such.module.Keyring")
    monkeypatch.setattr(keyring.core, "_keyring_backend", None)
    assert "ModuleNotFoundError" in refused(lambda: get(RELAY, "ada"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    assert get(RELAY, "ada") is None


def test_without_keyring_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert not keychain.available()
    assert 'pip install "./client[keychain]"' in refused(lambda: get(RELAY, "ada"))
