"""How a test waits for what another process does: for its event, and only where it has none by looking again and again.

Imported by tests as `tests.waiting`: pytest is run as `python -m pytest` from the root.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from bgfetch.core.model import Progress
from bgfetch.registration import BackgroundFetchRegistration

__all__ = ["Pipe", "has_ended", "lasts", "looked_for", "reached"]

_PATIENCE: Final = 15.0  # seconds
_STEP: Final = 0.01

T = TypeVar("T")


class Pipe:
    """A named pipe through which a script says how far it is (`echo > NAME`), or waits to be told (`read line < NAME`).

    Args:
        path: Where to make it.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._end = os.open(
            path, os.O_RDWR | os.O_NONBLOCK
        )  # both ends: it is never at its end, and nobody waits for us

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._end)

    def fileno(self) -> int:
        """For `select` and event loops."""
        return self._end

    def read(self, *, within: float = _PATIENCE) -> str:
        """What was written, once something was."""
        assert _readable(self._end, within), f"nothing was said within {within:g} s"
        return os.read(self._end, 65_536).decode()

    def write(self, text: str = "\n") -> None:
        """Tell whoever reads."""
        os.write(self._end, text.encode())


def has_ended(pid: int, *, within: float = _PATIENCE) -> bool:
    """Whether the process ends in time, whoever's child it is; at once when it has."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return _readable(process, within)
    finally:
        os.close(process)


def _readable(end: int, within: float) -> bool:
    return bool(select.select([end], [], [], within)[0])


async def reached(
    registration: BackgroundFetchRegistration,
    said: Callable[[Progress], object],
    *,
    within: float = _PATIENCE,
) -> None:
    """Return when this is so of its progress; AssertionError when it is over before, TimeoutError when it takes longer."""
    async with asyncio.timeout(within):
        async for progress in registration:
            if said(progress):
                return
    raise AssertionError("it was over before")


def lasts(seconds: float) -> None:
    """Let a fault last so long, where its length is what is tested: an outage that is over before it is noticed is none."""
    time.sleep(seconds)


def looked_for(said: Callable[[], T], *, because: str, within: float = _PATIENCE) -> T:
    """What it gives once that is true; AssertionError when it is not in time.

    The one loop of the tests that looks again and again: other processes and the kernel do some things of which they tell
    nobody.

    Args:
        said: Looks.
        because: Why nothing tells of it.
        within: Seconds.
    """
    end = time.monotonic() + within
    while not (value := said()):
        assert time.monotonic() < end, f"it did not happen within {within:g} s, and {because}"
        time.sleep(_STEP)
    return value
