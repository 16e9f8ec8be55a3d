"""`key rotate`: the old key names the new one, the new one the old, and only then the new one is put in its place."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .. import identity, keyfile, rotation
from . import screen, session
from .failures import KEY, CommandFailed
from .options import Command, Options, on_terminal, pass_options

if TYPE_CHECKING:
    from ..agent import Agent

__all__ = ["rotate"]

_JUST_NOW_S = 3_600  # a rotation that ended so recently was most likely this one, whose end nobody saw


@click.command(cls=Command)
@click.option("--yes", is_flag=True, help="do not ask")
@click.option("--again", is_flag=True, help="even if this key has just replaced another, or named another successor")
@pass_options
def rotate(options: Options, yes: bool, again: bool) -> None:
    """Replace your key by a new one, so that everybody can see that both are you.

    The old key signs who follows (kind 1504), the new key confirms it, and only when a relay has both does the new key
    take the old one's place; the old one is kept beside it as FILE.<8 of its id>.retired. Interrupted at any point,
    the same command goes on from there.

    A LOST key cannot be rotated: nobody can sign for it, and the trust it had is gone for good.

    \b
    Example:
      anporia key rotate
    """
    file = session.place(options).file
    if not os.path.lexists(file):
        text = f"there is no key file {file}. A lost key cannot be rotated: the trust it had is gone for good"
        raise CommandFailed(text, code="no_key", status=KEY)
    old_id = keyfile.header(file).agent_id
    following = Path(f"{os.path.realpath(file)}.next")
    resumed = os.path.lexists(following)
    if not resumed and not again and (before := _just_rotated(options, old_id)):
        _said(options, {"outcome": "already rotated", "old": before, "new": old_id, "retired": None})
        return
    if not yes and on_terminal():
        question = "Go on with the rotation that was begun?" if resumed else f"Replace the key of {old_id}?"
        click.confirm(question, abort=True, err=True)
    passphrase = session.passphrase_for(file)
    old = keyfile.read(file, passphrase)
    # before a next key is made: it must not be one that the old key will never name
    with session.agent(options, old, outbox=False) as agent:
        named = {rotation.named(event, "successor") for event in _events(agent, old.agent_id)} - {None}
        pending = identity.public_id(following) if resumed else None
        if named - {pending} and not again:
            text = (
                f"this key has already named a successor, {', '.join(sorted(map(str, named - {pending})))}. "
                "If that key is lost, --again names another one"
            )
            raise CommandFailed(text, code="already_named", status=KEY)
        new = identity.begin_rotation(file, passphrase=passphrase)
        if new.agent_id not in named:
            _publish(agent, rotation.announced(new.agent_id))
    with session.agent(options, new, outbox=False) as agent:
        confirmed = {rotation.named(event, "predecessor") for event in _events(agent, new.agent_id)}
        if old.agent_id not in confirmed:
            _publish(agent, rotation.confirmed(old.agent_id))
    retired = identity.finish_rotation(file)
    about = {"outcome": "rotated", "old": old.agent_id, "new": new.agent_id}
    _said(options, about | {"retired": str(retired) if retired else None})


def _events(agent: Agent, author: str) -> list[dict[str, Any]]:
    return agent.query(kinds=[rotation.KEY_ROTATION], authors=[author], limit=100)


def _publish(agent: Agent, draft: rotation.Draft) -> None:
    agent.publish(*draft)


def _just_rotated(options: Options, agent_id: str) -> str | None:
    """Say whom the present key has just replaced, None if it has not."""
    role: Literal["predecessor"] = "predecessor"
    with session.reader(options) as agent:
        for event in _events(agent, agent_id):
            if (before := rotation.named(event, role)) and time.time() - event["created_at"] < _JUST_NOW_S:
                return before
    return None


def _said(options: Options, about: dict[str, Any]) -> None:
    if options.json:
        screen.emit(about)
        return
    if about["outcome"] == "already rotated":
        screen.line("This key has just replaced another; to replace it once more, give --again.")
    if about["outcome"] == "rotated":
        screen.note('the new agent has no profile yet: "anporia profile --name NAME"')
        screen.note(f'letters to the old agent open with "anporia dm read --key {about["retired"]}"')
    screen.facts([("new agent", about["new"]), ("old agent", about["old"]), ("old key", about["retired"])])
