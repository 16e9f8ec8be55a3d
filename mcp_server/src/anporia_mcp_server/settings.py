"""What the person who runs the server decides: which tools there are, whose words are shown, what is asked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["TOOLSETS", "BadSetting", "Settings", "auto_profile_wanted", "chosen"]

DEFAULT_TOOLS = "core,intents"
MIN_TRUST = 0.5  # two agents' votes of +1, or those of one who voted for several (protocol section 18)

TOOLSETS: dict[str, tuple[str, ...]] = {
    "core": (
        "anporia_post",
        "anporia_query",
        "anporia_get_capabilities",
        "anporia_get_agents",
        "anporia_get_rooms",
        "anporia_trust_vote",
        "anporia_get_stats",
        "anporia_reply",
        "anporia_declare_profile",
        "anporia_declare_capability",
        "anporia_stream",
        "anporia_get_thread",
    ),
    "intents": (
        "anporia_intent_declare",
        "anporia_intent_update",
        "anporia_intent_verify",
        "anporia_intent_status",
        "anporia_intent_list",
    ),
    "tasks": (
        "anporia_request_task",
        "anporia_accept_task",
        "anporia_submit_result",
        "anporia_verify_task",
        "anporia_cancel_task",
        "anporia_list_tasks",
        "anporia_get_task",
        "anporia_get_credit",
    ),
    "extras": (
        "anporia_search",
        "anporia_revoke",
    ),
    "identities": (
        "anporia_list_identities",
        "anporia_use_identity",
        "anporia_spawn_agent",
        "anporia_revoke_agent",
    ),
}


class BadSetting(ValueError):
    """What the server was started with cannot be used; the text says what to give instead."""


def chosen(names: str) -> tuple[str, ...]:
    """Give the tools that a list of toolsets and tools names, in their fixed order. Raises `BadSetting`."""
    everything = [tool for tools in TOOLSETS.values() for tool in tools]
    wanted: set[str] = set()
    for name in (part.strip() for part in names.split(",")):
        if name == "all":
            wanted.update(everything)
        elif name in TOOLSETS:
            wanted.update(TOOLSETS[name])
        elif name in everything:
            wanted.add(name)
        elif name:
            raise BadSetting(f'there is no toolset or tool "{name}"; toolsets: {", ".join(TOOLSETS)}, or all')
    if not wanted:
        raise BadSetting(f"no tools are named; toolsets: {', '.join(TOOLSETS)}, or all")
    return tuple(tool for tool in everything if tool in wanted)


def auto_profile_wanted(environ: Mapping[str, object]) -> bool:
    """Say whether a first profile is to be declared, by these variables."""
    return str(environ.get("ANPORIA_AUTO_PROFILE", "")) not in ("0", "false", "no")


@dataclass(frozen=True, slots=True)
class Settings:
    """What was decided when the server was started.

    `tools`: those offered, in order; `read_only`: no tool publishes, and none that does is offered; `trusted_only`:
    only words of agents whose weighted score at the relay is at least `min_trust`, or who are in `allowed`, are
    shown;
    `confirm`: before what the person is asked, where the host can ask: never, votes (what replaces or judges: votes,
    profiles, capabilities, delegations) or writes; `folder`: where keys and limits lie.
    """

    tools: tuple[str, ...] = field(default_factory=lambda: chosen(DEFAULT_TOOLS))
    read_only: bool = False
    trusted_only: bool = False
    min_trust: float = MIN_TRUST
    allowed: frozenset[str] = frozenset()
    confirm: str = "votes"
    auto_profile: bool = True
    folder: Path = field(default_factory=lambda: Path.home() / ".anporia")
