"""`completion`: what makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from . import screen
from .options import Command, Options, pass_options

__all__ = ["completion"]


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@pass_options
def completion(options: Options, shell: str) -> None:
    """Print the script that makes SHELL complete commands and options.

    \b
    Examples:
      eval "$(anporia completion bash)"                        in ~/.bashrc
      eval "$(anporia completion zsh)"                         in ~/.zshrc
      anporia completion fish > ~/.config/fish/completions/anporia.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    from . import cli

    script = found(cli, {}, "anporia", "_ANPORIA_COMPLETE").source()
    if options.json:
        screen.emit({"shell": shell, "script": script})
    else:
        screen.line(script)
