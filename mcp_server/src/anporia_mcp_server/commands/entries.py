"""What a client's file says of this server: made, recognised as ours, and shown without its secrets. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from . import json_edits, toml_edits

__all__ = [
    "PASSWORD",
    "Form",
    "Launch",
    "entry",
    "from_the_index",
    "further_keys",
    "input_reference",
    "is_ours",
    "is_told",
    "masked",
    "program_of",
    "secrets_of",
    "servers",
    "with_entry",
    "without_entry",
]

PASSWORD = "ANPORIA_RELAY_PASSWORD"
_NAMES = {"anporia-mcp-server", "anporia-mcp"}
_MODULE = "anporia_mcp_server"
_RUNNERS = {"uv", "uvx", "pipx"}  # these look a bare name up on the index
_ELSEWHERE = {"--directory", "--project", "--find-links", "-f", "--index", "--default-index", "--index-url", "-i"}
_SECRET = re.compile(r"PASSWORD$|PASSPHRASE|PRIVATE_KEY|TOKEN$|BASIC_AUTH|SECRET", re.IGNORECASE)
_HIDDEN = re.compile(r"PASS|SECRET|TOKEN|CREDENTIAL|COOKIE|AUTH|_PWD$|KEY(?![A-Z0-9])", re.IGNORECASE)
_WHERE = re.compile(r"_(FILE|PATH)$", re.IGNORECASE)  # names of what holds a secret are none
_USERINFO = re.compile(r"//\S*@|^[^\s/\\:]+:[^\s/\\]*@")  # http://me:secret@host, or the same without http://
_NOT_SHOWN = "(kept, not shown)"
_TOLD = {"ANPORIA_RELAY_URL", "ANPORIA_RELAY", "ANPORIA_RELAY_USER", "ANPORIA_KEY_FILE", "ANPORIA_AUTO_PROFILE"}
_REFERENCE = re.compile(r"\$\{[^}]*\}")  # ${NAME:-} of Claude Code, ${env:NAME} of Cursor, ${input:id} of VS Code

Form = Literal["typed", "plain", "vscode", "toml"]
"""How a client writes a server down.

`typed`: under `mcpServers`, with `type` (Claude Code, Cursor); `plain`: the same without `type` (Claude Desktop);
`vscode`: under `servers`, secrets in `inputs`; `toml`: a table of `mcp_servers` (Codex).
"""
_KEYS: dict[Form, str] = {"typed": "mcpServers", "plain": "mcpServers", "vscode": "servers", "toml": "mcp_servers"}


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start the server. `env` holds no secret; `password`: how the file refers to it, where it does."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    password: str | None = None


def entry(form: Form, launch: Launch, old: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Give what the file shall say. What somebody added to an `old` entry of ours stays: variables, time limits."""
    made: dict[str, Any] = {} if form in ("plain", "toml") else {"type": "stdio"}
    made |= {"command": launch.command, "args": list(launch.args)}
    kept = dict(old or {})
    before = kept.pop("env", None)
    env = {**(before if isinstance(before, dict) else {}), **launch.env}
    if launch.password is not None:
        env.setdefault(PASSWORD, launch.password)
    if env:
        made["env"] = env
    return {**made, **{key: kept[key] for key in further_keys(kept)}}


def is_ours(found: object) -> bool:
    """Say whether an entry runs this server: by the name of its program, or as `-m anporia_mcp_server`."""
    if not isinstance(found, dict):
        return False
    args = _args(found)
    return _stem(found.get("command")) in _NAMES or ("-m", _MODULE) in pairwise(args)


def from_the_index(found: object) -> bool:
    """Say whether an entry has a runner look our name up on the public index, where it is a package of others."""
    if not isinstance(found, dict) or _stem(found.get("command")) not in _RUNNERS:
        return False
    args = [part for one in _args(found) for part in (one.split("=", 1) if one.startswith("--") else [one])]
    if not _ELSEWHERE.isdisjoint(args):
        return False
    sources = [source for option, source in pairwise(args) if option == "--from"]
    return any(re.split(r"[@=<>~!\[ ]", one)[0] in _NAMES for one in sources or args)


def program_of(found: object) -> str:
    """Give the program that an entry starts, empty if it does not say."""
    command = found.get("command") if isinstance(found, dict) else None
    return command if isinstance(command, str) else ""


def secrets_of(found: object) -> list[str]:
    """Name the variables whose secret stands in the entry itself."""
    env = found.get("env") if isinstance(found, dict) else None
    if not isinstance(env, dict):
        return []
    return [name for name, value in env.items() if _SECRET.search(name) and value and not _is_reference(value)]


def is_told(name: str, value: object) -> bool:
    """Say whether a variable may stand on a command line, which others can read: one that `Launch.env` sets."""
    return name in _TOLD and isinstance(value, str) and not _is_hidden(name, value)


def further_keys(found: Mapping[str, Any]) -> list[str]:
    """Name what somebody added to an entry of ours beside variables, such as time limits."""
    return [key for key in found if key not in ("type", "command", "args", "env")]


def masked(found: Any) -> Any:
    """Give an entry as it may be shown: without what is a secret by its name, or holds a password as addresses do."""
    if not isinstance(found, dict):
        return found
    return {key: _masked(key, value) for key, value in found.items()}


def _masked(key: str, value: Any) -> Any:
    if _is_hidden(key, value):
        return _NOT_SHOWN
    if isinstance(value, dict):  # variables, headers
        return {name: _NOT_SHOWN if _is_hidden(name, one) else one for name, one in value.items()}
    if isinstance(value, list):
        return [_NOT_SHOWN if _is_hidden("", one) else one for one in value]
    return value


def _is_hidden(name: str, value: object) -> bool:
    if not value or _is_reference(value):
        return False
    by_name = _HIDDEN.search(name) and not _WHERE.search(name)
    return bool(by_name) or (isinstance(value, str) and _USERINFO.search(value) is not None)


def servers(form: Form, text: str) -> dict[str, Any]:
    """Give all servers that a file names. Raises `ValueError` for a file that cannot be read as plain JSON or TOML."""
    found = (toml_edits if form == "toml" else json_edits).parsed(text).get(_KEYS[form], {})
    if not isinstance(found, dict):
        raise ValueError(f"{_KEYS[form]!r} in it is not an object")  # noqa: TRY004  # as for a file that is no JSON
    return found


def with_entry(form: Form, text: str, name: str, wanted: dict[str, Any]) -> str:
    """Give the file's text with this entry, all else as it was. Raises `ValueError` as `servers` does."""
    if form == "toml":
        return toml_edits.with_table(text, name, wanted)
    changed = json_edits.with_member(text, [_KEYS[form]], name, wanted)
    reference = wanted.get("env", {}).get(PASSWORD) if form == "vscode" else None
    if reference != input_reference(name):
        return changed
    inputs = json_edits.parsed(changed).get("inputs", [])
    if isinstance(inputs, list) and any(_has_id(one, name) for one in inputs):
        return changed
    return json_edits.with_item(changed, ["inputs"], _input(name))


def without_entry(form: Form, text: str, name: str) -> str:
    """Give the file's text without this entry, and without the input that only it asked for."""
    if form == "toml":
        return toml_edits.without_table(text, name)
    changed = json_edits.without_member(text, [_KEYS[form]], name)
    if form == "vscode" and input_reference(name) not in changed:
        changed = json_edits.without_item(changed, ["inputs"], lambda one: _has_id(one, name))
    return changed


def input_reference(name: str) -> str:
    """Give what stands in VS Code's file for the password that VS Code asks for and keeps."""
    return f"${{input:{_input_id(name)}}}"


def _input(name: str) -> dict[str, Any]:
    about = "Password of the Anporia relay (leave empty if it wants none)"
    return {"type": "promptString", "id": _input_id(name), "description": about, "password": True}


def _input_id(name: str) -> str:
    return f"{name}-relay-password"


def _has_id(one: object, name: str) -> bool:
    return isinstance(one, dict) and one.get("id") == _input_id(name)


def _args(found: Mapping[str, Any]) -> list[str]:
    args = found.get("args")
    return [str(one) for one in args] if isinstance(args, list) else []


def _stem(command: object) -> str:
    name = re.split(r"[/\\]", command)[-1].lower() if isinstance(command, str) else ""
    return re.sub(r"\.(exe|cmd|bat)$", "", name)


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None
