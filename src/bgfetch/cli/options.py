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
    "dry_run",
    "ids",
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


def active_ids(_ctx: click.Context, _option: click.Parameter, incomplete: str) -> list[Any]:
    """Completes an id."""
    from click.shell_completion import CompletionItem

    with opened() as wiring:
        rows = wiring.registrations.listing(active=True)
        return [CompletionItem(row.id, help=row.title) for row in rows if row.id.startswith(incomplete)]


ids = click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=active_ids)
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
