"""Waiting for registrations: moving lines, and Ctrl-C or SIGTERM that end the waiting, and where they run here, that."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
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


def followed(
    job: Callable[[Told], _T], *, quiet: bool, goes_on: bool, name: str = "", ids: Sequence[str] = ()
) -> _T | None:
    """What the job gives, or None when a person stopped the waiting, who is told how it goes on.

    Args:
        job: Waits for registrations, and tells how they do.
        quiet: Draw nothing.
        goes_on: Whether the daemon runs them, so that they go on without us.
        name: What to call them all; "" = each by its id.
        ids: Which they are, as far as that is known before any of them tells anything.
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
            named = " ".join(ids or seen) or "ID"
            if goes_on:
                say(
                    f"detached; the download goes on. `bgfetch watch` shows it, `bgfetch wait {named}` waits for it, "
                    f"`bgfetch abort {named}` gives it up."
                )
            else:
                say(
                    f"stopped; {kept} are kept. The same command goes on from there, and so does "
                    f"`bgfetch resume {named}`; `bgfetch abort {named}` gives it up."
                )
            return None


def exit_of_outcome(outcome: Outcome, *, goes_on: bool) -> Exit:
    """The code for how it went; says what is wrong with each record that failed."""
    last = outcome.last
    if not outcome.settled:
        then = (
            f"It goes on; `bgfetch wait {outcome.id}` waits for it."
            if goes_on
            else "The same command goes on from there."
        )
        say(f"{outcome.id}: not done in time; {bytes_in_words(last.downloaded)} are kept. {then}")
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
