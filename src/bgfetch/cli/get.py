"""`bgfetch get`: the main job, in one command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bgfetch.cli.exits import Exit, exit_of_failure
from bgfetch.cli.home import opened
from bgfetch.cli.words import bytes_in_words
from bgfetch.core.digests import Digest
from bgfetch.core.model import Progress, Request, Result, State
from bgfetch.core.names import name_from_url, printable
from bgfetch.core.urls import redacted
from bgfetch.errors import InvalidRequest
from bgfetch.getting import Getting, Got
from bgfetch.sources.https import checked_request
from bgfetch.wiring import Wiring

__all__ = ["get"]


@dataclass(frozen=True, slots=True)
class Options:
    """What was said on the command line."""

    output: str | None
    id: str
    title: str
    scope: str
    timeout: float | None
    as_json: bool
    quiet: bool
    sidecar: bool


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("-o", "--output", metavar="PATH", help="Also put the file here.")
@click.option("--id", "id_", default="", metavar="ID", help="Register under this id.")
@click.option("--title", default="", metavar="TEXT", help="What `ls` shows.")
@click.option(
    "--scope", default="default", metavar="SCOPE", help="Namespace of ids and caches.", show_default=True
)
@click.option("--sha256", metavar="HEX", help="What the file must have.")
@click.option(
    "--checksum",
    metavar="ALG:HEX",
    help="The same with another digest; `sidecar` looks for SOURCE.sha256 or SHA256SUMS beside it, "
    "`name` takes the digits that torch.hub puts into file names.",
)
@click.option("--size", "expected_size", type=int, metavar="BYTES", help="What the file's length must be.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="'K: V'", help="Send this header field as well."
)
@click.option(
    "-i",
    "--input-file",
    type=click.File("r"),
    metavar="FILE",
    help="Read more SOURCEs, one a line; - is stdin.",
)
@click.option("--limit-rate", metavar="RATE", help="Bytes a second, such as 5M.")
@click.option(
    "-x", "--connections", type=click.IntRange(1, 64), help="For one file; as many as help otherwise."
)
@click.option(
    "--timeout", metavar="TIME", help="Give up waiting after this, such as 90 or 10m; what came is kept."
)
@click.option("--in-process", is_flag=True, help="Use no daemon (there is none yet: always so).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def get(  # noqa: PLR0917 - click passes what was declared above
    sources: Sequence[str],
    output: str | None,
    id_: str,
    title: str,
    scope: str,
    sha256: str | None,
    checksum: str | None,
    expected_size: int | None,
    headers: Sequence[str],
    input_file: click.utils.LazyFile | None,
    limit_rate: str | None,
    connections: int | None,
    timeout: str | None,
    in_process: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Fetch SOURCEs, verify them, and print the path of each file, one a line.

    What is here already is not fetched again. Ctrl-C stops and keeps what has come; the same command goes on.
    """
    from bgfetch.config import duration, size

    urls = [*sources, *(line.strip() for line in input_file or () if line.strip())]
    if not urls:
        raise InvalidRequest("there is nothing to get: name at least one SOURCE")
    integrity = _integrity(sha256, checksum, count=len(urls))
    requests = [
        checked_request(
            url,
            headers=[_header(text) for text in headers],
            integrity=integrity if integrity not in ("sidecar", "name") else "",
            expected_size=expected_size,
        )
        for url in urls
    ]
    if output is not None:
        _check_output(output, count=len(requests))
    options = Options(
        output,
        id_,
        title,
        scope,
        None if timeout is None else duration(timeout),
        as_json,
        quiet,
        integrity == "sidecar",
    )
    with opened(
        connections=connections, limit_rate=None if limit_rate is None else size(limit_rate)
    ) as wiring:
        return _get(wiring, requests, options)


def _integrity(sha256: str | None, checksum: str | None, *, count: int) -> str:
    if sha256 is not None and checksum is not None:
        raise InvalidRequest("--sha256 and --checksum say the same thing: give one of them")
    if checksum in ("sidecar", "name"):
        return checksum
    text = f"sha256:{sha256}" if sha256 is not None else checksum
    if text is None:
        return ""
    if count > 1:
        raise InvalidRequest("one digest cannot be that of several files: get them one by one")
    return str(Digest.parse(text))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise InvalidRequest(f"a header field is written 'Name: value', not {text.split()[0][:40]!r}")
    return name, value.strip()


def _check_output(output: str, *, count: int) -> None:
    """Refuse a target that cannot be written before the first byte is asked for."""
    target = Path(output)
    if count > 1 and not target.is_dir():
        raise InvalidRequest(f"{count} files need a directory to go to; {output!r} is none")
    if count == 1 and (target.is_dir() or target.is_symlink()):
        kind = "a link" if target.is_symlink() else "a directory"
        raise InvalidRequest(f"{output!r} is {kind}; name the file to write")
    directory = target if count > 1 else target.parent
    if not directory.is_dir():
        raise InvalidRequest(f"{str(directory)!r} is not a directory")
    import os

    if not os.access(directory, os.W_OK):
        raise InvalidRequest(f"{str(directory)!r} cannot be written to")


def _get(wiring: Wiring, requests: list[Request], options: Options) -> int:
    getting = Getting(wiring, options.scope)
    missing = [request for request in requests if getting.cached(request) is None]
    code = _fetch(getting, missing, options) if missing else Exit.DONE
    if code in (Exit.STILL_WAITING, Exit.DETACHED):
        return code
    found = [(request, getting.cached(request)) for request in requests]
    got = [(request, file) for request, file in found if file is not None]
    for request, file in got:
        _give(wiring, request, file, options)
    return Exit.SOME_FAILED if code and got and len(got) < len(requests) else code


def _fetch(getting: Getting, requests: list[Request], options: Options) -> Exit:
    from bgfetch.cli.bar import Bar

    name = options.title or ", ".join(name_from_url(request.url) for request in requests[:3])
    last = Progress(0, 0)

    def told(progress: Progress) -> None:
        nonlocal last
        last = progress
        bar.show(progress)

    try:
        with Bar(name, quiet=options.quiet or options.as_json) as bar:
            last, registration = getting.get(
                requests, told=told, id=options.id, title=options.title, timeout=options.timeout
            )
    except KeyboardInterrupt:
        _say(f"stopped; {bytes_in_words(last.downloaded)} are kept. The same command goes on from there.")
        return Exit.DETACHED
    if last.state is not State.SETTLED:
        _say(
            f"not done in time; {bytes_in_words(last.downloaded)} are kept. The same command goes on from there."
        )
        return Exit.STILL_WAITING
    if last.result is Result.SUCCESS:
        return Exit.DONE
    _say(f"{registration.id}: {printable(last.failure_detail)}. See `bgfetch show {registration.id}`.")
    return exit_of_failure(last.failure_detail, last.failure_reason)


def _give(wiring: Wiring, request: Request, file: Got, options: Options) -> None:
    path = file.path
    if options.output is not None:
        target = Path(options.output)
        path = target / file.path.name if target.is_dir() else target
        wiring.links.export(file.path, path)
    if not options.as_json:
        click.echo(path)
        return
    import json

    facts = {"path": str(path), "url": redacted(request.url), "size": file.size, "verified": file.verified}
    click.echo(json.dumps({**facts, "digest": file.digest}))


def _say(text: str) -> None:
    click.echo(f"bgfetch: {text}", err=True)
