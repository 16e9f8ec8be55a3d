"""Where and as whom to connect, from the environment; a password goes to the relay it was meant for, and no other."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from .address import Address
from .errors import KeychainError, SettingsError

__all__ = [
    "DEFAULT_RELAY",
    "DEFAULT_USER",
    "Credentials",
    "credentials",
    "keychain_service",
    "relay_url",
]

DEFAULT_RELAY = "https://anporia.com/api"
DEFAULT_USER = "founder"  # of the bootstrap relay, seed 004 section 4

log = logging.getLogger("anporia.client")

_RELAY_VARIABLES = ("ANPORIA_RELAY_URL", "ANPORIA_RELAY")  # the second is that of the published client
_PASSWORD = "ANPORIA_RELAY_PASSWORD"
_FILE = "ANPORIA_RELAY_PASSWORD_FILE"
_COMMAND = "ANPORIA_RELAY_PASSWORD_COMMAND"
_BASIC = "ANPORIA_BASIC_AUTH"  # user:password, as the published client takes it
_MAX_BYTES = 4_096  # of a file with a password; longer ones are other files
_COMMAND_S = 30.0  # time for somebody to touch a key or unlock a store; a client that starts us waits about 60 s

_POSIX = os.name == "posix"  # elsewhere modes say nothing, and programs get their arguments as one text

_warned: set[str] = set()  # keychain services whose failure this process has told about


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password for one relay; `source` says where the password came from. `repr` hides it."""

    user: str
    password: str = field(repr=False)
    source: str


def relay_url(environ: Mapping[str, str] | None = None) -> str:
    """Give the relay's address: ANPORIA_RELAY_URL, else ANPORIA_RELAY, else https://anporia.com/api.

    An empty variable counts as unset. `environ`: the process's own unless given. It is not checked here.
    """
    return _named_relay(os.environ if environ is None else environ) or DEFAULT_RELAY


def credentials(
    url: str,
    environ: Mapping[str, str] | None = None,
    *,
    user: str | None = None,
    given: bool = False,
    with_keychain: bool = True,
) -> Credentials | None:
    """Find the password for the relay at `url`, None when there is none for it.

    From ANPORIA_RELAY_PASSWORD, else _PASSWORD_FILE (mode 0600), else _PASSWORD_COMMAND (30 s), else
    ANPORIA_BASIC_AUTH; else, unless `with_keychain` is False, from the keychain, by host. Those of the
    environment are for the relay it names (scheme, host and port), or when it names none, for the default
    one; with `given`, which says that the program or its user chose `url`, then for `url`. For other relays
    they are withheld, with a warning. `user`: instead of ANPORIA_RELAY_USER. Raises `SettingsError` and
    `BadAddress`; a keychain that fails is warned about once.
    """
    environ = os.environ if environ is None else environ
    address = Address.parse(url)
    name = user or environ.get("ANPORIA_RELAY_USER") or DEFAULT_USER
    if any(environ.get(variable) for variable in (_PASSWORD, _FILE, _COMMAND, _BASIC)):
        meant = Address.parse(_named_relay(environ) or (url if given else DEFAULT_RELAY))
        if meant.origin == address.origin:
            found = _of_environment(environ, name, user)
            if found is not None:
                return found
        else:
            log.warning(
                "the relay password in the environment is for %s and was not used for %s",
                meant.origin,
                address.origin,
            )
    return _of_keychain(keychain_service(url), name) if with_keychain else None


def keychain_service(url: str) -> str:
    """Name the keychain's service for the relay at `url`: `anporia-relay:<host>`. Raises `BadAddress`."""
    return f"anporia-relay:{Address.parse(url).host}"


def _named_relay(environ: Mapping[str, str]) -> str | None:
    return next((text for variable in _RELAY_VARIABLES if (text := environ.get(variable))), None)


def _of_environment(environ: Mapping[str, str], name: str, user: str | None) -> Credentials | None:
    if password := environ.get(_PASSWORD):
        return Credentials(name, password, _PASSWORD)
    if path := environ.get(_FILE):
        return Credentials(name, _read(path), _FILE)
    if command := environ.get(_COMMAND):
        return Credentials(name, _run(command), _COMMAND)
    whose, colon, password = environ.get(_BASIC, "").partition(":")
    if not colon:
        # the variable is set, since one of the four is
        raise SettingsError(f"{_BASIC} must be user:password")
    # it is the password of that user: another one does not have it
    return Credentials(whose, password, _BASIC) if user in (None, whose) else None


def _read(path: str) -> str:
    from pathlib import Path

    try:
        file = Path(path).expanduser()
        with file.open("rb") as source:
            mode = os.fstat(source.fileno()).st_mode & 0o777
            data = source.read(_MAX_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as exc:
        raise SettingsError(f"{_FILE}: {path}: {getattr(exc, 'strerror', None) or 'cannot be opened'}") from None
    if _POSIX and mode & 0o077:
        import shlex

        mend = f"chmod 600 {shlex.quote(str(file))}"
        raise SettingsError(f"{_FILE}: {file} has mode {mode:04o}; others can reach it. Run: {mend}")
    if len(data) > _MAX_BYTES:
        raise SettingsError(f"{_FILE}: {file} is larger than {_MAX_BYTES} bytes")
    return _text(data, _FILE)


def _run(command: str) -> str:
    import subprocess

    # the command itself is not repeated in errors: it may hold a token
    try:
        done = subprocess.run(
            _arguments(command, posix=_POSIX),
            stdin=subprocess.DEVNULL,  # ours may belong to MCP
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it could repeat the password, and ours may be kept in a log
            timeout=_COMMAND_S,
        )
    except subprocess.TimeoutExpired:
        raise SettingsError(f"{_COMMAND} gave no password within {_COMMAND_S:g} s") from None
    except (OSError, ValueError) as exc:  # ValueError: an open quote, a NUL
        raise SettingsError(f"{_COMMAND} cannot be run: {getattr(exc, 'strerror', None) or 'bad quoting'}") from None
    if done.returncode:
        raise SettingsError(f"{_COMMAND} failed with status {done.returncode}. Run it in a terminal to see why")
    return _text(done.stdout, _COMMAND)


def _arguments(command: str, *, posix: bool) -> list[str] | str:
    """Split a command as a shell would; Windows programs split theirs themselves, and know `\\` in paths."""
    if not posix:
        return command
    import shlex

    arguments = shlex.split(command)
    if not arguments:
        raise ValueError("empty")
    return arguments


def _text(data: bytes, variable: str) -> str:
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}: what it gives is not UTF-8 text") from None
    if not text or not {"\r", "\n", "\0"}.isdisjoint(text):
        raise SettingsError(f"{variable}: what it gives is not one line with a password")
    return text


def _of_keychain(service: str, name: str) -> Credentials | None:
    from . import keychain

    if not keychain.available():
        return None
    try:
        password = keychain.get(service, name)
    except KeychainError as exc:
        if service not in _warned:
            _warned.add(service)
            log.warning("%s Going on without a password", exc)
        return None
    return Credentials(name, password, f"keychain ({service})") if password else None
