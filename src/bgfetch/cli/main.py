"""`bgfetch`: the command line. Each command lives in a module of its own that is imported when it is called.

Results go to stdout, everything else to stderr; a moving line is drawn on a terminal only.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from bgfetch.cli.exits import Exit, Mended, exit_of
from bgfetch.errors import BgfetchError
from bgfetch.version import __version__

__all__ = ["cli", "main"]

# Command: (module, what `bgfetch --help` says). Looking a command up imports only its own module.
COMMANDS: dict[str, tuple[str, str]] = {
    "get": ("get", "Fetch files and print their paths; goes on where an earlier try stopped."),
    "ls": ("listing", "List registrations."),
    "show": ("listing", "Show one registration with its records."),
    "watch": ("watch", "Look on while registrations are fetched."),
    "events": ("listing", "Show what happened, line by line."),
    "pause": ("control", "Let registrations rest."),
    "resume": ("control", "Go on with registrations."),
    "set": ("control", "Change how registrations run or are shown."),
    "wait": ("control", "Wait until registrations are over, and print the paths of their files."),
    "abort": ("control", "End registrations and delete what they had."),
    "cache": ("cache", "Look after what is stored."),
    "serve": ("serve", "Serve models to browsers, with digests and the kit that fetches them."),
    "worker": ("worker", "Look after what handles the events of a scope."),
    "daemon": ("daemon", "The process that goes on fetching when you are gone."),
    "doctor": ("doctor", "Check this machine and this home."),
    "completion": ("completion", "Print a script that completes commands in your shell."),
}


# What curl, aria2, hf, docker and systemctl call it; said to who types it, and no second name of ours.
ELSEWHERE = {
    "cancel": "abort", "stop": "abort", "remove": "abort", "kill": "abort", "download": "get", "fetch": "get",
    "add": "get", "status": "ls", "ps": "ls", "info": "show", "logs": "events", "log": "events", "unpause": "resume",
    "continue": "resume", "start": "resume", "rm": "cache rm", "delete": "cache rm", "prune": "cache prune",
    "verify": "cache verify", "repair": "cache repair", "path": "cache path", "export": "cache export",
}  # fmt: skip


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order they are told about."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        name = {"pull": "get", "list": "ls"}.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module = import_module(f"bgfetch.cli.{COMMANDS[name][0]}")
        command = getattr(module, name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is ours
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first of these names; where there is none, the one that may have been meant is said."""
        name = args[0]
        meant = None if name.startswith("-") or self.get_command(ctx, name) else _meant(name)
        if meant is not None:
            from bgfetch.core.urls import redacted

            raise click.UsageError(
                f"No such command '{redacted(name)}'. Did you mean 'bgfetch {meant}'?", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "--version", "-V", message="bgfetch %(version)s")
@click.option("--home", metavar="DIR", help="Where everything is kept (BGFETCH_HOME).")
def cli(home: str | None) -> None:
    """Background Fetch for AI models: downloads that outlive kills and bad lines, and end verified."""


def _meant(name: str) -> str | None:
    from difflib import get_close_matches

    if "://" in name:
        return "get URL"
    return ELSEWHERE.get(name) or next(iter(get_close_matches(name, COMMANDS, 1)), None)


def main(args: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(args))


def run(args: list[str] | None = None) -> int:
    """Run the command line; its exit code."""
    try:
        outcome = _outcome(args)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (click.Abort, KeyboardInterrupt):
        return Exit.DETACHED
    except click.ClickException as error:
        error.show(sys.stderr)
        return Exit.USAGE
    except BgfetchError as error:
        _say(str(error))
        return exit_of(error)
    except Mended as error:  # damaged again at once: the disk is ill
        _say(f"{error}; and it was damaged once more at once")
        return Exit.NO_ROOM
    except BrokenPipeError:  # whoever read the output has seen enough; nothing more may be written to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except OSError as error:  # the disk refused; what it is about is in the error
        _say(str(error))
        return Exit.NO_ROOM
    return int(outcome or 0)


def _outcome(args: list[str] | None) -> Any:
    try:
        return _called(args)
    except Mended as mended:
        _say(str(mended))
    return _called(args)


def _called(args: list[str] | None) -> Any:
    return cli.main(args=args, prog_name="bgfetch", standalone_mode=False)


def _say(text: str) -> None:
    from bgfetch.cli.output import say

    say(text)
