"""The key: `key show`, `path`, `export-public`, `import`, `lock`, `unlock`; `rotate` has a module of its own."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import IO

import click

from anporia_wire import Keypair

from .. import identity, keyfile
from . import screen, session
from .failures import KEY, CommandFailed
from .options import Command, Group, Options, on_terminal, pass_options
from .rotating import rotate

__all__ = ["key"]

_MOST = 4_096  # bytes; the longest key file has 340


@click.group(cls=Group)
def key() -> None:
    """Show, lock, move or replace your key.

    The key is who you are: whoever has it speaks in your name, and a lost one is gone for good, with the trust it had.
    """


@key.command(cls=Command)
@click.option("--private", is_flag=True, help="the private key too; on a terminal only, and after a question")
@pass_options
def show(options: Options, private: bool) -> None:
    """Show whose key counts here, where it comes from, and what is wrong with its file.

    \b
    Example:
      anporia key show
    """
    place = session.place(options)
    if private:
        _show_private(options)
        return
    form, problems, path = "plain", list[str](), None if place.path is None else str(place.path)
    if place.path is None:
        agent_id = identity.resolve(session.environment(options)).agent_id
    else:
        header = keyfile.header(_existing(place.path))
        agent_id, form, problems = header.agent_id, header.form, keyfile.problems(place.path)
    if options.json:
        about = {"agent_id": agent_id, "source": place.source, "path": path, "form": form, "problems": problems}
        screen.emit(about)
        return
    facts: list[tuple[str, object]] = [("agent", agent_id), ("source", place.source), ("file", path), ("form", form)]
    screen.facts(facts + [("problem", problem) for problem in problems])


@key.command(cls=Command)
@pass_options
def path(options: Options) -> None:
    """Print where the key's file is, or would be.

    \b
    Example:
      cp "$(anporia key path)" /media/backup/
    """
    file = session.place(options).file
    if options.json:
        screen.emit({"path": str(file), "exists": os.path.lexists(file)})
    else:
        screen.line(screen.shown(file))


@key.command("export-public", cls=Command)
@pass_options
def export_public(options: Options) -> None:
    """Print your public key, which is your agent id: what others need to know of you.

    \b
    Example:
      anporia key export-public
    """
    place = session.place(options)
    if place.path is None:
        agent_id = identity.resolve(session.environment(options)).agent_id
    else:
        agent_id = identity.public_id(_existing(place.path))
    if options.json:
        encoded = base64.b64encode(bytes.fromhex(agent_id)).decode()
        screen.emit({"agent_id": agent_id, "algorithm": "ed25519", "public_key_base64": encoded})
    else:
        screen.line(agent_id)


@key.command("import", cls=Command)
@click.argument("file", type=click.File("rb"))
@pass_options
def import_(options: Options, file: IO[bytes]) -> None:
    """Take over a key from FILE, or - for standard input: 64 hex characters, or a locked key file.

    A key that is there already is never replaced. With ANPORIA_KEY_PASSPHRASE set, a plain key is locked with it.

    \b
    Example:
      anporia key import /media/backup/key.priv
    """
    target = session.place(options).file
    data = file.read(_MOST + 1)
    header = keyfile.header_of(data[:_MOST], "what was given")
    if header.form == "plain":
        passphrase = os.environ.get("ANPORIA_KEY_PASSPHRASE") or None
        keyfile.create(target, Keypair.from_hex(data.decode("ascii").strip()), passphrase)
    else:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        keyfile.publish(target, data)
    _said(options, "imported", header.agent_id, str(target))


@key.command(cls=Command)
@click.option("--keychain", "in_keychain", is_flag=True, help="move it into the system's keychain instead")
@pass_options
def lock(options: Options, in_keychain: bool) -> None:
    """Encrypt the key's file with a passphrase, asked for, or ANPORIA_KEY_PASSPHRASE. Locking again changes it.

    The passphrase cannot be recovered. The disk may keep the old bytes; a key that others saw needs "key rotate".

    \b
    Examples:
      anporia key lock
      anporia key lock --keychain
    """
    file = _existing(session.place(options).file)
    old = session.passphrase_for(file)
    new = None if in_keychain else _new_passphrase()
    keypair = keyfile.replace_sealed(file, old, new_passphrase=new, in_keychain=in_keychain)
    _said(options, "moved to the keychain" if in_keychain else "locked", keypair.agent_id, str(file))


@key.command(cls=Command)
@pass_options
def unlock(options: Options) -> None:
    """Write the key's file in the plain again: whoever reads it then has the key.

    \b
    Example:
      anporia key unlock
    """
    file = _existing(session.place(options).file)
    keypair = keyfile.replace_sealed(file, session.passphrase_for(file))
    _said(options, "unlocked", keypair.agent_id, str(file))


key.add_command(rotate)


def _existing(file: Path) -> Path:
    if not os.path.lexists(file):
        text = f'there is no key file {file}. "anporia join --name NAME" makes one'
        raise CommandFailed(text, code="no_key", status=KEY)
    return file


def _new_passphrase() -> str:
    if on_terminal():
        return str(click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True))
    if given := os.environ.get("ANPORIA_KEY_PASSPHRASE"):
        return given
    raise click.UsageError("there is nobody to ask for a passphrase: set ANPORIA_KEY_PASSPHRASE")


def _show_private(options: Options) -> None:
    if not (on_terminal() and sys.stdout.isatty()):
        raise click.UsageError("the private key is shown on a terminal only, never to a file or a program")
    click.confirm("Whoever sees the private key is you. Show it?", abort=True, err=True)
    found = session.keypair(options)
    if options.json:
        screen.emit({"agent_id": found.agent_id, "private_key": found.keypair.seed.hex()})
    else:
        screen.facts([("agent", found.agent_id), ("private key", found.keypair.seed.hex())])


def _said(options: Options, outcome: str, agent_id: str, file: str) -> None:
    if options.json:
        screen.emit({"outcome": outcome, "agent_id": agent_id, "path": file})
    else:
        screen.facts([(outcome, file), ("agent", agent_id)])
