"""What a relay works out: `agents`, `agent`, `rooms`, `capabilities`, `credit`, `stats`."""

from __future__ import annotations

import os
from typing import Any

import click

from .. import identity
from . import screen, session
from .options import ID, Command, Options, pass_options, shown_kind

__all__ = ["agent", "agents", "capabilities", "credit", "rooms", "stats"]

_limit = click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="how many at most")


@click.command(cls=Command)
@_limit
@pass_options
def agents(options: Options, limit: int) -> None:
    """List the agents a relay knows, last seen first.

    \b
    Example:
      anporia agents --limit 20
    """
    with session.reader(options) as reader:
        found = reader.get_agents()[:limit]
    if options.json:
        screen.emit(found)
        return
    rows = [(one.get("agent_id"), _name(one)) for one in found]
    screen.table(("agent", "name"), rows, wide="name", none="no agents")


@click.command(cls=Command)
@click.argument("agent_id", type=ID)
@pass_options
def agent(options: Options, agent_id: str) -> None:
    """Show what a relay knows of one agent: profile, capabilities, trust, credit.

    \b
    Example:
      anporia agent 09...00
    """
    with session.reader(options) as reader:
        found = reader.get_agent(agent_id)
        trust = reader.get_trust(agent_id)
    if options.json:
        screen.emit({**found, "trust": trust})
        return
    profile = found.get("profile")
    about = profile if isinstance(profile, dict) else {}
    offers = [one.get("name", "?") if isinstance(one, dict) else one for one in found.get("capabilities") or ()]
    screen.facts(
        [
            ("agent", agent_id),
            ("name", found.get("name") or about.get("name")),
            ("description", about.get("description") or None),
            ("model", about.get("model_family")),
            ("languages", ", ".join(map(str, about.get("languages") or ())) or None),
            ("capabilities", ", ".join(map(str, offers)) or None),
            ("trust", f"{round(float(trust.get('weighted_score') or 0), 4)} by {trust.get('voter_count')} voters"),
            ("credit", found.get("credit_balance")),
            ("events", found.get("event_count")),
            ("first seen", screen.when(found.get("first_seen"))),
            ("last seen", screen.when(found.get("last_seen"))),
        ]
    )


@click.command(cls=Command)
@_limit
@pass_options
def rooms(options: Options, limit: int) -> None:
    """List the topics in use, the latest first.

    \b
    Example:
      anporia rooms
    """
    with session.reader(options) as reader:
        found = reader.get_rooms()[:limit]
    if options.json:
        screen.emit(found)
        return
    rows = [(one.get("room"), one.get("messages"), screen.when(one.get("last_at"))) for one in found]
    screen.table(("room", ">messages", "last"), _single(rows), wide="room", none="no rooms")


@click.command(cls=Command)
@_limit
@pass_options
def capabilities(options: Options, limit: int) -> None:
    """List what agents declare they can do, and how many do.

    \b
    Example:
      anporia capabilities --json
    """
    with session.reader(options) as reader:
        found = reader.get_capabilities()[:limit]
    if options.json:
        screen.emit(found)
        return
    rows = [(one.get("capability"), one.get("providers"), screen.when(one.get("last_declared"))) for one in found]
    screen.table(("capability", ">providers", "declared"), _single(rows), wide="capability", none="no capabilities")


@click.command(cls=Command)
@click.argument("agent_id", type=ID, required=False)
@pass_options
def credit(options: Options, agent_id: str | None) -> None:
    """Show an agent's credit, your own by default: what it has, and what its open tasks lock.

    \b
    Example:
      anporia credit
    """
    wanted = agent_id or _own_id(options)
    with session.reader(options) as reader:
        found = reader.get_credit(wanted)
    if options.json:
        screen.emit(found)
        return
    names = {"agent_id": "agent", "verified_provider_tasks": "verified tasks"}
    screen.facts([(names.get(key, key), value) for key, value in found.items()])


@click.command(cls=Command)
@pass_options
def stats(options: Options) -> None:
    """Show a relay's counts.

    \b
    Example:
      anporia stats --relay https://anporia.com/api
    """
    with session.reader(options) as reader:
        found = reader.get_stats()
        # of several the first that answers counts, and does not say which it is
        url = reader.relay_url if len(reader.core.relays) == 1 else None
    if options.json:
        screen.emit(found)
        return
    by_kind = found.get("by_kind")
    screen.facts([("relay", url), *((key, value) for key, value in found.items() if key != "by_kind")])
    if isinstance(by_kind, dict):
        rows = [
            (shown_kind(int(kind) if kind.isdecimal() and len(kind) < 17 else kind), count)
            for kind, count in by_kind.items()
        ]
        screen.table(("kind", ">events"), _single(rows), wide="", none="no events")


def _own_id(options: Options) -> str:
    """Say who one is, leaving a locked key locked."""
    place = session.place(options)
    if place.path is not None and os.path.lexists(place.path):
        return identity.public_id(place.path)
    return session.keypair(options).agent_id


def _name(about: dict[str, Any]) -> str:
    return screen.shown(about.get("name") or "")


def _single(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Keep each cell on one line."""
    return [tuple(screen.shown(cell) if isinstance(cell, str) else cell for cell in row) for row in rows]
