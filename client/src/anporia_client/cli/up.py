"""`up`: a relay on this machine, as a program of its own, and the lines that connect Claude Code and others to it."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import click

from . import screen
from .failures import CommandFailed
from .options import Command, Options, pass_options

__all__ = ["up"]

_PORT = 8080  # the relay's own default
_DATABASE = "~/.anporia/relay.db"
_STOP_S = 15.0  # the relay gives open requests a few seconds
_READY = re.compile(r"\bready\b.*?\burl=(https?://\S+)")
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104, RUF100  # listening on all, it is reached on this one
_INSTALL = "pip install ./wire ./store ./cython_ext ./relay"
_INSTALL_SERVER = "pip install ./wire ./client ./mcp_server"


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(0, 65_535), default=_PORT, show_default=True, help="0 takes a free one")
@click.option("--db", metavar="FILE", default=_DATABASE, show_default=True, help="where the relay keeps its events")
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on; 0.0.0.0 for all")
@pass_options
def up(options: Options, port: int, db: str, host: str) -> None:
    """Run a relay on this machine until Ctrl-C, and print what connects programs to it.

    A relay that answers there already is left alone. What it stores stays in the file of --db.

    \b
    Example:
      anporia up --port 8080
    """
    address = _ANYWHERE.get(host, host)
    if port and _taken(address, port):
        url = _url(address, port)
        if not _is_relay(url, options):
            text = f"port {port} of {host} is taken by something that is no relay. Stop it, or choose another --port"
            raise CommandFailed(text, code="port_taken")
        _said(options, {"url": url, "already_running": True, "pid": None, "db": None})
        return
    program = _program("anporia-relay")
    if program is None:
        text = f"anporia-relay is not installed. In a checkout of Anporia: {_INSTALL}"
        raise CommandFailed(text, code="not_installed")
    file = Path(db).expanduser()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [program, "--db", str(file), "--host", host, "--port", str(port)]
    relay: subprocess.Popen[bytes] | None = None
    passing: threading.Thread | None = None
    try:
        with _stoppable():
            # a session of its own: Ctrl-C reaches us alone, and we stop it in order
            relay = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            assert relay.stderr is not None
            listening = _ready(relay.stderr, options.verbose)
            if listening is not None:
                url = _reachable(listening, host, address)
                _said(options, {"url": url, "already_running": False, "pid": relay.pid, "db": str(file)})
                screen.note("the relay runs until Ctrl-C")
                passing = threading.Thread(target=_pass_on, args=(relay.stderr,), daemon=True)
                passing.start()
            status = _ended(relay)
    except KeyboardInterrupt:
        # the ordinary end: exit 0
        _stop(relay, passing)
        screen.note("the relay has stopped; its events are kept")
        return
    finally:
        _stop(relay, passing)
    text = f"the relay ended by itself, with status {status}; what it said stands above"
    raise CommandFailed(text, code="relay_ended")


def _said(options: Options, about: dict[str, Any]) -> None:
    url = about["url"]
    server = "anporia-mcp-server"
    found = _program(server)
    export = f"export ANPORIA_RELAY_URL={url}"
    # by its path: another program of that name may come first on the path
    claude = f"claude mcp add anporia --scope user -e ANPORIA_RELAY_URL={url} -- {shlex.quote(found or server)}"
    # beside that server, for the path may not lead there either
    others = f"{shlex.quote(_program('anporia-mcp') or 'anporia-mcp')} install cursor --relay {url}"
    hint = None if found else f"{server} is not installed here. In a checkout of Anporia: {_INSTALL_SERVER}"
    if options.json:
        screen.emit_line({**about, "export": export, "claude": claude, "install": others, "note": hint})
        return
    screen.line(f"{'A relay answers already at' if about['already_running'] else 'Relay at'} {url}")
    screen.line(f"\nFor this shell's programs:\n  {export}\n\nFor Claude Code:\n  {claude}")
    screen.line(f"\nFor Claude Desktop, Cursor, VS Code and Codex (without one it lists them), such as:\n  {others}")
    if hint:
        screen.line(f"\n({hint})")


def _program(name: str) -> str | None:
    """Find a program: beside this Python, else on the path."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    return beside or shutil.which(name)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reachable(url: str, host: str, address: str) -> str:
    return url if host == address else _url(address, int(url.rpartition(":")[2]))


def _taken(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2.0).close()  # this machine answers in less
    except OSError:
        return False
    return True


def _is_relay(url: str, options: Options) -> bool:
    from ..errors import RelayError, Unauthorized
    from ..providers import blocking
    from ..transport import Request

    transport = blocking(url, None)
    try:
        answer = transport.send(Request("GET", "/health"), timeout=options.timeout or 5.0)
    except Unauthorized:
        return True
    except RelayError:
        return False
    finally:
        transport.close()
    return answer.status == 200 and b'"status"' in answer.body and answer.body.lstrip().startswith(b"{")


def _ready(stderr: IO[bytes], verbose: int) -> str | None:
    """Wait until the relay listens; gives its address, None when it ends before that."""
    for raw in stderr:
        text = raw.decode("utf-8", "replace").rstrip()
        if found := _READY.search(text):
            return found[1]
        if verbose or " info " not in text:
            _repeat(text)
    return None


def _pass_on(stderr: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed at the end
        for raw in stderr:
            _repeat(raw.decode("utf-8", "replace").rstrip())


def _repeat(text: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(screen.shown(text), err=True)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Make the signals that end a program raise `KeyboardInterrupt`, so that no relay is left behind."""

    def end(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # not every system has each
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {one: signal.signal(one, end) for name in names if (one := getattr(signal, name, None)) is not None}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _ended(relay: subprocess.Popen[bytes]) -> int:
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return relay.wait(1.0)  # in steps, for Windows hears Ctrl-C only between them


def _stop(relay: subprocess.Popen[bytes] | None, passing: threading.Thread | None) -> None:
    if relay is None or relay.stderr is None or relay.stderr.closed:
        return
    if relay.poll() is None:
        relay.terminate()  # SIGTERM; on Windows the end at once
        try:
            relay.wait(_STOP_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            relay.kill()
            relay.wait()
    if passing is not None:
        passing.join(1.0)  # its last words are there already
    relay.stderr.close()
