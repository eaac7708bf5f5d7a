"""Records what has ended: finished records, settlements and their events, in one transaction, until the store takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bgfetch.clock import Clock
from bgfetch.database import Damaged
from bgfetch.engine.tasks import Job, RecordTask
from bgfetch.errors import CacheError
from bgfetch.registrations.port import Change, Registrations

__all__ = ["Ended", "Settler"]

_AGAIN = 1.0  # s


class Ended(NamedTuple):
    """What is over for us: records, registrations each with its outbox event, and those that somebody else runs now."""

    tasks: Sequence[RecordTask] = ()
    jobs: Sequence[tuple[Job, int]] = ()
    lost: frozenset[int] = frozenset()


class Settler:
    """What has ended and is not stored yet.

    Args:
        registrations: The store.
        clock: The time.
    """

    def __init__(self, registrations: Registrations, clock: Clock) -> None:
        self._registrations = registrations
        self._clock = clock
        self._tasks: list[RecordTask] = []
        self._jobs: dict[int, Job] = {}
        self._not_before = 0.0

    def add(self, task: RecordTask) -> None:
        """A record has ended, and its registration perhaps with it."""
        self._tasks.append(task)
        self.add_job(task.job)

    def add_job(self, job: Job) -> None:
        """A registration may have ended without one of its records ending now."""
        self._jobs[job.row.uid] = job

    @property
    def waiting(self) -> bool:
        """Whether anything is to be stored."""
        return bool(self._jobs)

    def settle(self, *, at_once: bool = False) -> Ended:
        """Store what has ended; nothing where the store refuses, which is asked again after a second.

        Args:
            at_once: Do not wait for that second to pass.

        Raises:
            Damaged: The store is damaged; every byte is kept.
        """
        monotonic = self._clock.monotonic()
        if not self._jobs or (monotonic < self._not_before and not at_once):
            return Ended()
        over = [job for job in self._jobs.values() if not job.unfinished]
        changes: list[Change] = [task.finished() for task in self._tasks]
        changes.extend(job.settlement(self._clock.now()) for job in over)
        try:
            committed = self._registrations.commit(changes)
        except Damaged:  # no second makes it whole: who waits must learn of it, and have it mended
            raise
        except CacheError:  # a full or locked disk: nobody is told before it is written
            self._not_before = monotonic + _AGAIN
            return Ended()
        settled = [(job, committed.events[job.row.uid]) for job in over if job.row.uid in committed.events]
        ended = Ended(self._tasks, settled, committed.stale - committed.events.keys())
        self._tasks, self._jobs = [], {}
        return ended
