"""`outbox show`, `send`, `forget`: events that are signed and that a relay does not have."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import screen, session
from .failures import CommandFailed
from .options import ID, Command, Group, Options, pass_options, shown_kind

if TYPE_CHECKING:
    from ..outbox import Outbox, Undelivered

__all__ = ["outbox"]


@click.group(cls=Group)
def outbox() -> None:
    """See and send what waits in an outbox, the file of --outbox or ANPORIA_OUTBOX.

    With an outbox nothing that was signed is lost: what a relay did not take waits there and goes out before the next
    event does.
    """


@outbox.command(cls=Command)
@pass_options
def show(options: Options) -> None:
    """List what waits, and what a relay refused for good.

    \b
    Example:
      anporia outbox show --outbox ~/.anporia/outbox.db
    """
    with closing(_opened(options)) as box:
        found = box.undelivered()
    if options.json:
        screen.emit([_as_json(one) for one in found])
        return
    rows = [(f"{one.id}\n  {_kind(one)} for {screen.shown(one.relay)}", one.code or "waits")
            for one in found]  # fmt: skip
    screen.table(("event", "state"), rows, wide="state", none="the outbox is empty")


@outbox.command(cls=Command)
@pass_options
def send(options: Options) -> None:
    """Send what waits, the oldest first, within the relays' limits. Exit 1 if something still waits.

    To the relays it waits for, or only to those of --relay.

    \b
    Example:
      anporia outbox send --outbox ~/.anporia/outbox.db
    """
    with closing(_opened(options)) as box:
        found = box.undelivered()
    meant = {url.rstrip("/") for url in options.relay} or {one.relay for one in found if one.code is None}
    sent, left = 0, found
    if meant:
        # they are signed: no key is needed
        with session.reader(replace(options, relay=tuple(sorted(meant)), quorum=None)) as agent:
            from ..outbox import Outbox

            agent.core.outbox = Outbox(_file(options))
            said = agent.drain(timeout=options.timeout)
        sent, left = said["sent"], said["undelivered"]
    waiting = sum(1 for one in left if one.code is None and one.relay in meant)
    refused = sum(1 for one in left if one.code is not None)
    about = {"sent": sent, "waiting": waiting, "refused": refused}
    if options.json:
        screen.emit({**about, "undelivered": [_as_json(one) for one in left]})
    else:
        screen.facts(about.items())
    if waiting:
        raise CommandFailed(f"{waiting} events still wait: their relay did not take them now", code="still_waiting")


@outbox.command(cls=Command)
@click.argument("event_id", type=ID)
@pass_options
def forget(options: Options, event_id: str) -> None:
    """Take an event out, whether a relay has it or not.

    \b
    Example:
      anporia outbox forget 4f...c1
    """
    with closing(_opened(options)) as box:
        found = box.forget(event_id)
    if not found:
        raise CommandFailed(f"there is no event {event_id} in the outbox", code="not_there")
    if options.json:
        screen.emit({"forgotten": event_id})
    else:
        screen.line(f"forgotten {event_id}")


def _file(options: Options) -> Path:
    if not options.outbox:
        raise click.UsageError("which outbox? Give --outbox FILE or set ANPORIA_OUTBOX")
    return Path(options.outbox).expanduser()


def _opened(options: Options) -> Outbox:
    file = _file(options)
    if not file.exists():
        raise CommandFailed(
            f"there is no outbox {file}. It is made by the first event published with it", code="outbox"
        )
    from ..outbox import Outbox

    return Outbox(file)


def _as_json(one: Undelivered) -> dict[str, Any]:
    return {
        "id": one.id,
        "event": one.event.to_dict() if one.event else None,
        "relay": one.relay,
        "code": one.code,
        "detail": one.detail,
    }


def _kind(one: Undelivered) -> str:
    return shown_kind(one.event.kind) if one.event else "event"
