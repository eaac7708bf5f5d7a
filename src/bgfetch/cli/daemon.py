"""`bgfetch daemon`: the process that goes on fetching when whoever asked is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from bgfetch.cli import options
from bgfetch.cli.exits import Exit
from bgfetch.cli.home import opened
from bgfetch.cli.output import columns, give_json, say

if TYPE_CHECKING:
    from bgfetch.client.connection import Connection
    from bgfetch.wire import Hello

__all__ = ["daemon"]

_PATIENCE = 20.0  # seconds for it to end
_STEP = 0.02


@click.group(no_args_is_help=True)
def daemon() -> None:
    """The process that goes on fetching when you are gone; the first `get` starts it."""


@daemon.command()
@click.option(
    "--tcp", "port", type=click.IntRange(1, 65535), metavar="PORT", help="Listen on loopback as well."
)
@click.option("--service", is_flag=True, help="Something keeps it running: never end for want of work.")
def run(*, port: int | None, service: bool) -> int:
    """Be the daemon, in the foreground, until told to end."""
    import os

    from bgfetch.daemon.service import Daemon

    with opened() as wiring:
        settings = wiring.settings
    watched = service or bool(os.environ.get("INVOCATION_ID"))

    def ready() -> None:
        say(f"the daemon of {settings.home} answers; Ctrl-C ends it")

    return Daemon(settings, service=watched, port=port or 0, ready=ready).run()


@daemon.command()
@options.as_json
def start(*, as_json: bool) -> None:
    """Have one that runs; one that runs already is fine."""
    with opened() as wiring:
        wiring.daemon.ensure()
        _tell(_connection(wiring).hello(), as_json=as_json)


@daemon.command()
@options.as_json
def stop(*, as_json: bool) -> None:
    """End it; whatever is unfinished goes on when one runs again. None that runs is fine."""
    from bgfetch.errors import DaemonNotRunning

    with opened() as wiring:
        connection = _connection(wiring)
        try:
            hello = connection.hello()
        except DaemonNotRunning:
            _told_stopped(0, as_json=as_json)
        else:
            _end(connection, hello)
            _told_stopped(hello.pid, as_json=as_json)


@daemon.command()
@options.as_json
@click.option("--if-safe", is_flag=True, help="Only where nothing is lost by it.")
def restart(*, as_json: bool, if_safe: bool) -> int:
    """End it, if it runs, and start it anew."""
    from bgfetch.errors import DaemonNotRunning

    with opened() as wiring:
        connection = _connection(wiring)
        try:
            hello = connection.hello()
        except DaemonNotRunning:
            pass
        else:
            if if_safe and not hello.restartable:
                say(f"it would lose {', '.join(hello.restart_loses)}; nothing was done")
                return Exit.USAGE
            _end(connection, hello)
        wiring.daemon.ensure()
        _tell(connection.hello(), as_json=as_json)
    return Exit.DONE


@daemon.command()
@options.as_json
def status(*, as_json: bool) -> None:
    """Whether it runs, and since when; exit code 9 where it does not."""
    with opened() as wiring:
        _tell(_connection(wiring).hello(), as_json=as_json)


@daemon.command()
@options.dry_run
@options.as_json
def install(*, dry_run: bool, as_json: bool) -> int:
    """Have it start whenever you log in: a systemd user unit, a launchd agent or a scheduled task."""
    from bgfetch.daemon.installing import installed

    with opened() as wiring:
        home = wiring.settings.home
    return _installed(installed(home, dry_run=dry_run), as_json=as_json)


@daemon.command()
@options.dry_run
@options.as_json
def uninstall(*, dry_run: bool, as_json: bool) -> int:
    """Take that back."""
    from bgfetch.daemon.installing import uninstalled

    return _installed(uninstalled(dry_run=dry_run), as_json=as_json)


def _installed(done: Any, *, as_json: bool) -> int:
    if as_json:
        give_json(done.facts())
    else:
        for line in done.lines:
            click.echo(line)
        for line in done.hints:
            say(line)
    return Exit.DONE if done.ok else Exit.NO_DAEMON


def _connection(wiring: Any) -> Connection:
    import os

    from bgfetch.address import Address
    from bgfetch.client.connection import Connection

    return Connection(Address(wiring.settings.home), os.environ)


def _end(connection: Connection, hello: Hello) -> None:
    """Ask it to end, and wait until another one could begin."""
    import contextlib

    from bgfetch.errors import DaemonError, DaemonNotRunning

    with contextlib.suppress(DaemonNotRunning):
        connection.call("POST", "/v1/stop", {})
    until = time.monotonic() + _PATIENCE
    while _lives(connection, hello.pid):
        if time.monotonic() > until:
            raise DaemonError(
                f"the daemon, process {hello.pid}, does not end within {_PATIENCE:g} s; see its log"
            )
        time.sleep(_STEP)


def _lives(connection: Connection, pid: int) -> bool:
    """Whether it still says of itself that it is the daemon: it takes its files away last."""
    import json

    try:
        return bool(json.loads(connection.address.facts.read_bytes())["pid"] == pid)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _told_stopped(pid: int, *, as_json: bool) -> None:
    if as_json:
        give_json({"running": False, "was": pid or None})
    else:
        say(f"the daemon, process {pid}, has ended" if pid else "no daemon runs")


def _tell(hello: Hello, *, as_json: bool) -> None:
    if as_json:
        give_json({"running": True, **hello.pack()})
        return
    from bgfetch.terminal.words import seconds_in_words

    facts = [
        ("process", str(hello.pid)),
        ("version", hello.version),
        ("home", hello.home),
        ("runs for", seconds_in_words(max(0.0, time.time() - hello.started_at))),
        ("unfinished", str(hello.unfinished)),
        ("a restart loses", ", ".join(hello.restart_loses) or "nothing"),
    ]
    click.echo(columns((), [(f"{name}:", text) for name, text in facts]))
