"""What happened to a record, and what is done about it: its machine decides, the parts of the engine do it.

It runs on the driver's thread and keeps nothing of its own.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bgfetch.clock import Clock
from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.model import FailureReason, Fault, Result, State
from bgfetch.core.outages import Outages
from bgfetch.core.ranges import Accept, Follow, Retry
from bgfetch.engine.flying import Flights
from bgfetch.engine.keeper import Keeper
from bgfetch.engine.opening import Opener
from bgfetch.engine.scheduler import Scheduler
from bgfetch.engine.settling import Settler
from bgfetch.engine.tasks import Job, RecordTask
from bgfetch.errors import CacheError
from bgfetch.registrations.port import Registrations
from bgfetch.transports.faults import disk_fault

__all__ = ["Parts", "Pilot"]

_TOO_MUCH = frozenset({"status-429", "status-503", "connect", "resources", "memory"})


@dataclass(frozen=True, slots=True)
class Parts:
    """What does what machines command.

    Args:
        registrations: Where lines are logged.
        flights: Exchanges under way.
        scheduler: Who has how many connections.
        outages: Hosts that are away.
        keeper: Verifies and commits bodies.
        opener: Opens partials and lets them go.
        settler: Records what has ended.
    """

    registrations: Registrations
    flights: Flights
    scheduler: Scheduler
    outages: Outages
    keeper: Keeper
    opener: Opener
    settler: Settler


class Pilot:
    """Takes records through their events.

    Args:
        parts: What does what machines command.
        clock: The time.
        now: The instant as machines are told it, seconds since the epoch.
        tasks: All records under way.
        soon: Has something done by the driver's loop, once this event is over.
    """

    def __init__(
        self,
        parts: Parts,
        clock: Clock,
        *,
        now: Callable[[], float],
        tasks: Callable[[], Iterable[RecordTask]],
        soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._registrations = parts.registrations
        self._flights = parts.flights
        self._scheduler = parts.scheduler
        self._outages = parts.outages
        self._keeper = parts.keeper
        self._opener = parts.opener
        self._settler = parts.settler
        self._clock = clock
        self._now = now
        self._tasks = tasks
        self._soon = soon

    def handle(self, task: RecordTask, event: on.Event) -> None:
        """Take in what happened to a record, and do what its machine says."""
        try:
            self._decide(task, event)
        except Exception as error:  # noqa: BLE001 - one record's bug must not stop all others, nor end in silence
            self._give_up(task, error)

    def account(self, task: RecordTask, event: on.Event) -> None:
        """Take in what the last moments brought, and begin nothing new by it."""
        if isinstance(event, on.BytesStored | on.BlobCommitted):
            for command in task.machine.handle(event, now=self._now(), chance=self._clock.chance()):
                if isinstance(command, do.Finish):
                    self.execute(task, command)

    def execute(self, task: RecordTask, command: do.Command) -> None:
        """Do one thing that a machine, or who opened its partial, has said."""
        match command:
            case do.OpenFlight() | do.CloseFlight() | do.ShortenFlight():
                self._fly(task, command)
            case do.Reset():
                self._reset(task)
            case do.ForgetPieces(spans):
                if task.partial is not None:
                    task.partial.forget(spans)
            case do.RingAt(when):
                task.timer = when
            case do.Verify(total):
                self._keeper.verify(task, total)
            case do.CheckPieces():
                self._keeper.check_pieces(task)
            case do.Commit(total):
                self._keeper.commit(task, total)
            case do.Note(name, detail):
                self._note(task, name, detail)
            case do.Finish():
                task.finish = command
                self._settler.add(task)
                self._scheduler.remove(task)
                if command.reason is FailureReason.QUOTA_EXCEEDED:
                    self._soon(lambda: self._limit(task.job, _quota_fault(command)))

    def check_total(self, job: Job) -> None:
        """End a registration to which more bytes come than were promised."""
        fault = job.excess()
        if fault is not None:
            self._limit(job, fault)

    def _give_up(self, task: RecordTask, error: Exception) -> None:
        """Fail a record over a bug of ours; where it is is told, not what was in the values: they may be secret."""
        self._flights.stop_all(task)
        task.machine.state = State.SETTLED
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        detail = f"bgfetch itself failed ({type(error).__name__} at {where}); please report this"
        if task.finish is None:
            self.execute(task, do.Finish(Result.FAILURE, FailureReason.FETCH_ERROR, detail, "bug"))

    def _decide(self, task: RecordTask, event: on.Event) -> None:
        machine = task.machine
        if isinstance(event, on.BytesStored):
            self._count(task, event)
        elif isinstance(event, on.FlightEnded | on.FlightFailed):
            self._landed(task, event)
        elif isinstance(event, on.ReplyJudged):
            self._answered(task, event)
        before = machine.total, machine.etag
        for command in machine.handle(event, now=self._now(), chance=self._clock.chance()):
            self.execute(task, command)
        self._note_outage(task, event)
        if (machine.total, machine.etag) != before:
            self._learned(task)
        if task.finish is None:
            self._reschedule(task)

    def _count(self, task: RecordTask, event: on.BytesStored) -> None:
        if event.generation != task.machine.generation:
            return
        size = event.stop - event.start
        task.dirty = True
        task.job.meter = task.job.meter.add(size, self._clock.monotonic())
        self._scheduler.received(task, size)

    def _note_outage(self, task: RecordTask, event: on.Event) -> None:
        """One record looks for a host that is away; what it brings from there wakes the others."""
        failed = isinstance(event, on.FlightFailed | on.ReplyJudged)
        if failed and task.machine.state is State.WAITING_NETWORK:
            self._outages.failed(task.host, self._now())
            self._scheduler.recall(task.host)
            return
        # An accepted reply may still turn out to be a portal's page, and a redirect leads elsewhere.
        told = isinstance(event, on.ReplyJudged) and not isinstance(event.verdict, Accept | Follow)
        if (told or isinstance(event, on.BytesStored)) and self._outages.answered(task.host):
            self._outages.hasten(self._now())
            for other in self._tasks():
                if other.machine.state is State.WAITING_NETWORK:
                    other.timer = self._now()
                    if other.host == task.host:
                        self._scheduler.wake(other)

    def _landed(self, task: RecordTask, event: on.FlightEnded | on.FlightFailed) -> None:
        for table in (task.receivers, task.opened):
            table.pop(event.flight, None)
        if isinstance(event, on.FlightFailed):
            self._maybe_refused(task, event.fault)

    def _answered(self, task: RecordTask, event: on.ReplyJudged) -> None:
        if event.flight in task.opened:
            self._scheduler.answered(task, self._clock.monotonic() - task.opened[event.flight])
        if isinstance(event.verdict, Retry):
            self._maybe_refused(task, event.verdict.fault)

    def _maybe_refused(self, task: RecordTask, fault: Fault) -> None:
        if fault.kind in _TOO_MUCH:
            self._scheduler.refused(task, self._clock.monotonic())

    def _learned(self, task: RecordTask) -> None:
        """Write down at once of which version the bytes are: without that a kill would make them worthless."""
        self.check_total(task.job)
        if task.partial is not None and task.large and task.finish is None:
            with contextlib.suppress(OSError):  # the journal meets the same disk and says so
                task.partial.save_facts(task.facts())

    def _limit(self, job: Job, fault: Fault) -> None:
        for task in job.unfinished:
            self.handle(task, on.LimitPassed(fault))

    def _reschedule(self, task: RecordTask) -> None:
        """A record that does not transfer lends its connections to others."""
        if task.transferring:
            self._scheduler.resume(task)
            return
        self._scheduler.remove(task)
        if task.machine.state is State.QUEUED:
            self._scheduler.add(task)

    def _fly(self, task: RecordTask, command: do.OpenFlight | do.CloseFlight | do.ShortenFlight) -> None:
        match command:
            case do.OpenFlight(flight):
                try:
                    self._flights.take_off(task, command, self._opener.opened(task))
                except OSError as error:
                    self._fail_soon(task, flight, error)
            case do.CloseFlight(flight):
                self._flights.stop(task, flight)
            case do.ShortenFlight(flight, stop):
                if flight in task.receivers:
                    task.receivers[flight].shorten(stop)

    def _reset(self, task: RecordTask) -> None:
        task.hasher, task.reply, task.dirty = None, None, True  # the store still names the bytes that go
        self._opener.empty(task)

    def _note(self, task: RecordTask, name: str, detail: str) -> None:
        with contextlib.suppress(CacheError):  # a log line is not worth a download
            self._registrations.log(task.job.row.uid, self._clock.now(), name, detail)

    def _fail_soon(self, task: RecordTask, flight: int, error: OSError) -> None:
        self._soon(lambda: self.handle(task, on.FlightFailed(flight, disk_fault(error))))


def _quota_fault(finish: do.Finish) -> Fault:
    return Fault(finish.kind, finish.detail, finish.reason)
