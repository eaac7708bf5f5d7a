"""`bgfetch get`: the main job, in one command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from bgfetch.cli import options
from bgfetch.cli.exits import Exit, exit_of
from bgfetch.cli.home import opened
from bgfetch.cli.output import give_file, give_json, give_line, say
from bgfetch.core.digests import Digest, digest_prefix_from_name
from bgfetch.core.identity import default_id, request_key
from bgfetch.core.model import Progress, Request, State
from bgfetch.core.names import name_from_url, printable
from bgfetch.core.urls import redacted
from bgfetch.errors import CacheError, FetchError, InvalidRequest
from bgfetch.getting import Getting, Outcome, Told
from bgfetch.shelf import Got, Shelf
from bgfetch.sources.https import checked_request
from bgfetch.wiring import Wiring

if TYPE_CHECKING:
    from bgfetch.cli.target import Target
    from bgfetch.registrations.port import RecordRow, RegistrationOptions

__all__ = ["get"]

_BY_NAME, _SIDECAR = "name", "sidecar"


@dataclass(frozen=True, slots=True)
class Said:
    """What was said on the command line."""

    sources: Sequence[str]
    input_file: Iterable[str] | None
    output: str | None
    id: str
    title: str
    scope: str
    sha256: str | None
    checksum: str | None
    expected_size: int | None
    headers: Sequence[str]
    limit_rate: int | None
    connections: int | None
    priority: int | None
    timeout: float | None
    detach: bool
    in_process: bool
    as_json: bool
    quiet: bool


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option(
    "-i",
    "--input-file",
    type=click.File("r"),
    metavar="FILE",
    help="Read more SOURCEs, one a line; - is stdin.",
)
@click.option("-o", "--output", metavar="PATH", help="Also put the file here; several go into a directory.")
@click.option("--id", "id", default="", metavar="ID", help="Register under this id.")
@click.option("--title", default="", metavar="TEXT", help="What `ls` shows.")
@options.scope
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
@options.limit_rate
@options.connections
@options.priority
@options.timeout
@click.option("-d", "--detach", is_flag=True, help="Do not wait: print the id and leave it to the daemon.")
@click.option(
    "--in-process",
    is_flag=True,
    help="Use no daemon: fetch here, and stop when this stops (BGFETCH_IN_PROCESS).",
)
@options.as_json
@options.quiet
def get(**given: Any) -> int:
    """Fetch SOURCEs, verify them, and print the path of each file, one a line.

    What is here already is not fetched again. Ctrl-C leaves the download to the daemon, as --detach does; without one it
    stops and keeps what has come, and the same command goes on.
    """
    said = Said(**given)
    requests = _requests(said)
    target = _target(said, len(requests))
    here = said.in_process or None
    with opened(connections=said.connections, limit_rate=said.limit_rate, in_process=here) as wiring:
        if said.detach and wiring.settings.in_process:
            raise InvalidRequest("--detach leaves the download to the daemon, and --in-process uses none")
        return _Job(wiring, said, target).run(requests)


class _Job:
    """One call of the command."""

    def __init__(self, wiring: Wiring, said: Said, target: Target | None) -> None:
        self._wiring = wiring
        self._said = said
        self._target = target
        self._shelf = Shelf(wiring, said.scope, by_name=said.checksum == _BY_NAME, named=target is None)
        self._failures: list[Exit] = []

    def run(self, requests: Sequence[Request]) -> Exit:
        """Fetch what is missing, give what is there; the exit code."""
        said = self._said
        if said.checksum == _SIDECAR:
            from bgfetch.cli.sidecar import with_sidecars

            requests = with_sidecars(self._wiring, self._shelf, requests, timeout=said.timeout)
        getting = Getting(self._wiring, said.scope)
        if self._target is not None:
            self._target.check_room(self._wiring, sum(request.expected_size or 0 for request in requests))
        missing = getting.missing(requests, self._shelf, id=said.id)
        outcome: Outcome | None = None
        if missing and said.detach:
            return self._leave(getting, missing)
        if missing:
            outcome = self._fetch(getting, missing)
            if outcome is None or not outcome.settled:
                return Exit.DETACHED if outcome is None else Exit.STILL_WAITING
        fetched = {record.key: record for record in outcome.records} if outcome is not None else {}
        given = [self._give(request, self._found(fetched, request)) for request in requests]
        if not self._failures:
            return Exit.DONE
        return Exit.SOME_FAILED if any(given) else self._failures[0]

    def _leave(self, getting: Getting, missing: Sequence[Request]) -> Exit:
        said = self._said
        id_ = getting.begin(missing, id=said.id, title=said.title, options=self._options())
        if said.as_json:
            give_json({"id": id_, "scope": said.scope})
        else:
            give_line(id_)
        return Exit.DONE

    def _options(self) -> RegistrationOptions:
        """What counts for this registration, also where the daemon runs others beside it."""
        from bgfetch.registrations.port import RegistrationOptions

        said = self._said
        return RegistrationOptions(said.priority or 0, said.limit_rate or 0, said.connections or 0)

    def _fetch(self, getting: Getting, missing: Sequence[Request]) -> Outcome | None:
        from bgfetch.cli.waiting import exit_of_outcome, followed

        said = self._said
        outcome = followed(
            lambda told: getting.get(
                missing,
                told=self._checking_room(missing, told),
                id=said.id,
                title=said.title,
                options=self._options(),
                timeout=said.timeout,
            ),
            quiet=said.quiet or said.as_json,
            goes_on=not self._wiring.settings.in_process,
            ids=[said.id or default_id(list(missing))],
            name=said.title or ", ".join(name_from_url(request.url) for request in missing[:3]),
        )
        if outcome is not None:
            code = exit_of_outcome(outcome, goes_on=not self._wiring.settings.in_process)
            self._failures += [code] if code else []
        return outcome

    def _checking_room(self, missing: Sequence[Request], tell: Told) -> Told:
        """Refuses what the target cannot take, and lets it rest where it was begun for this target."""
        from bgfetch.registrations.port import Wish

        target, said = self._target, self._said
        if target is None:
            return tell
        registrations = self._wiring.registrations
        is_ours = registrations.active(said.scope, said.id or default_id(list(missing))) is None

        def told(id_: str, progress: Progress) -> None:
            tell(id_, progress)
            try:
                if progress.state is not State.SETTLED:
                    target.check_room(self._wiring, progress.download_total)
            except CacheError as error:
                row = registrations.active(said.scope, id_) if is_ours else None
                if row is None:
                    raise
                self._wiring.runs.wish(row.uid, Wish.PAUSE)
                then = f"`bgfetch resume {id_}` fetches it into the cache, `bgfetch abort {id_}` gives it up"
                raise CacheError(f"{error}. It rests; {then}") from error

        return told

    def _found(self, fetched: Mapping[str, RecordRow], request: Request) -> Got | None:
        record = fetched.get(request_key(request))
        if record is None:
            return self._shelf.cached(request)
        try:
            return self._shelf.fetched(record, request)
        except FetchError as error:
            say(str(error))
            self._failures.append(exit_of(error))
            return None

    def _give(self, request: Request, file: Got | None) -> bool:
        if file is None:
            if self._said.as_json:
                give_json({"url": redacted(request.url), "path": None})
            return False
        path = file.path if self._target is None else self._target.put(self._wiring, file)
        give_file(file, path, as_json=self._said.as_json)
        return True


def _requests(said: Said) -> list[Request]:
    urls = [*said.sources, *(line.strip() for line in said.input_file or () if line.strip())]
    if not urls:
        raise InvalidRequest("there is nothing to get: name at least one SOURCE")
    integrity = _integrity(said, count=len(urls))
    headers = [_header(text) for text in said.headers]
    requests = [
        checked_request(url, headers=headers, integrity=integrity, expected_size=said.expected_size)
        for url in urls
    ]
    if said.checksum == _BY_NAME:
        _check_names(requests)
    return requests


def _integrity(said: Said, *, count: int) -> str:
    if said.sha256 is not None and said.checksum is not None:
        raise InvalidRequest("--sha256 and --checksum say the same thing: give one of them")
    if said.checksum in (_BY_NAME, _SIDECAR):
        return ""
    text = f"sha256:{said.sha256}" if said.sha256 is not None else said.checksum
    if text is None:
        return ""
    if count > 1:
        raise InvalidRequest("one digest cannot be that of several files: get them one by one")
    return str(Digest.parse(text))


def _check_names(requests: Sequence[Request]) -> None:
    for request in requests:
        name = name_from_url(request.url)
        if digest_prefix_from_name(name) is None:
            raise InvalidRequest(
                f"the name {printable(name)!r} carries no digits of a sha256, as resnet18-f37072fd.pth does"
            )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise InvalidRequest(
            "a header field is written 'Name: value'; one that was given has no name or no colon"
        )
    return name, value.strip()


def _target(said: Said, count: int) -> Target | None:
    if said.output is None:
        return None
    from bgfetch.cli.target import Target

    return Target(said.output, count=count)
