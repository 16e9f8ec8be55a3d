"""What people should know before they say yes to an entry: where what is said goes, and where a password belongs."""

from __future__ import annotations

from typing import Any

from anporia_client import keychain

from ..settings import auto_profile_wanted
from . import entries, relays
from .plans import Plan

__all__ = ["is_filled_in", "keep_password", "of", "relay_of"]


def relay_of(entry: Any) -> str | None:
    """Give the relay that an entry names, None where it names none."""
    env = entry.get("env") if isinstance(entry, dict) else None
    return relays.named(env) if isinstance(env, dict) else None


def is_filled_in(relay: str) -> bool:
    """Say whether a client puts something in this place, such as `${ANPORIA_RELAY_URL}`."""
    return "${" in relay


def of(plan: Plan) -> list[str]:
    """Give what is to be said of a change, nothing where the server is taken out."""
    if plan.new is None:
        return []
    relay = relay_of(plan.new)
    said = []
    if relay is None or relays.same(relay, relays.DEFAULT):
        said.append(_public(plan.new, named=relay is not None))
    password = plan.new.get("env", {}).get(entries.PASSWORD)
    login = "anporia-mcp login" + (f" --relay {relay}" if relay else "")
    if plan.place.client == "vscode" and password == entries.input_reference(plan.name):
        said.append("VS Code asks for the relay's password once and keeps it; it does not stand in the file.")
    elif plan.place.client == "claude-code" and plan.place.scope == "project" and password:
        or_else = f', or by "{login}"' if keychain.available() else ""
        said.append(f"The relay's password comes from {entries.PASSWORD} where claude is started{or_else}.")
    else:
        said.append(f"If the relay wants a password: {keep_password(login)}.")
    return said


def keep_password(login: str) -> str:
    """Say where a password may be kept, so that programs find it which no terminal started."""
    if keychain.available():
        return f'"{login}" keeps it in the keychain, where the server finds it'
    return (
        "name a file of mode 0600 that holds it in ANPORIA_RELAY_PASSWORD_FILE, or what prints it in "
        "ANPORIA_RELAY_PASSWORD_COMMAND, in the entry's env (the keychain needs keyring, which is not installed)"
    )


def _public(entry: dict[str, Any], *, named: bool) -> str:
    start = f"{relays.DEFAULT} is the public relay"
    if not named:
        start = f"No relay is named, so it is the public one, {relays.DEFAULT}"
    first = ""
    if auto_profile_wanted(entry.get("env", {})) and "--read-only" not in entry.get("args", ()):
        first = " At the first start a first profile is declared there, if there is none (ANPORIA_AUTO_PROFILE=0: not)."
    other = "" if named else " For another: --relay URL."
    return f"{start}, where all is public for good.{first}{other}"
