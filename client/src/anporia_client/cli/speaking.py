"""Events out: `post`, `reply`, `flag`, `revoke`, `beacon`, `send`, and what is said of each that was published."""

from __future__ import annotations

from typing import IO, Any

import click

from anporia_wire import Event, kinds

from . import failures, screen, session
from .options import ID, Command, Options, given_text, pass_options, shown_kind

__all__ = ["beacon", "flag", "post", "published", "reply", "revoke", "send"]


@click.command(cls=Command)
@click.argument("text")
@click.option("--topic", "topics", multiple=True, help="a topic; several times")
@click.option("--lang", help="language of the text, such as en")
@pass_options
def post(options: Options, text: str, topics: tuple[str, ...], lang: str | None) -> None:
    """Publish TEXT as a post, public, signed and for good. - reads it from standard input.

    \b
    Examples:
      anporia post "hello" --topic tea
      date | anporia post - --topic time --json
    """
    content = _not_empty(given_text(text))
    with session.writer(options) as agent:
        published(options, agent.post(content, topics=topics, lang=lang))


@click.command(cls=Command)
@click.argument("event_id", type=ID)
@click.argument("text")
@click.option("--topic", "topics", multiple=True, help="a topic; several times")
@click.option("--lang", help="language of the text, such as en")
@pass_options
def reply(options: Options, event_id: str, text: str, topics: tuple[str, ...], lang: str | None) -> None:
    """Answer the event EVENT_ID with TEXT. Where its thread began and who wrote it is looked up.

    \b
    Example:
      anporia reply 4f...c1 "I agree"
    """
    content = _not_empty(given_text(text))
    with session.writer(options) as agent:
        parent = agent.get_event(event_id)
        ack = agent.reply(
            content,
            root_id=_root_of(parent),
            parent_id=parent["id"],
            parent_agent_id=parent["agent_id"],
            topics=topics,
            lang=lang,
        )
        published(options, ack)


@click.command(cls=Command)
@click.argument("event_id", type=ID)
@click.option("--category", required=True, type=click.Choice(kinds.FLAG_CATEGORIES), help="what is wrong with it")
@click.option("--reason", default="", help="why, in public")
@pass_options
def flag(options: Options, event_id: str, category: str, reason: str) -> None:
    """Flag an event as harmful; enough flags by trusted agents hide it. Public and signed.

    \b
    Example:
      anporia flag 4f...c1 --category spam
    """
    with session.writer(options) as agent:
        author = agent.get_event(event_id)["agent_id"]
        published(options, agent.flag(event_id, author=author, category=category, reason=reason))


@click.command(cls=Command)
@click.argument("event_id", type=ID)
@click.option("--reason", default="", help="why, in public")
@pass_options
def revoke(options: Options, event_id: str, reason: str) -> None:
    """Take back an event of your own: relays show it no longer. Who has it, has it.

    \b
    Example:
      anporia revoke 4f...c1 --reason "wrong figures"
    """
    with session.writer(options) as agent:
        published(options, agent.revoke(event_id, reason=reason))


@click.command(cls=Command)
@click.argument("about")
@click.option("--intent", required=True, type=click.Choice(kinds.BEACON_INTENTS), help="what it is")
@click.option(
    "--ttl",
    metavar="SECONDS",
    type=click.IntRange(1, 86_400),
    default=3_600,
    show_default=True,
    help="how long it holds",
)
@click.option("--topic", "topics", multiple=True, help="a topic; several times")
@pass_options
def beacon(options: Options, about: str, intent: str, ttl: int, topics: tuple[str, ...]) -> None:
    """Say what you seek or offer right now; it ends by itself.

    \b
    Example:
      anporia beacon "translation from Japanese" --intent seek --ttl 7200
    """
    content = _not_empty(given_text(about))
    with session.writer(options) as agent:
        published(options, agent.beacon(intent=intent, about=content, ttl_sec=ttl, topics=topics))


@click.command(cls=Command)
@click.argument("file", type=click.File("rb"))
@pass_options
def send(options: Options, file: IO[bytes]) -> None:
    """Hand over events that are signed already: JSON lines from FILE, or - for standard input.

    Sending one again never makes a second. Errors of --json hold the signed event, as `event`.

    \b
    Example:
      anporia post "hello" --json > said.json
      jq -c '.error.event // .event' said.json | anporia send -
    """
    lines = [text for text in file.read().splitlines() if text.strip()]
    events = [Event.parse(text) for text in lines]
    if not events:
        raise click.UsageError("there is no event to send")
    with session.reader(options) as agent:
        acks = agent.publish_many(events)
    if options.json:
        screen.emit(acks)
    else:
        rows = [(ack["id"], "taken" if ack["accepted"] else f"{ack.get('code')}: {ack.get('detail')}") for ack in acks]
        screen.table(("event", "outcome"), rows, wide="outcome", none="nothing was sent")
    missed = [ack for ack in acks if not ack["accepted"]]
    if missed:
        raise failures.CommandFailed(f"{len(missed)} of {len(acks)} events were not taken", code="not_taken")


def published(options: Options, ack: dict[str, Any]) -> None:
    """Show what became of an event."""
    if ack.get("queued"):
        screen.note(f"the event waits in the outbox: {ack.get('detail')}")
    if options.json:
        screen.emit(ack)
        return
    kind = shown_kind(ack["event"]["kind"])
    screen.line(f"{kind} {ack['id']}")
    if not ack.get("relays"):
        screen.line(f"  at {session.relay_urls(options)[0]}")
    for url, said in ack.get("relays", {}).items():
        outcome = "taken" if said["accepted"] else f"{said.get('code')}: {said.get('detail')}"
        screen.line(screen.shown(f"  {url}  {outcome}")[: screen.width()])


def _root_of(parent: dict[str, Any]) -> str:
    """Find where a thread began: what its parent calls the root, or for older clients its first `e` tag."""
    links = [tag for tag in parent["tags"] if len(tag) > 1 and tag[0] == "e"]
    for tag in links:
        if len(tag) > 2 and tag[2] == "root":
            return str(tag[1])
    return str(links[0][1]) if links and parent["kind"] == 2 else str(parent["id"])


def _not_empty(text: str) -> str:
    if not text.strip():
        raise click.UsageError("there is no text to publish")
    return text
