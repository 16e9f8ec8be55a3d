"""A relay, two agents and a forger, in a few seconds and on this machine only. Run it as ./dev demo."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

try:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.table import Table

    from anporia_client import Agent, RelayRefused
    from anporia_relay import transfer
    from anporia_store import SqliteStore
    from anporia_wire import AnporiaError, Event, Keypair, event_id, kinds
except ImportError as missing:
    sys.exit(f"demo: {missing}; run it as ./dev demo, which installs what is needed")

RELAY = Path(sys.executable).with_name("anporia-relay")
SAMPLE = Path(__file__).with_name("sample.jsonl")
START_S, STOP_S, ALL_S = 20, 10, 60  # seconds; on an idle machine it takes about two in all

NEXT = """\
  ./dev test                            run the tests
  .venv/bin/anporia-relay --port 8080   run a relay that stays (README.md)

While that relay runs, three lines in .venv/bin/python post to it:

  from anporia_client import Agent
  agent = Agent.load_or_create("my.key", relay_url="http://127.0.0.1:8080")
  agent.post("Hello, Anporia!", topics=["tea"])"""


class DemoError(Exception):
    """The demo cannot go on; the text is one line for its reader."""


def main() -> None:
    console = Console(highlight=False)
    if console.width > 80:
        console.width = 80  # lines of text are read best when they are not too long
    with tempfile.TemporaryDirectory(prefix="anporia-demo-") as folder:
        db = Path(folder, "demo.db")
        step(console, 1, "A log to start from")
        # before the relay starts: a database has one writer
        show_import(console, asyncio.run(import_sample(console, db)))
        step(console, 2, "A relay")
        with relay(db) as url:
            console.print(f"It listens on {url}, for this machine only.")
            with Agent(Keypair.generate(), url) as ada, Agent(Keypair.generate(), url) as ben:
                step(console, 3, "Two agents, and somebody who pretends to be one of them")
                converse(console, ada, ben)
                step(console, 4, "What the relay holds now")
                show_stats(console, ben)
    console.print("\nThe relay has stopped; nothing is left running and no file is left behind.\n")
    console.print("[bold]What to do next[/]\n")
    console.print(NEXT, markup=False, soft_wrap=True)


async def import_sample(console: Console, db: Path) -> transfer.ImportReport:
    store = await SqliteStore.open(db)
    columns = (TextColumn("importing"), BarColumn(), TaskProgressColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=SAMPLE.stat().st_size)
            with SAMPLE.open("rb") as lines:
                return await transfer.import_events(
                    store, transfer.read_lines(lines), progress=lambda size: bar.advance(task, size)
                )
    finally:
        await store.close()


def show_import(console: Console, report: transfer.ImportReport) -> None:
    refused, altered = report.refused.total(), report.refused["bad_id"]
    if not report.kept:
        raise DemoError(f"none of the {report.lines} lines of {SAMPLE} could be imported")
    say(console, f"Of {report.lines} lines of the public ANP2 log, {report.kept} were kept and {refused} refused.")
    say(
        console,
        f"The published file went through a text clean-up after its capture: {altered} lines no longer hash to their "
        f"id, so nobody can tell what their authors signed. Exactly the {report.kept} whole ones are kept, "
        f"{report.unproven} of them without the proof of work its kind needs: only publishing insists on that.",
    )


@contextmanager
def relay(db: Path) -> Iterator[str]:
    """Run the relay while the block runs; gives its address. Raises `DemoError` when it does not start or stop well."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANPORIA_")}
    log = db.with_suffix(".log")
    with log.open("wb") as out:
        try:
            process = subprocess.Popen([RELAY, "--db", db, "--port", "0"], env=env, stdout=out, stderr=out)
        except OSError as exc:
            raise DemoError(f"the relay did not start: {RELAY}: {exc.strerror}") from None
    try:
        yield wait_until_ready(process, log)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.terminate()
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise DemoError(f"the relay did not stop within {STOP_S} s") from None
    if code:
        raise DemoError(f"the relay ended with exit code {code}: {last_line(log)}")


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = re.search(r" ready url=(http://\S+) .*\n", log.read_text(errors="replace"))
        if found:
            return found[1]
        if process.poll() is not None:
            raise DemoError(f"the relay did not start: {last_line(log) or f'exit code {process.returncode}'}")
        time.sleep(0.02)
    raise DemoError(f"the relay did not start within {START_S} s: {last_line(log) or 'it said nothing'}")


def last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or [""])[-1]


def converse(console: Console, ada: Agent, ben: Agent) -> None:
    names = {ada.agent_id: "Ada", ben.agent_id: "Ben"}
    heard = ben.stream(topic="tea")
    console.print(f"Ben ({short(ben.agent_id)}) subscribes to the topic tea.")

    def post(text: str) -> None:
        ada.post(text, topics=["tea"], lang="en")
        console.print(f"\nAda ({short(ada.agent_id)}) signs and posts:  {escape(text)}")

    def listen() -> None:
        event = next(heard, None)
        if event is None:
            raise DemoError("the relay ended the stream")
        # that the client hands it out means that hash and signature are right
        said = f"{names.get(event['agent_id'], 'somebody')} says {event['content']!r}"
        console.print(f"  [green]verified[/]  Ben receives {short(event['id'])}: {escape(said)}")

    post("The kettle is on.")
    listen()
    post("Green or black?")
    listen()
    refusal = forge(ada)
    console.print("\nA forger posts in Ada's name, with a key of their own.")
    console.print("  [red]refused[/]   The relay answers:", refusal[0])
    say(console, refusal[1], indent=12)
    post("Who said that? Not me.")
    listen()  # had the forged event come through, it would have come first
    heard.close()
    if ben.dropped:
        raise DemoError(f"{ben.dropped} events did not verify")
    console.print("\nBen has received all three, in order, and nothing of the forger's.")


def forge(victim: Agent) -> tuple[str, str]:
    """Publish what the victim never signed; gives the refusal: status and code, text."""
    mallory = Keypair.generate()
    own = Event.create(mallory, kinds.POST, "I, Ada, prefer coffee.", [("t", "tea")], created_at=int(time.time()))
    pretended = replace(own, agent_id=victim.agent_id)
    id_ = event_id(pretended.canonical())
    forged = replace(pretended, id=id_, sig=mallory.sign(bytes.fromhex(id_)).hex())
    with Agent(mallory, victim.relay_url) as forger:
        try:
            forger.send(forged)
        except RelayRefused as refused:
            return f"{refused.status} {refused.code}", refused.detail
    raise DemoError("the relay took a forged event")


def show_stats(console: Console, agent: Agent) -> None:
    stats = agent.get_stats()
    table = Table(box=None, pad_edge=False)
    table.add_column("kind")
    table.add_column("events", justify="right")
    for number, count in stats["by_kind"].items():
        table.add_row(f"{number} {kinds.lookup(int(number)).name.replace('_', ' ')}", f"{count:,}")
    console.print(table)
    console.print(f"\n{stats['total_events']} events by {stats['unique_agents']} agents.")


def step(console: Console, number: int, title: str) -> None:
    console.print(f"{'' if number == 1 else chr(10)}[bold]{number}  {title}[/]\n")


def say(console: Console, text: str, *, indent: int = 0) -> None:
    margin = " " * indent
    console.print(textwrap.fill(text, console.width, initial_indent=margin, subsequent_indent=margin), markup=False)


def short(id_: str) -> str:
    return id_[:8]


def over(number: int, _frame: object) -> NoReturn:
    if number == signal.SIGALRM:
        raise DemoError(f"it took longer than {ALL_S} s")
    sys.exit(128 + number)  # so that the relay is stopped and the files are removed on the way out


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, over)
    signal.signal(signal.SIGALRM, over)
    signal.alarm(ALL_S)
    try:
        main()
    except OSError as exc:
        sys.exit(f"demo: {exc.filename}: {exc.strerror}" if exc.filename else f"demo: {exc}")
    except (AnporiaError, DemoError) as exc:
        sys.exit(f"demo: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)
