"""Hands events over to whoever handles them: a scope's own worker, or the built-in one.

The rules it keeps:

* At least once, and acknowledged once. A delivery is counted before it begins and acknowledged after the handler ended well;
  whatever is killed in between, the event is delivered again, after a delay that grows, until it is parked.
* One event of a scope at a time, oldest first; scopes do not wait for each other. One that waits to be delivered again
  holds up later events of its own registration only.
* Records go when the scope's own worker has acknowledged the settle event; the built-in one leaves them until
  retention ends.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from bgfetch.cache.blobs import Blobs
from bgfetch.clock import Clock
from bgfetch.core.delivery import MOST_DELIVERIES, next_delivery
from bgfetch.errors import CacheError
from bgfetch.registrations.port import EventType, OutboxEvent, RegistrationRow, Registrations
from bgfetch.worker.builtin import BuiltinWorker
from bgfetch.worker.launcher import Ended, Launcher
from bgfetch.worker.orders import of_message, of_registration
from bgfetch.worker.outbox import Outbox
from bgfetch.worker.places import Places
from bgfetch.worker.scopes import Scopes, log_text
from bgfetch.worker.workers import WorkerRow, Workers, WorkerState

__all__ = ["Delivery", "Post", "Told"]

_AT_ONCE: Final = 4  # handlers; each is a process
_POLL: Final = 1.0  # seconds; for what other processes write
_SWEEP: Final = 3600.0  # seconds between looks for what is old
_ELSEWHERE: Final = 0.5  # seconds until a scope is looked at again whose events another process handles

Told = Callable[[RegistrationRow, EventType], None]
"""Is told of each event that has been handled, on a thread of the delivery's: be quick."""


@dataclass(frozen=True, slots=True)
class Post:
    """The stores that deliveries read and write.

    Args:
        registrations: What is told of.
        outbox: What is owed.
        workers: To whom.
        blobs: Where bodies are.
    """

    registrations: Registrations
    outbox: Outbox
    workers: Workers
    blobs: Blobs


class Delivery:
    """Delivers events. Every method may be called from any thread.

    Args:
        post: The stores.
        builtin: Handles events of scopes that have no worker.
        scopes: Lets installed workers take over.
        launcher: Runs handlers.
        places: Locks and logs of scopes.
        clock: The time.
        handles: Whether this process runs handlers; if not, they are left to the daemon until `start`.
        sweep: Called now and then with the time where this process delivers for all, to forget what is old.
    """

    def __init__(
        self,
        post: Post,
        builtin: BuiltinWorker,
        scopes: Scopes,
        launcher: Launcher,
        places: Places,
        clock: Clock,
        *,
        handles: bool = True,
        sweep: Callable[[float], object] | None = None,
    ) -> None:
        self._post = post
        self._builtin = builtin
        self._scopes = scopes
        self._launcher = launcher
        self._places = places
        self._clock = clock
        self._handles = handles
        self._sweep = sweep
        self._told: Told | None = None
        self._serving = False
        self._woken = threading.Event()
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        self._not_before: dict[str, float] = {}  # by scope, monotonic: another process handles its events
        self._owed: dict[int, str] = {}  # event: scope
        self._messages: dict[str, queue.SimpleQueue[tuple[object, str]]] = {}
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._closing = False

    def deliver(self, event: OutboxEvent, now: float) -> None:
        """Deliver an event that has just been written: at once where the built-in worker handles it, else soon."""
        if self._has_own(event.scope):
            with self._changed:
                if self._handles:
                    self._owed[event.event_id] = event.scope
            self._begin()
            self.wake()
        else:
            self._handle_builtin(event, now)

    def deliver_pending(self, scope: str, now: float) -> None:
        """Deliver each event of the scope that an earlier process did not get to; of its own worker, soon."""
        for event in self._post.registrations.pending(scope, now=now):
            self.deliver(event, now)

    def post_message(self, scope: str, data: object, *, source: str = "") -> bool:
        """Give the scope's worker a message, as `ServiceWorker.postMessage`; False when it has none of its own.

        Not stored, as in the standard: one that waits when this process ends is gone.
        """
        if self._post.workers.active(scope) is None:
            return False
        with self._changed:
            self._messages.setdefault(scope, queue.SimpleQueue()).put((data, source))
        self._begin()
        self.wake()
        return True

    def start(self, told: Told | None = None) -> None:
        """Deliver from now on, also what other processes write; what the daemon is there for.

        Args:
            told: See `Told`.
        """
        self._told = told
        self._handles = self._serving = True
        self._begin()

    def _begin(self) -> None:
        with self._changed:
            if self._thread is None and self._handles and not self._closing:
                self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="bgfetch-worker")
                self._thread = threading.Thread(target=self._loop, name="bgfetch-delivery", daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Something may be due."""
        self._woken.set()

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until each event that was given to `deliver` has been tried, and no handler runs."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._owed and not self._busy, timeout)

    def close(self, *, finish: bool = False) -> None:
        """End. A handler that runs is killed, and its event is delivered again, by whoever comes next.

        Args:
            finish: First try each event that was given to `deliver`, unless this process delivers for all: nobody
                else may come.
        """
        if finish and self._thread is not None and not self._serving:
            self.wait_idle()
        with self._changed:
            self._closing = True
            thread, pool = self._thread, self._pool
        self._launcher.stop()
        self.wake()  # after `_closing` was set: it is the last look
        if thread is not None:
            thread.join()
        if pool is not None:
            pool.shutdown(wait=True)

    def _loop(self) -> None:
        """The thread: finds what is due, and gives each scope its next event."""
        with contextlib.suppress(CacheError):
            self._scopes.finish()
        seen: int | None = None
        due_at: float | None = None
        swept = -math.inf
        while not self._closing:
            woken = self._woken.is_set()
            self._woken.clear()
            try:
                now, version = self._clock.now(), self._post.registrations.data_version()
                elapsed = due_at is not None and due_at <= now
                if woken or elapsed or version != seen or self._not_before:
                    seen = version
                    self._step(now)
                    due_at = self._post.outbox.next_due(now=now)
                if self._serving and self._sweep is not None and self._clock.monotonic() - swept > _SWEEP:
                    swept = self._clock.monotonic()
                    self._sweep(now)
            except CacheError:  # a full or locked disk: what is owed stays owed
                seen = None
            left = _POLL if due_at is None else max(0.0, due_at - self._clock.now())
            self._woken.wait(min(_POLL, left))

    def _step(self, now: float) -> None:
        rows = self._post.workers.listing()
        closed = {row.scope for row in rows if row.state is WorkerState.UNREGISTERING}
        active = {row.scope: row for row in rows if row.state is WorkerState.ACTIVE}
        waiting = {row.scope for row in rows if row.state in (WorkerState.INSTALLED, WorkerState.ACTIVATING)}
        for scope in waiting - closed:
            self._submit(scope, lambda scope=scope: self._scopes.activate_alone(scope))  # type: ignore[misc]
        with self._changed:
            talking = [scope for scope, messages in self._messages.items() if not messages.empty()]
            owed = set(self._owed)
        due = self._post.outbox.due(now=now)
        for event in due:
            if event.scope in closed:
                continue
            if (row := active.get(event.scope)) is not None:
                self._submit(event.scope, lambda event=event, row=row: self._hand_over(event, row))  # type: ignore[misc]
            elif event.scope not in waiting:
                self._submit(event.scope, lambda scope=event.scope: self._handle_all_builtin(scope))  # type: ignore[misc]
        for scope in talking:
            if scope in active:
                self._submit(scope, lambda row=active[scope]: self._hand_message(row))  # type: ignore[misc]
        self._forgive(owed, closed)

    def _forgive(self, owed: set[int], closed: set[str]) -> None:
        """Wait no longer for what another process has delivered, or what is delivered to nobody."""
        left = (
            {
                event.event_id
                for event in self._post.registrations.pending(now=self._clock.now())
                if event.scope not in closed
            }
            if owed
            else set()
        )
        with self._changed:
            for event_id in owed - left:
                self._owed.pop(event_id, None)
            self._changed.notify_all()

    def _submit(self, scope: str, job: Callable[[], object]) -> None:
        """Do it for the scope, unless something is being done for it already."""
        with self._changed:
            elsewhere = self._not_before.get(scope, 0.0) > self._clock.monotonic()
            if not elsewhere:
                self._not_before.pop(scope, None)
            if scope in self._busy or elsewhere or self._closing or self._pool is None:
                return
            self._busy.add(scope)
            self._pool.submit(self._alone, scope, job)

    def _alone(self, scope: str, job: Callable[[], object]) -> None:
        try:
            with contextlib.suppress(CacheError), self._places.alone(scope) as mine:
                if mine:
                    job()
                else:
                    self._leave(scope)
        finally:
            with self._changed:
                self._busy.discard(scope)
                self._changed.notify_all()
            if scope not in self._not_before:
                self.wake()

    def _leave(self, scope: str) -> None:
        """Another process handles its events: it is not waited for, since it may be the one that waits for us."""
        with self._changed:
            self._not_before[scope] = self._clock.monotonic() + _ELSEWHERE
            self._owed = {event_id: whose for event_id, whose in self._owed.items() if whose != scope}

    def _hand_over(self, event: OutboxEvent, worker: WorkerRow) -> None:
        """One delivery to a scope's own worker."""
        now = self._clock.now()
        again_at = next_delivery(event.attempts + 1, now=now, chance=self._clock.chance())
        try:
            row = self._post.registrations.get(event.uid)
            current = self._post.workers.active(event.scope)
            if row is None or current is None or current.worker_id != worker.worker_id:
                return
            if self._post.outbox.begin(event, worker_id=worker.worker_id, again_at=again_at, now=now):
                records = self._post.registrations.records(event.uid)
                order = of_registration(
                    event,
                    row,
                    records,
                    blobs=self._post.blobs,
                    root=self._places.root,
                    mailbox=worker.handler.mailbox,
                )
                ended = self._launcher.run(worker.handler, order)
                what = (
                    f"event {event.event_id} {event.type.value} of {row.id!r}, delivery {event.attempts + 1}"
                )
                self._places.write_log(event.scope, log_text(what, worker, ended, now))
                self._conclude(event, ended)
        finally:
            self._settle_debt(event)

    def _conclude(self, event: OutboxEvent, ended: Ended) -> None:
        now = self._clock.now()
        if ended.well:
            release = event.type is not EventType.CLICK
            if self._post.outbox.acknowledge(event, release=release, now=now):
                self._tell(event)
        elif ended.stopped:
            self._post.outbox.give_back(event)
        else:
            again_at = next_delivery(event.attempts + 1, now=now, chance=self._clock.chance())
            self._post.outbox.failed(
                event, exit_code=ended.exit_code, detail=ended.detail, again_at=again_at, now=now
            )

    def _hand_message(self, worker: WorkerRow) -> None:
        with contextlib.suppress(queue.Empty):
            data, source = self._messages[worker.scope].get_nowait()
            order = of_message(
                worker.scope, data, source=source, root=self._places.root, mailbox=worker.handler.mailbox
            )
            began = self._clock.now()
            ended = self._launcher.run(worker.handler, order)
            self._places.write_log(worker.scope, log_text("message", worker, ended, began))

    def _handle_all_builtin(self, scope: str) -> None:
        for event in self._post.registrations.pending(scope, now=self._clock.now()):
            self._handle_builtin(event, self._clock.now())

    def _handle_builtin(self, event: OutboxEvent, now: float) -> None:
        """Where the store refuses it is tried again; that is no fault of the event, so it is never parked."""
        try:
            self._builtin.handle(event, now)
            first = self._post.outbox.acknowledge(event, release=False, now=now)
        except CacheError:
            tried = min(event.attempts + 1, MOST_DELIVERIES - 1)
            again_at = next_delivery(tried, now=now, chance=self._clock.chance())
            self._post.registrations.postpone(event.event_id, again_at, attempts=event.attempts)
        else:
            if first:
                self._tell(event)

    def _tell(self, event: OutboxEvent) -> None:
        row = self._post.registrations.get(event.uid)
        if self._told is not None and row is not None:
            self._told(row, event.type)

    def _settle_debt(self, event: OutboxEvent) -> None:
        with self._changed:
            self._owed.pop(event.event_id, None)
            self._changed.notify_all()

    def _has_own(self, scope: str) -> bool:
        return bool(self._post.workers.listing(scope))
