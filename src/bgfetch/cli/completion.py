"""`bgfetch completion`: a script for the shell, made by click."""

from __future__ import annotations

import click

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print a script that completes commands and ids in your shell.

    \b
    bash: eval "$(bgfetch completion bash)" in ~/.bashrc
    zsh:  eval "$(bgfetch completion zsh)" in ~/.zshrc
    fish: bgfetch completion fish > ~/.config/fish/completions/bgfetch.fish
    """  # noqa: D301 - the one character that tells click to leave the lines as they are
    from click.shell_completion import get_completion_class

    make = get_completion_class(shell)
    assert make is not None  # noqa: S101 - click has these three
    click.echo(make(ctx.find_root().command, {}, "bgfetch", "_BGFETCH_COMPLETE").source())
