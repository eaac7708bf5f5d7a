"""Options and arguments that several commands share, each said once."""

from __future__ import annotations

from typing import Any

import click

from bgfetch.cli.home import opened

__all__ = [
    "active_ids",
    "any_scope",
    "as_json",
    "bytes_",
    "connections",
    "dry_run",
    "everything",
    "ids",
    "ids_or_all",
    "limit_rate",
    "priority",
    "quiet",
    "scope",
    "seconds",
    "timeout",
    "yes",
]


def seconds(_ctx: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """A duration as seconds; None where none was given."""
    from bgfetch.config import duration

    return None if value is None else duration(value)


def bytes_(_ctx: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """A size as bytes; None where none was given."""
    from bgfetch.config import size

    return None if value is None else size(value)


def rate(_ctx: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Bytes a second; None where none was given."""
    from bgfetch.config import size

    return None if value is None else size(value)


def active_ids(_ctx: click.Context, _option: click.Parameter, incomplete: str) -> list[Any]:
    """Completes an id."""
    from click.shell_completion import CompletionItem

    with opened() as wiring:
        rows = wiring.registrations.listing(active=True)
        return [CompletionItem(row.id, help=row.title) for row in rows if row.id.startswith(incomplete)]


ids = click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=active_ids)
ids_or_all = click.argument("ids", nargs=-1, metavar="[ID...]", shell_complete=active_ids)
everything = click.option(
    "--all", "everything", is_flag=True, help="All that are not over; with --scope, of that one."
)
priority = click.option("--priority", type=int, metavar="N", help="Higher goes first; 0 is usual.")
limit_rate = click.option("--limit-rate", metavar="RATE", callback=rate, help="Bytes a second, such as 5M.")
connections = click.option(
    "-x",
    "--connections",
    type=click.IntRange(1, 64),
    metavar="N",
    help="For one file; as many as help if nothing is said.",
)
scope = click.option(
    "--scope", default="default", metavar="SCOPE", help="Namespace of ids and caches.", show_default=True
)
any_scope = click.option("--scope", default=None, metavar="SCOPE", help="Only of this scope.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress.")
timeout = click.option(
    "--timeout",
    metavar="TIME",
    callback=seconds,
    help="Give up waiting after this, such as 90 or 10m; what came is kept.",
)
yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
