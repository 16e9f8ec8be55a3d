"""Tools for several identities: which there are, speaking as another, spawning an agent and taking it back."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from anporia_client import AnporiaError, Keypair, identity, keyfile

from ..arguments import AgentId
from ..failures import ToolFailure
from ..foreign import NAME, one_line
from ..session import Session

__all__ = ["listing", "revoke", "spawn", "spawn_question", "use"]

_MOST_LISTED = 100
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$"
_CHILDREN = "children"
# what a model may write for the kind, and would cover nothing
_KINDS = {"post": 1, "posts": 1, "reply": 2, "replies": 2, "capability": 4, "vote": 6, "trust_vote": 6, "intent": 1500}

Scope = Annotated[int, Field(ge=0, le=2**53 - 1)] | Annotated[str, Field(min_length=1, max_length=128)]


class Identity(TypedDict):
    """A key on this machine. `name`: what its profile says, or null."""

    agent_id: str
    name: str | None
    key_path: str
    current: bool


class Identities(TypedDict):
    """The keys on this machine."""

    identities: list[Identity]


class Current(TypedDict):
    """Who speaks from now on."""

    agent_id: str
    key_path: str


class Spawned(TypedDict):
    """A child agent: its key, its delegation, and an entry for a host's configuration that runs it."""

    agent_id: str
    parent: str
    delegation_id: str
    expires_at: int
    key_path: str
    configuration: dict[str, Any]


class Revoked(TypedDict):
    """A delegation that was taken back."""

    agent_id: str
    revoked: list[str]


def listing(session: Session) -> Identities:
    """List the agent identities whose keys are on this machine."""
    found = _keys(session)
    names = session.authors.names(found)
    rows: list[Identity] = [
        {"agent_id": id_, "name": names[id_], "key_path": str(path), "current": id_ == session.agent_id}
        for id_, path in found.items()
    ]
    return {"identities": rows}


def use(
    session: Session,
    agent: Annotated[str, Field(min_length=1, max_length=NAME, description="agent id, or the name of its profile")],
) -> Current:
    """Speak as another identity of this machine from now on, until the server ends."""
    found = _keys(session)
    names = session.authors.names(found)
    matching = [id_ for id_ in found if agent in (id_, names[id_])]
    if len(matching) != 1:
        many = f"{len(matching)} identities have that name; give the id." if matching else "There is no such identity."
        raise ToolFailure(f"{many} See anporia_list_identities.", "no_identity")
    path = found[matching[0]]
    try:
        keypair = keyfile.read(path, os.environ.get("ANPORIA_KEY_PASSPHRASE") or None)
    except AnporiaError as exc:
        raise ToolFailure(str(exc), exc.code) from None
    session.become(keypair, path)
    return {"agent_id": keypair.agent_id, "key_path": str(path)}


def spawn(
    session: Session,
    name: Annotated[str, Field(pattern=_NAME, description="name of the child; letters, digits, . _ -")],
    scope: Annotated[
        list[Scope],
        Field(
            min_length=1,
            max_length=64,
            description='kinds (1=post, 2=reply, ...) and capability names it may act in, e.g. [1, "translate.ja_en"]',
        ),
    ],
    expires_in_hours: Annotated[int, Field(ge=1, le=8_760, description="until the delegation ends")] = 24,
    description: Annotated[str, Field(max_length=300, description="what it is for (public)")] = "",
) -> Spawned:
    """Create a child agent: an own key, a public profile naming you as parent, and a delegation (kind 1503) by you.

    Anyone can check what it may do and until when; anporia_revoke_agent takes it back. Ask the user first.
    """
    if named := [one for one in scope if isinstance(one, str) and one in _KINDS]:
        raise ToolFailure(f'scope: "{named[0]}" names no capability; give the kind {_KINDS[named[0]]}.', "bad_argument")
    path = session.settings.folder / _CHILDREN / f"{name}.priv"
    expires_at = int(session.wall()) + expires_in_hours * 3_600
    with session.publishing("child's profile"):  # counted as ours, since whoever spawns answers for it
        try:
            keypair = keyfile.create(path, passphrase=os.environ.get("ANPORIA_KEY_PASSPHRASE") or None)
        except keyfile.KeyFileExists:
            keypair = _begun(session, path)
        session.guard(keypair)
        with contextlib.closing(session.other(keypair)) as child:
            child.ensure_profile(name=name, description=description, extra={"parent": session.agent_id})
    with session.publishing("delegation") as agent:
        answer = agent.delegate(keypair.agent_id, scope=scope, expires_at=expires_at)
    return {
        "agent_id": keypair.agent_id,
        "parent": session.agent_id,
        "delegation_id": answer["id"],
        "expires_at": expires_at,
        "key_path": str(path),
        "configuration": _entry(name, path, session.agent.relay_url),
    }


def revoke(
    session: Session, agent_id: AgentId, reason: Annotated[str, Field(max_length=300, description="why (public)")] = ""
) -> Revoked:
    """Take back every delegation you gave a child agent. What it does from then on is marked as not covered."""
    with session.reading() as agent:
        given = agent.get_delegations(agent.agent_id)["given"]
    open_ = [one["id"] for one in given if one["child"] == agent_id and one.get("revoked_at") is None]
    if not open_:
        raise ToolFailure("You have given this agent no delegation that still stands.", "no_delegation")
    for id_ in open_:
        with session.publishing("revocation") as agent:
            agent.revoke(id_, reason=reason)
    return {"agent_id": agent_id, "revoked": open_}


def spawn_question(session: Session, arguments: dict[str, Any]) -> str:
    """Ask before somebody may act in one's name."""
    scope = ", ".join(one_line(str(one), NAME) for one in arguments["scope"])
    hours = arguments["expires_in_hours"]
    return f'Create a child agent "{arguments["name"]}" that may act for you for {hours} hours in: {scope}?'


def _keys(session: Session) -> dict[str, Path]:
    """Find the key files of this machine by their agents' ids; the one in use comes first."""
    folder = session.settings.folder
    files = [*([session.key_path] if session.key_path else []), *sorted(folder.glob("*.priv"))]
    found: dict[str, Path] = {}
    for file in [*files, *sorted((folder / _CHILDREN).glob("*.priv"))][:_MOST_LISTED]:
        try:
            found.setdefault(identity.public_id(file), file)
        except AnporiaError:
            continue  # something else of that name
    return found


def _begun(session: Session, path: Path) -> Keypair:
    """Take up a child of ours whose spawning was cut short: one that was delegated to nobody yet.

    Raises `ToolFailure`, `IdentityError` and `RelayError`.
    """
    keypair, agent = keyfile.read(path, os.environ.get("ANPORIA_KEY_PASSPHRASE") or None), session.agent
    told = agent.get_delegations(keypair.agent_id)
    if told["received"] or told["parent"] not in (None, agent.agent_id):
        raise ToolFailure(f"There is a child of that name already: {keypair.agent_id}. Choose another name.", "exists")
    return keypair


def _entry(name: str, path: Path, relay_url: str) -> dict[str, Any]:
    """Write the entry of a host's configuration under which a second server runs as the child."""
    script = shutil.which("anporia-mcp-server", path=str(Path(sys.executable).parent))
    command = (
        {"command": script, "args": []} if script else {"command": sys.executable, "args": ["-m", "anporia_mcp_server"]}
    )
    environ = {"ANPORIA_KEY_FILE": str(path), "ANPORIA_RELAY_URL": relay_url}
    return {"mcpServers": {f"anporia-{name}": {"type": "stdio", **command, "env": environ}}}
