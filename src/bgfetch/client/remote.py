"""The daemon as what runs registrations: `Runs`, over the local API.

One stream of events serves all who listen. It is a hint and the store is the truth: whenever the stream begins anew,
what settled meanwhile is read from the store, and what the daemon cannot know any more (secrets, the environment) is
said again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bgfetch.client.connection import Event, Query, Stream
from bgfetch.client.starting import Daemon
from bgfetch.core.model import Progress, Request, State
from bgfetch.errors import DaemonError, DaemonNotRunning, NotFound
from bgfetch.registrations.port import RegistrationOptions, Registrations, Wish
from bgfetch.running import Listener, Look, stored_progress
from bgfetch.wire import Amendment, Fields, Json, Run, ToldProgress, pack_options, unpack_look

__all__ = ["Audience", "RemoteRunner"]

_MOST_NAMED: Final = 50  # registrations a stream names one by one; beyond that it takes all
_RETURNS: Final = 15.0  # seconds for a daemon that said goodbye to come back, as an upgraded one does
_PAUSES: Final = (0.05, 0.1, 0.2, 0.4)  # seconds before the stream is tried again
_FAILURES: Final = 4


@dataclass(frozen=True, slots=True)
class Audience:
    """An app that is there: workers find it with `clients.match_all` and send it messages.

    Args:
        scope: Whose workers.
        client: Its own id.
        told: Is given each message, on a thread of the runner's.
    """

    scope: str
    client: str
    told: Callable[[Json], None]


class RemoteRunner:
    """Has the daemon run registrations.

    Args:
        daemon: The daemon.
        registrations: The store, which both share.
        environment: The variables that count for what this process asks for, as they are now.
        audience: The app that messages are for, if any.
    """

    def __init__(
        self,
        daemon: Daemon,
        registrations: Registrations,
        *,
        environment: Callable[[], Mapping[str, str]],
        audience: Audience | None = None,
    ) -> None:
        self._daemon = daemon
        self._registrations = registrations
        self._environment = environment
        self._audience = audience
        self._lock = threading.Lock()
        self._listeners: dict[int, list[Listener]] = {}
        self._last: dict[int, Progress] = {}
        self._asked: dict[int, Run] = {}
        self._reader: threading.Thread | None = None
        self._stream: Stream | None = None
        self._named: frozenset[int] | None = frozenset()  # None = the stream tells of all
        self._closed = threading.Event()
        self._bug: BaseException | None = None

    @property
    def bug(self) -> BaseException | None:
        """Why the daemon can be listened to no longer, or None."""
        return self._bug

    def run(self, uid: int, requests: Sequence[Request] | None = None) -> bool:
        """See `Runs`; the daemon is started if it is not there."""
        with self._lock:
            before = self._asked.get(uid)
            said = Run(
                requests or (before.requests if before is not None else None), dict(self._environment())
            )
            if before == said and uid in self._last:
                return True  # it runs there, and nothing new is said
        running = self._say(uid, said)
        if self._audience is not None:
            self.attend()
        if running:
            with self._lock:
                self._asked[uid] = said
        return running

    def _say(self, uid: int, said: Run) -> bool:
        try:
            answer = self._daemon.call("POST", f"/v1/registrations/{uid}/run", said.pack())
        except NotFound:  # purged
            return False
        return Fields(answer, "run").take("running", bool)

    def running(self, uid: int) -> bool:
        """See `Runs`: whether the stream tells of it, and the store has not said meanwhile that it is over."""
        last = self._last.get(uid)
        if last is None or last.state is State.SETTLED or self._bug is not None:
            return False
        row = self._registrations.get(uid)
        return row is not None and row.settled_at is None

    def look(self, uid: int, index: int) -> Look | None:
        """See `Runs`."""
        answer = self._daemon.if_running("GET", f"/v1/registrations/{uid}/records/{index}")
        return unpack_look(answer) if answer else None

    def last(self, uid: int) -> Progress | None:
        """See `Runs`."""
        return self._last.get(uid)

    def listen(self, uid: int, listener: Listener) -> Callable[[], None]:
        """See `Runs`."""
        with self._lock:
            self._listeners.setdefault(uid, []).append(listener)
            last = self._last.get(uid)
        row = self._registrations.get(uid)  # what the stream told before this is told by the store
        if row is not None and row.settled_at is not None:
            last = stored_progress(row)
        if last is not None:
            listener(last)
        self.attend()

        def stop() -> None:
            with self._lock:
                listeners = self._listeners.get(uid, [])
                if listener in listeners:
                    listeners.remove(listener)
                if not listeners:
                    self._listeners.pop(uid, None)
                    if self._audience is None:
                        self._last.pop(uid, None)

        return stop

    def wish(self, uid: int, wish: Wish) -> bool:
        """See `Runs`: it is in the store at once, and a daemon that is there need not look for it."""
        accepted = self._registrations.set_wish(uid, wish)
        if accepted:
            self._daemon.if_running("PATCH", f"/v1/registrations/{uid}", Amendment(wish=wish).pack())
        return accepted

    def amend(self, uid: int, options: RegistrationOptions) -> None:
        """See `Runs`."""
        self._registrations.amend(uid, options=options)
        self._daemon.if_running(
            "PATCH", f"/v1/registrations/{uid}", Amendment(options=pack_options(options)).pack()
        )

    def attend(self) -> None:
        """Be there from now on: hear of what is listened to, and of messages."""
        with self._lock:
            if self._reader is None and not self._closed.is_set():
                self._bug = None
                self._reader = threading.Thread(target=self._read, name="bgfetch-events", daemon=True)
                self._reader.start()
            elif self._stream is not None and not self._hears_all():
                self._stream.close()  # and a new one, that tells of all of them

    def close(self) -> None:
        """Listen no longer. What runs goes on."""
        self._closed.set()
        with self._lock:
            reader, stream = self._reader, self._stream
        if stream is not None:
            stream.close()
        if reader is not None and reader is not threading.current_thread():
            reader.join(1.0)  # it may be starting a daemon, which nobody needs to wait for

    # The thread that reads.

    def _read(self) -> None:
        failures = 0
        begun_anew = False
        while not self._closed.is_set():
            try:
                self._daemon.ensure()
                with_goodbye = self._follow(begun_anew=begun_anew)
                begun_anew, failures = True, 0
                if with_goodbye:
                    self._await_return()
            except (DaemonError, OSError) as error:
                failures += 1
                if failures == _FAILURES or isinstance(error, _Left):
                    self._give_up(error)
                    return
                self._closed.wait(_PAUSES[failures - 1])
            except BaseException as error:  # noqa: BLE001 - who waits must learn of it
                self._give_up(error)
                return

    def _follow(self, *, begun_anew: bool) -> bool:
        """Hear one stream to its end; whether the daemon said goodbye."""
        with self._lock:
            listened = frozenset(self._listeners)
            self._named = None if self._audience is not None or len(listened) > _MOST_NAMED else listened
            query = self._query()
        stream = self._daemon.stream(query=query)
        with self._lock:
            self._stream = None if self._closed.is_set() else stream
            missing = not self._hears_all()
        if self._stream is None or missing:
            stream.close()
        try:
            self._catch_up(say_again=begun_anew)
            for event in stream:
                if event.name == "goodbye":
                    return True
                self._heard(event)
        except DaemonNotRunning:  # it died: the next one is asked for at once
            pass
        finally:
            with self._lock:
                self._stream = None
            stream.close()
        return False

    def _query(self) -> Query:
        if self._audience is not None:
            return {"scope": self._audience.scope, "client": self._audience.client}
        return {} if self._named is None else {"registration": sorted(self._named)}

    def _hears_all(self) -> bool:
        """Whether the stream tells of all that are listened to."""
        return self._named is None or self._named.issuperset(self._listeners)

    def _catch_up(self, *, say_again: bool) -> None:
        """Tell what settled while nobody listened; say again what a daemon that began anew cannot know."""
        with self._lock:
            listened, asked = list(self._listeners), dict(self._asked)
        for uid in listened:
            row = self._registrations.get(uid)
            if row is None or row.settled_at is not None:
                gone = Progress(0, 0, state=State.SETTLED)
                self._publish(uid, gone if row is None else stored_progress(row))
            elif say_again and uid in asked:
                self._say(uid, asked[uid])

    def _heard(self, event: Event) -> None:
        if event.name == "progress":
            told = ToldProgress.unpack(event.data)
            self._publish(told.uid, told.progress)
        elif event.name == "message" and self._audience is not None:
            self._audience.told(event.data)

    def _publish(self, uid: int, progress: Progress) -> None:
        with self._lock:
            listeners = list(self._listeners.get(uid, ()))
            self._last[uid] = progress
            if progress.state is State.SETTLED:
                self._asked.pop(uid, None)
                if not listeners:
                    self._last.pop(uid)
        for listener in listeners:
            listener(progress)

    def _await_return(self) -> None:
        """A daemon that was told to end is not started again by who happens to listen."""
        waited = 0.0
        while not self._closed.wait(0.1):
            if self._daemon.if_running("GET", "/v1/") is not None:
                return
            waited += 0.1
            if waited >= _RETURNS:
                raise _Left(
                    "the daemon was told to end, and has not come back; what came is kept, and asking again goes on"
                )

    def _give_up(self, error: BaseException) -> None:
        with self._lock:
            self._bug, self._reader = error, None  # who listens next tries anew
            waiting = [(each, self._last.get(uid)) for uid, all_ in self._listeners.items() for each in all_]
        for listener, last in waiting:
            listener(last or Progress(0, 0))


class _Left(DaemonNotRunning):
    """It ended on purpose."""
