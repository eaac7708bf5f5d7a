"""What goes to the terminal: results to stdout, all else to stderr, and nothing from outside that acts.

Names, titles and messages come from servers: each goes through `printable`, so that no escape sequence in them is
obeyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from bgfetch.shelf import Got

__all__ = ["columns", "give_file", "give_json", "give_line", "give_path", "ok_to", "say"]


def say(text: str) -> None:
    """A message for a person."""
    from bgfetch.core.names import printable

    click.echo(f"bgfetch: {printable(text)}", err=True)


def give_path(path: Path) -> None:
    """A path as a result. It is ours or a person's own; a program reads it, so it is not altered."""
    click.echo(path)


def give_file(file: Got, path: Path | None = None, *, as_json: bool) -> None:
    """A file as a result, where it is or where it has been put: its path, or all that is known of it."""
    from bgfetch.core.urls import redacted

    where = file.path if path is None else path
    if as_json:
        facts = {"url": redacted(file.url), "path": str(where), "size": file.size}
        give_json({**facts, "verified": file.verified, "digest": file.digest})
    else:
        give_path(where)


def give_line(text: str) -> None:
    """A result of one line that came from outside."""
    from bgfetch.core.names import printable

    click.echo(printable(text))


def give_json(*objects: object) -> None:
    """JSON objects, one a line; what is not ASCII is escaped, so nothing in it acts."""
    import json

    if objects:
        click.echo("\n".join(map(json.JSONEncoder().encode, objects)))


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text: columns as wide as what is in them, the last one ragged."""
    joined = "".join(["".join(row) for row in rows])
    if not joined.isprintable():  # asked once of all: 10,000 rows are shown in the time of a blink
        from bgfetch.core.names import printable

        rows = [[printable(cell) for cell in row] for row in rows]
    table = [head, *rows] if head else rows
    widths = [max(map(len, column)) for column in zip(*table, strict=True)][:-1]
    shape = "".join(f"%-{width}s  " for width in widths) + "%s"
    return "\n".join([(shape % tuple(row)).rstrip() for row in table])


def ok_to(question: str, *, yes: bool) -> bool:
    """Whether to go on: said beforehand, or answered now; without a terminal the answer is no.

    Raises:
        InvalidRequest: Nobody can be asked.
    """
    import sys

    from bgfetch.core.names import printable

    if yes:
        return True
    if not sys.stdin.isatty():
        from bgfetch.errors import InvalidRequest

        raise InvalidRequest(f"{question} There is nobody to ask: say --yes, or --dry-run to see what it is")
    return click.confirm(printable(question), err=True)
