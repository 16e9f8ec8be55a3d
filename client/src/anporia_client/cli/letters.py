"""`dm send` and `dm read`: encrypted messages."""

from __future__ import annotations

import click

from anporia_wire import InvalidKey

from . import screen, session
from .options import ID, MOMENT, Command, Group, Options, given_text, pass_options
from .speaking import published

__all__ = ["dm"]


@click.group(cls=Group)
def dm() -> None:
    """Send and read encrypted messages. Relays see who writes to whom, and when."""


@dm.command(cls=Command)
@click.argument("agent_id", type=ID)
@click.argument("text")
@pass_options
def send(options: Options, agent_id: str, text: str) -> None:
    """Send TEXT so that only AGENT_ID can read it; up to 32,767 bytes. - reads standard input.

    \b
    Example:
      anporia dm send 09...00 "shall we?"
    """
    content = given_text(text)
    with session.writer(options) as agent:
        try:
            ack = agent.send_dm(agent_id, content)
        except InvalidKey:
            raise click.UsageError(f"{agent_id} is no agent's id: nobody could read it") from None
        published(options, ack)


@dm.command(cls=Command)
@click.option("--with", "peer", metavar="ID", type=ID, help="only those with this agent")
@click.option("--since", type=MOMENT, help="not earlier than: Unix seconds, a date, or 2h ago as 2h")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="how many, 1 to 1000")
@pass_options
def read(options: Options, peer: str | None, since: int | None, limit: int) -> None:
    """Show the messages you got and sent, the newest first, decrypted.

    \b
    Example:
      anporia dm read --with 09...00
    """
    with session.writer(options, outbox=False) as agent:
        letters = agent.read_dms(peer=peer, since=since, limit=limit)
        mine = agent.agent_id
    if options.json:
        screen.emit(letters)
        return
    if not letters:
        screen.line("no messages")
    for letter in letters:
        sent = letter["sender"] == mine
        other = letter["recipient"] if sent else letter["sender"]
        screen.line(f"{'to' if sent else 'from'} {screen.shown(other)[:64]}")
        screen.line(f"  {screen.when(letter['created_at'])}")
        screen.block(letter["text"] if letter["text"] is not None else f"(cannot be read: {letter['problem']})")
