"""Clients' files on this machine: read, and replaced whole or not at all, with the first state kept beside them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from pathlib import Path

from anporia_client.cli.failures import CommandFailed

__all__ = ["BACKUP", "back_up", "backup_of", "read", "without_mark", "write"]

BACKUP = ".anporia-backup"
_MOST_BYTES = 64 << 20  # a ~/.claude.json that was used for long holds some megabytes of history
_BOM = "\ufeff"  # editors of Windows begin files with it


def read(file: Path) -> str | None:
    """Give a file's text as it stands, None if there is none. Raises `CommandFailed`."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise CommandFailed(f"{file} is too large for a file of settings", code="unreadable")
        return file.read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise CommandFailed(f"{file} is not UTF-8 text, and was left alone", code="unreadable") from None
    except OSError as exc:
        raise CommandFailed(f"{file} cannot be read: {exc.strerror}", code="unreadable") from None


def without_mark(text: str) -> tuple[str, str]:
    """Split a text into the mark that editors of Windows put in front, and the rest."""
    return (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)


def backup_of(file: Path) -> Path:
    """Say where the state before our first change is kept."""
    return file.with_name(file.name + BACKUP)


def write(file: Path, text: str, *, before: str | None, keep: bool) -> Path | None:
    """Replace a file that must still hold `before`; gives the backup if this has made one.

    With `keep` there is one of the first state that was met, and no later one replaces it.
    Through a temporary file beside it, so that nobody ever reads half of it; its mode stays, and a link stays one.
    Raises `CommandFailed` if somebody else changed it meanwhile, and `OSError`.
    """
    there = Path(os.path.realpath(file))
    if read(there) != before:
        raise CommandFailed(f"{file} was changed by another program just now. Try again", code="changed_meanwhile")
    there.parent.mkdir(parents=True, exist_ok=True)
    backup = backup_of(file) if keep and before is not None and not os.path.lexists(backup_of(file)) else None
    if backup is not None and before is not None:
        back_up(file, before)
    _put(there, text.encode(), there if before is not None else None)
    return backup


def back_up(file: Path, text: str) -> Path:
    """Keep what a file holds, in the place of an earlier backup, with the file's mode. Raises `OSError`."""
    backup = backup_of(file)
    _put(backup, text.encode(), file)
    shutil.copystat(file, backup)
    return backup


def _put(there: Path, data: bytes, like: Path | None) -> None:
    """Write a file whole or not at all, with the mode of another."""
    new = there.with_name(f".{there.name}.{secrets.token_hex(4)}")
    try:
        # what others' entries hold is nobody else's, not even for a moment
        mode = 0o666 if like is None else stat.S_IMODE(like.stat().st_mode) & 0o777
        with open(new, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        if like is not None:
            shutil.copymode(like, new)
        new.replace(there)
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
