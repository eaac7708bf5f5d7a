"""`bgfetch cache`: a look at what is stored, and what a person does to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bgfetch.cli import options
from bgfetch.cli.exits import Exit
from bgfetch.cli.home import opened
from bgfetch.cli.output import columns, give_file, give_json, give_path, ok_to, say
from bgfetch.terminal.words import bytes_in_words, seconds_in_words

if TYPE_CHECKING:
    from bgfetch.cache.entries import Placed
    from bgfetch.cache.maintenance import Kept, Listed
    from bgfetch.cache.repair import Report
    from bgfetch.core.quota import Plan
    from bgfetch.wiring import Wiring

__all__ = ["cache"]

_LEAST_AGE = 60.0  # seconds; a body on its way into the cache is referred to by nobody yet

_urls = click.argument("urls", nargs=-1, metavar="[URL]...")


@click.group()
def cache() -> None:
    """Look after what is stored."""


@cache.command("ls")
@options.any_scope
@options.as_json
def list_entries(*, scope: str | None, as_json: bool) -> None:
    """List what the caches hold."""
    from bgfetch.cache.maintenance import listing
    from bgfetch.core.urls import redacted

    with opened() as wiring:
        rows = listing(_kept(wiring), scope)
        if as_json:
            for row in rows:
                give_json(_facts(wiring, row))
            return
        now = time.time()
        cells = [
            (
                row.placed.cache
                if row.placed.scope == "default"
                else f"{row.placed.scope}/{row.placed.cache}",
                bytes_in_words(row.placed.entry.size) if row.present else "gone",
                row.placed.entry.verified or "-",
                seconds_in_words(max(0.0, now - row.placed.entry.last_used)),
                "pinned" if row.placed.entry.pinned else "-",
                redacted(row.placed.entry.request.url),
            )
            for row in rows
        ]
        total = _total(wiring)
    if cells:
        click.echo(columns(["CACHE", "SIZE", "VERIFIED", "USED", "PIN", "URL"], cells))
    click.echo(total)


def _total(wiring: Wiring) -> str:
    """What all scopes take together, beside what they may."""
    from bgfetch.cache.maintenance import usage

    used, quota = usage(wiring.kept, wiring.registrations).total, wiring.settings.cache_quota
    allowed = f" of a quota of {bytes_in_words(quota)}" if quota else ", no quota is set"
    return f"{bytes_in_words(used)} stored in all{allowed}"


def _facts(wiring: Wiring, row: Listed) -> dict[str, Any]:
    from bgfetch.core.urls import redacted

    entry = row.placed.entry
    return {
        "scope": row.placed.scope,
        "cache": row.placed.cache,
        "url": redacted(entry.request.url),
        "size": entry.size,
        "verified": entry.verified,
        "digest": entry.digest,
        "added_at": entry.added_at,
        "last_used": entry.last_used,
        "pinned": entry.pinned,
        "path": str(wiring.blobs.path(entry.blob)) if row.present else None,
    }


@cache.command()
@click.argument("url")
@options.scope
@options.as_json
def path(*, url: str, scope: str, as_json: bool) -> None:
    """Print the path of a file that is here; exit 3 if it is not."""
    from bgfetch.core.urls import redacted
    from bgfetch.errors import NotFound
    from bgfetch.shelf import Shelf
    from bgfetch.sources.https import checked_request

    request = checked_request(url)
    with opened() as wiring:
        file = Shelf(wiring, scope).cached(request)
        if file is None:
            raise NotFound(f"{redacted(request.url)} is not in the cache; `bgfetch get` fetches it")
        give_file(file, as_json=as_json)


@cache.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@options.scope
@options.yes
@options.dry_run
@options.as_json
def rm(*, urls: Sequence[str], scope: str, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Remove files from the caches; what something else still refers to stays."""
    from bgfetch.cache.maintenance import remove
    from bgfetch.eviction import Needed

    with opened() as wiring:
        kept = _kept(wiring)
        placed = [each for url in urls for each in _placed(kept, scope, url)]
        what = f"{len(placed)} entries of {bytes_in_words(sum(each.entry.size for each in placed))}"
        freed, words = 0, f"{what} would be removed"
        if not dry_run:
            if not ok_to(f"Remove {what}?", yes=yes):
                return Exit.ABORTED
            Needed(wiring.registrations, blobs={each.entry.blob for each in placed}).release()
            freed = remove(kept, wiring.registrations, placed)
            words = f"{bytes_in_words(freed)} freed"
    if as_json:
        give_json({"entries": len(placed), "freed": freed, "dry_run": dry_run})
    else:
        say(words)
    return Exit.DONE


@cache.command()
@click.option(
    "--older-than",
    metavar="TIME",
    default="1h",
    show_default=True,
    callback=options.seconds,
    help="Leave alone what was touched since, at least one minute.",
)
@click.option(
    "--to",
    "most",
    metavar="SIZE",
    callback=options.bytes_,
    help="Then evict the least recently used files that are not pinned until all together take no more.",
)
@options.yes
@options.dry_run
@options.as_json
def prune(*, older_than: float, most: int | None, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Delete bytes that no registration and no cache refers to."""
    from bgfetch.cache.maintenance import prune as prune_kept
    from bgfetch.eviction import Needed

    with opened() as wiring:
        kept, now = _kept(wiring), wiring.clock.now()
        age = max(older_than, _LEAST_AGE)
        needed = Needed(wiring.registrations, before=now - age)
        done = prune_kept(kept, needed, now=now, older_than=age, dry_run=True)
        words = f"{bytes_in_words(done.freed)} in {len(done.blobs)} files and {len(done.partials)} partials"
        if most is not None:
            words += f", and evict down to {bytes_in_words(most)}"
        if not dry_run:
            if not ok_to(f"Delete {words}?", yes=yes):
                return Exit.ABORTED
            needed.release()
            done = prune_kept(kept, wiring.registrations, now=now, older_than=age)
        evicted = _evicted(wiring, most, dry_run=dry_run)
    freed = done.freed + evicted.freed
    if as_json:
        facts = {"freed": freed, "blobs": done.blobs, "partials": done.partials, "evicted": evicted.evict}
        give_json({**facts, "dry_run": dry_run})
    else:
        say(f"{bytes_in_words(freed)} would be freed" if dry_run else f"{bytes_in_words(freed)} freed")
    return Exit.DONE


def _evicted(wiring: Wiring, most: int | None, *, dry_run: bool) -> Plan:
    """What goes so that all takes so many bytes at the most."""
    from bgfetch.cache.room import OverQuota
    from bgfetch.core.quota import Plan
    from bgfetch.errors import QuotaExceeded

    if most is None:
        return Plan()
    try:
        return wiring.eviction.keep_to(most, dry_run=dry_run)
    except OverQuota as full:
        raise QuotaExceeded(str(full)) from full


@cache.command()
@_urls
@options.scope
@options.as_json
def verify(*, urls: Sequence[str], scope: str, as_json: bool) -> int:
    """Read files again and compare them with what was stored: those of these URLs, or all. Exit 6 if one rotted."""
    with opened() as wiring:
        reports = _verified(wiring, scope, urls)
    for report in reports:
        if as_json:
            give_json(_told(report))
        elif not report.sound:
            say(f"{_name(report)}: {bytes_in_words(report.damaged.length)} of it are damaged")
    bad = sum(not report.sound for report in reports)
    if not as_json:
        say(f"{len(reports)} files read, {bad} damaged{'; `bgfetch cache repair` mends them' if bad else ''}")
    return Exit.INTEGRITY if bad else Exit.DONE


@cache.command()
@_urls
@options.scope
@options.timeout
@options.quiet
@options.as_json
def repair(*, urls: Sequence[str], scope: str, timeout: float | None, quiet: bool, as_json: bool) -> int:
    """Verify files, and fetch again only those pieces that are damaged."""
    with opened() as wiring:
        damaged = [report for report in _verified(wiring, scope, urls) if not report.sound]
        codes = [_mended(wiring, report, scope, timeout, quiet=quiet or as_json) for report in damaged]
    bad = [code for code in codes if code]
    if as_json:
        give_json(*({**_told(it), "repaired": not code} for it, code in zip(damaged, codes, strict=True)))
    else:
        say(f"{len(damaged)} files were damaged, {len(damaged) - len(bad)} are whole again")
    return bad[0] if bad else Exit.DONE


def _mended(wiring: Wiring, report: Report, scope: str, timeout: float | None, *, quiet: bool) -> Exit:
    from bgfetch.cache.repair import repair as take_apart
    from bgfetch.cache.repair import repaired
    from bgfetch.cli.exits import exit_of
    from bgfetch.cli.waiting import exit_of_outcome, followed
    from bgfetch.errors import BgfetchError
    from bgfetch.eviction import Needed
    from bgfetch.getting import Getting

    kept = _kept(wiring)
    Needed(wiring.registrations, blobs={report.blob}).release()
    try:
        plan = take_apart(kept, wiring.registrations, report)
    except BgfetchError as error:
        say(str(error))
        return exit_of(error)
    getting = Getting(wiring, report.placed[0].scope if report.placed else scope)
    outcome = followed(
        lambda told: getting.get([plan.request], told=told, timeout=timeout),
        quiet=quiet,
        goes_on=not wiring.settings.in_process,
        name=_name(report),
    )
    if outcome is None:
        return Exit.DETACHED
    code = exit_of_outcome(outcome, goes_on=not wiring.settings.in_process)
    if code is Exit.DONE:
        (record,) = outcome.records
        repaired(
            kept,
            plan,
            blob=record.blob,
            size=record.total or 0,
            verified=record.verified,
            digest=record.digest,
        )
    return code


@cache.command()
@click.argument("url")
@click.argument("target", metavar="PATH")
@options.scope
@options.as_json
def export(*, url: str, target: str, scope: str, as_json: bool) -> None:
    """Put a file of the cache where you want it: a second name, or a copy on another file system."""
    from bgfetch.cache.maintenance import export as put
    from bgfetch.cli.target import Target

    Target(target, count=1)
    with opened() as wiring:
        kept = _kept(wiring)
        placed = _placed(kept, scope, url)[0]
        put(kept, placed, Path(target))
    if as_json:
        give_json({"url": _url_of(placed), "path": target, "size": placed.entry.size})
    else:
        give_path(Path(target))


@cache.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@options.scope
@options.as_json
def pin(*, urls: Sequence[str], scope: str, as_json: bool) -> None:
    """Keep files from eviction, whatever the quota; what replaces them is kept too."""
    _pin(urls, scope, pinned=True, as_json=as_json)


@cache.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@options.scope
@options.as_json
def unpin(*, urls: Sequence[str], scope: str, as_json: bool) -> None:
    """Let files be evicted again."""
    _pin(urls, scope, pinned=False, as_json=as_json)


def _pin(urls: Sequence[str], scope: str, *, pinned: bool, as_json: bool) -> None:
    with opened() as wiring:
        placed = [each for url in urls for each in _placed(_kept(wiring), scope, url)]
        for each in placed:
            wiring.entries.pin(each.entry.entry_id, pinned=pinned)
            if as_json:
                give_json({"url": _url_of(each), "cache": each.cache, "pinned": pinned})


def _kept(wiring: Wiring) -> Kept:
    return wiring.kept


def _placed(kept: Kept, scope: str, url: str) -> list[Placed]:
    """The entries of this URL; NotFound where there is none."""
    from bgfetch.core.matching import url_key
    from bgfetch.core.urls import parse_http_url, redacted
    from bgfetch.errors import NotFound

    wanted = url_key(parse_http_url(url))
    found = [each for each in kept.entries.placed(scope) if url_key(each.entry.request.url) == wanted]
    if not found:
        raise NotFound(
            f"{redacted(url)} is not in a cache of the scope {scope!r}; `bgfetch cache ls` lists all"
        )
    return found


def _verified(wiring: Wiring, scope: str, urls: Sequence[str]) -> list[Report]:
    from bgfetch.cache.repair import verify as read_again

    kept = _kept(wiring)
    blobs = [each.entry.blob for url in urls for each in _placed(kept, scope, url)] if urls else None
    return list(read_again(kept, blobs))


def _told(report: Report) -> dict[str, Any]:
    return {
        "blob": report.blob,
        "urls": _urls_of(report),
        "size": report.size,
        "checked": report.checked,
        "sound": report.sound,
        "damaged": report.damaged.length,
    }


def _name(report: Report) -> str:
    return next(iter(_urls_of(report)), report.blob)


def _urls_of(report: Report) -> list[str]:
    return [_url_of(each) for each in report.placed]


def _url_of(placed: Placed) -> str:
    from bgfetch.core.urls import redacted

    return redacted(placed.entry.request.url)
