"""Who am I: the key that counts here, made on first use, and exchanged for another in steps that lose none."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anporia_wire import InvalidKey, Keypair

from . import keyfile
from .errors import IdentityError

__all__ = ["DEFAULT_KEY", "Identity", "begin_rotation", "finish_rotation", "load_or_create", "public_id", "resolve"]

DEFAULT_KEY = "~/.anporia/key.priv"  # as of the published clients

log = logging.getLogger("anporia.client")

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Identity:
    """A key and where it came from. `path`: None when no file was asked; `created`: made just now, by this call."""

    keypair: Keypair
    source: str
    path: Path | None
    created: bool

    @property
    def agent_id(self) -> str:
        """The public name of the key, 64 lower-case hex characters."""
        return self.keypair.agent_id


def resolve(
    environ: Mapping[str, str] | None = None,
    *,
    home: StrPath | None = None,
    create: bool = True,
    passphrase: str | None = None,
) -> Identity:
    """Find the key that counts: ANPORIA_PRIVATE_KEY, else the file ANPORIA_KEY_FILE, else ~/.anporia/key.priv.

    An empty variable counts as unset. `home`: what `~` stands for; `passphrase`: instead of ANPORIA_KEY_PASSPHRASE.
    A file that is missing is made, sealed if there is a passphrase, or with `create=False` is an `IdentityError`.
    Otherwise raises as `load_or_create` does. `environ`: the process's own unless given.
    """
    environ = os.environ if environ is None else environ
    if text := environ.get("ANPORIA_PRIVATE_KEY"):
        return Identity(_from_variable("ANPORIA_PRIVATE_KEY", text), "ANPORIA_PRIVATE_KEY", None, False)
    given = environ.get("ANPORIA_KEY_FILE")
    file = _below_home(given or DEFAULT_KEY, home)
    passphrase = passphrase or environ.get("ANPORIA_KEY_PASSPHRASE") or None
    if not create and not os.path.lexists(file):
        raise IdentityError(f"there is no key file {file}. It is made on first use")
    keypair, created = _load_or_create(file, passphrase)
    return Identity(keypair, "ANPORIA_KEY_FILE" if given else DEFAULT_KEY, file, created)


def load_or_create(path: StrPath, *, passphrase: str | None = None) -> Keypair:
    """Read the key at `path`, or make a new one there, sealed if there is a passphrase.

    Processes that do so at once all get the same key. A key file that others can reach is warned about. Raises
    `IdentityError` when the file can be neither read nor made, `KeyLocked` when a sealed one is not opened by
    `passphrase`, `KeychainError`, and `InvalidKey` when it holds something else.
    """
    return _load_or_create(keyfile.expanded(path), passphrase or None)[0]


def public_id(path: StrPath) -> str:
    """Give the agent id of a key file, without a passphrase: for a sealed file, what its header claims.

    Raises `IdentityError` and `InvalidKey`.
    """
    return keyfile.header(path).agent_id


def begin_rotation(path: StrPath, *, passphrase: str | None = None) -> Keypair:
    """Make the key that shall follow that of `path`, in `<path>.next`, or read the one that is there already.

    It is kept as the present one is: sealed with the same passphrase, in the keychain, or plain. Raises as
    `load_or_create` does; a present key that is missing, or cannot be opened, is an error.
    """
    file = _real(path)
    form = keyfile.header(file).form
    present = keyfile.read(file, passphrase)  # first, for a mistyped passphrase must not seal the next key
    following = _beside(file, "next")
    if not os.path.lexists(following):
        with contextlib.suppress(keyfile.KeyFileExists):  # made by another process just now
            return keyfile.create(
                following, passphrase=passphrase if form == "sealed" else None, in_keychain=form == "keychain"
            )
    keypair = keyfile.read(following, passphrase)
    if keypair.agent_id == present.agent_id:
        raise IdentityError(f"{following} holds the present key itself. Remove it, then run this again")
    return keypair


def finish_rotation(path: StrPath) -> Path | None:
    """Put the key of `<path>.next` into the place of the present one, which is kept. Gives where, or None if done.

    That is `<path>.<first 8 of its id>.retired`. Interrupted at any point, the same call again goes on from there;
    with no rotation under way it does nothing. Never overwrites a key. Raises `IdentityError` and `InvalidKey`.
    """
    file = _real(path)
    following = _beside(file, "next")
    if not os.path.lexists(following):
        return None
    new_id = public_id(following)  # also: a key that cannot be read must not become the one in use
    old = keyfile.raw(file)
    old_id = keyfile.header_of(old, f"key file {path}").agent_id
    if old_id == new_id:  # another process has just put it there
        return None
    retired = _beside(file, f"{old_id[:8]}.retired")
    try:
        _keep(retired, old)
        # Once more, for other processes may have been at work; between this and the next line no time passes
        # in which a person could start and end another rotation.
        if keyfile.raw(file) == old and public_id(following) == new_id:
            os.replace(following, file)
            keyfile.sync_folder(file.parent)
        elif os.path.lexists(following):
            raise IdentityError(f"key file {path} was just changed by another program. Run this again")
    except OSError as exc:
        raise IdentityError(f"key file {path}: {exc.strerror or exc}") from None
    return retired


def _load_or_create(file: Path, passphrase: str | None) -> tuple[Keypair, bool]:
    if not os.path.lexists(file):
        try:
            keypair = keyfile.create(file, passphrase=passphrase)
        except keyfile.KeyFileExists:
            pass  # another process was first; its key counts
        else:
            # a warning, since a program that sets up no logging shows those, on stderr, and nothing below
            log.warning("new identity created: %s (key in %s)", keypair.agent_id, file)
            return keypair, True
    keypair = keyfile.read(file, passphrase)
    for problem in keyfile.problems(file):
        log.warning("%s", problem)
    return keypair, False


def _from_variable(name: str, text: str) -> Keypair:
    try:
        return Keypair.from_hex(text)
    except InvalidKey:
        length = len(text.strip())
        got = "64, some of them not hex" if length == 64 else f"{length}"
        raise InvalidKey(f"{name} must be 64 hex characters (got {got}).") from None


def _below_home(path: str, home: StrPath | None) -> Path:
    if home is not None and path.replace("\\", "/").startswith("~/"):
        return Path(home, path[2:])
    try:
        return keyfile.expanded(path)
    except IdentityError as exc:
        raise IdentityError(f"{exc} Set ANPORIA_KEY_FILE or ANPORIA_PRIVATE_KEY") from None


def _real(path: StrPath) -> Path:
    """Follow links, so that a linked key file stays linked and its neighbours lie beside the file itself."""
    return Path(os.path.realpath(keyfile.expanded(path)))


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(f"{file.name}.{ending}")


def _keep(retired: Path, data: bytes) -> None:
    """Write a retired key, unless an earlier, interrupted call did. Raises `IdentityError` and `OSError`."""
    try:
        keyfile.publish(retired, data)
    except keyfile.KeyFileExists:
        present = retired.read_bytes()
        if present == data:
            return
        if not data.startswith(present):
            raise IdentityError(f"{retired} holds another key. Move it elsewhere, then run this again") from None
        # a disk without links and a process killed while it wrote: the beginning of this very key, and no more
        retired.unlink()
        keyfile.publish(retired, data)
