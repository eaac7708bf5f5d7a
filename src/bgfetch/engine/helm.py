"""What people and their settings want of the registrations under way, and that they get it.

`steering` says what follows for each; here it is made so: rates are set, and records are told to rest or to go on.
It runs on the driver's thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from bgfetch.clock import Clock
from bgfetch.core import events as on
from bgfetch.core.networks import Network
from bgfetch.core.timetable import Timetable
from bgfetch.engine.scheduler import Scheduler
from bgfetch.engine.steering import Steering
from bgfetch.engine.tasks import Job, RecordTask
from bgfetch.errors import CacheError
from bgfetch.registrations.port import RegistrationOptions, Registrations, Wish

__all__ = ["Helm"]

_STEER_EVERY = 1.0
_ASKED: dict[Wish, on.Event] = {
    Wish.RUN: on.ResumeAsked(),
    Wish.PAUSE: on.PauseAsked(),
    Wish.ABORT: on.AbortAsked(),
}


class Helm:
    """Steers the registrations under way.

    Args:
        steering: What is set now.
        jobs: The registrations, by uid; the driver's own table.
        registrations: Where other processes write what a person wishes.
        scheduler: Who comes first.
        clock: The time.
        now: The instant as machines are told it, seconds since the epoch.
        handle: Tells a record of an event.
    """

    def __init__(
        self,
        steering: Steering,
        jobs: Mapping[int, Job],
        registrations: Registrations,
        scheduler: Scheduler,
        clock: Clock,
        *,
        now: Callable[[], float],
        handle: Callable[[RecordTask, on.Event], None],
    ) -> None:
        self._steering = steering
        self._jobs = jobs
        self._registrations = registrations
        self._scheduler = scheduler
        self._clock = clock
        self._now = now
        self._handle = handle
        self._store_version = 0
        self.due = 0.0  # on the monotonic clock: when to steer again at the latest
        self.chooses_networks = False  # whether it matters which network is in use; read by any thread

    def forget(self, uid: int) -> None:
        """It is over, and its limit with it."""
        self._steering.forget(uid)

    def set(
        self,
        *,
        rate: int | None = None,
        table: Timetable | None = None,
        paused: bool | None = None,
        network: Network | None = None,
    ) -> None:
        """Change what holds for all together; None leaves as it is."""
        steering = self._steering
        steering.rate = steering.rate if rate is None else rate
        steering.table = steering.table if table is None else table
        steering.paused = steering.paused if paused is None else paused
        steering.network = network or steering.network
        self.steer()

    def amend(self, uid: int, options: RegistrationOptions) -> None:
        """Run it with these options from now on; nothing where it does not run here."""
        job = self._jobs.get(uid)
        if job is None or job.row.options == options:
            return
        job.row = replace(job.row, options=options)
        for task in job.unfinished:
            self._scheduler.reorder(task)
        self.steer()

    def steer(self) -> None:
        """Set the rates that hold now, and hold what may not use the network."""
        now = self._clock.now()
        self.due = self._clock.monotonic() + _STEER_EVERY
        ahead = self._now() - now
        options = {uid: job.row.options for uid, job in self._jobs.items()}
        self.chooses_networks = self._steering.chooses_networks(options)
        self._steering.govern(options, now)
        for job in self._jobs.values():
            job.clock_ahead = ahead if ahead > 1 else 0.0
            job.gate = self._steering.gate(job.row.options, now)
            self.apply(job)

    def look(self) -> None:
        """See what other processes have written that a person wishes."""
        with contextlib.suppress(CacheError):  # asked again in half a second
            version = self._registrations.data_version()
            if version == self._store_version:
                return
            rows = [self._registrations.get(uid) for uid in list(self._jobs)]
            self._store_version = version
            for row in rows:
                if row is not None:
                    self.amend(row.uid, row.options)
                    self.obey(row.uid, row.wish)

    def obey(self, uid: int, wish: Wish) -> None:
        """Obey a person's wish; nothing where it does not run here."""
        job = self._jobs.get(uid)
        if job is not None:
            job.wish = wish
            self.apply(job)

    def apply(self, job: Job) -> None:
        """Tell the records what a person asked, or that what the person has set holds them for now."""
        held = job.gate is not None and job.wish is Wish.RUN
        wanted = Wish.PAUSE if held else job.wish
        if wanted is job.obeyed:
            return
        job.obeyed = wanted
        event = on.PauseAsked(f"{job.gate.state}: {job.gate.why}") if held and job.gate else _ASKED[wanted]
        for task in job.unfinished:
            self._handle(task, event)
