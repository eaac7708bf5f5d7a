"""Which registrations a process that runs for long works on now: a window of those that are unfinished.

Ten thousand may wait; each that is worked on costs a lock file, memory and a look at every tick. So only as many are
claimed as there is work for, by priority and age, and others follow as these settle. Those that wait for a network or
rest do not count as work, up to a bound.

Secrets live here and nowhere else: what clients said besides what the store keeps. A registration that was made with
some, of a process that has ended, is not tried without them: it rests, and its log says which header must be said again.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bgfetch.clock import Clock
from bgfetch.core.model import Progress, Request, State
from bgfetch.core.urls import is_secret_header
from bgfetch.database import Damaged
from bgfetch.engine.runner import Runner
from bgfetch.environment import secrets_of
from bgfetch.errors import CacheError, InvalidRequest
from bgfetch.registrations.port import RecordRow, RegistrationOptions, Registrations, Wish
from bgfetch.running import Listener, Look

__all__ = ["Admission", "Window"]

_POLL: Final = 0.25  # s between looks at whether another process has written: 20 microseconds each
_AGAIN: Final = 1.0  # s until what somebody else runs, or the store refused, is tried again
_MEND_AGAIN: Final = 60.0  # s: looking at every row is no small thing
_WORKING: Final = frozenset({State.QUEUED, State.RUNNING, State.VERIFYING})


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Window:
    """How many registrations are worked on at once.

    Args:
        working: Of those that transfer, are checked or are about to, >= 1.
        held: In all, with those that wait or rest, >= working.
    """

    working: int = 64
    held: int = 128


class Admission:
    """`Runs` over everything in the store: what clients ask for goes first, all else follows by itself.

    Args:
        registrations: The store.
        runner: Works on what is admitted.
        clock: The time.
        window: How many at once.
        mend: Called on a thread of ours where the store turns out to be damaged, once a minute at the most.
    """

    def __init__(
        self,
        registrations: Registrations,
        runner: Runner,
        clock: Clock,
        *,
        window: Window | None = None,
        mend: Callable[[], None] = _nothing,
    ) -> None:
        self._registrations = registrations
        self._runner = runner
        self._clock = clock
        self._window = window or Window()
        self._mend = mend
        self._mend_again = -math.inf
        self._watchers: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self._secrets: dict[int, Sequence[Request]] = {}
        self._environments: dict[int, Mapping[str, str]] = {}
        self._expected: dict[
            tuple[str, str], Mapping[str, str]
        ] = {}  # by scope and id, until it is registered
        self._waiting: set[int] = set()  # asked for by a client, and not admitted yet
        self._incomplete: set[int] = set()  # rest until their secrets are said again
        self._not_before: dict[int, float] = {}
        self._paused = False
        self._followers: list[Callable[[int, Progress], None]] = []
        self._following = False
        self._held_bytes: dict[int, int] = {}
        self.received = 0  # bytes stored since the beginning
        self._woken = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="bgfetch-admission", daemon=True)

    def start(self) -> None:
        """Begin with what is unfinished."""
        self._thread.start()

    def follow(self, follower: Callable[[int, Progress], None]) -> None:
        """Call it with each progress of any registration, on the driver's thread: be quick."""
        self._followers.append(follower)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call it when the store has changed, on a thread of ours: be quick."""
        self._watchers.append(watcher)

    # What clients ask for.

    def expect(self, scope: str, id: str, environment: Mapping[str, str]) -> None:  # noqa: A002 - the standard's word
        """What the next `run` of the registration that is about to have this id is to know."""
        self._expected[scope, id] = environment

    def run(
        self,
        uid: int,
        requests: Sequence[Request] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> bool:
        """Work on a registration as soon as there is room; False when another process does, or when it has settled.

        Args:
            uid: The registration.
            requests: With the secrets that the store does not keep; None where there are none to add.
            environment: The variables of whoever asks that decide about proxies, certificates and credentials.

        Raises:
            InvalidRequest: The requests are not those of the registration.
        """
        row = self._registrations.get(uid)
        if row is None or row.settled_at is not None:
            return False
        with self._lock:
            environment = self._expected.pop((row.scope, row.id), environment)
            if environment is not None:
                self._environments[uid] = environment
            if self._runner.running(uid):
                return True
            if requests is not None:
                completed = _completed(requests, self._registrations.records(uid))
                if any(map(_has_secrets, completed)):
                    self._secrets[uid] = completed
                    self._incomplete.discard(uid)
            if uid in self._incomplete or len(self._runner.held) >= self._window.held:
                self._waiting.add(uid)
                return True
            return self._admit(uid)

    def running(self, uid: int) -> bool:
        """Whether this process works on it, or will."""
        return self._runner.running(uid) or uid in self._waiting

    def wish(self, uid: int, wish: Wish) -> bool:
        """Ask it to run, pause or abort, whoever runs it; False when it is over."""
        accepted = self._runner.wish(uid, wish)
        if accepted:
            self.poke()
        return accepted

    def amend(self, uid: int, options: RegistrationOptions) -> None:
        """Run it with these options from now on, whoever runs it."""
        self._runner.amend(uid, options)

    def look(self, uid: int, index: int) -> Look | None:
        """How a record stands that is under way here, or None."""
        return self._runner.look(uid, index)

    def last(self, uid: int) -> Progress | None:
        """What was told last of it, or None."""
        return self._runner.last(uid)

    def listen(self, uid: int, listener: Listener) -> Callable[[], None]:
        """Be told of progress; returns how to stop that."""
        return self._runner.listen(uid, listener)

    @property
    def bug(self) -> BaseException | None:
        """What the driver died of, or None while it lives."""
        return self._runner.bug

    @property
    def held(self) -> frozenset[int]:
        """All that is worked on now."""
        return self._runner.held

    def set_limit(self, rate: int) -> None:
        """Let all together have so many bytes a second; 0 for no limit."""
        self._runner.set_limit(rate)

    def set_schedule(self, text: str) -> None:
        """When how fast for all together, in rclone's words; InvalidRequest where that cannot be read."""
        self._runner.set_schedule(text)

    def set_paused(self, paused: bool) -> None:  # noqa: FBT001 - the one thing it says
        """Admit nothing and let what runs rest, or go on."""
        self._paused = paused
        self._runner.set_paused(paused)
        self.poke()

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done until somebody asks for something."""
        rests = self._incomplete
        return all(uid in rests for uid in self._registrations.unfinished(limit=len(rests) + 1))

    @property
    def would_lose(self) -> list[int]:
        """Unfinished registrations whose secrets are nowhere but here."""
        told = [uid for uid, environment in list(self._environments.items()) if secrets_of(environment)]
        return sorted({*self._secrets, *told})

    def poke(self) -> None:
        """Look at the store at once."""
        self._woken.set()

    def close(self) -> None:
        """Admit nothing more, and stop what runs, keeping every byte."""
        self._closing = True
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._runner.close()

    # The thread.

    def _loop(self) -> None:
        version, retry_at = -1, 0.0
        while not self._closing:
            woken = self._woken.is_set()
            self._woken.clear()
            with self._tolerated():  # locked, or a full disk: asked again at the next turn
                now = self._registrations.data_version()
                if now != version:
                    version = now
                    woken = True
                    self._tell()
                if woken or (self._not_before and self._clock.monotonic() >= retry_at):
                    retry_at = self._clock.monotonic() + _AGAIN
                    self._fill()
            self._woken.wait(_POLL)

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher()

    def _fill(self) -> None:
        held = self._runner.held
        room = min(self._window.working - self._working(held), self._window.held - len(held))
        if room <= 0 or self._paused:
            return
        passed_over = self._passed_over()
        for uid in self._registrations.unfinished(limit=len(held) + len(passed_over) + room):
            if self._closing:
                return
            if uid not in held and uid not in passed_over:
                with self._tolerated(), self._lock:  # one that cannot be read keeps nobody else waiting
                    self._admit(uid)

    @contextlib.contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except Damaged:
            now = self._clock.monotonic()
            if now >= self._mend_again:
                self._mend_again = now + _MEND_AGAIN
                with contextlib.suppress(CacheError):
                    self._mend()
        except CacheError:
            pass

    def _working(self, held: frozenset[int]) -> int:
        told = (self._runner.last(uid) for uid in held)
        return sum(last is None or last.state in _WORKING for last in told)

    def _passed_over(self) -> set[int]:
        now = self._clock.monotonic()
        self._not_before = {uid: when for uid, when in self._not_before.items() if when > now}
        for uid in list(self._incomplete):
            row = self._registrations.get(uid)
            if row is None or row.settled_at is not None or row.wish is Wish.ABORT:
                self._forget(uid)
        return self._incomplete | self._not_before.keys()

    def _admit(self, uid: int) -> bool:
        """Whether it runs here now, or rests for want of secrets."""
        self._not_before[uid] = self._clock.monotonic() + _AGAIN  # unless it goes well
        self._follow_driver()
        requests = self._secrets.get(uid)
        missing = _missing(self._registrations.records(uid)) if requests is None else []
        row = self._registrations.get(uid) if missing else None
        if row is not None and row.wish is not Wish.ABORT:
            return self._rest(uid, missing)
        if not self._runner.run(uid, requests, self._environments.get(uid)):
            return False
        del self._not_before[uid]
        self._waiting.discard(uid)
        return True

    def _rest(self, uid: int, missing: Sequence[str]) -> bool:
        detail = (
            f"{', '.join(missing)} must be said again: ask for it again with `get`; what has come is kept"
        )
        if not self._runner.set_aside(uid, "secrets-missing", detail):
            return False
        self._tell()  # what this thread writes is no news to its own connection
        self._incomplete.add(uid)
        del self._not_before[uid]
        return True

    def _follow_driver(self) -> None:
        if not self._following:
            self._following = True
            self._runner.bulletin.follow(self._told)

    def _told(self, uid: int, progress: Progress) -> None:
        gained = progress.downloaded - self._held_bytes.get(uid, progress.downloaded)
        self._held_bytes[uid] = progress.downloaded
        self.received += max(
            0, gained
        )  # a record that begins anew gives bytes back that were received all the same
        for follower in self._followers:
            follower(uid, progress)
        if progress.state is State.SETTLED:
            self._runner.bulletin.forget(uid)
            self._forget(uid)
            self.poke()

    def _forget(self, uid: int) -> None:
        """It is over: nobody needs its secrets any more. Without the lock, which who runs things may hold for long."""
        self._secrets.pop(uid, None)
        self._environments.pop(uid, None)
        self._held_bytes.pop(uid, None)
        self._waiting.discard(uid)
        self._incomplete.discard(uid)


def _missing(records: Sequence[RecordRow]) -> list[str]:
    """Names of header fields whose values the store does not keep."""
    unfinished = [record.request for record in records if not record.result]
    return sorted(
        {
            name
            for request in unfinished
            for name, value in request.headers.pairs
            if not value and is_secret_header(name)
        }
    )


def _has_secrets(request: Request) -> bool:
    return any(value and is_secret_header(name) for name, value in request.headers.pairs)


def _completed(requests: Sequence[Request], records: Sequence[RecordRow]) -> list[Request]:
    """These requests with the bodies that are stored, once they are seen to be those of the records."""
    stored = [record.request for record in records]
    if [(each.url, each.method) for each in requests] != [(each.url, each.method) for each in stored]:
        raise InvalidRequest("these are not the requests of this registration; nothing was changed")
    return [
        Request(
            each.url,
            each.method,
            each.headers,
            kept.body,
            each.integrity or kept.integrity,
            each.expected_size,
        )
        for each, kept in zip(requests, stored, strict=True)
    ]
