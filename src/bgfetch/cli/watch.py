"""`bgfetch watch`: a table that moves, of what is being fetched, whoever fetches it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from bgfetch.cli import options
from bgfetch.cli.home import opened
from bgfetch.cli.output import give_json, give_line

if TYPE_CHECKING:
    from bgfetch.client.connection import Stream
    from bgfetch.core.model import Progress
    from bgfetch.registrations.port import RegistrationRow
    from bgfetch.wiring import Wiring

__all__ = ["watch"]

_STEP = 0.25  # seconds between two looks
_MOST = 200  # lines a table can usefully have


@click.command()
@options.ids_or_all
@options.any_scope
@click.option("--once", is_flag=True, help="Show it once and end.")
@options.as_json
def watch(*, ids: Sequence[str], scope: str | None, once: bool, as_json: bool) -> None:
    """Look on while registrations are fetched, until all are over or Ctrl-C; nothing ends by looking away.

    On a terminal a table moves; elsewhere a line tells of each change of state, and with --json of each progress.
    """
    with opened() as wiring:
        if not wiring.settings.in_process:
            wiring.daemon.ensure()
        with _listening(wiring, scope) as told, _shown(as_json=as_json) as show:
            for seen in _looks(wiring, ids, scope, told):
                show(seen)
                if once:
                    return


def _looks(
    wiring: Wiring, ids: Sequence[str], scope: str | None, told: dict[int, Progress]
) -> Iterator[list[tuple[RegistrationRow, Progress]]]:
    """How those stand that are wanted, again and again, until all of them are over."""
    from bgfetch.registrations.summary import summaries
    from bgfetch.running import stored_progress

    followed: set[int] = set()
    while True:
        active = summaries(wiring.database, scope, active=True, limit=None if ids else _MOST)
        followed |= {row.uid for row in active if not ids or row.id in ids}
        rows = [row for uid in sorted(followed) if (row := wiring.registrations.get(uid)) is not None]
        seen = [
            (row, (told.get(row.uid) if row.settled_at is None else None) or stored_progress(row))
            for row in rows
        ]
        yield seen
        if all(row.settled_at is not None for row, _progress in seen):
            return
        time.sleep(_STEP)


@contextmanager
def _listening(wiring: Wiring, scope: str | None) -> Iterator[dict[int, Progress]]:
    """What the daemon tells of registrations, by uid; the store knows neither rates nor what came this second."""
    told: dict[int, Progress] = {}
    if wiring.settings.in_process:
        yield told
        return
    over = threading.Event()
    streams: list[Stream] = []
    listener = threading.Thread(target=_listen, args=(wiring, scope, told, over, streams), daemon=True)
    listener.start()
    try:
        yield told
    finally:
        over.set()
        for stream in streams:
            stream.close()
        listener.join(1.0)


def _listen(
    wiring: Wiring, scope: str | None, told: dict[int, Progress], over: threading.Event, streams: list[Stream]
) -> None:
    from bgfetch.errors import DaemonError
    from bgfetch.wire import ToldProgress

    while not over.wait(0.05):
        with suppress(DaemonError):  # it has ended: what the store says is shown until another one is there
            streams[:] = [wiring.daemon.stream(query={"scope": scope or ""})]
            for event in streams[0]:
                if event.name == "progress":
                    each = ToldProgress.unpack(event.data)
                    told[each.uid] = each.progress
        told.clear()
        over.wait(_STEP)


class _Lines:
    """A line for each change, for a file or a pipe."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._last: dict[int, object] = {}

    def __call__(self, seen: Sequence[tuple[RegistrationRow, Progress]]) -> None:
        """Tell of those that are not as they were."""
        for row, progress in seen:
            now = progress if self._as_json else (progress.state, progress.result)
            if self._last.get(row.uid) != now:
                self._last[row.uid] = now
                self._tell(row, progress)

    def _tell(self, row: RegistrationRow, progress: Progress) -> None:
        from bgfetch.terminal.words import bytes_in_words, state_in_words
        from bgfetch.wire import ToldProgress

        if self._as_json:
            give_json(ToldProgress(row.uid, row.scope, row.id, progress).pack())
        else:
            words = state_in_words(progress, time.time())
            give_line(f"{row.id}: {words}, {bytes_in_words(progress.downloaded)}")


class _Table:
    """Moving lines, for a terminal."""

    def __init__(self) -> None:
        from bgfetch.terminal.bar import Bar

        self.bar = Bar(quiet=False, stays=True)

    def __call__(self, seen: Sequence[tuple[RegistrationRow, Progress]]) -> None:
        """Draw them."""
        self.bar.show_all({f"{row.title or row.id}": progress for row, progress in seen})


@contextmanager
def _shown(*, as_json: bool) -> Iterator[_Lines | _Table]:
    import sys

    if as_json or not sys.stderr.isatty():
        yield _Lines(as_json=as_json)
        return
    table = _Table()
    with table.bar:
        yield table
