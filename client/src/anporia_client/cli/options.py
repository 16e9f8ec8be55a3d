"""What every command takes, before or after its name, and how ids, times and texts are read from a command line."""

from __future__ import annotations

import copy
import re
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import click

from anporia_wire import is_id, kinds

__all__ = [
    "ID",
    "KIND",
    "MOMENT",
    "UNTIL",
    "Command",
    "Group",
    "Options",
    "given_text",
    "on_terminal",
    "pass_options",
    "renamed",
    "shown_kind",
]

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_NAMES = {kind.name: kind.number for kind in kinds.REGISTRY.values()}


@dataclass(slots=True)
class Options:
    """What was given of the options that every command takes."""

    relay: tuple[str, ...] = ()
    key: str | None = None
    json: bool = False
    timeout: float | None = None
    quorum: int | None = None
    outbox: str | None = None
    verbose: int = 0


pass_options = click.make_pass_decorator(Options, ensure=True)


class _Shared(click.Option):
    """One of the options that every command takes."""


def _keep(context: click.Context, param: click.Parameter, value: Any) -> None:
    options = context.ensure_object(Options)
    name = str(param.name)
    source = context.get_parameter_source(name)
    if source is None or source in (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP):
        return
    # of several relays none is lost, wherever they stand
    setattr(options, name, options.relay + value if name == "relay" else value)


def _shared() -> list[click.Parameter]:
    def option(*names: str, **about: Any) -> click.Parameter:
        return _Shared(names, expose_value=False, callback=_keep, **about)

    return [
        option("--relay", metavar="URL", multiple=True, help="the relay; may be repeated  [ANPORIA_RELAY_URL]"),
        option("--key", metavar="FILE", help="the key file  [ANPORIA_KEY_FILE]"),
        option("--json", is_flag=True, help="print JSON: one value, or of streams one a line"),
        option(
            "--timeout", metavar="SECONDS", type=click.FloatRange(0.1, 86_400), help="how long to wait; 15 by default"
        ),
        option("--quorum", metavar="N", type=click.IntRange(1, 1_000), help="how many of several relays must agree"),
        option("--outbox", metavar="FILE", envvar="ANPORIA_OUTBOX", help="keep events there until relays have them"),
        option("-v", "--verbose", count=True, help="say more on stderr; -vv says most"),
    ]


class Command(click.Command):
    """A command that takes the shared options too, and names them in one line of its help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared()
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [one for one in self.get_params(ctx) if isinstance(one, click.Option) and not isinstance(one, _Shared)]
        with formatter.section("Options"):
            formatter.write_dl([record for param in own if (record := param.get_help_record(ctx))])
        formatter.write_paragraph()
        formatter.write_text("Every command also takes --relay, --key, --json, --timeout, --quorum, --outbox and -v.")


class Group(click.Group):
    """A group of commands, which takes the shared options too."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared()
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])


def renamed(command: Command, program: str) -> Command:
    """Give a command of ours for another program, whose name its help then shows. It takes the same options."""
    there = copy.copy(command)
    # a word follows the program's name; "pass show anporia | ..." is another's argument
    there.help = re.sub(r"\banporia (?=[a-z])", f"{program} ", command.help or "")
    return there


class _Id(click.ParamType):  # type: ignore[type-arg]  # click 8.1 knows no arguments
    name = "ID"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_id(value.lower()):
            self.fail(f"an id is 64 hex characters, got {len(value)} characters.", param, ctx)
        return value.lower()


class _Kind(click.ParamType):  # type: ignore[type-arg]
    name = "KIND"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).lower().replace("-", "_")
        if text in _NAMES:
            return _NAMES[text]
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            self.fail(f"a kind is a number or one of {', '.join(_NAMES)}.", param, ctx)
        return int(text)


class _Moment(click.ParamType):  # type: ignore[type-arg]
    """A time: Unix seconds, a date, or how long ago (`later`: from now), such as 2h."""

    name = "TIME"

    def __init__(self, *, later: bool = False) -> None:
        self._later = later

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if text.isascii() and text.isdigit() and len(text) < 16:
            return int(text)
        if found := _AGO.fullmatch(text):
            seconds = int(found[1]) * _UNITS[found[2]]
            return int(time.time()) + (seconds if self._later else -seconds)
        try:
            return int(datetime.fromisoformat(text).timestamp())
        except (ValueError, OverflowError):
            self._refuse(text, param, ctx)

    def _refuse(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        self.fail(f"{text[:40]!r} is no time: give Unix seconds, a date such as 2026-11-21T18:00, or 2h.", param, ctx)


ID = _Id()
KIND = _Kind()
MOMENT = _Moment()
UNTIL = _Moment(later=True)


def shown_kind(number: Any) -> str:
    """Name a kind for a reader: `post`, or `kind 1504` where it has no name of its own."""
    found = kinds.REGISTRY.get(number) if isinstance(number, int) else None
    return found.name if found else f"kind {number}"


def given_text(value: str) -> str:
    """Give an argument's text, or with `-` that of standard input, without the line end it closes with."""
    if value != "-":
        return value
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.UsageError("standard input is not UTF-8 text") from None


def on_terminal() -> bool:
    """Say whether somebody is there to be asked."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty())
