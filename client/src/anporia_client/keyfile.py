"""The key file, byte by byte: its three forms, and how it is read, made and replaced. Whole or not at all.

plain      64 hex characters, as published clients write it
sealed     anporia-key:v1:argon2id:<agent id>:<passes>:<KiB>:<salt>:<nonce and box>, opened by a passphrase
keychain   anporia-key:v1:keychain:<agent id>, the seed itself being in the keychain of the system
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import stat
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from anporia_wire import InvalidKey, Keypair

from . import keychain
from .errors import IdentityError, KeyLocked

__all__ = [
    "Header",
    "KeyFileExists",
    "create",
    "expanded",
    "header",
    "header_of",
    "problems",
    "publish",
    "raw",
    "read",
    "replace_sealed",
    "seal",
    "sync_folder",
    "unseal",
]

StrPath = str | os.PathLike[str]

_MAX_BYTES = 4_096  # the longest form has 340; more is another kind of file
_HALF_WRITTEN_S = 2.0  # how long a file may be empty while another process writes it, where there are no links
_LEFT_BEHIND_S = 60.0  # a write takes milliseconds: what is older than this belongs to nobody any more

# RFC 9106 section 4, the second recommended option; libsodium has one lane where that has four.
_PASSES = 3
_MEM_KIB = 64 * 1024
# What a file may ask for. libsodium's costliest preset, SENSITIVE, is 4 passes over 1 GiB: a few seconds.
_MAX_MEM_KIB = 1024 * 1024
_MAX_PASSES_KIB = 4 * _MAX_MEM_KIB
_MIN_MEM_KIB = argon2id.MEMLIMIT_MIN // 1024

_OURS = "anporia-key:"
_KNOWN = (f"{_OURS}v1:argon2id:", f"{_OURS}v1:keychain:")
_VERSIONED = re.compile(r"anporia-key:v[0-9]+:[a-z0-9]+:", re.ASCII)
_BOX_BYTES = SecretBox.NONCE_SIZE + SecretBox.MACBYTES + 32  # of a seed
_SEALED = re.compile(
    rf"anporia-key:v1:argon2id:([0-9a-f]{{64}}):([1-9][0-9]{{0,8}}):([1-9][0-9]{{0,8}})"
    rf":([0-9a-f]{{{2 * argon2id.SALTBYTES}}}):([0-9a-f]{{{2 * _BOX_BYTES}}})",
    re.ASCII,
)
_REFERENCE = re.compile(r"anporia-key:v1:keychain:([0-9a-f]{64})", re.ASCII)

_POSIX = os.name == "posix"  # elsewhere modes and owners say nothing


class KeyFileExists(IdentityError):
    """A key file cannot be made where something is already."""

    code = "key_exists"


@dataclass(frozen=True, slots=True)
class Header:
    """What a key file tells without a passphrase. `agent_id`: only claimed, until a sealed file is opened."""

    agent_id: str
    form: Literal["plain", "sealed", "keychain"]


@dataclass(frozen=True, slots=True)
class _Sealed:
    agent_id: str
    passes: int
    mem_kib: int
    salt: bytes
    box: bytes


@dataclass(frozen=True, slots=True)
class _Reference:
    agent_id: str


def read(path: StrPath, passphrase: str | None = None) -> Keypair:
    """Give the key of a file, opening a sealed one with `passphrase`; a plain one needs none.

    An empty file gets 2 s, for another process may be writing it. Raises `IdentityError` when the file cannot be
    read, `KeyLocked` when the passphrase is missing or wrong, `KeychainError`, and `InvalidKey` for no key.
    """
    return _key(raw(path), passphrase, f"key file {path}")


def header(path: StrPath) -> Header:
    """Tell whose key a file holds and in which form. Raises `IdentityError` and `InvalidKey`, as `read` does."""
    return header_of(raw(path), f"key file {path}")


def header_of(data: bytes, where: str = "the key") -> Header:
    """Tell whose key the bytes of a file hold. `where`: names them in errors. Raises as `header` does."""
    form = _parsed(data, where)
    if isinstance(form, Keypair):
        return Header(form.agent_id, "plain")
    return Header(form.agent_id, "sealed" if isinstance(form, _Sealed) else "keychain")


def create(
    path: StrPath, keypair: Keypair | None = None, passphrase: str | None = None, *, in_keychain: bool = False
) -> Keypair:
    """Make a key file, mode 0600 in a folder made with mode 0700 if missing, and give its key, fresh if none is given.

    Plain, or sealed with `passphrase`, or as a reference to the keychain. Raises `KeyFileExists` when something is
    there, which stays as it is, `IdentityError` when it cannot be made, and `KeychainError`.
    """
    file = expanded(path)
    keypair = keypair or Keypair.generate()
    data = _written(keypair, passphrase, in_keychain=in_keychain)
    with _typed(path):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        publish(file, data)
    return keypair


def replace_sealed(
    path: StrPath, passphrase: str | None = None, *, new_passphrase: str | None = None, in_keychain: bool = False
) -> Keypair:
    """Write a file's key in another form: sealed with `new_passphrase`, or to the keychain, or plain. Gives the key.

    The old file is replaced in one step, and only after the new one was read back from the disk. A link stays a link.
    The disk may keep the old bytes, and the keychain its entry. Raises as `read` and `create` do.
    """
    where = f"key file {path}"
    with _typed(path):
        file = Path(os.path.realpath(expanded(path)))
    before = raw(file)
    keypair = _key(before, passphrase, where)
    data = _written(keypair, new_passphrase, in_keychain=in_keychain)
    with _typed(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)  # mode 0600
        try:
            _write(handle, data)
            if _key(raw(temporary), new_passphrase, where).seed != keypair.seed:
                raise IdentityError(f"{where}: the disk does not give back what was written; nothing was changed")
            if raw(file) != before:
                raise IdentityError(f"{where} was just changed by another program; this one changed nothing")
            os.replace(temporary, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(file.parent)
    return keypair


def seal(keypair: Keypair, passphrase: str) -> bytes:
    """Encrypt a key: Argon2id (3 passes over 64 MiB, about 0.1 s) and XSalsa20-Poly1305. Gives one ASCII line."""
    if not passphrase:
        raise IdentityError("the passphrase is empty")
    salt = secrets.token_bytes(argon2id.SALTBYTES)
    box = SecretBox(_stretched(passphrase, salt, _PASSES, _MEM_KIB)).encrypt(keypair.seed)
    return f"{_KNOWN[0]}{keypair.agent_id}:{_PASSES}:{_MEM_KIB}:{salt.hex()}:{bytes(box).hex()}\n".encode()


def unseal(data: bytes, passphrase: str | None, where: str = "the sealed key") -> Keypair:
    """Open what `seal` made. `where`: names it in errors. Raises `KeyLocked`, `InvalidKey`, `IdentityError`."""
    form = _parsed(data, where)
    if not isinstance(form, _Sealed):
        raise InvalidKey(f"{where} is not encrypted")
    return _opened(form, passphrase, where)


def problems(path: StrPath) -> list[str]:
    """Tell what is wrong around a key file, one sentence each, with the command that mends it where there is one.

    Modes and owners are looked at on POSIX only. A file that is not there has no problems.
    """
    found: list[str] = []
    file = expanded(path)
    try:
        about, link, folder = file.stat(), file.lstat(), Path(os.path.realpath(file)).parent
        around = folder.stat()
        leftovers = [
            str(other)
            for other in sorted(folder.iterdir())
            if other.name.startswith(f".{Path(os.path.realpath(file)).name}-")
            and time.time() - other.lstat().st_mtime > _LEFT_BEHIND_S
        ]
    except (OSError, ValueError):
        return found  # reading it will say why, or did
    if not stat.S_ISREG(about.st_mode):
        return [f"key file {file} is not a regular file"]
    if _POSIX:
        mode, me = stat.S_IMODE(about.st_mode), {0, os.geteuid()}
        if mode & 0o066:
            what = "read" if mode & 0o044 else "change"
            mend = f"chmod 600 {shlex.quote(str(file))}"
            found.append(f"key file {file} has mode {mode:04o}; others can {what} it. Run: {mend}")
        if about.st_uid not in me:
            found.append(f"key file {file} belongs to user {about.st_uid}, who can read and replace it")
        if link.st_uid not in me and stat.S_ISLNK(link.st_mode):
            found.append(f"key file {file} is a link that belongs to user {link.st_uid}, who can point it elsewhere")
        # Where each user has a group of their own, folders are made with mode 0775: that group is nobody else.
        theirs = around.st_mode & 0o002 or (around.st_mode & 0o020 and around.st_gid != os.getegid())
        if theirs and not around.st_mode & stat.S_ISVTX:  # in a sticky folder only owners replace files
            mode, mend = stat.S_IMODE(around.st_mode), f"chmod go-w {shlex.quote(str(folder))}"
            found.append(f"the folder of key file {file} has mode {mode:04o}; others can replace it. Run: {mend}")
    found += [f"{name} was left behind by an interrupted write and may hold a key; remove it" for name in leftovers]
    return found


def raw(path: StrPath) -> bytes:
    """Give the bytes of a key file, waiting up to 2 s for the first one. Raises `IdentityError`, `InvalidKey`."""
    deadline = time.monotonic() + _HALF_WRITTEN_S
    file = expanded(path)
    with _typed(path):
        while True:
            with file.open("rb") as source:
                data = source.read(_MAX_BYTES + 1)
            if data.strip() or time.monotonic() > deadline:
                break
            time.sleep(0.02)
    if len(data) > _MAX_BYTES:
        raise InvalidKey(f"key file {path} is larger than {_MAX_BYTES} bytes: it is something else")
    if not data.strip():
        raise InvalidKey(f"key file {path} is empty. If no other program is about to write it, remove it")
    return data


def publish(file: Path, data: bytes) -> None:
    """Let `file` appear with its whole content, mode 0600. Raises `KeyFileExists`, never replacing, and `OSError`."""
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        _write(handle, data)
        try:
            os.link(temporary, file)
        except FileExistsError:
            raise
        except (OSError, AttributeError, NotImplementedError):  # no hard links on this disk or system
            # no such flags on some systems, where neither is needed
            extra = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | extra, 0o600)
            try:
                _write(handle, data)
            except BaseException:
                os.unlink(file)  # ours, made just now; half a key would stand in the way for ever
                raise
    except FileExistsError:
        raise KeyFileExists(f"key file {file} exists already and is not replaced") from None
    finally:
        os.unlink(temporary)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder outlive a power cut, where the system has directory handles."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def expanded(path: StrPath) -> Path:
    """Put the home folder in the place of `~`. Raises `IdentityError` when it is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:
        raise IdentityError(f"key file {path}: {exc}") from None


@contextlib.contextmanager
def _typed(path: StrPath) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise IdentityError(f"key file {path}: {exc.strerror or exc}") from None
    except ValueError:  # a NUL in the path
        raise IdentityError("key file: the path is not one this system can have") from None


def _parsed(data: bytes, where: str) -> Keypair | _Sealed | _Reference:
    text = data.decode("ascii", "replace").strip()
    if not text.startswith(_OURS):
        try:
            return Keypair.from_hex(text)
        except InvalidKey:
            raise InvalidKey(f"{where} does not hold a private key, 64 hex characters") from None
    if found := _SEALED.fullmatch(text):
        agent_id, passes, mem_kib, salt, box = found.groups()
        return _Sealed(agent_id, int(passes), int(mem_kib), bytes.fromhex(salt), bytes.fromhex(box))
    if found := _REFERENCE.fullmatch(text):
        return _Reference(found[1])
    if _VERSIONED.match(text) and not text.startswith(_KNOWN):
        raise IdentityError(f"{where} was written by a newer Anporia. Update this one to use it")
    raise InvalidKey(f"{where} is damaged: it begins as a key and goes on as none. Use a copy of it, if there is one")


def _key(data: bytes, passphrase: str | None, where: str) -> Keypair:
    form = _parsed(data, where)
    if isinstance(form, Keypair):
        return form
    return _opened(form, passphrase, where) if isinstance(form, _Sealed) else _fetched(form.agent_id, where)


def _opened(sealed: _Sealed, passphrase: str | None, where: str) -> Keypair:
    if not passphrase:
        raise KeyLocked(f"{where} is encrypted. Set ANPORIA_KEY_PASSPHRASE")
    too_much = sealed.mem_kib > _MAX_MEM_KIB or sealed.passes * sealed.mem_kib > _MAX_PASSES_KIB
    if too_much or sealed.mem_kib < _MIN_MEM_KIB:
        raise InvalidKey(f"{where} asks for {sealed.passes} passes over {sealed.mem_kib} KiB, which no Anporia writes")
    try:
        key = _stretched(passphrase, sealed.salt, sealed.passes, sealed.mem_kib)
    except (CryptoError, MemoryError):
        raise IdentityError(f"{where}: opening it takes {sealed.mem_kib} KiB of memory, which are not free") from None
    try:
        keypair = Keypair(SecretBox(key).decrypt(sealed.box))
    except CryptoError:
        raise KeyLocked(f"{where}: the passphrase is wrong, or the file is damaged") from None
    return _same(keypair, sealed.agent_id, where)


def _fetched(agent_id: str, where: str) -> Keypair:
    text = keychain.get(keychain.KEY_SERVICE, agent_id)
    if text is None:
        raise IdentityError(f"{where}: the keychain has no key for agent {agent_id} (service {keychain.KEY_SERVICE})")
    try:
        keypair = Keypair.from_hex(text)
    except InvalidKey:
        raise InvalidKey(f"{where}: what the keychain has for agent {agent_id} is not a key") from None
    return _same(keypair, agent_id, where)


def _same(keypair: Keypair, agent_id: str, where: str) -> Keypair:
    if keypair.agent_id != agent_id:  # the header is not encrypted: somebody changed it
        raise InvalidKey(f"{where} names another agent than its key proves")
    return keypair


def _written(keypair: Keypair, passphrase: str | None, *, in_keychain: bool) -> bytes:
    if in_keychain:
        keychain.set_(keychain.KEY_SERVICE, keypair.agent_id, keypair.seed.hex())
        _fetched(keypair.agent_id, "the keychain")  # it must give the key back before a file relies on it
        return f"{_KNOWN[1]}{keypair.agent_id}\n".encode()
    # without a line end, as published clients write it
    return seal(keypair, passphrase) if passphrase is not None else keypair.seed.hex().encode()


def _stretched(passphrase: str, salt: bytes, passes: int, mem_kib: int) -> bytes:
    # one text has one key however it was typed; surrogatepass, since an error would show a part of the text
    secret = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    return argon2id.kdf(SecretBox.KEY_SIZE, secret, salt, opslimit=passes, memlimit=mem_kib * 1024)


def _write(handle: int, data: bytes) -> None:
    with open(handle, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(handle)
