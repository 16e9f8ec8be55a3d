"""What is printed: tables, facts and JSON. Strangers' words pass `shown` before a terminal gets them."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType
    from rich.text import Text

__all__ = [
    "block",
    "emit",
    "emit_line",
    "facts",
    "fitted",
    "folded",
    "line",
    "note",
    "progress",
    "renamed",
    "shown",
    "speak_as",
    "styled",
    "table",
    "when",
    "width",
]

_LEAST_WIDTH = 40  # narrower than this nothing can be read
_USUAL_WIDTH = 80
_MOST_KEPT = 64  # columns that a cell may keep for itself: those of an id
_YEAR_S = 300 * 86_400  # what is older shows its year instead of its hour
_SHARED = re.compile(r"\banporia (?=(?:doctor|login|logout)\b)")  # commands that other programs have too
_JOINERS = "\u200c\u200d"  # they hold emoji and Indic letters together


_program = "anporia"


def speak_as(program: str) -> None:
    """Say which program this is; its name stands before each note."""
    global _program  # one process is one program
    _program = program


def renamed(text: str) -> str:
    """Name this program in a text of the library's that advises a command of `anporia` which it has too."""
    return _SHARED.sub(f"{_program} ", text)


def shown(text: object, *, lines: bool = False) -> str:
    """Make control, bidi and invisible characters visible as escapes; `lines`: leave line ends as they are."""
    given = str(text)
    if given.isascii() and given.isprintable():
        return given
    out: list[str] = []
    for at, char in enumerate(given):
        plain = char.isprintable() or (lines and char == "\n") or (char in _JOINERS and _joins(given[at - 1 : at]))
        out.append(char if plain else char.encode("unicode_escape").decode("ascii"))
    return "".join(out)


def when(seconds: object) -> str:
    """Give a time in 14 characters at most: `11-21 18:02:45` here, or the date of another year."""
    if not isinstance(seconds, int | float):
        return "-"
    try:
        there = datetime.fromtimestamp(seconds).astimezone()
    except (ValueError, OverflowError, OSError):
        return "no such time"
    return there.strftime("%m-%d %H:%M:%S" if abs(time.time() - seconds) < _YEAR_S else "%Y-%m-%d")


def width() -> int:
    """Give how many columns there are; 80 where there is no terminal."""
    return max(_LEAST_WIDTH, shutil.get_terminal_size((_USUAL_WIDTH, 24)).columns)


def emit(value: Any) -> None:
    """Print one JSON value, in ASCII: whatever a stranger wrote is escaped. Indented on a terminal."""
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, default=str))


def emit_line(value: Any) -> None:
    """Print a JSON value on one line."""
    click.echo(json.dumps(value, default=str))


def line(text: str) -> None:
    """Print a line of our own words; what others wrote in it must have passed `shown`."""
    click.echo(text)


def note(text: str) -> None:
    """Say something on standard error, on one line."""
    click.echo(f"{_program}: {shown(' '.join(text.split()))}", err=True)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, wide: str, none: str, whole: bool = False
) -> None:
    """Print rows, each on one line (or two, where a cell holds a line end), cut to the width there is.

    `wide`: the column that gives way to the others; `none`: what to say when there are no rows; `whole`: go on below
    instead of cutting. Columns whose name begins with `>` stand to the right.
    """
    from rich.table import Table
    from rich.text import Text

    out = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=False, header_style="bold")
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        line(none)
        return
    for at, column in enumerate(columns):
        right = column.startswith(">")
        least = max(row[at].cell_len for row in cells)
        out.add_column(
            Text(column.lstrip(">")),
            justify="right" if right else "left",
            no_wrap=not whole,
            overflow="fold" if whole else "ellipsis",
            # rich would take from every column alike
            min_width=None if column == wide else min(least, _MOST_KEPT),
        )
    for row in cells:
        out.add_row(*row)
    _print(out)


def facts(pairs: Iterable[tuple[str, object]], title: str | None = None) -> None:
    """Print names and values, a pair a line; long values go on below themselves."""
    from rich.table import Table
    from rich.text import Text

    out = Table.grid(padding=(0, 2, 0, 0))
    out.add_column(no_wrap=True, style="bold")
    out.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            out.add_row(Text(shown(name)), Text(shown(value)))
    if title:
        line(title)
    _print(out)


def fitted(text: str) -> str:
    """Cut a line, which must be fit for a terminal already, to the width there is."""
    from rich.text import Text

    line_ = Text(text)
    line_.truncate(width(), overflow="ellipsis")
    return line_.plain


def folded(text: str) -> None:
    """Print a line of our own words and ids; where it does not fit it goes on below."""
    for at in range(0, max(1, len(text)), width()):
        line(text[at : at + width()].rstrip())


def block(text: str, indent: str = "  ") -> None:
    """Print a stranger's whole text, every line of it indented so that none can pass for ours."""
    from rich.padding import Padding
    from rich.text import Text

    _print(Padding(Text(shown(text, lines=True), overflow="fold"), (0, 0, 0, len(indent))))


@contextmanager
def progress(what: str, total: Callable[[], int | None]) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error where that is a terminal and standard output is not; gives what moves it."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total())
        yield lambda step: bar.advance(task, step)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Put text together of parts, some with a style: for tables of our own words."""
    from rich.text import Text

    return Text.assemble(*parts)


def _joins(before: str) -> bool:
    return before > "\x7f" and unicodedata.category(before)[0] in "LMS"


def _cell(value: object) -> Text:
    from rich.text import Text

    if isinstance(value, Text):
        return value
    return Text("" if value is None else shown(value, lines=True))


def _print(what: RenderableType) -> None:
    # drawn first and printed by click: it knows what a terminal of Windows wants, and rich ends the program on a pipe
    console = _console()
    console.print(what)
    drawn = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO of `_console`
    click.echo("\n".join(row.rstrip() for row in drawn.splitlines()))


def _console() -> Console:
    from rich.console import Console

    return Console(
        file=io.StringIO(),
        width=width(),
        force_terminal=sys.stdout.isatty(),  # says no to FORCE_COLOR too: a pipe gets plain text
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
