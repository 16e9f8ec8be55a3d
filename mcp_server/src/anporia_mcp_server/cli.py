"""The command `anporia-mcp-server` (also `anporia-mcp`): serves MCP, and what is needed around that."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from anporia_client import AnporiaError, Keypair, identity
from anporia_client.requests import an_id

from . import __version__
from .settings import DEFAULT_TOOLS, MIN_TRUST, TOOLSETS, BadSetting, Settings, auto_profile_wanted, chosen

__all__ = ["main", "read"]

_BAD_START = 2  # the exit status for settings that cannot be used
_NAMES = ("anporia-mcp", "anporia-mcp-server")
_COMMANDS = frozenset({"doctor", "install", "login", "logout"})
_MOST_TOKEN = 4_096  # bytes of a token file
_LEAST_TOKEN = 16  # characters: whoever guesses it speaks as the owner

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 80}
_EPILOG = "Besides serving: anporia-mcp install, doctor, login and logout; each has a --help of its own."


@click.command(context_settings=_CONTEXT, epilog=_EPILOG)
@click.option(
    "--tools",
    metavar="LIST",
    default=DEFAULT_TOOLS,
    show_default=True,
    help=f"toolsets ({', '.join(TOOLSETS)}, all) or single tools, comma-separated",
)
@click.option("--read-only", is_flag=True, help="offer no tool that publishes")
@click.option("--trusted-only", is_flag=True, help="show words of trusted agents only (the relay reckons trust)")
@click.option("--min-trust", type=float, help="weighted score needed to be trusted, with --trusted-only  [0.5]")
@click.option(
    "--allow", metavar="ID", multiple=True, help="an agent that is trusted whatever its score; may be repeated"
)
@click.option(
    "--confirm",
    type=click.Choice(["never", "votes", "writes"]),
    default="votes",
    show_default=True,
    help="what to ask the person about first, where the host can ask",
)
@click.option("--http", is_flag=True, help="serve streamable HTTP instead of stdio")
@click.option("--host", default="127.0.0.1", show_default=True, help="address for --http; others need a token")
@click.option("--port", type=click.IntRange(0, 65_535), default=8765, show_default=True, help="0 takes a free one")
@click.option("--path", default="/mcp", show_default=True, help="path for --http")
@click.option("--token-file", metavar="FILE", help="a file with the bearer token callers need  [ANPORIA_MCP_TOKEN]")
@click.option("--allow-host", metavar="NAME", multiple=True, help="a further name callers may reach --http by")
@click.option("--stateless", is_flag=True, help="keep no sessions over --http")
@click.option("--tls-cert", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="certificate for --http")
@click.option("--tls-key", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="its private key")
@click.option("-v", "--verbose", count=True, help="say more on stderr")
@click.version_option(__version__, prog_name="anporia-mcp-server")
def command(verbose: int, **given: Any) -> None:
    """Serve the Anporia network to an MCP host (Claude, Cursor, VS Code) over standard input and output.

    A host starts this by itself; "anporia-mcp install" tells it how. The relay, its password and the key come from
    the environment: ANPORIA_RELAY_URL, ANPORIA_RELAY_USER, ANPORIA_RELAY_PASSWORD (or _FILE, _COMMAND, or the
    keychain), ANPORIA_PRIVATE_KEY, ANPORIA_KEY_FILE; "anporia-mcp doctor" checks them all.

    \b
    Examples:
      anporia-mcp-server --tools core,intents,tasks
      anporia-mcp-server --read-only --trusted-only
      anporia-mcp-server --http --port 8765
    """  # fmt: skip
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    # standard output belongs to the protocol
    logging.basicConfig(stream=sys.stderr, level=level, format="anporia-mcp: %(levelname)s: %(message)s")
    if sys.stdin is not None and sys.stdin.isatty() and not given["http"]:
        click.echo(
            "anporia-mcp: waiting for an MCP host on standard input; Ctrl-C ends this, --help tells more", err=True
        )
    _serve(given)


def main() -> NoReturn:
    """Run the command, and exit: 0 when the host or Ctrl-C ended it, 2 for settings that cannot be used."""
    if _COMMANDS.intersection(sys.argv[1:]):
        from anporia_client.cli import run

        from .commands import PROGRAM, program

        sys.exit(run(program, PROGRAM))
    called = Path(sys.argv[0]).stem
    command(prog_name=called if called in _NAMES else "anporia-mcp-server")
    sys.exit(0)


def read(arguments: Sequence[str]) -> Settings:
    """Read a command line as the server would, without serving. Raises `UsageError` and `BadSetting`."""
    context = command.make_context("anporia-mcp-server", list(arguments))
    return _settings(context.params)


def _serve(given: dict[str, Any]) -> None:
    try:
        settings = _settings(given)
        http = _http(given)
        found = identity.resolve()
    except (AnporiaError, BadSetting, OSError) as exc:
        _end(str(exc))
    # what is imported stays: to look through it for garbage costs a tenth of the start, and 40 ms amid a later call
    gc.disable()
    from .server import build
    from .session import Session

    session = Session(found.keypair, settings, _agent, key_path=found.path)
    server = build(session)
    gc.freeze()
    gc.enable()
    try:
        if http is not None:
            from .server.http import serve as serve_http

            serve_http(server, http)
        else:
            import anyio

            from .server.stdio import serve

            # the thread that waits for standard input cannot be woken, so Ctrl-C must not wait for it
            signal.signal(signal.SIGINT, lambda *_: os._exit(0))
            anyio.run(serve, server)
    except KeyboardInterrupt:
        pass
    except BadSetting as exc:
        _end(str(exc))
    finally:
        session.close()
    sys.stderr.flush()
    # calls that still wait for a relay are given up: nobody is left to hear of them
    os._exit(0)


def _settings(given: dict[str, Any]) -> Settings:
    try:
        allowed = frozenset(map(an_id, given["allow"]))
    except ValueError as exc:
        raise BadSetting(f"--allow: {exc}") from None
    least = given["min_trust"]
    if least is not None and (not given["trusted_only"] or not math.isfinite(least)):
        raise BadSetting("--min-trust takes a number, and does something with --trusted-only alone")
    tools = chosen(given["tools"])
    if given["http"]:  # callers share the one identity, so none may change it for the others
        tools = tuple(tool for tool in tools if tool != "anporia_use_identity")
    return Settings(
        tools=tools,
        read_only=given["read_only"],
        trusted_only=given["trusted_only"],
        min_trust=MIN_TRUST if least is None else least,
        allowed=allowed,
        confirm=given["confirm"],
        auto_profile=auto_profile_wanted(os.environ),
    )


def _http(given: dict[str, Any]) -> Any:
    """Read what was said of HTTP. Raises `BadSetting` for what must not be served."""
    if not given["http"]:
        return None
    from .server.http import LOOPBACK, Http

    token = _token(given["token_file"])
    if token is None and given["host"] not in LOOPBACK:
        raise BadSetting(
            f"--host {given['host']} needs a token, since whoever may call speaks as you: set ANPORIA_MCP_TOKEN "
            "or --token-file"
        )
    if bool(given["tls_cert"]) != bool(given["tls_key"]):
        raise BadSetting("--tls-cert and --tls-key are needed together")
    if not given["path"].startswith("/"):
        raise BadSetting("--path must begin with /")
    if given["path"].rstrip("/") == "/health":
        raise BadSetting("--path /health is taken: it tells anyone that the server runs, without a token")
    return Http(
        given["host"], given["port"], given["path"], token, given["allow_host"], given["stateless"],
        given["tls_cert"], given["tls_key"],
    )  # fmt: skip


def _token(file: str | None) -> str | None:
    """Give the token callers need: that of the file, else of ANPORIA_MCP_TOKEN. Raises `OSError`, `BadSetting`."""
    if file is None:
        token = os.environ.get("ANPORIA_MCP_TOKEN", "").strip()
    else:
        with Path(file).expanduser().open("rb") as source:
            data = source.read(_MOST_TOKEN + 1)
            if os.name == "posix" and os.fstat(source.fileno()).st_mode & 0o077:
                raise BadSetting(f"--token-file {file}: others can read it. Run: chmod 600 {file}")
        token = data.decode("ascii", "replace").strip()
    if file is None and not token:
        return None
    if len(token) < _LEAST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise BadSetting(f"the bearer token must be one word of at least {_LEAST_TOKEN} ASCII characters")
    return token


def _agent(keypair: Keypair) -> Any:
    """Make the agent of a key at the relay of the environment, with its password from wherever it is kept."""
    from anporia_client import Agent, settings

    from .session import TIMEOUT_S

    url = settings.relay_url()
    found = settings.credentials(url) if url.lower().startswith(("http://", "https://")) else None
    return Agent(keypair, url, TIMEOUT_S, auth=(found.user, found.password) if found else None)


def _end(text: str) -> NoReturn:
    click.echo(f"anporia-mcp: {text}", err=True)
    sys.exit(_BAD_START)
