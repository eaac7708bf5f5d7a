"""The only loop: events in, commands out.

One thread owns every machine. Transports, hashers and the committer post what happened; the loop asks the machine
concerned what to do about it, and `pilot` does that. It keeps no decision to itself: what to ask for, when to wait
and when to give up is the core's.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.partials import Partials
from bgfetch.cache.room import Room
from bgfetch.clock import Clock
from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.digests import Digest
from bgfetch.core.machine import Policy, RecordMachine
from bgfetch.core.model import Fault, Request, Result, State
from bgfetch.core.networks import Network
from bgfetch.core.outages import Outages
from bgfetch.core.pacing import RateMeter, laggards
from bgfetch.core.steady import SteadyTime
from bgfetch.core.timetable import Timetable
from bgfetch.core.urls import origin
from bgfetch.database import Damaged
from bgfetch.engine.bulletin import Bulletin, progress_of, state_of
from bgfetch.engine.flying import Flights
from bgfetch.engine.helm import Helm
from bgfetch.engine.journal import Journal
from bgfetch.engine.keeper import Keeper
from bgfetch.engine.opening import Opener
from bgfetch.engine.pilot import Parts, Pilot
from bgfetch.engine.scheduler import Caps, Scheduler
from bgfetch.engine.settling import Settler
from bgfetch.engine.steering import Steering
from bgfetch.engine.tasks import Job, Look, RecordTask
from bgfetch.errors import CacheError, InvalidRequest
from bgfetch.registrations.port import (
    Change,
    RecordRow,
    RegistrationOptions,
    RegistrationRow,
    Registrations,
    StateChanged,
    Wish,
)
from bgfetch.transports.base import Limits, Transport
from bgfetch.transports.surroundings import Surroundings

__all__ = ["Driver", "Stores"]

_TICK = 0.1
_IDLE_TICK = 1.0  # while nothing transfers: hundreds that wait are not looked at ten times a second
_JOURNAL_EVERY = 1.0
_WISHES_EVERY = 0.5
_AWAITING = (State.WAITING_NETWORK, State.WAITING_RETRY)


@dataclass(frozen=True, slots=True)
class Stores:
    """Where things are kept."""

    registrations: Registrations
    partials: Partials
    blobs: Blobs
    room: Room


class Driver:
    """Runs the registrations this process has claimed.

    Args:
        stores: Where things are kept.
        transport: Makes exchanges.
        clock: The time.
        policy: How long to go on trying.
        caps: Most connections.
        limits: Where rates are set, if anywhere.
        settled: Called on the driver's thread with (job, outbox event id) when a registration has settled.
        lost: Called on the driver's thread with the uid of a registration that another process runs now.
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
        limits: Limits | None = None,
        lost: Callable[[int], None] | None = None,
    ) -> None:
        self._registrations = stores.registrations
        self._transport = transport
        self._steady = SteadyTime()
        self._outages = Outages(policy.retry_scale)
        self._clock = clock
        self._policy = policy
        self._settled = settled
        self._lost_to_another = lost
        self._inbox: queue.SimpleQueue[tuple[RecordTask, on.Event] | Callable[[], None]] = queue.SimpleQueue()
        self._opener = Opener(stores.partials, stores.blobs, clock, retry_scale=policy.retry_scale)
        self._room = stores.room
        self._flights = Flights(transport, clock, self._post, stores.room)
        self._scheduler = Scheduler(caps)
        self._jobs: dict[int, Job] = {}
        self._numbered = 0
        self._settler = Settler(stores.registrations, clock)
        self._set_aside: list[RecordTask] = []  # to be queued again at the next tick
        self._later: list[Callable[[], None]] = []  # what the store refused, for the next tick
        self._next_tick = self._next_journal = self._next_wishes = 0.0
        self._closing = False
        self.bulletin = Bulletin()
        self._journal = Journal(stores.registrations, self._lost)
        self._keeper = Keeper(stores.blobs, self._post)
        parts = Parts(
            stores.registrations,
            self._flights,
            self._scheduler,
            self._outages,
            self._keeper,
            self._opener,
            self._settler,
        )
        self._pilot = Pilot(parts, clock, now=self._now, tasks=self._tasks, soon=self._inbox.put)
        self._helm = Helm(
            Steering(limits),
            self._jobs,
            stores.registrations,
            self._scheduler,
            clock,
            now=self._now,
            handle=self._pilot.handle,
        )
        self._thread = threading.Thread(target=self._loop, name="bgfetch-driver", daemon=True)
        self._thread.start()

    # From any thread.

    def start(
        self,
        row: RegistrationRow,
        epoch: int,
        requests: Sequence[Request],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Work on a claimed registration.

        Args:
            row: As it is stored.
            epoch: Of the claim.
            requests: With the secrets that the store does not keep.
            environment: The variables of whoever asked, secrets included; None for those that are stored.
        """
        self._inbox.put(lambda: self._begin(row, epoch, requests, environment))

    def wish(self, uid: int, wish: Wish) -> None:
        """Obey a person's wish at once, instead of when the store is looked at next."""
        self._inbox.put(lambda: self._helm.obey(uid, wish))

    def set_limit(self, rate: int) -> None:
        """Let all together have so many bytes a second; 0 for no limit."""
        self._inbox.put(lambda: self._helm.set(rate=rate))

    def set_schedule(self, table: Timetable) -> None:
        """When how fast, for all together."""
        self._inbox.put(lambda: self._helm.set(table=table))

    def amend(self, uid: int, options: RegistrationOptions) -> None:
        """Run it with these options from now on; nothing where it does not run here."""
        self._inbox.put(lambda: self._helm.amend(uid, options))

    def set_paused(self, paused: bool) -> None:  # noqa: FBT001 - the one thing it says
        """Let everything rest, or go on."""
        self._inbox.put(lambda: self._helm.set(paused=paused))

    def network_is(self, network: Network) -> None:
        """What is known of the network in use now."""
        self._inbox.put(lambda: self._helm.set(network=network))

    def network_returned(self) -> None:
        """Try at once what waits for a network, and what has been silent since it went."""
        self._inbox.put(self._wake_waiting)

    def _wake_waiting(self) -> None:
        self._transport.network_changed()
        self._outages.forget()
        for task in self._tasks():
            if task.machine.state in _AWAITING:
                self._scheduler.wake(task)

    @property
    def chooses_networks(self) -> bool:
        """Whether it matters to any registration under way which network is in use."""
        return self._helm.chooses_networks

    def look(self, uid: int, index: int) -> Look | None:
        """How a record stands, or None when it is not under way here."""
        job = self._jobs.get(uid)
        return None if job is None else job.tasks[index].look()

    def close(self) -> None:
        """Stop all transfers, make what they brought durable, end the threads. Nothing settles by it."""
        self._inbox.put(self._begin_closing)
        self._thread.join()

    # The loop.

    def _post(self, task: RecordTask, event: on.Event) -> None:
        self._inbox.put((task, event))

    def _loop(self) -> None:
        try:
            while not self._closing:
                self._take_all(self._wait_for())
                self._share_the_fate_of_the_transport()
                self._settle()
                self._admit()
                self._tick()
            self._shut_down()
        except BaseException as bug:
            # Whoever waits must hear of it: a silent thread would be a download that hangs for ever.
            self.bulletin.give_up(bug)
            self._abandon()
            if not isinstance(bug, Damaged):  # of which those who wait can make something
                raise

    def _share_the_fate_of_the_transport(self) -> None:
        """What it has begun would never end."""
        if self._transport.bug is not None:
            raise self._transport.bug

    def _abandon(self) -> None:
        """End the other threads; what they have stored stays, as after a kill."""
        for part in (self._transport, self._keeper, self._journal):
            with contextlib.suppress(Exception):
                part.close()

    def _wait_for(self) -> float:
        if not (self._jobs or self._later or self._settler.waiting):
            return 60.0
        return max(0.0, min(self._next_tick - self._clock.monotonic(), _IDLE_TICK))

    def _tick_after(self) -> float:
        """Seconds until the clock must be looked at again, unless something happens before."""
        if self._later or self._set_aside or self._settler.waiting or any(self._scheduler.running):
            return _TICK
        due = min((task.timer for task in self._tasks() if task.timer is not None), default=None)
        return _IDLE_TICK if due is None else min(_IDLE_TICK, max(_TICK, due - self._now()))

    def _take_all(self, timeout: float) -> None:
        with contextlib.suppress(queue.Empty):
            message = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
            self._next_tick = min(self._next_tick, self._clock.monotonic() + _TICK)
            self._take(message)
            for _ in range(1000):  # then look after the clock again
                self._take(self._inbox.get_nowait())

    def _take(self, message: tuple[RecordTask, on.Event] | Callable[[], None]) -> None:
        if callable(message):
            message()
        else:
            self._pilot.handle(*message)

    def _tasks(self) -> list[RecordTask]:
        return [task for job in self._jobs.values() for task in job.tasks]

    # Beginning.

    def _begin(
        self,
        row: RegistrationRow,
        epoch: int,
        requests: Sequence[Request],
        environment: Mapping[str, str] | None,
    ) -> None:
        if row.uid in self._jobs:
            return
        job = Job(row, epoch, RateMeter(self._clock.monotonic()), wish=Wish.RUN)
        try:
            records = self._registrations.records(row.uid)
            job.tasks = [
                self._task(job, record, request) for record, request in zip(records, requests, strict=True)
            ]
        except (Damaged, InvalidRequest) as error:  # a version before this one may have allowed more
            job.refused = Fault("damaged" if isinstance(error, Damaged) else "url", str(error))
            self._settler.add_job(job)
            return
        except CacheError:  # locked, or a full disk
            self._later.append(lambda: self._begin(row, epoch, requests, environment))
            return
        if environment is not None or row.options.environment:
            job.surroundings = Surroundings.from_environment(
                {**row.options.environment, **(environment or {})}
            )
        self._jobs[row.uid] = job
        for task in job.tasks:
            if task.row.result is not Result.NONE:
                self._restore_finished(task)
            else:
                self._scheduler.add(task)
        if not job.unfinished:
            self._settler.add_job(job)
        job.wish = row.wish
        self._helm.steer()
        self._helm.apply(job)

    def _task(self, job: Job, record: RecordRow, request: Request) -> RecordTask:
        digest = Digest.parse(request.integrity) if request.integrity else None
        machine = RecordMachine(request, policy=self._policy, digest=digest)
        machine.restarts = record.restarts
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
            woken = task.machine.state in _AWAITING
            self._pilot.handle(task, on.NetworkReturned() if woken else on.Started(task.granted))

    def _open(self, task: RecordTask) -> bool:
        """Whether the record may start; where it must wait it goes back to the queue."""
        if task.finish is not None:
            self._scheduler.remove(task)
            return False
        opened = self._opener.open(task)
        if isinstance(opened, do.Finish):
            self._pilot.execute(task, opened)
            return False
        if not opened:
            self._scheduler.remove(task)
            self._set_aside.append(task)
        return opened

    # Ending.

    def _settle(self, *, at_once: bool = False) -> None:
        ended = self._settler.settle(at_once=at_once)
        for task in ended.tasks:
            self._opener.let_go(task, keep=task.job.row.uid in ended.lost)
        for job, event_id in ended.jobs:
            self._announce(job, event_id)
        self._drop(ended.lost)

    def _announce(self, job: Job, event_id: int) -> None:
        job.settled = True
        self._jobs.pop(job.row.uid, None)
        self._helm.forget(job.row.uid)
        # The handler comes first: who is told that it has settled looks for its files in the cache at once.
        self._settled(job, event_id)
        self.bulletin.publish(job.row.uid, progress_of(job, self._clock.monotonic()))

    # The clock.

    def _tick(self) -> None:
        now = self._clock.monotonic()
        if now < self._next_tick:
            return
        later, self._later = self._later, []
        for again in later:
            again()
        for task in self._set_aside:
            self._scheduler.add(task)
        self._set_aside.clear()
        self._ring()
        self._scheduler.tick(now)
        self._measure(now)
        for task, granted in self._scheduler.grants().items():
            # An idle connection asks again: what was not worth sharing a moment ago may be by now.
            if (task.granted != granted or task.machine.idle > 0) and task.transferring:
                task.granted = granted
                self._pilot.handle(task, on.ConnectionsGranted(granted))
        self._follow()
        self._publish(now)
        if now >= self._next_journal:
            self._next_journal = now + _JOURNAL_EVERY
            self._record()
        if now >= self._helm.due:
            self._helm.steer()
        if now >= self._next_wishes:
            self._next_wishes = now + _WISHES_EVERY
            self._helm.look()
        self._next_tick = now + self._tick_after()

    def _ring(self) -> None:
        now = self._now()
        for task in self._tasks():
            if task.timer is None or task.timer > now:
                continue
            offline = task.machine.state is State.WAITING_NETWORK
            task.timer = self._outages.look(task.host, now) if offline else None
            if task.timer is None:
                self._pilot.handle(task, on.NetworkReturned() if offline else self._rung(task))

    def _rung(self, task: RecordTask) -> on.Event:
        full = self._still_full(task)
        return on.TimerRang() if full is None else on.StoreFailed(full)

    def _now(self) -> float:
        """The instant as machines are told it: nobody's wait gets longer when the clock is set back."""
        return self._steady.at(self._clock.now(), self._clock.monotonic())

    def _still_full(self, task: RecordTask) -> Fault | None:
        """That there is no room yet, where that is all a record waits for: no server need be asked to learn it."""
        if task.machine.state is not State.PAUSED_DISK or not task.needs:
            return None
        try:
            words = self._room.shortage(task.needs)
        except OSError:
            return None
        return Fault("disk-full", words, transient=True) if words else None

    def _measure(self, now: float) -> None:
        for task in self._scheduler.running:
            ages, rates = {}, {}
            for flight, leg in task.machine.flights.items():
                receiver = task.receivers.get(flight)
                if receiver is not None:
                    leg.gathered, leg.waiting = receiver.gathered, receiver.waiting
                if leg.waiting and receiver is not None:
                    receiver.settle(hopeless=task.machine.held.ends_at(leg.start))
                    continue
                leg.age = ages[flight] = now - task.opened.get(flight, now)
                got = leg.position + leg.gathered - leg.start
                leg.rate = rates[flight] = got / leg.age if leg.age > 0 else 0.0
            for flight in laggards(rates, ages):
                self._pilot.handle(task, on.FlightLagged(flight))

    def _follow(self) -> None:
        for task in self._scheduler.running:
            if task.machine.digest is not None and task.large and task.partial is not None:
                self._keeper.follow(task)

    def _publish(self, now: float) -> None:
        for job in self._jobs.values():
            progress = progress_of(job, now)
            self.bulletin.publish(job.row.uid, progress)
            if job.row.download_total and progress.downloaded > job.row.download_total:
                self._pilot.check_total(job)

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
                self._registrations.commit(changes)

    def _lost(self, uids: frozenset[int]) -> None:
        """Another process has claimed these: stop touching them."""
        if uids:
            self._inbox.put(lambda: self._drop(uids))

    def _drop(self, uids: frozenset[int]) -> None:
        for uid in uids:
            job = self._jobs.pop(uid, None)
            for task in job.tasks if job is not None else ():
                self._flights.stop_all(task)
                self._scheduler.remove(task)
                self._opener.let_go(task, keep=True)
            if self._lost_to_another is not None:
                self._lost_to_another(uid)

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
                    self._pilot.account(*message)
        self._settle(at_once=True)
        entries = [
            (task.partial, task.progress())
            for task in self._tasks()
            if task.partial is not None and task.finish is None and task.machine.held
        ]
        self._journal.record(entries)
        self._journal.close()
        for task in self._tasks():
            self._opener.let_go(task)
