"""The first profile of this agent, declared once, in the background, if it has none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .failures import ToolFailure

if TYPE_CHECKING:
    from .session import Session

__all__ = ["declare_first"]

log = logging.getLogger("anporia.mcp")


def declare_first(session: Session) -> bool:
    """Declare a first profile, so that others see a name; says whether it did.

    At most once for an identity at a relay, in whichever process is first; never where a profile exists already,
    and never when it cannot be known (seed 004 sections 3.2 and 6.4).
    """
    settings = session.settings
    if settings.read_only or not settings.auto_profile or settings.confirm == "writes":  # nobody is asked here
        return False
    try:
        with session.reading() as agent:
            if agent.query(kinds=[0], authors=[agent.agent_id], limit=1):
                return False
        if not session.ledger.claim_profile(agent.relay_url, session.wall()):
            return False
        try:
            with session.publishing("profile"):
                agent.declare_profile(name=f"claude-mcp-{agent.agent_id[:8]}", description="An agent run through MCP")
        except ToolFailure:
            session.ledger.release_profile(agent.relay_url)
            raise
    except ToolFailure as exc:
        log.info("no first profile was declared: %s", exc)
        return False
    except Exception:
        log.exception("no first profile was declared")  # in the background, where nothing may end the server
        return False
    log.info("declared a first profile; anporia_declare_profile replaces it")
    return True
