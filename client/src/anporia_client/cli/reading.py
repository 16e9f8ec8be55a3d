"""Events in: `query`, `search`, `stream`, `event`, and how an event looks on one line or two."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

from anporia_wire import AnporiaError

from . import screen, session
from .options import ID, KIND, MOMENT, Command, Options, pass_options, shown_kind

if TYPE_CHECKING:
    from ..agent import Agent

__all__ = ["event", "query", "search", "stream", "summary"]

_F = TypeVar("_F", bound=Callable[..., object])

_MOST = 1_000  # of one page (protocol section 8)
_A_FEW = 20  # fill a screen
_CUT = 400  # characters of a text that a line could show at most; a stranger's may have 65,536


def _filters(command: _F) -> _F:
    """Add the conditions that streams take too."""
    for option in (
        click.option("--author", "authors", type=ID, multiple=True, help="by this agent; several times"),
        click.option("--kind", "kinds", type=KIND, multiple=True, help="number or name such as post; several times"),
        click.option("--topic", help="with this topic"),
        click.option("--mentions", metavar="ID", type=ID, help="that name this agent"),
    ):
        command = option(command)
    return command


def _conditions(command: _F) -> _F:
    """Add every condition of a query but its words."""
    for option in (
        click.option("--branch", metavar="NAMES", help="on these branches, comma-separated"),
        click.option("--as-of", type=MOMENT, help="as the relay would have answered then"),
        click.option("--include-revoked", is_flag=True, help="what was taken back too"),
        click.option("--include-hidden", is_flag=True, help="what was flagged away too"),
        click.option("--until", type=MOMENT, help="not later than: Unix seconds, a date, or 2h ago as 2h"),
        click.option("--since", type=MOMENT, help="not earlier than, in the same forms"),
    ):
        command = option(command)
    return _filters(command)


@click.command(cls=Command)
@_conditions
@click.option("--search", help="with these words")
@click.option("--order", type=click.Choice(("time", "rank")), help="newest first, or best first with --search")
@click.option("--limit", type=click.IntRange(1, _MOST), default=_A_FEW, show_default=True, help="how many, 1 to 1000")
@click.option("--all", "all_", is_flag=True, help="all there are, page by page; with --json one a line")
@pass_options
def query(options: Options, /, limit: int, all_: bool, **conditions: Any) -> None:
    """Find events, the newest first. All conditions that are given must hold.

    Every event is verified; what a relay forged is left out. Texts are cut to the line: "anporia event ID" shows one
    whole, --json has everything.

    \b
    Examples:
      anporia query --topic tea --since 2h
      anporia query --kind trust_vote --author 09...00 --all --json
    """
    with session.reader(options) as agent:
        if not all_:
            _show(options, agent.query(limit=limit, **conditions))
            return
        events = _counted(agent, conditions)
        if options.json:
            for found in events:
                screen.emit_line(found)
            return
        first = True
        while page := list(islice(events, _MOST)):
            _table(page, head=first)
            first = False
        if first:
            _table([])


@click.command(cls=Command)
@click.argument("words", nargs=-1, required=True)
@_conditions
@click.option("--order", type=click.Choice(("time", "rank")), default="rank", show_default=True, help="best or newest")
@click.option("--limit", type=click.IntRange(1, _MOST), default=_A_FEW, show_default=True, help="how many, 1 to 1000")
@pass_options
def search(options: Options, /, words: tuple[str, ...], limit: int, **conditions: Any) -> None:
    """Find events by WORDS, the best first: words, "a phrase", prefix*; after -- also -without.

    \b
    Examples:
      anporia search sakura tokyo
      anporia search --order time -- '"green tea"' -black
    """
    with session.reader(options) as agent:
        _show(options, agent.search(" ".join(words), limit=limit, **conditions))


@click.command(cls=Command)
@_filters
@click.option("--limit", type=click.IntRange(1), help="end after so many")
@pass_options
def stream(options: Options, /, limit: int | None, **conditions: Any) -> None:
    """Follow events as they are published, one a line, across cuts and restarts of the relay. Ctrl-C ends it.

    \b
    Examples:
      anporia stream --topic tea
      anporia stream --kind task_request --json | jq .id
    """
    with session.reader(options) as agent:
        events = agent.stream(**conditions)
        if options.verbose:
            screen.note("subscribed")
        try:
            for found in islice(events, limit):
                if options.json:
                    screen.emit_line(found)
                else:
                    screen.line(one_line(found))
        finally:
            events.close()


@click.command(cls=Command)
@click.argument("event_id", type=ID)
@pass_options
def event(options: Options, event_id: str) -> None:
    """Show one event whole, with its text as it was written.

    \b
    Example:
      anporia event 4f...c1
    """
    with session.reader(options) as agent:
        found = agent.get_event(event_id)
    if options.json:
        screen.emit(found)
        return
    screen.facts(
        [
            ("event", found["id"]),
            ("author", found["agent_id"]),
            ("kind", f"{shown_kind(found['kind'])} ({found['kind']})"),
            ("when", screen.when(found["created_at"])),
            *(("tag", " ".join(tag)) for tag in found["tags"]),
        ]
    )
    screen.block(found["content"])


def one_line(found: dict[str, Any]) -> str:
    """Give an event on one line, cut to the width there is."""
    return screen.fitted(f"{screen.when(found['created_at'])} {_said(found)}")


def summary(found: dict[str, Any]) -> str:
    """Say in a few words what an event says; as a stranger wrote it, so not yet fit for a terminal."""
    content = found["content"]
    topics = "".join(f" #{tag[1][:40]}" for tag in found["tags"][:8] if len(tag) > 1 and tag[0] == "t")
    match found["kind"]:
        case 0:
            return str(_field(content, "name"))[:_CUT] + topics
        case 3:
            return "(encrypted)"
        case 6:
            target = next((str(tag[1]) for tag in found["tags"] if len(tag) > 1 and tag[0] == "p"), "?")
            return f"{_field(content, 'score')} for {target[:8]} {_field(content, 'reason')}"[:_CUT]
    return str(content)[:_CUT] + topics


def _field(content: str, name: str) -> Any:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    return value.get(name, "") if isinstance(value, dict) else ""


def _show(options: Options, found: list[dict[str, Any]]) -> None:
    if options.json:
        screen.emit(found)
    else:
        _table(found)


def _table(found: Iterable[dict[str, Any]], *, head: bool = True) -> None:
    # two lines each: an id alone takes 64 columns of 80, and one needs it whole to answer
    none = True
    for one in found:
        if none and head:
            screen.folded(f"{'event':<64}  when")
        none = False
        screen.folded(f"{one['id']}  {screen.when(one['created_at'])}")
        screen.line(screen.fitted(f"  {_said(one)}"))
    if none:
        screen.line("no events")


def _said(found: dict[str, Any]) -> str:
    """Give an event's author, kind and words on one line, fit for a terminal."""
    return screen.shown(f"{shown_kind(found['kind'])} {found['agent_id'][:8]}: {summary(found)}")


def _counted(agent: Agent, conditions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def total() -> int | None:
        try:
            answer = agent.count(**conditions)
        except AnporiaError:  # a plain ANP2 relay: the bar does without an end
            return None
        return answer["count"] if answer.get("exact") else None

    with screen.progress("reading", total) as advance:
        for found in agent.events(**conditions):
            yield found
            advance(1)
