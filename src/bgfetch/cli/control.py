"""`bgfetch pause`, `resume`, `abort`, `set`, `wait`: what a person asks of registrations, whoever runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from bgfetch.cli import options
from bgfetch.cli.exits import Exit
from bgfetch.cli.home import opened
from bgfetch.cli.output import give_file, give_json, say

if TYPE_CHECKING:
    from bgfetch.getting import Getting, Outcome, Told
    from bgfetch.registrations.port import RegistrationRow, Wish
    from bgfetch.wiring import Wiring

__all__ = ["abort", "pause", "resume", "set", "wait"]

_PATIENCE = 15.0  # seconds; whoever runs it looks for wishes twice a second
_USUAL = "default"
_AT_ONCE = 20  # are told to the daemon one by one


@click.command()
@options.ids_or_all
@options.everything
@options.any_scope
@options.as_json
def pause(*, ids: Sequence[str], everything: bool, scope: str | None, as_json: bool) -> None:
    """Let registrations rest until `resume` or `get`; what has come is kept."""
    from bgfetch.registrations.port import Wish

    with opened() as wiring:
        for row in _wished(wiring, _chosen(wiring, ids, scope, everything=everything), Wish.PAUSE):
            if as_json:
                give_json(_named(row))
            else:
                say(f"{row.id}: paused; `bgfetch resume {row.id}` goes on")


@click.command()
@options.ids_or_all
@options.everything
@options.any_scope
@options.timeout
@options.as_json
@options.quiet
def resume(
    *,
    ids: Sequence[str],
    everything: bool,
    scope: str | None,
    timeout: float | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Go on with registrations. Without a daemon that is done here: wait, and print the paths of their files.

    Header fields that hold secrets are not stored: where a server wants them, repeat the `get` instead.
    """
    from bgfetch.registrations.port import Wish

    with opened() as wiring:
        rows = _chosen(wiring, ids, scope, everything=everything)
        if wiring.settings.in_process:
            return _together(
                list(_waited(wiring, rows, resume=True, timeout=timeout, as_json=as_json, quiet=quiet))
            )
        wiring.daemon.ensure()
        for row in _wished(wiring, rows, Wish.RUN):
            if len(rows) == 1 or ids:  # of all, it finds out by itself
                wiring.runs.run(row.uid)
            if as_json:
                give_json(_named(row))
            else:
                say(f"{row.id}: goes on; `bgfetch wait {row.id}` waits for it")
    return Exit.DONE


@click.command()
@options.ids_or_all
@options.everything
@options.any_scope
@options.timeout
@options.as_json
@options.quiet
def wait(
    *,
    ids: Sequence[str],
    everything: bool,
    scope: str | None,
    timeout: float | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Wait until registrations are over, which they may be already, and print the paths of their files."""
    with opened() as wiring:
        rows = _chosen(wiring, ids, scope, everything=everything, over=True)
        return _together(
            list(_waited(wiring, rows, resume=False, timeout=timeout, as_json=as_json, quiet=quiet))
        )


@click.command()
@options.ids_or_all
@options.everything
@options.any_scope
@options.as_json
def abort(*, ids: Sequence[str], everything: bool, scope: str | None, as_json: bool) -> int:
    """End registrations and delete what they had."""
    from bgfetch.getting import Getting

    codes: list[Exit] = []
    with opened() as wiring:
        for each, rows in _by_scope(_chosen(wiring, ids, scope, everything=everything)):
            for outcome in Getting(wiring, each).abort([row.id for row in rows], timeout=_PATIENCE):
                codes.append(Exit.DONE if outcome.settled else Exit.STILL_WAITING)
                _tell_end(outcome, each, as_json=as_json)
    return _together(codes)


@click.command()
@options.ids
@options.scope
@click.option("--title", metavar="TEXT", help="What `ls` shows.")
@options.priority
@options.limit_rate
@options.connections
@options.as_json
def set(  # noqa: A001 - the command's name
    *,
    ids: Sequence[str],
    scope: str,
    title: str | None,
    priority: int | None,
    limit_rate: int | None,
    connections: int | None,
    as_json: bool,
) -> None:
    """Change how registrations run or are shown, from now on; a rate of 0 is no limit."""
    from dataclasses import replace

    said = {"priority": priority, "limit_rate": limit_rate, "connections": connections}
    changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    with opened() as wiring:
        for row in _chosen(wiring, ids, scope, everything=False):
            if title is not None:
                wiring.registrations.amend(row.uid, title=title)
            if changes and wiring.settings.in_process:  # whoever runs it reads it when it begins anew
                wiring.registrations.amend(row.uid, options=replace(row.options, **changes))
            elif changes:
                wiring.runs.amend(row.uid, replace(row.options, **changes))
            if as_json:
                give_json({**_named(row), **changes, **({} if title is None else {"title": title})})


def _chosen(
    wiring: Wiring, ids: Sequence[str], scope: str | None, *, everything: bool, over: bool = False
) -> list[RegistrationRow]:
    """Those that are meant: active ones, unless those that are over will do.

    Raises:
        InvalidRequest: None is named, or some and all.
        NotFound, InvalidState: One of them is not there, or is over.
    """
    from bgfetch.errors import InvalidRequest
    from bgfetch.getting import over_or_unknown

    if bool(ids) == everything:
        raise InvalidRequest("name at least one ID, or say --all")
    if everything:
        return wiring.registrations.listing(scope, active=True)[::-1]
    find = wiring.registrations.latest if over else wiring.registrations.active
    found = {each: find(scope or _USUAL, each) for each in ids}
    for id_, row in found.items():
        if row is None:
            raise over_or_unknown(wiring, scope or _USUAL, id_)
    return [row for row in found.values() if row is not None]


def _wished(wiring: Wiring, rows: Sequence[RegistrationRow], wish: Wish) -> list[RegistrationRow]:
    """Ask this of all of them at once; those that were not over. Whoever runs them sees it within half a second."""
    with wiring.database.write():
        accepted = [row for row in rows if wiring.registrations.set_wish(row.uid, wish)]
    if not wiring.settings.in_process:
        for row in accepted[:_AT_ONCE]:
            wiring.daemon.if_running("PATCH", f"/v1/registrations/{row.uid}", {"wish": wish})
    return accepted


def _waited(
    wiring: Wiring,
    rows: Sequence[RegistrationRow],
    *,
    resume: bool,
    timeout: float | None,
    as_json: bool,
    quiet: bool,
) -> Iterator[Exit]:
    """Wait for them, give their files; the code of each, or one for the waiting that was ended."""
    from bgfetch.cli.waiting import exit_of_outcome, followed
    from bgfetch.getting import Getting

    goes_on = not wiring.settings.in_process
    for scope, of_scope in _by_scope(rows):
        getting, ids = Getting(wiring, scope), [row.id for row in of_scope]
        outcomes = followed(
            _waiting(getting, ids, resume=resume, timeout=timeout),
            quiet=quiet or as_json,
            goes_on=goes_on,
            ids=ids,
        )
        if outcomes is None:
            yield Exit.DETACHED
            return
        yield from [exit_of_outcome(outcome, goes_on=goes_on) for outcome in outcomes]
        _give_files(wiring, scope, outcomes, as_json=as_json)


def _waiting(
    getting: Getting, ids: Sequence[str], *, resume: bool, timeout: float | None
) -> Callable[[Told], list[Outcome]]:
    call = getting.resume if resume else getting.wait
    return lambda told: call(ids, told=told, timeout=timeout)


def _give_files(wiring: Wiring, scope: str, outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    from bgfetch.shelf import Shelf

    shelf = Shelf(wiring, scope)
    for record in [record for outcome in outcomes if outcome.settled for record in outcome.records]:
        file = shelf.fetched(record, record.request)
        if file is not None:
            give_file(file, as_json=as_json)


def _tell_end(outcome: Outcome, scope: str, *, as_json: bool) -> None:
    word = outcome.last.failure_reason or outcome.last.result
    if as_json:
        give_json({"id": outcome.id, "scope": scope, "settled": outcome.settled, "failure_reason": word})
    elif outcome.settled:
        say(f"{outcome.id}: over ({word})")
    else:
        say(f"{outcome.id}: asked to end; whoever runs it has not answered yet")


def _by_scope(rows: Sequence[RegistrationRow]) -> list[tuple[str, list[RegistrationRow]]]:
    grouped: dict[str, list[RegistrationRow]] = {}
    for row in rows:
        grouped.setdefault(row.scope, []).append(row)
    return list(grouped.items())


def _named(row: RegistrationRow) -> dict[str, object]:
    return {"uid": row.uid, "scope": row.scope, "id": row.id}


def _together(codes: Sequence[Exit]) -> Exit:
    """One code for several: theirs where they agree."""
    if not codes:
        return Exit.DONE
    if Exit.DETACHED in codes:
        return Exit.DETACHED
    return codes[0] if len({*codes}) == 1 else Exit.SOME_FAILED
