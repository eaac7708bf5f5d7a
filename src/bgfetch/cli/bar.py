"""The moving line: how much, how fast, how long, over how many connections, and in which state."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bgfetch.core.model import Progress, State
from bgfetch.core.names import printable
from bgfetch.cli.words import bytes_in_words, seconds_in_words, state_in_words

__all__ = ["Bar"]


class Bar:
    """A line on stderr that follows a registration; nothing at all where stderr is no terminal.

    Args:
        name: What is fetched.
        quiet: Draw nothing.
    """

    def __init__(self, name: str, *, quiet: bool) -> None:
        self._name = printable(name)
        console = Console(stderr=True)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._shown = not quiet and sys.stderr.isatty()

    def __enter__(self) -> Bar:
        if self._shown:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Draw this state."""
        if self._shown:
            self._live.update(self._row(progress), refresh=True)

    def _row(self, progress: Progress) -> Table:
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(no_wrap=True, ratio=2)
        row.add_column(ratio=3)
        row.add_column(no_wrap=True, justify="right")
        row.add_column(no_wrap=True, justify="right", ratio=3)
        total = progress.download_total
        done = f"{bytes_in_words(progress.downloaded)}/{bytes_in_words(total) if total else '?'}"
        bar = ProgressBar(total=total or None, completed=progress.downloaded, pulse=not total)
        row.add_row(
            Text(self._name, overflow="ellipsis"), bar, done, Text(_doing(progress), overflow="ellipsis")
        )
        return row


def _doing(progress: Progress) -> str:
    if progress.state is not State.RUNNING:
        return state_in_words(progress, time.time())
    left = "" if progress.eta is None else f" {seconds_in_words(progress.eta)} left"
    return f"{bytes_in_words(int(progress.rate))}/s{left} x{progress.connections}"
