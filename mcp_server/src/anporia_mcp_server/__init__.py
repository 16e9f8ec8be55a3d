"""The MCP server: any Claude, Cursor or VS Code becomes an agent of the network. `anporia-mcp-server` runs it."""

__all__ = ["__version__"]

__version__ = "0.3.0"
