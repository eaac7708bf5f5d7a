"""Numbers and states as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgfetch.core.model import Progress

__all__ = ["bytes_in_words", "seconds_in_words", "state_in_words", "state_words"]

# By the words of `State`, which a list need not import.
_STATES = {
    "queued": "waiting for its turn",
    "running": "downloading",
    "waiting-network": "waiting for the network",
    "waiting-retry": "waiting to try again",
    "paused": "paused",
    "paused-disk": "paused: the disk is full",
    "paused-schedule": "paused by its timetable",
    "paused-metered": "paused: the network is metered",
    "verifying": "verifying",
}


def bytes_in_words(count: int) -> str:
    """A size with three digits or so, in powers of 1024: "1.5 GiB"."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def seconds_in_words(seconds: float) -> str:
    """A duration: "45 s", "3:20", "2:05:00", "4 d 2 h"."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def state_in_words(progress: Progress, now: float) -> str:
    """What it does, and until when where that is known."""
    if progress.state == "settled":
        return "done" if progress.result == "success" else f"failed: {progress.failure_reason}"
    return state_words(progress.state, progress.until, now)


def state_words(state: str, until: float | None, now: float) -> str:
    """The same for what is not over, by the state's own word."""
    words = _STATES[state]
    return words if until is None or until <= now else f"{words} in {seconds_in_words(until - now)}"
