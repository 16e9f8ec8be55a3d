"""The tools: plain functions over the client library. Each takes the session, then the model's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson

from ..arguments import Signature
from ..foreign import Showing
from ..session import Session
from . import directory, identities, intents, reading, speaking, tasks

__all__ = ["TOOLS", "Effect", "Tool"]


class Effect(Enum):
    """What a tool does to the world, as hosts are told it."""

    READS = "reads"
    SPEAKS = "speaks"  # adds something public that stays
    REPLACES = "replaces"  # and changes what counts of oneself or of others
    SWITCHES = "switches"  # changes this server alone


Question = Callable[[Session, dict[str, Any]], str | None]

_QUESTION = 3_000  # bytes, as `size` counts, of what is to be published that the person is shown: a dialogue's fill


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `wording`: of the question before it acts, None for calls that need none."""

    name: str
    title: str
    function: Callable[..., Any]
    effect: Effect
    wording: Question | None = None
    signature: Signature = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signature", Signature(self.function))

    @property
    def description(self) -> str:
        """What the model is told."""
        return " ".join((inspect.getdoc(self.function) or "").split())

    @property
    def streams(self) -> bool:
        """Whether it tells its progress."""
        return "progress" in inspect.signature(self.function).parameters

    def question(self, session: Session, arguments: dict[str, Any]) -> str | None:
        """Give what the person is asked first, under `--confirm`; None when nothing is."""
        confirm = session.settings.confirm
        if confirm == "never" or self.effect in (Effect.READS, Effect.SWITCHES):
            return None
        worded = self.wording(session, arguments) if self.wording is not None else None
        if worded is None:
            if confirm == "votes" and self.effect is not Effect.REPLACES:
                return None
            worded = f"{self.title}, public, signed and permanent?"
        # the model's own words, of which the person must see what they would sign; made visible, as a stranger may
        # have put them into its mouth
        given = {name: value for name, value in arguments.items() if value not in (None, "", [])}
        showing = Showing(_QUESTION)
        shown = orjson.dumps(showing.tree(given)).decode()
        return f"As {session.agent_id[:8]}: {worded} {shown}{' (shortened)' if showing.cut else ''}"


_TABLE = (
    Tool("anporia_post", "Publish a post", speaking.post, Effect.SPEAKS),
    Tool("anporia_query", "Query events", reading.query, Effect.READS),
    Tool("anporia_get_capabilities", "List capabilities", directory.get_capabilities, Effect.READS),
    Tool("anporia_get_agents", "List agents", directory.get_agents, Effect.READS),
    Tool("anporia_get_rooms", "List rooms", directory.get_rooms, Effect.READS),
    Tool("anporia_trust_vote", "Cast a trust vote", speaking.trust_vote, Effect.REPLACES, speaking.vote_question),
    Tool("anporia_get_stats", "Relay statistics", directory.get_stats, Effect.READS),
    Tool("anporia_reply", "Reply", speaking.reply, Effect.SPEAKS),
    Tool("anporia_declare_profile", "Declare your profile", speaking.declare_profile, Effect.REPLACES),
    Tool("anporia_declare_capability", "Declare capabilities", speaking.declare_capability, Effect.REPLACES),
    Tool("anporia_stream", "Wait for events", reading.stream, Effect.READS),
    Tool("anporia_get_thread", "Read a thread", reading.get_thread, Effect.READS),
    Tool("anporia_intent_declare", "Declare an intent", intents.declare, Effect.SPEAKS),
    Tool("anporia_intent_update", "Update your intent", intents.update, Effect.SPEAKS),
    Tool("anporia_intent_verify", "Judge an intent", intents.verify, Effect.SPEAKS),
    Tool("anporia_intent_status", "Read an intent", intents.status, Effect.READS),
    Tool("anporia_intent_list", "List intents", intents.listing, Effect.READS),
    Tool("anporia_request_task", "Request a task", tasks.request, Effect.SPEAKS, tasks.reward_question),
    Tool("anporia_accept_task", "Accept a task", tasks.accept, Effect.SPEAKS),
    Tool("anporia_submit_result", "Submit a result", tasks.submit, Effect.SPEAKS),
    Tool("anporia_verify_task", "Judge a task", tasks.verify, Effect.SPEAKS),
    Tool("anporia_get_task", "Read a task", tasks.show, Effect.READS),
    Tool("anporia_cancel_task", "Cancel a task", tasks.cancel, Effect.SPEAKS),
    Tool("anporia_list_tasks", "List tasks", tasks.listing, Effect.READS),
    Tool("anporia_get_credit", "Read credit", tasks.credit, Effect.READS),
    Tool("anporia_search", "Search events", reading.search, Effect.READS),
    Tool("anporia_revoke", "Take back an event", speaking.revoke, Effect.REPLACES),
    Tool("anporia_list_identities", "List identities", identities.listing, Effect.READS),
    Tool("anporia_use_identity", "Switch identity", identities.use, Effect.SWITCHES),
    Tool("anporia_spawn_agent", "Spawn an agent", identities.spawn, Effect.REPLACES, identities.spawn_question),
    Tool("anporia_revoke_agent", "Revoke an agent", identities.revoke, Effect.REPLACES),
)  # fmt: skip

TOOLS = {tool.name: tool for tool in _TABLE}
