"""The moving lines: how much, how fast, how long, over how many connections, and in which state.

In a notebook the same is shown below the cell.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bgfetch.core.model import Progress, Result, State
from bgfetch.core.names import printable
from bgfetch.terminal.notebook import Notebook, in_notebook
from bgfetch.terminal.words import bytes_in_words, seconds_in_words, state_in_words

if TYPE_CHECKING:  # rich is imported when there is something to draw: it takes longer than most commands
    from rich.live import Live
    from rich.table import Table

__all__ = ["Bar"]


class Bar:
    """A line on stderr for each registration that is followed; nothing at all where stderr is no terminal.

    Args:
        quiet: Draw nothing.
        stays: Leave the last lines on the terminal.
    """

    def __init__(self, *, quiet: bool, stays: bool = False) -> None:
        self._stays = stays
        self._notebook = Notebook() if not quiet and in_notebook() else None
        self._shown = not quiet and self._notebook is None and sys.stderr.isatty()
        self._rows: dict[str, Progress] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console  # noqa: PLC0415 - see above
            from rich.live import Live  # noqa: PLC0415 - see above

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=not self._stays)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, name: str, progress: Progress) -> None:
        """Draw this state of what has this name."""
        if self._notebook is not None:
            total = _total(progress)
            share = progress.downloaded / total if total else None
            size = f"{bytes_in_words(progress.downloaded)}/{bytes_in_words(total) if total else '?'}"
            self._notebook.show(name, share, f"{size} {_doing(progress)}")
        if self._live is not None:
            self._rows[name] = progress
            self._live.update(self._table(), refresh=True)

    def show_all(self, rows: Mapping[str, Progress]) -> None:
        """Draw these, and nothing else."""
        if self._live is not None:
            self._rows = dict(rows)
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        from rich.progress_bar import ProgressBar  # noqa: PLC0415 - see above
        from rich.table import Table  # noqa: PLC0415 - see above
        from rich.text import Text  # noqa: PLC0415 - see above

        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, ratio=2)
        table.add_column(ratio=3)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, justify="right", ratio=3)
        for name, progress in self._rows.items():
            total = _total(progress)
            table.add_row(
                Text(printable(name), overflow="ellipsis"),
                ProgressBar(total=total or None, completed=progress.downloaded, pulse=not total),
                f"{bytes_in_words(progress.downloaded)}/{bytes_in_words(total) if total else '?'}",
                Text(_doing(progress), overflow="ellipsis"),
            )
        return table


def _total(progress: Progress) -> int:
    """Bytes in all, 0 where nobody knows: of what is whole, what is here."""
    return progress.downloaded if progress.result is Result.SUCCESS else progress.download_total


def _doing(progress: Progress) -> str:
    if progress.state is not State.RUNNING:
        return state_in_words(progress, time.time())
    left = "" if progress.eta is None else f" {seconds_in_words(progress.eta)} left"
    return f"{bytes_in_words(int(progress.rate))}/s{left} x{progress.connections}"
