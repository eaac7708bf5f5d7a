"""Runs registrations in this process: claims them, hands them to the driver, tells who waits.

The driver and with it libcurl are made when the first registration is run, so that commands which only look need
neither.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bgfetch.clock import Clock
from bgfetch.core.model import Headers, Progress, Request, State
from bgfetch.core.timetable import Timetable
from bgfetch.core.urls import is_secret_header
from bgfetch.database import Damaged
from bgfetch.engine.bulletin import Bulletin
from bgfetch.engine.claims import Claims
from bgfetch.engine.driver import Driver
from bgfetch.engine.tasks import Job
from bgfetch.environment import without_secrets
from bgfetch.errors import CacheError, InvalidState
from bgfetch.registrations.port import (
    OutboxEvent,
    RegistrationOptions,
    RegistrationRow,
    Registrations,
    StateChanged,
    Wish,
)
from bgfetch.running import Listener, Look

__all__ = ["Runner"]

MakeDriver = Callable[[Callable[[Job, int], None], Callable[[int], None]], Driver]


class Runner:
    """What of this home is run by this process.

    Args:
        registrations: The store.
        claims: The locks of this process.
        clock: The time.
        make_driver: Makes the driver, given whom to tell of settlements and of what another process runs now.
        deliver: Handles a settle event; called on the driver's thread.
    """

    def __init__(
        self,
        registrations: Registrations,
        claims: Claims,
        clock: Clock,
        *,
        make_driver: MakeDriver,
        deliver: Callable[[OutboxEvent, float], None],
    ) -> None:
        self._registrations = registrations
        self._claims = claims
        self._clock = clock
        self._make_driver = make_driver
        self._deliver = deliver
        self._driver: Driver | None = None
        self._lock = threading.Lock()
        self._running: set[int] = set()

    def run(
        self,
        uid: int,
        requests: Sequence[Request] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> bool:
        """Work on a registration here; False when another process does, or when it has settled.

        Args:
            uid: The registration.
            requests: With the secrets that the store does not keep; None where there are none to add.
            environment: The variables of whoever asks that decide about proxies, certificates and sources; those that
                are no secrets are stored. None where nothing is to be added to what is stored.
        """
        with self._lock:
            if uid in self._running:
                return True
            if not self._claims.take(uid):
                return False
            try:
                epoch = self._registrations.claim(uid, f"pid {os.getpid()}")
                row = self._with_environment(uid, environment)
                asked = requests if requests is not None else self._stored(uid)
            except InvalidState:
                self._claims.release(uid)
                return False
            except CacheError:
                self._claims.forget(uid)
                raise
            assert row is not None  # noqa: S101 - just claimed
            self._running.add(uid)
            self.driver.start(row, epoch, asked, environment)
            return True

    def _with_environment(self, uid: int, environment: Mapping[str, str] | None) -> RegistrationRow | None:
        row = self._registrations.get(uid)
        if row is None or environment is None:
            return row
        options = replace(row.options, environment=without_secrets(environment))
        if options.environment != row.options.environment:
            self._registrations.amend(uid, options=options)
        return replace(row, options=options)

    def _stored(self, uid: int) -> list[Request]:
        try:
            return [_without_missing_secrets(record.request) for record in self._registrations.records(uid)]
        except Damaged:  # the driver meets it too, and settles it with these words
            return []

    def set_aside(self, uid: int, name: str, detail: str) -> bool:
        """Note in the store that it rests, and why, without running it; False when somebody else has it."""
        with self._lock:
            if uid in self._running or not self._claims.take(uid):
                return False
            try:
                epoch = self._registrations.claim(uid, f"pid {os.getpid()}")
                self._registrations.commit([StateChanged(uid, epoch, State.PAUSED)])
                self._registrations.log(uid, self._clock.now(), name, detail)
            except InvalidState:
                return False
            finally:
                self._claims.forget(uid)
            return True

    @property
    def held(self) -> frozenset[int]:
        """All that this process works on."""
        with self._lock:
            return frozenset(self._running)

    def running(self, uid: int) -> bool:
        """Whether this process works on it."""
        return uid in self._running

    def look(self, uid: int, index: int) -> Look | None:
        """How a record stands that is under way in this process, or None."""
        return None if self._driver is None else self._driver.look(uid, index)

    @property
    def driver(self) -> Driver:
        """The driver, made when first asked for."""
        if self._driver is None:
            self._driver = self._make_driver(self._on_settled, self._on_lost)
        return self._driver

    @property
    def bulletin(self) -> Bulletin:
        """Where progress is told."""
        return self.driver.bulletin

    @property
    def bug(self) -> BaseException | None:
        """What the driver died of, or None while it lives."""
        return None if self._driver is None else self._driver.bulletin.bug

    def last(self, uid: int) -> Progress | None:
        """What was told last of it in this process, or None."""
        return None if self._driver is None else self._driver.bulletin.last(uid)

    def listen(self, uid: int, listener: Listener) -> Callable[[], None]:
        """Be told of progress; returns how to stop that."""
        return self.bulletin.listen(uid, listener)

    def wish(self, uid: int, wish: Wish) -> bool:
        """Ask it to run, pause or abort, here or in whatever process runs it; False when it is over."""
        accepted = self._registrations.set_wish(uid, wish)
        if accepted and self._driver is not None:
            self._driver.wish(uid, wish)
        return accepted

    def amend(self, uid: int, options: RegistrationOptions) -> None:
        """Run it with these options from now on. InvalidRequest: its timetable is none; nothing was changed."""
        Timetable.parse(options.schedule)
        self._registrations.amend(uid, options=options)
        if self._driver is not None:
            self._driver.amend(uid, options)

    def set_limit(self, rate: int) -> None:
        """Let all that runs here together have so many bytes a second; 0 for no limit."""
        self.driver.set_limit(rate)

    def set_schedule(self, text: str) -> None:
        """When how fast for all that runs here, in rclone's words; "" for always. InvalidRequest: it is no timetable."""
        self.driver.set_schedule(Timetable.parse(text))

    def set_paused(self, paused: bool) -> None:  # noqa: FBT001 - the one thing it says
        """Let everything that runs here rest, or go on."""
        self.driver.set_paused(paused)

    def close(self) -> None:
        """Stop, keeping every byte; what is unfinished may be claimed by another process."""
        if self._driver is not None:
            self._driver.close()
        self._claims.close()

    def _on_settled(self, job: Job, event_id: int) -> None:
        uid = job.row.uid
        now = self._clock.now()
        with contextlib.suppress(
            CacheError
        ):  # the event stays in the outbox, and is delivered before the next fetch
            for event in self._registrations.pending(job.row.scope, now=now):
                if event.event_id == event_id:
                    self._deliver(event, now)
        self._running.discard(uid)
        self._claims.release(uid)

    def _on_lost(self, uid: int) -> None:
        """Where locks lie two processes may claim one registration: the later one has it, and may lose it again."""
        self._running.discard(uid)
        self._claims.forget(uid)


def _without_missing_secrets(request: Request) -> Request:
    pairs = [pair for pair in request.headers.pairs if pair[1] or not is_secret_header(pair[0])]
    return Request(
        request.url, request.method, Headers(pairs), request.body, request.integrity, request.expected_size
    )
