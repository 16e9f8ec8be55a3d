"""`python -m anporia_mcp_server`: the same as the command `anporia-mcp-server`."""

from .cli import main

main()
