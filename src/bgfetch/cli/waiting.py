"""Waiting for registrations that run here: moving lines, and Ctrl-C or SIGTERM that stop and keep what has come."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from bgfetch.cli.exits import Exit, exit_of_failure
from bgfetch.cli.output import say
from bgfetch.core.model import Progress, Result
from bgfetch.getting import Outcome, Told
from bgfetch.terminal.bar import Bar
from bgfetch.terminal.words import bytes_in_words

__all__ = ["exit_of_outcome", "followed"]

_T = TypeVar("_T")


def followed(job: Callable[[Told], _T], *, quiet: bool, name: str = "") -> _T | None:
    """What the job gives, or None when a person stopped the waiting, who is told how to go on.

    Args:
        job: Waits for registrations, and tells how they do.
        quiet: Draw nothing.
        name: What to call them all; "" = each by its id.
    """
    seen: dict[str, Progress] = {}
    with _sigterm_like_ctrl_c():
        try:
            with Bar(quiet=quiet) as bar:

                def told(id_: str, progress: Progress) -> None:
                    seen[id_] = progress
                    bar.show(name or id_, progress)

                return job(told)
        except KeyboardInterrupt:
            kept = bytes_in_words(sum(progress.downloaded for progress in seen.values()))
            ids = " ".join(seen) or "ID"
            say(
                f"stopped; {kept} are kept. The same command goes on from there, and so does "
                f"`bgfetch resume {ids}`; `bgfetch abort {ids}` gives it up."
            )
            return None


def exit_of_outcome(outcome: Outcome) -> Exit:
    """The code for how it went; says what is wrong with each record that failed."""
    last = outcome.last
    if not outcome.settled:
        say(
            f"{outcome.id}: not done in time; {bytes_in_words(last.downloaded)} are kept. "
            "The same command goes on from there."
        )
        return Exit.STILL_WAITING
    if last.result is Result.SUCCESS:
        return Exit.DONE
    for detail in dict.fromkeys(
        record.failure_detail for record in outcome.records if record.result is Result.FAILURE
    ):
        say(f"{outcome.id}: {detail or last.failure_reason}")
    say(f"`bgfetch show {outcome.id}` has the details.")
    return exit_of_failure(last.failure_detail, last.failure_reason)


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """While waiting, SIGTERM stops as cleanly as Ctrl-C: services and containers are ended by it."""
    try:
        former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not the main thread: a test, or an application that calls commands
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
