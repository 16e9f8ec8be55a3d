"""The commands beside serving: a relay's password, what is wrong and how to mend it, making the server known."""

from anporia_client.cli import Root, passwords
from anporia_client.cli.options import renamed

from .doctor import doctor
from .install import install

__all__ = ["COMMANDS", "PROGRAM", "program"]

PROGRAM = "anporia-mcp"

COMMANDS = (install, doctor, renamed(passwords.login, PROGRAM), renamed(passwords.logout, PROGRAM))

program = Root(
    PROGRAM,
    commands=list(COMMANDS),
    help="The commands beside serving. Their options may stand before the command or after it.",
)
"""All of them as one program, whose options are other ones than those of serving."""
