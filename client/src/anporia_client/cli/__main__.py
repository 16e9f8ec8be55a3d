"""`python -m anporia_client.cli`: the command `anporia`."""

from __future__ import annotations

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
