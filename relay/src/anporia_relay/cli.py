"""The command `anporia-relay`; the only place that prints. Wrong use and unusable files exit 2 with one line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from anporia_store import SqliteStore, StoreError, audit
from anporia_wire import AnporiaError

from . import logs, transfer
from . import snapshot as snapshots
from .config import Config
from .routes.about import VERSION

__all__ = ["main"]

T = TypeVar("T")


def _setting_flags(command: Callable[..., None]) -> Callable[..., None]:
    for setting in reversed(fields(Config)):
        if setting.name == "auth_password":
            continue  # a password on a command line can be read by every user of the machine
        flag, env = f"--{setting.name.replace('_', '-')}", f"ANPORIA_{setting.name.upper()}"
        about = f"{setting.metadata['help']} [{env}]"
        command = click.option(flag, setting.name, metavar="VALUE", help=about)(command)
    return command


class _Commands(click.Group):
    """The commands; the conformance suite is loaded only when asked for, since a relay starts without it."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), "conformance"])

    def get_command(self, context: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "conformance":
            return super().get_command(context, cmd_name)
        from .conformance.cli import conformance

        return conformance


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(VERSION, prog_name="anporia-relay", message="%(prog)s %(version)s")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="TOML file [ANPORIA_CONFIG]"
)
@_setting_flags
@click.pass_context
def cli(context: click.Context, /, config_file: Path | None, **flags: object) -> None:
    """Run a relay for signed events of AI agents, or look after its database.

    Without a command it serves until SIGTERM or Ctrl-C. Flags win over environment variables, these
    over the TOML file. The password of a private relay comes from ANPORIA_AUTH_PASSWORD or the file.
    """
    file = config_file or (Path(os.environ["ANPORIA_CONFIG"]) if os.environ.get("ANPORIA_CONFIG") else None)
    try:
        context.obj = Config.load(flags, os.environ, file)
        if context.invoked_subcommand is None:
            from . import serve

            logs.set_up()
            serve.run(context.obj)
    except AnporiaError as exc:
        _fail(exc)


@cli.command("import", short_help="Read events from a file of JSON lines.")
@click.argument("file", type=click.File("rb"))
@click.option("--require-pow", is_flag=True, help="refuse events that lack the proof of work their kind needs")
@click.option("--json", "as_json", is_flag=True, help="print the report as JSON")
@click.pass_obj
def import_(config: Config, file: IO[bytes], require_pow: bool, as_json: bool) -> None:
    """Read events from FILE (JSON lines; - for standard input) into the database.

    Ids and signatures are checked, dates are not. Stop the relay first. Running it again goes on where
    an interrupted import stopped.
    """

    async def work() -> transfer.ImportReport:
        store = await SqliteStore.open(config.db)
        try:
            with ExitStack() as stack:
                advance = stack.enter_context(_bar("importing", _size(file)))
                return await transfer.import_events(
                    store, _interruptible(transfer.read_lines(file)), require_pow=require_pow, progress=advance
                )
        finally:
            await store.close()

    report = _run(work())
    with _output():
        if as_json:
            print(json.dumps({name: getattr(report, name) for name in report.__slots__}))
        else:
            _print_import(report)
    # Some refused lines are the ordinary case; a file of which nothing could be used is a mistake.
    sys.exit(1 if report.refused and not (report.kept or report.duplicate) else 0)


@cli.command()
@click.option("--output", "-o", type=click.Path(path_type=Path), help="file to write; standard output when absent")
@click.pass_obj
def export(config: Config, output: Path | None) -> None:
    """Write all events as JSON lines, oldest first. The relay may go on running."""

    # A half-written export must not look whole: it gets its name when it is. A device or a pipe keeps its own.
    special = output is not None and output.exists() and not output.is_file()
    partial = output.with_name(output.name + ".partial") if output and not special else None

    async def work() -> tuple[int, int]:
        store = await SqliteStore.open(config.db, write=False)
        try:
            with ExitStack() as stack:
                file = partial or output
                out = stack.enter_context(file.open("wb")) if file else sys.stdout.buffer
                seen = stack.enter_context(_bar("exporting", store.last_seq, absolute=True))
                counts = await transfer.export_events(store, out, seen)
                out.flush()
                if partial:
                    os.fsync(out.fileno())
            if partial and output:
                partial.replace(output)
            return counts
        finally:
            await store.close()

    try:
        with _output() if output is None else nullcontext():
            written, damaged = _run(work())
    except OSError as exc:
        _fail(f"{output}: {exc.strerror}")
    finally:
        _remove(partial)
    _stderr().print(f"{written:,} events written" + (f", {damaged:,} damaged rows left out" if damaged else ""))
    sys.exit(1 if damaged else 0)


@cli.command(short_help="Hold every event and index against each other.")
@click.option("--json", "as_json", is_flag=True, help="print the findings as JSON")
@click.option("--views", is_flag=True, help="fold the whole log and compare with the snapshot of the views instead")
@click.pass_obj
def verify(config: Config, as_json: bool, views: bool) -> None:
    """Re-hash and re-verify every event and hold the indexes against them. Exit 1 when something is wrong.

    With --views: prove that the snapshot a relay starts from is what the log itself gives.
    """

    async def work() -> tuple[int, list[dict[str, object]]]:
        store = await SqliteStore.open(config.db, write=False)
        try:
            with _bar("folding" if views else "verifying", store.last_seq, absolute=True) as seen:
                if views:
                    upto, wrong = await snapshots.audit(store, config.db, seen)
                    if upto is None:
                        _fail("there is no snapshot yet; `anporia-relay snapshot` writes one, as a stopping relay does")
                    return upto, [{"seq": 0, "problem": problem} for problem in wrong]
                found = [{"seq": f.seq, "problem": f.problem} async for f in audit(store, seen)]
            return store.last_seq, found
        finally:
            await store.close()

    rows, found = _run(work())
    with _output():
        if as_json:
            print(json.dumps({"rows": rows, "findings": found}))
        else:
            for finding in found:
                print(f"row {finding['seq']}: {finding['problem']}" if finding["seq"] else finding["problem"])
            what = "events folded, the snapshot equals them" if views else "events, all sound"
            print(
                f"{rows:,} events, {len(found)} {'finding' if len(found) == 1 else 'findings'}"
                if found
                else f"{rows:,} {what}"
            )
    sys.exit(1 if found else 0)


@cli.command(short_help="Write the views' snapshot, from which a start is quick.")
@click.pass_obj
def snapshot(config: Config) -> None:
    """Fold what the log has since the last snapshot of the views and write the next. The relay may go on running.

    A relay has this done every 100,000 events, at the lowest priority; a start then reads only the rest.
    """
    os.nice(19)

    async def work() -> int:
        store = await SqliteStore.open(config.db, write=False)
        try:
            with _bar("folding", store.last_seq, absolute=True) as seen:
                return await snapshots.take(store, config.db, seen)
        finally:
            await store.close()

    try:
        seq = _run(work())
    except OSError as exc:
        _fail(f"{snapshots.path_of(config.db)}: {exc.strerror}")
    _stderr().print(f"{snapshots.path_of(config.db)}: {seq:,} events")


@cli.command(short_help="Copy the database while the relay goes on running.")
@click.argument("target", type=click.Path(path_type=Path))
@click.pass_obj
def backup(config: Config, target: Path) -> None:
    """Copy the database to TARGET, a new file, while the relay goes on running."""
    if target.exists():
        _fail(f"{target} exists already; a backup never overwrites")
    if not target.parent.is_dir():
        _fail(f"{target.parent} is no folder to put a backup in")

    partial = target.with_name(target.name + ".partial")

    async def work() -> int:
        store = await SqliteStore.open(config.db, write=False)
        try:
            partial.unlink(missing_ok=True)
            with _bar("copying", 1, absolute=True) as seen:
                await store.backup(partial, lambda left, total: seen(1 - left / max(1, total)))
        finally:
            await store.close()
        copy = await SqliteStore.open(partial, write=False)
        rows = copy.last_seq
        await copy.close()
        partial.replace(target)
        return rows

    try:
        rows = _run(work())
    except OSError as exc:
        _fail(f"{target}: {exc.strerror}")
    finally:
        for rest in ("", "-journal", "-wal", "-shm"):
            _remove(target.with_name(partial.name + rest))
    _stderr().print(f"{target}: {rows:,} events, {target.stat().st_size / 1e6:,.1f} MB")


def main() -> None:
    """Run the command."""
    try:
        cli(prog_name="anporia-relay")
    finally:
        with _output():
            pass  # what is still in its buffer


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except StoreError as exc:
        _fail(exc)
    except KeyboardInterrupt:
        _stderr().print("stopped; what was counted is kept")
        sys.exit(130)


def _fail(reason: object) -> NoReturn:
    click.echo(f"anporia-relay: {reason}", err=True)
    sys.exit(2)


@contextmanager
def _output() -> Iterator[None]:
    """Print inside. A reader that has left ends the command without a word, a full disk with one."""
    try:
        yield
        if sys.stdout:
            sys.stdout.flush()
    except OSError as exc:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # else the interpreter tries once more when it ends
        if isinstance(exc, BrokenPipeError):
            sys.exit(1)
        _fail(f"standard output: {exc.strerror}")


def _remove(file: Path | None) -> None:
    with suppress(OSError):
        if file:
            file.unlink()


def _interruptible(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines; Ctrl-C is heard while the next one is still being typed, too."""
    while True:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            line = next(lines, None)
        finally:
            signal.signal(signal.SIGINT, before)
        if line is None:
            return
        yield line


def _stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def _size(file: IO[bytes]) -> float | None:
    try:
        return os.fstat(file.fileno()).st_size or None
    except OSError:
        return None


class _bar:
    """A progress bar on a terminal's stderr, nothing elsewhere; entering gives the function that moves it."""

    def __init__(self, what: str, total: float | None, *, absolute: bool = False) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=_stderr(), transient=True, disable=not sys.stderr.isatty())
        self._what, self._total, self._absolute = what, total, absolute

    def __enter__(self) -> Callable[[float], None]:
        self._progress.start()
        task = self._progress.add_task(self._what, total=self._total)
        if self._absolute:
            return lambda done: self._progress.update(task, completed=done)
        return lambda step: self._progress.advance(task, step)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _print_import(report: transfer.ImportReport) -> None:
    table = Table(title=f"{report.lines:,} lines read", title_justify="left", box=None, pad_edge=False)
    table.add_column("outcome")
    table.add_column("events", justify="right")
    table.add_row("kept", f"{report.kept:,}")
    if report.unproven:
        table.add_row("  of these without the proof their kind needs", f"{report.unproven:,}")
    if report.duplicate:
        table.add_row("known already", f"{report.duplicate:,}")
    if report.not_stored:
        table.add_row("beats, which no relay stores", f"{report.not_stored:,}")
    for code, count in report.refused.most_common():
        table.add_row(f"refused: {code}", f"{count:,}")
    Console(highlight=False).print(table)
    for number, _code, text in report.examples:
        _stderr().print(f"  line {number}: {text}", style="dim")
    rest = report.refused.total() - len(report.examples)
    if rest > 0:
        _stderr().print(f"  and {rest:,} more", style="dim")
