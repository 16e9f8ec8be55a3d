"""What a host of the bundle starts: its settings become those of the server, which is then served on stdio."""

from __future__ import annotations

import os
import sys

_SETTINGS = ("ANPORIA_RELAY_URL", "ANPORIA_RELAY_PASSWORD", "ANPORIA_BUNDLE_READ_ONLY")


def settled() -> list[str]:
    """Give the server's arguments. A setting that was left out may come as it stands in the manifest: it goes."""
    for name in _SETTINGS:
        if os.environ.get(name, "").startswith("${user_config."):
            del os.environ[name]
    return ["--read-only"] if os.environ.pop("ANPORIA_BUNDLE_READ_ONLY", "").lower() == "true" else []


if __name__ == "__main__":
    from anporia_mcp_server.cli import main

    sys.argv[1:] = settled()
    main()
