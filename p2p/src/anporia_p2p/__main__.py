"""`python -m anporia_p2p` is the command `anporia-node`."""

from .cli import main

main()
