"""What `doctor` finds on this machine: the installation, the key, the proxies."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from anporia_wire import ACCELERATED, AnporiaError, InvalidKey, Keypair

from .. import identity, keychain, keyfile
from ..errors import KeyLocked
from . import session
from .options import Options

__all__ = ["Finding", "Status", "here", "identity_of", "proxies"]

Status = Literal["ok", "warn", "fail"]

_PACKAGE = Path(__file__).resolve().parent.parent
_MEND_INSTALL = "pip uninstall anporia-client, then in a checkout: pip install ./wire ./client"
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `fix`: what to do about it, empty when nothing is to be done."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def here() -> Iterator[Finding]:
    """Look at the installation: on the index there is a package of others with the name of ours."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()}")
    try:
        found = metadata.distribution("anporia-client")
        version, needs = found.version, " ".join(found.requires or ())
    except metadata.PackageNotFoundError:
        yield Finding("package", "warn", f"runs from {_PACKAGE}, not installed", _MEND_INSTALL)
        return
    source = (_PACKAGE / "__init__.py").read_text("utf-8", "replace")
    if "anporia-wire" not in needs or f'__version__ = "{version}"' not in source:
        detail = f"anporia-client {version} is not, or not only, the package this command is of"
        yield Finding("package", "fail", detail, _MEND_INSTALL)
        return
    how = "compiled kernels" if ACCELERATED else "no compiled kernels"
    chain = "keyring installed" if keychain.available() else "no keyring"
    yield Finding("package", "ok", f"anporia-client {version}, {how}, {chain}")


def identity_of(options: Options) -> Iterator[tuple[Finding, Keypair | None]]:
    """Look at the key. The last finding brings it along, if it can be used."""
    place = session.place(options)
    if place.path is None:
        try:
            keypair = identity.resolve(session.environment(options)).keypair
        except InvalidKey as exc:
            yield Finding("key", "fail", str(exc), "Correct or unset ANPORIA_PRIVATE_KEY"), None
        else:
            yield Finding("key", "ok", f"{keypair.agent_id} from {place.source}"), keypair
        return
    file = place.path
    if not os.path.lexists(file):
        fix = "it is made on first use, such as: anporia join --name NAME"
        yield Finding("key", "warn", f"there is none yet at {file} ({place.source})", fix), None
        return
    try:
        header = keyfile.header(file)
    except AnporiaError as exc:
        fix = f"Put a copy of your key at {file}, or move that file away and begin anew"
        yield Finding("key", "fail", str(exc), fix), None
        return
    yield Finding("key", "ok", f"{header.agent_id} in {file} ({place.source})"), None
    yield from ((finding, None) for finding in _modes(file))
    yield _opened(file, header.form)


def _modes(file: Path) -> Iterator[Finding]:
    problems = keyfile.problems(file)
    for problem in problems:
        text, run, command = problem.partition(" Run: ")
        left = "left behind" in text
        fix = command if run else "remove that file" if left else "make the file your own, or move the key elsewhere"
        yield Finding("key file", "warn" if left else "fail", text, fix)
    if not problems:
        mode, around = (stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent))
        yield Finding("key file", "ok", f"mode {mode:04o} in a folder of mode {around:04o}")


def _opened(file: Path, form: str) -> tuple[Finding, Keypair | None]:
    words = {"plain": "not locked", "sealed": "locked by a passphrase", "keychain": "in the system's keychain"}[form]
    passphrase = os.environ.get("ANPORIA_KEY_PASSPHRASE") or None
    if form == "sealed" and passphrase is None:
        fix = "commands will ask for the passphrase; for unattended use set ANPORIA_KEY_PASSPHRASE"
        return Finding("key lock", "ok", f"{words}; {fix}"), None
    try:
        keypair = keyfile.read(file, passphrase)
    except KeyLocked as exc:
        return Finding("key lock", "fail", str(exc), "Correct ANPORIA_KEY_PASSPHRASE"), None
    except AnporiaError as exc:
        return Finding("key lock", "fail", str(exc), "Open the keychain, or put a copy of the key in place"), None
    return Finding("key lock", "ok", words), keypair


def proxies() -> Iterator[Finding]:
    """Say which proxies are in use, without what logs in to them."""
    found = {name: os.environ.get(name) or os.environ.get(name.lower()) for name in _PROXIES}
    used = [f"{name}={value if name == 'NO_PROXY' else _host(value)}" for name, value in found.items() if value]
    yield Finding("proxy", "ok", ", ".join(used) or "none")


def _host(address: str) -> str:
    try:
        there = urlsplit(address if "://" in address else f"//{address}")
        return f"{there.hostname}:{there.port}" if there.port else str(there.hostname)
    except ValueError:
        return "(not an address)"
