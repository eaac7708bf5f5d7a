"""The only loop: events in, commands out.

One thread owns every machine. Transports, hashers and the committer post what happened; the loop asks the machine
concerned what to do about it and does that. It keeps no decision to itself: what to ask for, when to wait and when
to give up is the core's.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial as bind

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.partials import Partials
from bgfetch.cache.writer import BufferPool
from bgfetch.clock import Clock
from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.digests import Digest
from bgfetch.core.machine import Policy, RecordMachine, Recovered
from bgfetch.core.model import FailureReason, Fault, ReplyHead, Request, Result, State
from bgfetch.core.pacing import RateMeter, laggards
from bgfetch.core.ranges import Retry, range_headers
from bgfetch.core.urls import address_scope, origin
from bgfetch.engine.bulletin import Bulletin, progress_of, state_of
from bgfetch.engine.journal import Journal
from bgfetch.engine.keeper import Keeper
from bgfetch.engine.receiver import FlightReceiver
from bgfetch.engine.scheduler import Caps, Scheduler
from bgfetch.engine.tasks import Job, RecordTask, told
from bgfetch.errors import CacheError
from bgfetch.registrations.port import (
    Change,
    RecordRow,
    RegistrationRow,
    Registrations,
    Settlement,
    StateChanged,
    Wish,
)
from bgfetch.transports.base import Exchange, Transport
from bgfetch.transports.faults import disk_fault

__all__ = ["Driver", "Stores"]

_TICK = 0.1
_JOURNAL_EVERY = 1.0
_WISHES_EVERY = 0.5
_OPEN_ATTEMPTS = 10
_TOO_MUCH = frozenset({"status-429", "status-503", "connect"})
_SMALL = 1 << 20
_ASKED: dict[Wish, on.Event] = {
    Wish.RUN: on.ResumeAsked(),
    Wish.PAUSE: on.PauseAsked(),
    Wish.ABORT: on.AbortAsked(),
}


@dataclass(frozen=True, slots=True)
class Stores:
    """Where things are kept."""

    registrations: Registrations
    partials: Partials
    blobs: Blobs


class Driver:
    """Runs the registrations this process has claimed.

    Args:
        stores: Where things are kept.
        transport: Makes exchanges.
        clock: The time.
        policy: How long to go on trying.
        caps: Most connections.
        settled: Called on the driver's thread with (job, outbox event id) when a registration has settled.
    """

    def __init__(
        self,
        stores: Stores,
        transport: Transport,
        *,
        clock: Clock,
        policy: Policy,
        caps: Caps,
        settled: Callable[[Job, int], None],
    ) -> None:
        self._stores = stores
        self._transport = transport
        self._clock = clock
        self._policy = policy
        self._settled = settled
        self._inbox: queue.SimpleQueue[tuple[RecordTask, on.Event] | Callable[[], None]] = queue.SimpleQueue()
        self._pool = BufferPool()
        self._scheduler = Scheduler(caps)
        self._jobs: dict[int, Job] = {}
        self._owners: dict[str, RecordTask] = {}  # by key: two records never write one partial
        self._numbered = 0
        self._finished: list[RecordTask] = []
        self._set_aside: list[RecordTask] = []  # to be queued again at the next tick
        self._next_tick = self._next_journal = self._next_wishes = 0.0
        self._store_version = 0
        self._closing = False
        self.bulletin = Bulletin()
        self._journal = Journal(stores.registrations, self._lost)
        self._keeper = Keeper(stores.blobs, self._post)
        self._thread = threading.Thread(target=self._loop, name="bgfetch-driver", daemon=True)
        self._thread.start()

    # From any thread.

    def start(self, row: RegistrationRow, epoch: int, requests: Sequence[Request]) -> None:
        """Work on a claimed registration; `requests` carry the secrets that the store does not keep."""
        self._inbox.put(lambda: self._begin(row, epoch, requests))

    def wish(self, uid: int, wish: Wish) -> None:
        """Obey a person's wish at once, instead of when the store is looked at next."""
        self._inbox.put(lambda: self._obey(uid, wish))

    def network_returned(self) -> None:
        """Try at once what waits for a network."""
        self._inbox.put(self._wake_waiting)

    def _wake_waiting(self) -> None:
        for task in self._tasks():
            self._handle(task, on.NetworkReturned())

    def close(self) -> None:
        """Stop all transfers, make what they brought durable, end the threads. Nothing settles by it."""
        self._inbox.put(self._begin_closing)
        self._thread.join()

    # The loop.

    def _post(self, task: RecordTask, event: on.Event) -> None:
        self._inbox.put((task, event))

    def _loop(self) -> None:
        while not self._closing:
            self._take_all(self._wait_for())
            self._settle_finished()
            self._admit()
            self._tick()
        self._shut_down()

    def _wait_for(self) -> float:
        if not self._jobs:
            return 60.0
        return max(0.0, min(self._next_tick - self._clock.monotonic(), _TICK))

    def _take_all(self, timeout: float) -> None:
        with contextlib.suppress(queue.Empty):
            message = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
            self._take(message)
            for _ in range(1000):  # then look after the clock again
                self._take(self._inbox.get_nowait())

    def _take(self, message: tuple[RecordTask, on.Event] | Callable[[], None]) -> None:
        if callable(message):
            message()
        else:
            self._handle(*message)

    def _tasks(self) -> list[RecordTask]:
        return [task for job in self._jobs.values() for task in job.tasks]

    # Beginning.

    def _begin(self, row: RegistrationRow, epoch: int, requests: Sequence[Request]) -> None:
        if row.uid in self._jobs:
            return
        job = Job(row, epoch, RateMeter(self._clock.monotonic()), wish=Wish.RUN)
        records = self._stores.registrations.records(row.uid)
        job.tasks = [
            self._task(job, record, request) for record, request in zip(records, requests, strict=True)
        ]
        self._jobs[row.uid] = job
        for task in job.tasks:
            if task.row.result is not Result.NONE:
                self._restore_finished(task)
            else:
                self._scheduler.add(task)
        if not job.unfinished:
            self._finished.extend(job.tasks[:1])
        self._obey(row.uid, row.wish)

    def _task(self, job: Job, record: RecordRow, request: Request) -> RecordTask:
        digest = Digest.parse(request.integrity) if request.integrity else None
        machine = RecordMachine(request, policy=self._policy, digest=digest)
        host = ":".join(str(part) for part in origin(request.url))
        self._numbered += 1
        return RecordTask(job, record, request, host, machine, self._numbered, reply=record.reply)

    @staticmethod
    def _restore_finished(task: RecordTask) -> None:
        row = task.row
        task.machine.state, task.machine.total = State.SETTLED, row.total
        task.blob, task.digest, task.verified = row.blob, row.digest, row.verified
        task.finish = do.Finish(row.result, row.failure_reason, row.failure_detail)

    def _admit(self) -> None:
        admitted = [task for task in self._scheduler.admit() if self._open(task)]
        if not admitted:
            return
        grants = self._scheduler.grants()
        for task in admitted:
            task.granted = grants.get(task, 1)
            self._handle(task, on.Started(task.granted))

    def _open(self, task: RecordTask) -> bool:
        """Open and recover the partial; the record goes back to the queue where that must wait."""
        if task.finish is not None:
            self._scheduler.remove(task)
            return False
        if self._owners.setdefault(task.row.key, task) is not task or self._clock.now() < task.retry_open:
            self._requeue(task)
            return False
        if task.partial is not None:
            return True
        try:
            if self._resume_placed(task):
                return False
            task.partial = self._stores.partials.open(task.row.key)
            self._recover(task)
        except OSError as error:
            self._open_failed(task, disk_fault(error))
            return False
        return True

    def _resume_placed(self, task: RecordTask) -> bool:
        """Whether an earlier process gave the body its final name and ended before it could say so."""
        placed = self._stores.blobs.resume(self._stores.partials.path(task.row.key), task.owner)
        if placed is None:
            return False
        task.machine.state, task.machine.total = State.SETTLED, placed.size
        task.blob, task.digest, task.verified = placed.blob, placed.digest, placed.verified
        self._execute(task, do.Finish(Result.SUCCESS))
        return True

    def _requeue(self, task: RecordTask) -> None:
        self._scheduler.remove(task)
        self._set_aside.append(task)

    def _open_failed(self, task: RecordTask, fault: Fault) -> None:
        del self._owners[task.row.key]
        if task.partial is not None:
            task.partial.close()
            task.partial = None
        task.open_failures += 1
        if task.open_failures > _OPEN_ATTEMPTS and fault.kind != "disk-full":
            self._execute(task, do.Finish(Result.FAILURE, fault.reason, fault.detail, fault.kind))
            return
        task.machine.waiting_for = fault.detail
        task.retry_open = self._clock.now() + min(5.0, 0.5 * task.open_failures) * self._policy.retry_scale
        self._requeue(task)

    def _recover(self, task: RecordTask) -> None:
        partial = task.partial
        assert partial is not None  # noqa: S101 - just opened
        held = partial.recover()
        facts = partial.facts()
        if not held or facts is None:
            return
        task.machine.adopt(
            Recovered(
                held,
                None if facts.total < 0 else facts.total,
                facts.etag,
                facts.last_modified,
                facts.content_type,
            ),
        )
        self._scheduler.received(task, 0)

    # Events and commands.

    def _handle(self, task: RecordTask, event: on.Event) -> None:
        machine = task.machine
        if isinstance(event, on.BytesStored):
            self._count(task, event)
        elif isinstance(event, on.FlightEnded | on.FlightFailed):
            self._landed(task, event)
        elif isinstance(event, on.ReplyJudged) and isinstance(event.verdict, Retry):
            self._maybe_refused(task, event.verdict.fault)
        before = machine.known
        for command in machine.handle(event, now=self._clock.now(), chance=self._clock.chance()):
            self._execute(task, command)
        if machine.known.total != before.total or machine.etag != before.etag:
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

    def _landed(self, task: RecordTask, event: on.FlightEnded | on.FlightFailed) -> None:
        for table in (task.receivers, task.opened):
            table.pop(event.flight, None)
        if isinstance(event, on.FlightFailed):
            self._maybe_refused(task, event.fault)

    def _maybe_refused(self, task: RecordTask, fault: Fault) -> None:
        if fault.kind in _TOO_MUCH:
            self._scheduler.refused(task, self._clock.monotonic())

    def _learned(self, task: RecordTask) -> None:
        """Write down at once of which version the bytes are: without that a kill would make them worthless."""
        self._check_total(task.job)
        if task.partial is not None and task.large and task.finish is None:
            with contextlib.suppress(OSError):  # the journal meets the same disk and says so
                task.partial.save_facts(task.facts())

    def _check_total(self, job: Job) -> None:
        promised = job.row.download_total
        if not promised:
            return
        stored = sum(task.downloaded for task in job.tasks)
        announced = sum(max(task.downloaded, task.machine.total or 0) for task in job.tasks)
        if max(stored, announced) > promised:
            detail = f"{max(stored, announced)} bytes come where download_total promised at most {promised}"
            fault = Fault("download-total", detail, FailureReason.DOWNLOAD_TOTAL_EXCEEDED)
            for task in job.unfinished:
                self._handle(task, on.LimitPassed(fault))

    def _reschedule(self, task: RecordTask) -> None:
        """A record that does not transfer lends its connections to others."""
        if task.transferring:
            self._scheduler.resume(task)
            return
        self._scheduler.remove(task)
        if task.machine.state is State.QUEUED:
            self._scheduler.add(task)

    def _execute(self, task: RecordTask, command: do.Command) -> None:
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
                self._finished.append(task)
                self._scheduler.remove(task)

    def _fly(self, task: RecordTask, command: do.OpenFlight | do.CloseFlight | do.ShortenFlight) -> None:
        match command:
            case do.OpenFlight():
                self._take_off(task, command)
            case do.CloseFlight(flight):
                self._transport.stop(task.opened_as(flight))
            case do.ShortenFlight(flight, stop):
                if flight in task.receivers:
                    task.receivers[flight].shorten(stop)

    def _take_off(self, task: RecordTask, command: do.OpenFlight) -> None:
        machine = task.machine
        try:
            partial = task.partial = task.partial or self._stores.partials.fresh(task.row.key)
        except OSError as error:
            self._post(task, on.FlightFailed(command.flight, disk_fault(error)))
            return
        receiver = FlightReceiver(
            command,
            known=machine.known,
            partial=partial,
            generation=machine.generation,
            pool=self._pool,
            now=self._clock.now,
            post=bind(self._post, task),
            reached=bind(self._reached, task),
            replied=bind(self._replied, task),
            sent=bind(setattr, task, "uploaded"),
        )
        task.receivers[command.flight] = receiver
        task.opened[command.flight] = self._clock.monotonic()
        ask = command.ask
        span = None if ask.stop is None else ask.stop - ask.start
        total = machine.total if machine.total is not None else task.request.expected_size
        exchange = Exchange(
            flight=task.opened_as(command.flight),
            url=ask.url,
            method=task.request.method,
            headers=[*command.headers.pairs, *range_headers(ask, machine.known)],
            body=task.request.body,
            multiplex=total is not None and total < _SMALL and (span is None or span >= total),
            lane=task.job.row.uid,
            public_only=task.reached_public,
        )
        self._transport.start(exchange, receiver)

    @staticmethod
    def _reached(task: RecordTask, address: str) -> None:
        task.reached_public = task.reached_public or address_scope(address) == "public"

    def _replied(self, task: RecordTask, reply: ReplyHead) -> None:
        if task.reply is None or task.reply.status != 206 or reply.status == 206:
            task.reply = reply

    def _reset(self, task: RecordTask) -> None:
        task.hasher, task.reply, task.dirty = None, None, True  # the store still names the bytes that go
        partial, task.partial = task.partial, None
        if partial is not None:
            partial.close()
        with contextlib.suppress(
            OSError
        ):  # the next flight tries again, and tells the machine when it cannot
            task.partial = self._stores.partials.fresh(task.row.key)

    def _note(self, task: RecordTask, name: str, detail: str) -> None:
        with contextlib.suppress(CacheError):  # a log line is not worth a download
            self._stores.registrations.log(task.job.row.uid, self._clock.now(), name, detail)

    # Ending.

    def _settle_finished(self) -> None:
        """Record all that finished since the last time in one transaction, settlements and events with it."""
        if not self._finished:
            return
        finished, self._finished = self._finished, []
        changes: list[Change] = [task.finished() for task in finished]
        over = [
            job for job in {task.job.row.uid: task.job for task in finished}.values() if not job.unfinished
        ]
        changes.extend(self._settlement(job) for job in over)
        committed = self._stores.registrations.commit(changes)
        for task in finished:
            self._let_go(task)
        for job in over:
            job.settled = True
            self._jobs.pop(job.row.uid, None)
            # The handler comes first: who is told that it has settled looks for its files in the cache at once.
            self._settled(job, committed.events.get(job.row.uid, 0))
            self.bulletin.publish(job.row.uid, progress_of(job, self._clock.monotonic()))

    def _settlement(self, job: Job) -> Settlement:
        result, failing = job.result
        finish = None if failing is None else failing.finish
        reason = FailureReason.NONE if finish is None else finish.reason
        detail = "" if finish is None else told(finish)
        return Settlement(job.row.uid, job.epoch, result, reason, detail, self._clock.now())

    def _let_go(self, task: RecordTask) -> None:
        if task.partial is not None:
            task.partial.close()
            task.partial = None
        if self._owners.get(task.row.key) is not task:
            return
        del self._owners[task.row.key]
        finish = task.finish
        if finish is not None and (finish.result is Result.SUCCESS or finish.reason is FailureReason.ABORTED):
            with contextlib.suppress(OSError):  # what could not be deleted is found by `cache prune`
                self._stores.partials.remove(task.row.key)

    # The clock.

    def _tick(self) -> None:
        now = self._clock.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK
        for task in self._set_aside:
            self._scheduler.add(task)
        self._set_aside.clear()
        self._ring()
        self._scheduler.tick(now)
        self._measure(now)
        for task, granted in self._scheduler.grants().items():
            if task.granted != granted and task.transferring:
                task.granted = granted
                self._handle(task, on.ConnectionsGranted(granted))
        self._follow()
        self._publish(now)
        if now >= self._next_journal:
            self._next_journal = now + _JOURNAL_EVERY
            self._record()
        if now >= self._next_wishes:
            self._next_wishes = now + _WISHES_EVERY
            self._look_for_wishes()

    def _ring(self) -> None:
        now = self._clock.now()
        for task in self._tasks():
            if task.timer is not None and task.timer <= now:
                task.timer = None
                self._handle(task, on.TimerRang())

    def _measure(self, now: float) -> None:
        for task in self._scheduler.running:
            ages, rates = {}, {}
            for flight, leg in task.machine.flights.items():
                age = now - task.opened.get(flight, now)
                ages[flight] = age
                leg.rate = rates[flight] = (leg.position - leg.start) / age if age > 0 else 0.0
            for flight in laggards(rates, ages):
                self._handle(task, on.FlightLagged(flight))

    def _follow(self) -> None:
        for task in self._scheduler.running:
            if task.machine.digest is not None and task.large and task.partial is not None:
                self._keeper.follow(task)

    def _publish(self, now: float) -> None:
        for job in self._jobs.values():
            progress = progress_of(job, now)
            self.bulletin.publish(job.row.uid, progress)
            if job.row.download_total and progress.downloaded > job.row.download_total:
                self._check_total(job)

    def _record(self) -> None:
        if not self._journal.idle:
            return  # a slow disk gets its next turn when it has done this one
        entries = []
        for task in self._tasks():
            if task.dirty and task.partial is not None and task.finish is None and task.large:
                task.dirty = False
                entries.append((task.partial, task.progress()))
        if entries:
            self._journal.record(entries)
        changes: list[Change] = []
        for job in self._jobs.values():
            shown = state_of(job)
            if shown != job.shown:
                job.shown = shown
                changes.append(StateChanged(job.row.uid, job.epoch, *shown))
        if changes:
            with contextlib.suppress(CacheError):  # shown again next second
                self._stores.registrations.commit(changes)

    def _look_for_wishes(self) -> None:
        version = self._stores.registrations.data_version()
        if version == self._store_version:
            return
        self._store_version = version
        for job in list(self._jobs.values()):
            row = self._stores.registrations.get(job.row.uid)
            if row is not None:
                self._obey(job.row.uid, row.wish)

    def _obey(self, uid: int, wish: Wish) -> None:
        job = self._jobs.get(uid)
        if job is None or job.wish is wish:
            return
        job.wish = wish
        event = _ASKED[wish]
        for task in job.unfinished:
            self._handle(task, event)

    def _lost(self, uids: frozenset[int]) -> None:
        """Another process has claimed these: stop touching them."""
        if uids:
            self._inbox.put(lambda: self._drop(uids))

    def _drop(self, uids: frozenset[int]) -> None:
        for uid in uids:
            job = self._jobs.pop(uid, None)
            for task in job.tasks if job is not None else ():
                for flight in list(task.machine.flights):
                    self._transport.stop(task.opened_as(flight))
                task.machine.flights.clear()
                self._scheduler.remove(task)
                self._let_go(task)

    # Closing.

    def _begin_closing(self) -> None:
        self._closing = True

    def _shut_down(self) -> None:
        self._transport.close()
        self._keeper.close()
        with contextlib.suppress(queue.Empty):
            while True:
                message = self._inbox.get_nowait()
                if isinstance(message, tuple):
                    self._account(*message)
        self._settle_finished()
        entries = [
            (task.partial, task.progress())
            for task in self._tasks()
            if task.partial is not None and task.finish is None and task.machine.held
        ]
        self._journal.record(entries)
        self._journal.close()
        for task in self._tasks():
            self._let_go(task)

    def _account(self, task: RecordTask, event: on.Event) -> None:
        """Take in what the last moments brought, and begin nothing new by it."""
        if isinstance(event, on.BytesStored | on.BlobCommitted):
            for command in task.machine.handle(event, now=self._clock.now(), chance=self._clock.chance()):
                if isinstance(command, do.Finish):
                    self._execute(task, command)
