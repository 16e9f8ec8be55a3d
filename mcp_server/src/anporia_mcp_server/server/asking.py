"""Asking the person before something is published, in either era of the protocol, where the host can ask."""

from __future__ import annotations

import hashlib
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

__all__ = ["can_ask", "confirmed"]

_KEY = "confirm"
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"confirm": {"type": "boolean", "title": "Yes, publish", "default": True}},
    "required": ["confirm"],
}


def can_ask(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Say whether the host shows forms to its person."""
    capabilities = ctx.session.client_capabilities
    form = capabilities.elicitation if capabilities is not None else None
    if form is None or (form.form is None and form.url is not None):
        return False
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS or ctx.session.can_send_request


async def confirmed(
    ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, question: str
) -> bool | types.InputRequiredResult:
    """Ask, and give what the person said; from 2026 on the question is an answer, and the call comes again with theirs.

    What comes back is bound to the very question: the state is sealed by the SDK together with the tool and its
    arguments, and holds a digest of what was asked.
    """
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        result = await ctx.session.elicit_form(question, _SCHEMA, related_request_id=ctx.request_id)
        return _said_yes(result)
    asked = hashlib.sha256(question.encode()).hexdigest()
    answer = (params.input_responses or {}).get(_KEY)
    if params.request_state == asked and isinstance(answer, types.ElicitResult):
        return _said_yes(answer)
    form = types.ElicitRequestFormParams(message=question, requested_schema=_SCHEMA)
    return types.InputRequiredResult(input_requests={_KEY: types.ElicitRequest(params=form)}, request_state=asked)


def _said_yes(result: types.ElicitResult) -> bool:
    return result.action == "accept" and (result.content or {}).get("confirm") is True
