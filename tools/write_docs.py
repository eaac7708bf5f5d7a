"""Writes docs/cli.md, docs/settings.md and docs/api.md from commands, settings and routes; `--check` only says whether they are stale.

python tools/write_docs.py
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import click

from bgfetch.cli.exits import MEANING
from bgfetch.cli.main import cli
from bgfetch.config import Settings
from bgfetch.daemon.routes import ROUTES, Route

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOREWORD = "<!-- Written by tools/write_docs.py; change what it reads, not this. -->"


def pages() -> dict[str, str]:
    """Each generated page by its name in docs/."""
    return {"cli.md": cli_page(), "settings.md": settings_page(), "api.md": api_page()}


def cli_page() -> str:
    """Every command with its options, and the exit codes."""
    lines = [
        "# Command line",
        "",
        FOREWORD,
        "",
        "Results go to stdout, everything else to stderr; a moving line is drawn where stderr is a terminal.",
        "`--json` prints one object a line. What a server calls things is shown, never obeyed.",
        "",
        "## Exit codes",
        "",
        *table(("code", "meaning"), [(str(int(code)), meaning) for code, meaning in MEANING.items()]),
    ]
    context = click.Context(cli, info_name="bgfetch")
    lines += ["", "## bgfetch", "", *described(context)]
    for command in commands(context):
        lines += ["", f"## {command.command_path}", "", *described(command)]
    return "\n".join(lines) + "\n"


def commands(context: click.Context) -> Iterator[click.Context]:
    """The commands of a group and of the groups in it, in the order of the help."""
    group = context.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None:
            below = click.Context(command, info_name=name, parent=context)
            yield below
            yield from commands(below)


def described(context: click.Context) -> Iterator[str]:
    """Usage, help and options of one command."""
    command = context.command
    yield f"    {command.get_usage(context).removeprefix('Usage: ')}".replace("\n", " ")
    yield ""
    yield from paragraphs(command.help or "")
    rows = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
    yield from table(("option", "meaning"), [(f"`{row[0]}`", row[1]) for row in rows if row is not None])


def paragraphs(text: str) -> Iterator[str]:
    """Help as Markdown; what click is told not to wrap stays as it is."""
    for block in text.split("\n\n"):
        kept = block.lstrip().startswith("\b")
        words = [line.strip("\b ") for line in block.splitlines() if line.strip("\b ")]
        yield from ([f"    {line}" for line in words] if kept else [" ".join(words)])
        yield ""


def settings_page() -> str:
    """Every setting with its names, default, unit and meaning."""
    rows = [
        (
            f"`{each.name}`",
            f"`BGFETCH_{each.name.upper()}`",
            shown(each.default),
            *meaning(dict(each.metadata)),
        )
        for each in fields(Settings)
        if each.name != "home"
    ]
    lines = [
        "# Settings",
        "",
        FOREWORD,
        "",
        "A value is looked for in this order: the flag of a command, the environment, `config.toml` in the home, the",
        "default. Sizes take K, M, G, T (powers of 1024), durations ms, s, m, h, d.",
        "",
        "The home itself is `--home`, `BGFETCH_HOME`, or `bgfetch` in the platform's folder for a user's data.",
        "",
        *table(("config.toml", "environment", "default", "unit", "meaning"), rows),
    ]
    return "\n".join(lines) + "\n"


def api_page() -> str:
    """Every route of the daemon's local API."""
    rows = [(f"`{each.method} {each.path}`", each.summary, worded(each), str(each.status)) for each in ROUTES]
    lines = [
        "# Local API",
        "",
        FOREWORD,
        "",
        "The daemon speaks HTTP over the Unix socket that `daemon.json` names: `curl --unix-socket",
        '"$BGFETCH_HOME/daemon/socket" http://bgfetch/v1/`. JSON both ways; `GET /v1/openapi.json` describes every field.',
        'An error is `{"error": {"class", "name", "message"}}`: the class in Python, the name on the web.',
        "",
        *table(("route", "gives", "takes", "status"), rows),
    ]
    return "\n".join(lines) + "\n"


def worded(route: Route) -> str:
    """What a route takes, in its query and in its body."""
    asked = [f"`?{name}=`" for name in route.query] + [f"`{name}`" for name in route.takes]
    return ", ".join(asked)


def shown(default: object) -> str:
    """A default as it could be written."""
    if default is None:
        return "auto"
    if isinstance(default, bool):
        return str(int(default))
    if isinstance(default, float) and default.is_integer():
        return str(int(default))
    return str(default) if default != "" else "none"


def meaning(metadata: dict[str, str]) -> tuple[str, str]:
    """Unit and meaning."""
    return metadata["unit"], metadata["meaning"]


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table; nothing without rows."""
    if rows:
        yield f"| {' | '.join(head)} |"
        yield f"|{'---|' * len(head)}"
        for row in rows:
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def main() -> int:
    """0, or 1 when `--check` found a stale page."""
    os.environ["COLUMNS"] = "100"
    stale = [name for name, text in pages().items() if not same(DOCS / name, text)]
    if "--check" in sys.argv:
        print(*[f"docs/{name} is stale: python tools/write_docs.py" for name in stale], sep="\n")
        return bool(stale)
    for name, text in pages().items():
        (DOCS / name).write_text(text, "utf-8")
    return 0


def same(path: Path, text: str) -> bool:
    """Whether the file says this."""
    return path.exists() and path.read_text("utf-8") == text


if __name__ == "__main__":
    raise SystemExit(main())
