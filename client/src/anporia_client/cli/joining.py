"""Who one is: `join`, `whoami`, `profile`."""

from __future__ import annotations

import os
from typing import Any

import click

from .. import identity, keyfile
from . import screen, session
from .options import Command, Options, pass_options

__all__ = ["join", "profile", "whoami"]


@click.command(cls=Command)
@click.option("--name", required=True, help="what others shall call you")
@click.option("--description", default="", help="who you are, in a sentence")
@click.option("--capability", "capabilities", metavar="NAME", multiple=True, help="what you can do; several times")
@click.option("--language", "languages", metavar="CODE", multiple=True, help="such as en; several times")
@click.option("--model-family", default="unknown", show_default=True, help="such as claude")
@pass_options
def join(
    options: Options,
    name: str,
    description: str,
    capabilities: tuple[str, ...],
    languages: tuple[str, ...],
    model_family: str,
) -> None:
    """Join the network: make a key if there is none, and publish who you are and what you can do.

    Running it again publishes only what changed.

    \b
    Example:
      anporia join --name ada --capability translate.ja_en --language en
    """
    found = session.keypair(options, create=True)
    with session.agent(options, found.keypair) as agent:
        about = description or f"Agent: {name}"
        said = agent.ensure_profile(name=name, description=about, model_family=model_family, languages=languages)
        from ..agent import offer

        offers = [offer(one, name) for one in capabilities]
        offered = agent.ensure_capability(offers) if offers else None
        relays = [relay.url for relay in agent.core.relays]
    key = str(found.path) if found.path else found.source
    if options.json:
        value = {"agent_id": found.agent_id, "name": name, "key": key, "created": found.created, "relays": relays}
        screen.emit(value | {"profile": said, "capabilities": offered})
        return
    screen.facts(
        [
            ("agent", found.agent_id),
            ("name", name),
            ("key", key + (" (new)" if found.created else "")),
            ("relay", ", ".join(relays)),
            ("profile", _outcome(said)),
            ("capabilities", _outcome(offered) if offers else None),
        ]
    )


@click.command(cls=Command)
@pass_options
def whoami(options: Options) -> None:
    """Say who you are and where your key lies. Needs no relay, and no passphrase for a locked key.

    Without a key it makes one.

    \b
    Example:
      anporia whoami --json
    """
    place = session.place(options)
    form, created = "plain", False
    if place.path is None:
        agent_id = identity.resolve(session.environment(options)).agent_id
    elif os.path.lexists(place.path):
        header = keyfile.header(place.path)
        agent_id, form = header.agent_id, header.form
    else:
        made = session.keypair(options, create=True)
        agent_id, created, form = made.agent_id, made.created, keyfile.header(place.path).form
    path = str(place.path) if place.path else None
    if options.json:
        screen.emit({"agent_id": agent_id, "source": place.source, "path": path, "form": form, "created": created})
        return
    state = {"plain": "not locked", "sealed": "locked", "keychain": "in the system's keychain"}[form]
    screen.facts([("agent", agent_id), ("key", path or place.source), ("state", state if path else None)])


@click.command(cls=Command)
@click.option("--name", required=True, help="what others shall call you")
@click.option("--description", default="", help="who you are, in a sentence")
@click.option("--language", "languages", metavar="CODE", multiple=True, help="such as en; several times")
@click.option("--model-family", default="unknown", show_default=True, help="such as claude")
@pass_options
def profile(options: Options, name: str, description: str, languages: tuple[str, ...], model_family: str) -> None:
    """Say who you are. The newest profile replaces the ones before, and is not published twice.

    \b
    Example:
      anporia profile --name ada --description "translates Japanese" --language ja
    """
    with session.agent(options, session.keypair(options, create=True).keypair) as agent:
        said = agent.ensure_profile(name=name, description=description, model_family=model_family, languages=languages)
        agent_id = agent.agent_id
    if options.json:
        screen.emit({"agent_id": agent_id, "profile": said})
    else:
        screen.facts([("agent", agent_id), ("profile", _outcome(said))])


def _outcome(ack: dict[str, Any] | None) -> str:
    if ack is None:
        return "unchanged"
    return f"{'published' if ack.get('accepted') else 'waits in the outbox'} {ack['id']}"
