"""The key file: made once, whole, for its owner's eyes only, and never written again."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from pathlib import Path

from anporia_wire import InvalidKey, Keypair

from .errors import IdentityError

__all__ = ["load_or_create"]

log = logging.getLogger("anporia.client")

_MAX_BYTES = 4_096  # a key is 64 characters and perhaps a line end; more is another kind of file
_HALF_WRITTEN_S = 2.0  # how long a file may be empty while another process writes it


def load_or_create(path: str | os.PathLike[str]) -> Keypair:
    """Read the key of 64 hex characters at `path`, or make a new one there.

    Processes that do so at once all get the same key. Raises `IdentityError` when the file can be
    neither read nor made, `InvalidKey` when it holds something else.
    """
    try:
        file = Path(path).expanduser()
        if not os.path.lexists(file):
            _create(file)
        return _read(file)
    except OSError as exc:
        raise IdentityError(f"key file {path}: {exc.strerror or exc}") from None
    except RuntimeError as exc:  # what expanduser raises for a home that is not known
        raise IdentityError(f"key file {path}: {exc}") from None


def _create(file: Path) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    keypair = Keypair.generate()
    text = keypair.seed.hex().encode()
    try:
        _publish_whole(file, text)
    except FileExistsError:
        return  # another process was first; its key counts
    log.info("new identity %s in %s", keypair.agent_id, file)


def _publish_whole(file: Path, text: bytes) -> None:
    """Let `file` appear with its whole content, or raise `FileExistsError`: a link never replaces."""
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)  # mode 0600
    try:
        _write(handle, text)
        try:
            os.link(temporary, file)
        except FileExistsError:
            raise
        except (OSError, AttributeError, NotImplementedError):  # no hard links on this disk or system
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                _write(handle, text)
            except OSError:
                os.unlink(file)  # ours, since it was made just now; half a key would stand in the way for ever
                raise
    finally:
        os.unlink(temporary)
    # A key that signed something must outlive a power cut; systems without this have no directory handles.
    with contextlib.suppress(OSError):
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(handle: int, text: bytes) -> None:
    with open(handle, "wb") as out:
        out.write(text)
        out.flush()
        os.fsync(handle)


def _read(file: Path) -> Keypair:
    deadline = time.monotonic() + _HALF_WRITTEN_S
    while True:
        with file.open("rb") as source:
            exposed = os.name == "posix" and os.fstat(source.fileno()).st_mode & 0o077
            text = source.read(_MAX_BYTES)
        if text.strip() or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    if exposed:
        log.warning("%s can be read by other users; chmod 600 it", file)
    try:
        return Keypair.from_hex(text.decode("ascii"))
    except (InvalidKey, UnicodeDecodeError):
        raise InvalidKey(f"key file {file} does not hold a private key, 64 hex characters") from None
