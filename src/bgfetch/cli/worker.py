"""`bgfetch worker`: what handles the events of a scope although its app is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bgfetch.cli import options
from bgfetch.cli.exits import Exit
from bgfetch.cli.home import opened
from bgfetch.cli.output import columns, give_json, ok_to, say

if TYPE_CHECKING:
    from bgfetch.worker.workers import Handler

__all__ = ["worker"]

_EVENTS = (
    "backgroundfetchsuccess",
    "backgroundfetchfail",
    "backgroundfetchabort",
    "backgroundfetchclick",
    "install",
    "activate",
)

_target = click.argument("target", nargs=-1, required=True, metavar="TARGET...")
_as_command = click.option(
    "--command", is_flag=True, help="TARGET is a command, which gets each event as JSON on stdin."
)
_time_limit = click.option(
    "--time-limit",
    metavar="TIME",
    default="5m",
    show_default=True,
    callback=options.seconds,
    help="End the handler of one event after this.",
)


@click.group()
def worker() -> None:
    """Look after what handles the events of a scope although its app is gone."""


@worker.command()
@_target
@options.scope
@_as_command
@_time_limit
@click.option("--mailbox", is_flag=True, help="Keep messages while no app is connected.")
@click.option(
    "--version", default="", metavar="TEXT", help="Tells it from its successor; else made of its source."
)
@options.as_json
def register(
    *,
    target: Sequence[str],
    scope: str,
    command: bool,
    time_limit: float,
    mailbox: bool,
    version: str,
    as_json: bool,
) -> None:
    """Have TARGET handle the events of a scope: a Python module, module:function, or a command.

    Python finds what it finds here and now. The install event is run first; if it fails, the former worker stays.
    """
    from bgfetch.worker.told import told_worker

    handler = _handler(target, command=command, time_limit=time_limit, mailbox=mailbox)
    with opened() as wiring:
        row = wiring.scopes.register(scope, handler, version=version)
        if as_json:
            give_json(told_worker(row))
        elif row.state == "active":
            say(
                f"{scope}: version {row.version} is active; it says what it has to say in {wiring.places.log(scope)}"
            )
        else:
            say(f"{scope}: version {row.version} is {row.state}, until the former one is done with its event")


@worker.command("ls")
@options.any_scope
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that were replaced or failed.")
@options.as_json
def list_workers(*, scope: str | None, everything: bool, as_json: bool) -> None:
    """List workers, and the events that nobody could handle."""
    from bgfetch.worker.told import told_parked, told_worker

    with opened() as wiring:
        rows = wiring.workers.listing(scope, everything=everything)
        parked = wiring.outbox.parked(scope)
    if as_json:
        give_json(*(told_worker(row) for row in rows), *({"parked": told_parked(each)} for each in parked))
        return
    if rows:
        cells = [
            (row.scope, row.version, row.state, " ".join(row.handler.target), row.detail) for row in rows
        ]
        click.echo(columns(["SCOPE", "VERSION", "STATE", "TARGET", "DETAIL"], cells))
    for each in parked:
        event = each.event
        say(
            f"event {event.event_id}, {event.type} of {event.id!r} in {event.scope!r}, was tried {event.attempts} times "
            f"({each.detail or 'no word of the last one'}); `bgfetch worker redeliver {event.event_id}` tries again"
        )


@worker.command()
@click.argument("events", nargs=-1, required=True, type=int, metavar="EVENT...")
@options.as_json
def redeliver(*, events: Sequence[int], as_json: bool) -> int:
    """Deliver events again that nobody could handle; `bgfetch worker ls` shows them."""
    with opened() as wiring:
        bad = [each for each in events if not wiring.outbox.redeliver(each)]
    if as_json:
        give_json(*({"event_id": each, "delivered_again": each not in bad} for each in events))
    for each in bad:
        say(f"event {each} is not one that waits for this")
    return Exit.NOT_FOUND if bad else Exit.DONE


@worker.command()
@click.argument("scope", metavar="SCOPE")
@options.yes
@options.as_json
def unregister(*, scope: str, yes: bool, as_json: bool) -> int:
    """Abort what a scope fetches, and forget its worker, registrations and events. Its caches stay."""
    from bgfetch.errors import NotFound

    with opened() as wiring:
        count = len(wiring.registrations.listing(scope))
        if not count and not wiring.workers.listing(scope):
            raise NotFound(
                f"there is no scope {scope!r} with a worker or a registration; see `bgfetch worker ls`"
            )
        if not ok_to(f"Abort and forget {count} registrations of {scope!r}?", yes=yes):
            return Exit.ABORTED
        purged = wiring.scopes.unregister(scope)
    if as_json:
        give_json({"scope": scope, "purged": purged})
    else:
        say(f"{scope}: {purged} registrations were forgotten")
    return Exit.DONE


@worker.command()
@click.argument("target", nargs=-1, metavar="[TARGET]...")
@options.scope
@_as_command
@_time_limit
@click.option(
    "--event", type=click.Choice(_EVENTS), default=_EVENTS[0], show_default=True, help="What it is told."
)
@click.option("--url", default="https://example.com/model.bin", show_default=True, help="What was fetched.")
@options.as_json
def test(
    *,
    target: Sequence[str],
    scope: str,
    command: bool,
    time_limit: float,
    event: str,
    url: str,
    as_json: bool,
) -> int:
    """Run a handler on a made-up event and show what it says: TARGET, or the worker of the scope.

    The registration, its file and its caches are made up, too, in a home that is thrown away. What else the
    handler does, it does.
    """
    from bgfetch.core.names import printable
    from bgfetch.errors import InvalidRequest
    from bgfetch.rehearsal import rehearse
    from bgfetch.sources.https import checked_request
    from bgfetch.worker.child import UNUSABLE
    from bgfetch.worker.workers import Kind

    handler = _handler(target, command=command, time_limit=time_limit) if target else _registered(scope)
    ended = rehearse(handler, event, scope=scope, url=checked_request(url).url)
    output = ended.output.decode("utf-8", "replace")
    if handler.kind is Kind.ENTRY_POINT and ended.exit_code == UNUSABLE:
        raise InvalidRequest(output.strip())
    if as_json:
        give_json(
            {"exit_code": ended.exit_code, "detail": ended.detail, "seconds": ended.seconds, "output": output}
        )
    else:
        for line in output.splitlines():
            click.echo(printable(line))
        say(f"{event}: {ended.detail or 'handled'} after {ended.seconds:.2f} s")
    return Exit.DONE if ended.well else Exit.BUG


def _handler(target: Sequence[str], *, command: bool, time_limit: float, mailbox: bool = False) -> Handler:
    import sys
    from pathlib import Path

    from bgfetch.errors import InvalidRequest
    from bgfetch.worker.workers import Handler, Kind

    here = str(Path.cwd())
    if command:
        return Handler(Kind.ARGV, tuple(target), "", (), here, time_limit, mailbox)
    if len(target) != 1:
        raise InvalidRequest("a worker is one entry point; say --command for a command with arguments")
    path = dict.fromkeys([here, *(str(Path(each).absolute()) for each in sys.path if each)])
    return Handler(Kind.ENTRY_POINT, tuple(target), sys.executable, tuple(path), here, time_limit, mailbox)


def _registered(scope: str) -> Handler:
    from bgfetch.errors import NotFound

    with opened() as wiring:
        row = wiring.workers.active(scope)
    if row is None:
        raise NotFound(f"the scope {scope!r} has no worker of its own; say which module or command to test")
    return row.handler
