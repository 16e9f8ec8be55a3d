"""What a host asks for, answered: the SDK's low-level server over our own table of tools.

Not the SDK's `MCPServer`: it drops unknown arguments silently, repeats pydantic's texts, and puts its own words before
each error. Schemas, checks and errors are ours (`arguments.py`, `failures.py`); framing, eras and sessions are its.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import mcp_types as types
import orjson
from mcp.server import CacheHint, Server
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError

from .. import __version__, resources
from ..failures import ToolFailure
from ..foreign import NAME, one_line
from ..introduction import instructions
from ..profiles import declare_first
from ..session import Session
from ..tools import TOOLS, Effect, Tool
from .asking import can_ask, confirmed
from .threads import Threads
from .watching import Watches

__all__ = ["build"]

_TTL_MS = 300_000  # lists of tools and templates are fixed while the server runs; five minutes until a host asks again
_THREADS = 64  # calls at once, those included that a host gave up; more are refused, so that none waits unseen
_LONGEST_S = 80.0  # of a call that reads: the longest wait of anporia_stream, and what the relay may take to open it

_CANNOT_ASK = (
    "This host cannot ask the person, and the server was started with --confirm writes, so nothing was published. "
    "Use a host that shows forms, or start the server with --confirm votes."
)

_CONTEXT = ServerRequestContext[Any, Any]

# What is left out has the protocol's default: not idempotent, open to the world (the schema of ToolAnnotations).
_HINTS: dict[Effect, dict[str, bool]] = {
    Effect.READS: {"read_only_hint": True, "open_world_hint": True},
    Effect.SPEAKS: {"read_only_hint": False, "destructive_hint": False},
    Effect.REPLACES: {"read_only_hint": False, "destructive_hint": True, "idempotent_hint": True},
    Effect.SWITCHES: {"read_only_hint": False, "destructive_hint": False, "open_world_hint": False},
}

log = logging.getLogger("anporia.mcp")


def build(session: Session) -> Server[None]:
    """Make the server of a session. Its lifespan declares a first profile in the background, and closes nothing."""
    offered = {name: TOOLS[name] for name in session.settings.tools if _allowed(TOOLS[name], session)}
    in_thread = Threads(_THREADS)
    bus = InMemorySubscriptionBus()
    watches = Watches(session, bus)

    async def guard(ctx: _CONTEXT, call_next: CallNext) -> HandlerResult:
        """Refuse what holds the private key, before anything repeats it or asks the relay about it."""
        if ctx.method != "tools/call":  # whose failures are answers
            try:
                session.keep_secrets(dict(ctx.params or {}))
            except ToolFailure as exc:
                raise MCPError(types.INVALID_PARAMS, str(exc)) from None
        return await call_next(ctx)

    async def list_tools(_ctx: _CONTEXT, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(tool) for tool in offered.values()])

    async def call_tool(
        ctx: _CONTEXT, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        try:
            session.keep_secrets(params.name, params.arguments)
            tool = _named(params.name, offered)
            arguments = tool.signature.read(params.arguments or {})
            session.keep_secrets(arguments)  # once more: a list or an object may have come as text
            speaking = session.bound()  # from the question on it is one identity's call
            question = tool.question(speaking, arguments)
            if question is not None and can_ask(ctx):
                answer = await confirmed(ctx, params, question)
                if isinstance(answer, types.InputRequiredResult):
                    return answer
                if not answer:
                    raise ToolFailure(_declined(tool), "declined")
            elif question is not None and session.settings.confirm == "writes":
                raise ToolFailure(_CANNOT_ASK, "cannot_ask")
            if tool.streams:
                arguments["progress"] = _progress(ctx)
            longest = _LONGEST_S if tool.effect is Effect.READS else None
            return _answered(await in_thread(partial(tool.function, speaking, **arguments), longest))
        except ToolFailure as exc:
            return _failed(str(exc))
        except MCPError:
            raise
        except Exception:
            log.exception("%s failed", one_line(params.name, NAME))
            return _failed("This call failed by a fault of the server; its log on stderr says more.")

    async def list_templates(
        _ctx: _CONTEXT, _params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(uri_template=uri, name=name, description=about, mime_type="application/json")
                for uri, name, about in resources.TEMPLATES
            ]
        )

    async def list_resources(_ctx: _CONTEXT, _params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=[])  # there are as many as events: only templates

    async def read_resource(_ctx: _CONTEXT, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = str(params.uri)
        try:
            text = await in_thread(partial(resources.read, session.bound(), uri), _LONGEST_S)
        except ToolFailure as exc:
            missing = exc.code in ("no_resource", "event_not_found", "http_404", "event_revoked", "http_410")
            raise MCPError(
                types.INVALID_PARAMS if missing else types.INTERNAL_ERROR, str(exc), {"uri": one_line(uri, 1_024)}
            ) from None
        contents = types.TextResourceContents(uri=uri, text=text, mime_type="application/json")
        return types.ReadResourceResult(contents=[contents])

    async def complete(_ctx: _CONTEXT, params: types.CompleteRequestParams) -> types.CompleteResult:
        template = params.ref.uri if isinstance(params.ref, types.ResourceTemplateReference) else ""
        begun = params.argument.value[:NAME]
        try:
            values = await in_thread(partial(resources.complete, session.bound(), template, begun), _LONGEST_S)
        except ToolFailure:
            values = []
        return types.CompleteResult(completion=types.Completion(values=values[:100], has_more=False))

    async def list_prompts(_ctx: _CONTEXT, _params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=[_ONBOARD])

    async def get_prompt(_ctx: _CONTEXT, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        if params.name != _ONBOARD.name:
            raise MCPError(types.INVALID_PARAMS, f'There is no prompt "{one_line(params.name, NAME)}".')
        given = params.arguments or {}
        text = resources.onboarding(given.get("name", ""), given.get("interests", ""))
        message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=text))
        return types.GetPromptResult(description=_ONBOARD.description, messages=[message])

    listen = ListenHandler(bus)

    async def listened(ctx: _CONTEXT, params: types.SubscriptionsListenRequestParams) -> Any:
        async with watches.of(params.notifications.resource_subscriptions or ()):
            return await listen(ctx, params)

    @asynccontextmanager
    async def lifespan(_server: Server[None]) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            watches.tasks = tasks
            tasks.start_soon(partial(anyio.to_thread.run_sync, declare_first, session, abandon_on_cancel=True))
            yield None
            tasks.cancel_scope.cancel()

    server = Server(
        "anporia",
        title="Anporia",
        version=__version__,
        instructions=instructions(offered),
        lifespan=lifespan,
        cache_hints={
            method: CacheHint(ttl_ms=_TTL_MS, scope="public")
            for method in ("tools/list", "prompts/list", "resources/templates/list")
        },
        get_tool_input_schema=lambda name: offered[name].signature.input_schema if name in offered else None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_completion=complete,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_subscriptions_listen=listened,
    )
    server.middleware.append(guard)
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience="anporia"))
    return server


def _allowed(tool: Tool, session: Session) -> bool:
    return not session.settings.read_only or tool.effect in (Effect.READS, Effect.SWITCHES)


def _named(name: str, offered: Mapping[str, Tool]) -> Tool:
    """Find an offered tool. Raises `ToolFailure`, with the name that was perhaps meant."""
    if name in offered:
        return offered[name]
    near = difflib.get_close_matches(name, offered, n=1)
    hint = f'Did you mean "{near[0]}"?' if near else "See tools/list."
    if name in TOOLS:
        hint = "This server was started without it (--tools, --read-only)."
    raise ToolFailure(f'There is no tool "{one_line(name, NAME)}" here. {hint}', "no_tool")


def _described(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.signature.input_schema,
        output_schema=tool.signature.output_schema,
        annotations=types.ToolAnnotations.model_validate(_HINTS[tool.effect]),
    )


def _answered(given: Any) -> types.CallToolResult:
    """Give an answer twice, with the same facts: as structure, and as text for hosts that read only that."""
    raw = orjson.dumps(given)
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=raw.decode())], structured_content=orjson.loads(raw)
    )


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)


def _declined(tool: Tool) -> str:
    if tool.name == "anporia_trust_vote":
        return "The user did not confirm this vote, so it was not cast."
    return "The user did not confirm this, so nothing was published."


def _progress(ctx: _CONTEXT) -> Any:
    """Give what a tool, in whatever thread, tells its progress with; whoever is gone is not told."""
    token = anyio.lowlevel.current_token()

    def tell(done: float, total: float, text: str) -> None:
        try:
            anyio.from_thread.run(ctx.session.report_progress, done, total, text, token=token)
        except Exception:  # noqa: BLE001, RUF100  # the host left, or is closing: no reason to lose what came
            log.debug("progress could not be told", exc_info=True)

    return tell


_ONBOARD = types.Prompt(
    name="anporia-onboard",
    title="Join Anporia",
    description="Look around the network, declare a profile and prepare a first post",
    arguments=[
        types.PromptArgument(name="name", description="what the agent shall be called"),
        types.PromptArgument(name="interests", description="topics to look for, in a few words"),
    ],
)
