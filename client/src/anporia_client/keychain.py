"""Secrets in the keychain of the operating system, through `keyring` (the extra `[keychain]`). Never a prompt."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .errors import KeychainError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

__all__ = ["KEY_SERVICE", "available", "delete", "get", "set_"]

KEY_SERVICE = "anporia-key"  # the service under which seeds lie, as hex; the user is the agent id

_LIMIT_S = 3.0  # design/mcp.md 9: a locked collection waits for a person, whom a server cannot ask
_RECOMMENDED = 1  # keyring's own line: backends below it keep secrets as plain text, or not at all
_NONE_HERE = "there is no keychain on this machine, or not in this session"

_T = TypeVar("_T")


def available() -> bool:
    """Say whether `keyring` is installed; whether it works shows only when it is used."""
    return importlib.util.find_spec("keyring") is not None


def get(service: str, user: str) -> str | None:
    """Give the secret of `user` at `service`, None when the keychain holds none or is turned off.

    Turned off means keyring's null backend (`keyring --disable`). Takes at most 3 s. Raises `KeychainError`.
    """

    def ask() -> str | None:
        backend = _backend()
        return None if _is_null(backend) else _recommended(backend, service).get_password(service, user)

    return _within_limit(ask, service)


def set_(service: str, user: str, secret: str) -> None:
    """Store a secret, in place of an earlier one. Takes at most 3 s. Raises `KeychainError`.

    After the limit has passed, the keychain may still store it.
    """
    _within_limit(lambda: _recommended(_backend(), service).set_password(service, user, secret), service)


def delete(service: str, user: str) -> None:
    """Remove a secret; one that is not there is no error. Takes at most 3 s. Raises `KeychainError`."""

    def remove() -> None:
        backend = _recommended(_backend(), service)
        if backend.get_password(service, user) is not None:
            backend.delete_password(service, user)

    _within_limit(remove, service)


def _backend() -> KeyringBackend | None:
    import keyring
    from keyring.backends import chainer, fail

    backend = keyring.get_keyring()
    if isinstance(backend, chainer.ChainerBackend):  # its priority is high even where it ends in a plain file
        return max(backend.backends, key=lambda one: float(one.priority), default=None)
    return None if isinstance(backend, fail.Keyring) else backend


def _recommended(backend: KeyringBackend | None, service: str) -> KeyringBackend:
    if backend is None:
        raise _error(service, _NONE_HERE)
    if float(backend.priority) < _RECOMMENDED:
        name = f"{type(backend).__module__}.{type(backend).__qualname__}"
        raise _error(service, f"{name} does not keep secrets safe (priority below {_RECOMMENDED}) and is not used")
    return backend


def _is_null(backend: KeyringBackend | None) -> bool:
    from keyring.backends import null

    return isinstance(backend, null.Keyring)


def _within_limit(call: Callable[[], _T], service: str) -> _T:
    """Run `call` in a thread of its own. Raises `KeychainError` for whatever it raises, or when it takes too long."""
    if not available():
        raise _error(service, 'keyring is not installed (pip install "./client[keychain]" in a checkout)')
    results: list[_T] = []
    failures: list[KeychainError] = []

    def work() -> None:
        try:
            results.append(call())
        except KeychainError as exc:
            failures.append(exc)
        except BaseException as exc:  # backends raise what their systems give them, some of it no Exception
            # our words and the name of the class: a text of theirs could repeat the secret
            failures.append(_error(service, _reason(exc)))

    # a daemon: a thread that hangs in somebody's dialogue must not keep the program from ending
    worker = threading.Thread(target=work, name="anporia-keychain", daemon=True)
    worker.start()
    worker.join(_LIMIT_S)
    if results:
        return results[0]
    if failures:
        # a fresh one: that of the thread carries the backend's own error as its context
        raise KeychainError(str(failures[0]))
    raise _error(service, f"no answer within {_LIMIT_S:g} s; it may be locked and waiting for somebody")


def _reason(exc: BaseException) -> str:
    from keyring import errors

    if isinstance(exc, errors.NoKeyringError):
        return _NONE_HERE
    if isinstance(exc, errors.InitError | errors.KeyringLocked):
        return f"it is locked, and nobody opened it ({type(exc).__name__})"
    return f"it failed ({type(exc).__name__})"


def _error(service: str, reason: str) -> KeychainError:
    if service == KEY_SERVICE:
        instead = "Or give the key by ANPORIA_PRIVATE_KEY or ANPORIA_KEY_FILE."
    else:
        instead = (
            "Or give the password by ANPORIA_RELAY_PASSWORD, "
            "ANPORIA_RELAY_PASSWORD_FILE or ANPORIA_RELAY_PASSWORD_COMMAND."
        )
    return KeychainError(f"keychain ({service}): {reason}. {instead}")
