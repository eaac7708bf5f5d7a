"""`bgfetch ls`, `show`, `events`: what there is, and what happened. They only look, and start at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from bgfetch.cli import options
from bgfetch.cli.home import opened
from bgfetch.cli.output import columns, give_json
from bgfetch.engine.claims import running
from bgfetch.registrations.summary import Summary, summaries
from bgfetch.terminal.words import bytes_in_words, seconds_in_words, state_words

if TYPE_CHECKING:
    from bgfetch.registrations.port import LoggedEvent, RecordRow, RegistrationRow
    from bgfetch.wiring import Wiring

__all__ = ["events", "ls", "show"]

_AT_ONCE = 1000
_LOOK = 0.1  # seconds between two looks at whether anything was written: 20 microseconds each


@click.command()
@options.any_scope
@click.option("-a", "--active", is_flag=True, help="Only those that are not over.")
@click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help="At most N, the newest.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@options.as_json
def ls(*, scope: str | None, active: bool, limit: int | None, quiet: bool, as_json: bool) -> None:
    """List registrations, newest first."""
    with opened() as wiring:
        rows = summaries(wiring.database, scope, active=active, limit=limit)
        run_now = running(wiring.claims_root) if any(row.settled_at is None for row in rows) else set()
    if as_json:
        give_json(*({**row._asdict(), "running": row.uid in run_now} for row in rows))
    elif quiet:
        click.echo(columns((), [(row.id,) for row in rows]) if rows else "", nl=bool(rows))
    elif rows:
        click.echo(_table(rows, run_now, scoped=scope is None))
    else:
        click.echo("bgfetch: there is nothing yet; `bgfetch get URL` makes the first one", err=True)


def _table(rows: Sequence[Summary], run_now: set[int], *, scoped: bool) -> str:
    now = time.time()
    scoped = scoped and any(row.scope != "default" for row in rows)
    size, age = cache(_size), cache(seconds_in_words)  # of ten thousand rows many say the same
    head = ["ID", "STATE", "SIZE", "AGE", *(["SCOPE"] if scoped else []), "TITLE"]
    cells = [
        (
            row.id,
            _state(row, run_now, now),
            size(row.downloaded, row.download_total),
            age(max(0, round(now - row.created_at))),
            *((row.scope,) if scoped else ()),
            row.title,
        )
        for row in rows
    ]
    return columns(head, cells)


def _state(row: Summary, run_now: set[int], now: float) -> str:
    if row.settled_at is not None:
        return "done" if row.result == "success" else f"failed: {row.failure_reason}"
    if row.uid not in run_now:  # what is stored is what it did when whoever ran it ended
        return "paused" if row.wish == "pause" else "stopped"
    return state_words(row.state, row.until, now)


def _size(downloaded: int, total: int) -> str:
    if total in (0, downloaded):
        return bytes_in_words(downloaded)
    return f"{bytes_in_words(downloaded)}/{bytes_in_words(total)}"


@click.command()
@click.argument("id", metavar="ID", shell_complete=options.active_ids)
@options.scope
@options.as_json
def show(*, id: str, scope: str, as_json: bool) -> None:  # noqa: A002 - the standard's word
    """Show one registration with its records: the active one of this id, or the last one."""
    with opened() as wiring:
        row = _latest(wiring, scope, id)
        records = wiring.registrations.records(row.uid)
        run_now = row.settled_at is None and row.uid in running(wiring.claims_root)
        if as_json:
            give_json(_facts(wiring, row, records, run_now=run_now))
        else:
            click.echo(_described(wiring, row, records, run_now=run_now))


def _latest(wiring: Wiring, scope: str, id_: str) -> RegistrationRow:
    row = wiring.registrations.latest(scope, id_)
    if row is None:
        from bgfetch.getting import over_or_unknown

        raise over_or_unknown(wiring, scope, id_)
    return row


def _described(wiring: Wiring, row: RegistrationRow, records: Sequence[RecordRow], *, run_now: bool) -> str:
    now = time.time()
    summary = _summary(wiring, row)
    lines = [
        ("id", row.id),
        ("title", row.title),
        ("scope", row.scope),
        ("state", _state(summary, {row.uid} if run_now else set(), now)),
        ("detail", row.failure_detail),
        ("size", _size(row.downloaded, summary.download_total)),
        ("begun", _instant(row.created_at)),
        ("ended", "" if row.settled_at is None else _instant(row.settled_at)),
        ("run by", row.owner if run_now else ""),
    ]
    for record in records:
        lines += [("", ""), *_record_lines(wiring, record)]
    return columns((), [(f"{name}:" if name else "", text) for name, text in lines if text or not name])


def _summary(wiring: Wiring, row: RegistrationRow) -> Summary:
    rows = summaries(wiring.database, row.scope, active=False, limit=None)
    return next(it for it in rows if it.uid == row.uid)


def _record_lines(wiring: Wiring, record: RecordRow) -> list[tuple[str, str]]:
    from bgfetch.core.urls import redacted

    size = _size(record.downloaded, record.total or 0)
    path = str(wiring.blobs.path(record.blob)) if record.blob else ""
    return [
        ("url", redacted(record.request.url)),
        ("result", record.result or "unfinished"),
        ("detail", record.failure_detail),
        ("size", size),
        ("verified", record.verified),
        ("digest", record.digest or record.request.integrity),
        ("restarts", str(record.restarts) if record.restarts else ""),
        ("file", path),
    ]


def _facts(
    wiring: Wiring, row: RegistrationRow, records: Sequence[RecordRow], *, run_now: bool
) -> dict[str, Any]:
    from bgfetch.core.urls import redacted

    told = (
        "uid", "scope", "id", "title", "downloaded", "uploaded", "upload_total", "state", "until",
        "wish", "result", "failure_reason", "failure_detail", "records_available", "created_at", "settled_at",
    )  # fmt: skip
    of_record = (
        "result", "failure_reason", "failure_detail", "downloaded", "total", "verified", "digest", "restarts",
    )  # fmt: skip
    facts: dict[str, Any] = {name: getattr(row, name) for name in told}
    facts["download_total"] = _summary(wiring, row).download_total
    facts["promised_total"] = row.download_total
    facts["running"] = run_now
    facts["records"] = [
        {
            "url": redacted(record.request.url),
            **{name: getattr(record, name) for name in of_record},
            "path": str(wiring.blobs.path(record.blob)) if record.blob else None,
        }
        for record in records
    ]
    return facts


@click.command()
@click.argument("id", metavar="[ID]", default="", shell_complete=options.active_ids)
@options.scope
@click.option("--after", type=int, default=0, metavar="N", help="Only lines with a greater number.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@options.as_json
def events(*, id: str, scope: str, after: int, follow: bool, as_json: bool) -> None:  # noqa: A002 - the standard's word
    """Show what happened, to one registration or to all, oldest first.

    Each line begins with its number; --after the last one gives what is new.
    """
    with opened() as wiring:
        uid = _latest(wiring, scope, id).uid if id else None
        for lines in _lines(wiring, uid, after, follow=follow):
            if as_json:
                give_json(*({name: getattr(line, name) for name in line.__slots__} for line in lines))
            else:
                click.echo(columns((), [_line(each, named=uid is None) for each in lines]))


def _lines(wiring: Wiring, uid: int | None, after: int, *, follow: bool) -> Iterator[Sequence[LoggedEvent]]:
    """Lines after this one, some at a time; with `follow` it never ends. The store tells, whoever writes to it."""
    version = -1
    while True:
        before, version = version, wiring.registrations.data_version()
        while version != before and (lines := wiring.registrations.events(uid, after=after, limit=_AT_ONCE)):
            after = lines[-1].seq
            yield lines
        if not follow:
            return
        time.sleep(_LOOK)


def _line(event: LoggedEvent, *, named: bool) -> tuple[str, ...]:
    who = (event.id,) if named else ()
    return (str(event.seq), _instant(event.at), *who, event.name, event.detail)


def _instant(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
