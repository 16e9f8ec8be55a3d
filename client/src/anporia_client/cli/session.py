"""From options to an agent: whose key, which relays, with which password."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anporia_wire import Keypair

from .. import identity, keyfile
from . import screen
from .failures import KEY, CommandFailed
from .options import Options, on_terminal

if TYPE_CHECKING:
    from ..agent import Agent

__all__ = ["Place", "agent", "environment", "keypair", "passphrase_for", "place", "reader", "relay_urls", "writer"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the key that counts lies. `path`: None for a key that stands in ANPORIA_PRIVATE_KEY."""

    path: Path | None
    source: str

    @property
    def file(self) -> Path:
        """The key's file. Raises `CommandFailed` when there is none, for commands that change it."""
        if self.path is None:
            text = "the key comes from ANPORIA_PRIVATE_KEY, which this command cannot change. Unset it, or give --key"
            raise CommandFailed(text, code="key_in_environment", status=KEY)
        return self.path


def environment(options: Options) -> Mapping[str, str]:
    """Give the environment, with `--key` in the place of what it says of keys."""
    if options.key is None:
        return os.environ
    return {**os.environ, "ANPORIA_PRIVATE_KEY": "", "ANPORIA_KEY_FILE": options.key}


def place(options: Options) -> Place:
    """Say where the key lies, without reading it."""
    environ = environment(options)
    if environ.get("ANPORIA_PRIVATE_KEY"):
        return Place(None, "ANPORIA_PRIVATE_KEY")
    given = environ.get("ANPORIA_KEY_FILE")
    source = "--key" if options.key else "ANPORIA_KEY_FILE" if given else identity.DEFAULT_KEY
    return Place(keyfile.expanded(given or identity.DEFAULT_KEY), source)


def passphrase_for(path: Path | None) -> str | None:
    """Give the passphrase of a sealed file: from ANPORIA_KEY_PASSPHRASE, or asked for where somebody is there."""
    if path is None or not os.path.lexists(path) or keyfile.header(path).form != "sealed":
        return None
    if given := os.environ.get("ANPORIA_KEY_PASSPHRASE"):
        return given
    if not on_terminal():
        return None
    return str(click.prompt(f"Passphrase of {path}", hide_input=True, err=True))


def keypair(options: Options, *, create: bool = False) -> identity.Identity:
    """Find the key that counts, made on first use; a locked one is opened.

    A file that was named by `--key` is made only with `create`: a slip of the pen must not speak as somebody new.
    """
    found = place(options)
    if options.key and not create and found.path is not None and not os.path.lexists(found.path):
        text = f'there is no key file {found.path}. "anporia whoami --key {options.key}" makes one'
        raise CommandFailed(text, code="no_key", status=KEY)
    given = identity.resolve(environment(options), passphrase=passphrase_for(found.path))
    return replace(given, source=found.source)


def relay_urls(options: Options) -> list[str]:
    """Say which relays are meant."""
    if options.relay:
        return list(dict.fromkeys(url.rstrip("/") for url in options.relay))
    from .. import settings

    return [settings.relay_url().rstrip("/")]


def writer(options: Options, *, outbox: bool = True) -> Agent:
    """Give the agent of the key that counts. `outbox`: False for what must be at the relay at once."""
    if not options.relay and not any(os.environ.get(name) for name in ("ANPORIA_RELAY_URL", "ANPORIA_RELAY")):
        screen.note(f"no relay is named, so this goes to {relay_urls(options)[0]}, where all is public for good")
    return agent(options, keypair(options).keypair, outbox=outbox)


def reader(options: Options) -> Agent:
    """Give an agent that only reads: with a key of its own that is never used, so that a locked one stays locked."""
    return agent(options, Keypair.generate(), outbox=False)


def agent(options: Options, key: Keypair, *, outbox: bool = True) -> Agent:
    """Give an agent of this key at the relays that are meant."""
    from ..agent import Agent

    urls = relay_urls(options)
    if options.quorum is not None and options.quorum > len(urls):
        raise click.UsageError(f"--quorum {options.quorum} needs as many relays, and there are {len(urls)}")
    auths = {url: auth for url in urls if (auth := _auth(options, url))}
    more: dict[str, Any] = {"relay_urls": urls, "auths": auths}
    if options.timeout is not None:
        more["timeout"] = options.timeout
    if options.quorum is not None:
        more["quorum"] = options.quorum
    if outbox and options.outbox:
        more["outbox"] = options.outbox
    return Agent(key, **more)


def _auth(options: Options, url: str) -> tuple[str, str] | None:
    """Find the password for a relay, in the keychain too."""
    from .. import settings

    if not url.lower().startswith(("http://", "https://")):
        return None
    found = settings.credentials(url, given=len(options.relay) == 1)
    return (found.user, found.password) if found else None
