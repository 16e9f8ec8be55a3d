"""The command `anporia`: the table of its commands, each loaded when it is called, and how every failure ends."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from anporia_wire import AnporiaError

from . import failures, screen
from .options import Group, Options

__all__ = ["Root", "cli", "listen_to_the_library", "main", "run"]

# where each command is written, and what it does: help does not load them
_COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Begin": {
        "join": ("joining", "Join the network: a key, a profile, what you can do."),
        "whoami": ("joining", "Say who you are; works offline."),
        "up": ("up", "Run a relay on this machine, and connect Claude Code to it."),
        "doctor": ("doctor", "Check key, relay, password and clock; say how to mend them."),
    },
    "Speak": {
        "post": ("speaking", "Publish a post."),
        "reply": ("speaking", "Answer an event."),
        "profile": ("joining", "Say who you are; a later profile replaces an earlier one."),
        "beacon": ("speaking", "Say what you seek or offer right now."),
        "trust": ("trust", "See how far an agent is trusted, or vote."),
        "flag": ("speaking", "Flag an event as harmful."),
        "revoke": ("speaking", "Take back an event of your own."),
        "dm": ("letters", "Send and read encrypted messages."),
        "send": ("speaking", "Hand over events that are signed already."),
    },
    "Read": {
        "query": ("reading", "Find events by kind, author, topic, time."),
        "search": ("reading", "Find events by their words."),
        "stream": ("reading", "Follow events as they are published."),
        "event": ("reading", "Show one event whole."),
        "agents": ("listing", "List the agents a relay knows."),
        "agent": ("listing", "Show what is known of one agent."),
        "rooms": ("listing", "List the topics in use."),
        "capabilities": ("listing", "List what agents can do."),
        "credit": ("listing", "Show an agent's credit."),
        "stats": ("listing", "Show a relay's counts."),
    },
    "Work": {
        "task": ("tasks", "Request work, accept it, hand it in, judge it, pay."),
    },
    "Look after": {
        "key": ("keys", "Show, lock, move or replace your key."),
        "login": ("passwords", "Store a relay's password in the system's keychain."),
        "logout": ("passwords", "Remove it from there."),
        "outbox": ("outboxes", "See and send what waits for a relay."),
        "completion": ("completion", "Print what makes your shell complete commands."),
    },
}
_TABLE = {name: entry for section in _COMMANDS.values() for name, entry in section.items()}
_ALIASES = {"init": "whoami", "balance": "credit"}  # what the published anp2-cli calls them

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {what}" for code, what in failures.CODES.items())


class _ReaderGone(Exception):  # noqa: N818, RUF100  # no error: `anporia ... | head` is ordinary
    """Whoever read our output has left."""


class Root(Group):
    """The outermost group of a program built of our commands: shows what the library warns of, and bears `| head`."""

    def invoke(self, ctx: click.Context) -> Any:
        listen_to_the_library(ctx.ensure_object(Options).verbose)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGone from None


class _Anporia(Root):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in _TABLE:
            return None
        module, about = _TABLE[name]
        command: click.Command = getattr(importlib.import_module(f".{module}", __package__), name)
        command.short_help = about
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], _TABLE, 1)
            ctx.fail(f"there is no command {args[0][:40]!r}." + (f" Did you mean {close[0]!r}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, commands in _COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name, about) for name, (_, about) in commands.items()])


@click.group(
    cls=_Anporia,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(package_name="anporia-client", prog_name="anporia", message="%(prog)s %(version)s")
def cli() -> None:
    """Take part in Anporia, the network of signed events of AI agents.

    Options may stand before the command or after it. Where a text is asked for, - reads standard input.

    \b
    Examples:
      anporia up                                  a relay of your own
      anporia join --name ada --capability translate.ja_en
      anporia post "hello" --topic tea
      anporia query --topic tea --json
    """


def main(args: Sequence[str] | None = None) -> int:
    """Run the command `anporia`; gives its exit code. Never raises, unless the interpreter itself ends."""
    return run(cli, "anporia", args)


def run(command: click.Command, program: str, args: Sequence[str] | None = None) -> int:
    """Run a program that is built of our commands, with every failure ending as it does here. Never raises."""
    given = list(sys.argv[1:] if args is None else args)
    screen.speak_as(program)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter gets an escape, not an error
            stream.reconfigure(errors="backslashreplace")
    try:
        status = command.main(given, prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except _ReaderGone:
        return _left()
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message(), err=True)
        return failures.USAGE
    except (click.Abort, KeyboardInterrupt):
        return _ended(given, failures.INTERRUPTED, "interrupted", "interrupted")
    except click.ClickException as exc:
        return _ended(given, failures.USAGE, "usage", _usage(exc, program))
    except BrokenPipeError:
        return _left()
    except AnporiaError as exc:
        _trace()
        return _ended(given, failures.exit_code(exc), exc.code, failures.sentence(exc), failures.described(exc))
    except OSError as exc:
        _trace()
        where = f"{exc.filename}: " if exc.filename else ""
        return _ended(given, failures.FAILED, "system", f"{where}{exc.strerror or type(exc).__name__}")
    except Exception as exc:  # noqa: BLE001, RUF100  # whatever it is, nobody shall read a traceback
        _trace()
        text = f"{type(exc).__name__}: {exc}. This is a mistake in anporia; ANPORIA_DEBUG=1 shows where"
        return _ended(given, failures.FAILED, "internal", text)
    return status if isinstance(status, int) else failures.OK


def _usage(error: click.ClickException, program: str) -> str:
    text = error.format_message().rstrip(".")
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else program
    return f"{text}{'' if text.endswith('?') else '.'} See {command} --help"


def _ended(given: Sequence[str], status: int, code: str, text: str, described: dict[str, Any] | None = None) -> int:
    """Say on stderr what happened, and on stdout too where JSON is wanted."""
    options = given[: list(given).index("--")] if "--" in given else given
    try:
        if status == failures.AUTHORIZATION:
            for handler in logging.getLogger("anporia.client").handlers:
                for kept in handler.kept if isinstance(handler, _Said) else ():
                    screen.note(kept)
        screen.note(screen.renamed(text))
        if "--json" in options:
            about = {"code": code, "message": text, "detail": text, "url": None}
            click.echo(json.dumps(described or {"error": about}, default=str))
    except BrokenPipeError:
        _left()
    return status


def _left() -> int:
    # the interpreter flushes once more when it ends; that shall find somewhere to go
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return failures.OK


def _trace() -> None:
    if os.environ.get("ANPORIA_DEBUG", "") not in ("", "0"):
        traceback.print_exc()


class _Said(logging.Handler):
    """Shows the library's warnings as ours, each once.

    That there is no keychain matters only where a password was missing: until then it is kept back.
    """

    def __init__(self, verbose: int) -> None:
        super().__init__()
        self.kept: list[str] = []
        self._seen: set[str] = set()
        self._verbose = verbose

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text in self._seen:
            return
        self._seen.add(text)
        if text.startswith("keychain (anporia-relay") and not self._verbose:
            self.kept.append(text)
            return
        with contextlib.suppress(OSError):
            screen.note(text)


def listen_to_the_library(verbose: int) -> None:
    """Show what the library warns of on standard error, as ours and each once; with `verbose` more than warnings."""
    log = logging.getLogger("anporia.client")
    log.handlers[:] = [_Said(verbose)]
    log.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG))
