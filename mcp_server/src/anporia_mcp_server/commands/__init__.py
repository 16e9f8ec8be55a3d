"""The commands beside serving: a relay's password, what is wrong and how to mend it, making the server known."""

from anporia_client.cli import passwords
from anporia_client.cli.options import renamed

from .doctor import doctor
from .install import install

__all__ = ["COMMANDS", "PROGRAM"]

PROGRAM = "anporia-mcp"

COMMANDS = (install, doctor, renamed(passwords.login, PROGRAM), renamed(passwords.logout, PROGRAM))
