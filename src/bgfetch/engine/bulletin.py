"""Tells listeners how registrations do: at most ten times a second each, and always the last one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from bgfetch.core.model import Progress, Result, State
from bgfetch.engine.tasks import Job, told
from bgfetch.registrations.port import Wish
from bgfetch.running import Listener

__all__ = ["Bulletin", "progress_of"]

# What a registration shows when its records differ: the first of these that any of them is in.
_SHOWN_FIRST = (
    State.RUNNING,
    State.PAUSED_DISK,
    State.WAITING_NETWORK,
    State.WAITING_RETRY,
    State.VERIFYING,
    State.PAUSED,
    State.QUEUED,
)


def progress_of(job: Job, now: float) -> Progress:
    """One look at a registration.

    Args:
        job: The registration, at work in this process.
        now: Seconds on the monotonic clock.
    """
    result, finish = job.result if job.settled else (Result.NONE, None)
    downloaded, announced, uploaded, connections = _sums(job)
    total = job.row.download_total or announced
    rate = 0.0 if job.settled else job.meter.rate(now)
    state, until = state_of(job)
    return Progress(
        downloaded=downloaded,
        download_total=total,
        uploaded=uploaded,
        upload_total=job.row.upload_total,
        rate=rate,
        eta=(total - downloaded) / rate if rate > 0 and total >= downloaded > 0 else None,
        state=state,
        until=until,
        connections=connections,
        result=result,
        failure_reason=Progress(0, 0).failure_reason if finish is None else finish.reason,
        failure_detail="" if finish is None else told(finish),
    )


def state_of(job: Job) -> tuple[State, float | None]:
    """What the registration as a whole does, and until when, by the wall clock.

    Waiting for a network has no such instant: what ends it is the network's return, however often that is looked for.
    """
    if job.settled:
        return State.SETTLED, None
    by_state = {task.machine.state: task for task in reversed(job.unfinished)}
    for state in _SHOWN_FIRST:
        if state in by_state:
            if state is State.PAUSED and job.gate is not None and job.wish is Wish.RUN:
                return job.gate.state, job.gate.until
            until = by_state[state].machine.until
            told = until is not None and state is not State.WAITING_NETWORK
            return state, until - job.clock_ahead if told and until is not None else None
    return State.VERIFYING, None


def _sums(job: Job) -> tuple[int, int, int, int]:
    """Bytes held, announced (0 where one record's are unknown) and sent, and connections, over all records.

    One walk, since it is made ten times a second over perhaps thousands of records, most of which wait or are over.
    """
    downloaded = announced = uploaded = connections = unknown = 0
    for task in job.tasks:
        machine = task.machine
        total = machine.total
        if task.finish is not None and task.finish.result is Result.SUCCESS:
            downloaded += total or 0
        elif machine.held:
            downloaded += machine.held.length
        connections += len(machine.flights)
        uploaded += task.uploaded
        total = task.request.expected_size if total is None else total
        if total is None:
            unknown += 1
        else:
            announced += total
    return downloaded, 0 if unknown else announced, uploaded, connections


class Bulletin:
    """Who listens to which registration. Listeners are called on the driver's thread and must be quick.

    Attributes:
        bug: What the driver died of, or None while it lives.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[int, list[Listener]] = {}
        self._last: dict[int, Progress] = {}
        self._followers: list[Callable[[int, Progress], None]] = []
        self.bug: BaseException | None = None

    def listen(self, uid: int, listener: Listener) -> Callable[[], None]:
        """Call it with each change from now on, beginning with what is known; returns how to stop that."""
        with self._lock:
            self._listeners.setdefault(uid, []).append(listener)
            last = self._last.get(uid)
        if last is None and self.bug is not None:  # who comes too late is woken like the others
            last = Progress(0, 0)
        if last is not None:
            listener(last)

        def stop() -> None:
            with self._lock:
                if listener in self._listeners.get(uid, []):
                    self._listeners[uid].remove(listener)

        return stop

    def publish(self, uid: int, progress: Progress) -> None:
        """Tell everybody who listens, unless nothing changed."""
        with self._lock:
            if self._last.get(uid) == progress:
                return
            self._last[uid] = progress
            listeners = list(self._listeners.get(uid, ()))
        for listener in listeners:
            listener(progress)
        for follower in self._followers:
            follower(uid, progress)

    def follow(self, follower: Callable[[int, Progress], None]) -> None:
        """Call it with each change of any registration, from now on."""
        self._followers = [*self._followers, follower]

    def forget(self, uid: int) -> None:
        """Nobody will ask for the last word on this one: a process that runs for years keeps no list of all it did."""
        with self._lock:
            self._last.pop(uid, None)
            if not self._listeners.get(uid):
                self._listeners.pop(uid, None)

    def give_up(self, bug: BaseException) -> None:
        """The driver has died of a bug and nothing more will be published: wake everybody, so that they see it."""
        self.bug = bug
        with self._lock:
            waiting = [
                (listener, self._last.get(uid)) for uid, all_ in self._listeners.items() for listener in all_
            ]
        for listener, last in waiting:
            listener(last or Progress(0, 0))

    def last(self, uid: int) -> Progress | None:
        """What was told last, or None."""
        with self._lock:
            return self._last.get(uid)
