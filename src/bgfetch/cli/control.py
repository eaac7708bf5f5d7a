"""`bgfetch pause`, `resume`, `abort`: what a person asks of registrations, whatever process runs them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from bgfetch.cli import options
from bgfetch.cli.exits import Exit
from bgfetch.cli.home import opened
from bgfetch.cli.output import give_json, give_path, say

__all__ = ["abort", "pause", "resume"]

_PATIENCE = 15.0  # seconds; whoever runs it looks for wishes twice a second


@click.command()
@options.ids
@options.scope
def pause(*, ids: Sequence[str], scope: str) -> None:
    """Let registrations rest until `resume` or `get`; what has come is kept."""
    from bgfetch.getting import over_or_unknown
    from bgfetch.registrations.port import Wish

    with opened() as wiring:
        found = {each: wiring.registrations.active(scope, each) for each in ids}
        for id_, row in found.items():
            if row is None or not wiring.registrations.set_wish(row.uid, Wish.PAUSE):
                raise over_or_unknown(wiring, scope, id_)
            say(f"{id_}: paused; `bgfetch resume {id_}` goes on")


@click.command()
@options.ids
@options.scope
@options.timeout
@options.as_json
@options.quiet
def resume(*, ids: Sequence[str], scope: str, timeout: float | None, as_json: bool, quiet: bool) -> int:
    """Go on with registrations, here, wait for them, and print the paths of their files.

    Header fields that hold secrets are not stored: where a server wants them, repeat the `get` instead.
    """
    from bgfetch.cli.waiting import exit_of_outcome, followed
    from bgfetch.core.urls import redacted
    from bgfetch.getting import Getting
    from bgfetch.shelf import Shelf

    with opened() as wiring:
        shelf, getting = Shelf(wiring, scope), Getting(wiring, scope)
        outcomes = followed(
            lambda told: getting.resume(_each_once(ids), told=told, timeout=timeout),
            quiet=quiet or as_json,
        )
        if outcomes is None:
            return Exit.DETACHED
        codes = [exit_of_outcome(outcome) for outcome in outcomes]
        records = [record for outcome in outcomes if outcome.settled for record in outcome.records]
        for record in records:
            file = shelf.fetched(record, record.request)
            if file is not None and as_json:
                facts = {"url": redacted(file.url), "path": str(file.path), "size": file.size}
                give_json({**facts, "verified": file.verified, "digest": file.digest})
            elif file is not None:
                give_path(file.path)
    return _together(codes)


@click.command()
@options.ids
@options.scope
def abort(*, ids: Sequence[str], scope: str) -> int:
    """End registrations and delete what they had."""
    from bgfetch.getting import Getting

    with opened() as wiring:
        outcomes = Getting(wiring, scope).abort(_each_once(ids), timeout=_PATIENCE)
    codes = []
    for outcome in outcomes:
        codes.append(Exit.DONE if outcome.settled else Exit.STILL_WAITING)
        done = f"over ({outcome.last.failure_reason or outcome.last.result})"
        say(
            f"{outcome.id}: {done if outcome.settled else 'asked to end; whoever runs it has not answered yet'}"
        )
    return _together(codes)


def _each_once(ids: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(ids))


def _together(codes: Sequence[Exit]) -> Exit:
    """One code for several: theirs where they agree."""
    return codes[0] if len(set(codes)) == 1 else Exit.SOME_FAILED
