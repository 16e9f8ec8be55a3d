"""The one place that knows the MCP SDK: tools, resources and the prompt of a session, over stdio or HTTP."""

from .handlers import build

__all__ = ["build"]
