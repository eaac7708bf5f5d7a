"""The daemon as a client needs it: there, and speaking its language. Started when nobody answers.

Exactly one of fifty clients that come at once begins it, by a lock; the others wait for it to answer. A daemon of an older
version is ended for one of this version only where nothing is lost by that.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bgfetch.address import private_directory
from bgfetch.client.connection import Connection, Query, Stream
from bgfetch.environment import harmless
from bgfetch.errors import BgfetchError, DaemonNotRunning, ProtocolMismatch
from bgfetch.version import __version__
from bgfetch.wire import PROTOCOL, Hello, Json, load

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["Daemon"]

_PATIENCE: Final = 20.0  # seconds for a daemon to answer after it was begun, on a machine that is busy
_STEP: Final = 0.02  # seconds between two looks for it
_TRIES: Final = 3
_BETWEEN: Final = 0.5  # seconds: one that is about to end holds the lock for so long
_TOLD: Final = 2000  # characters of its last words


class Daemon:
    """The daemon of a home, started when it is needed.

    Args:
        connection: The way to it.
        environ: The process's own environment.
        not_inherited: Variables a daemon must not take from whoever happened to start it: they are said with each
            registration.
    """

    def __init__(
        self,
        connection: Connection,
        environ: Mapping[str, str],
        *,
        not_inherited: frozenset[str] = frozenset(),
    ) -> None:
        self._connection = connection
        self._environ = environ
        self._not_inherited = not_inherited
        self._agreed = False
        self._lock = threading.Lock()

    def call(self, method: str, path: str, body: object = None, *, query: Query | None = None) -> Json:
        """`Connection.call`, of a daemon that is started if it is not there; asked once more when it ends meanwhile.

        Raises:
            DaemonNotRunning: It cannot be started.
            ProtocolMismatch: Its version and this one do not fit.
            BgfetchError: What the daemon raised.
        """
        self.ensure()
        try:
            return self._connection.call(method, path, body, query=query)
        except DaemonNotRunning:
            self._agreed = False
            self.ensure()
            return self._connection.call(method, path, body, query=query)

    def stream(self, *, query: Query, last_event_id: int | None = None) -> Stream:
        """`Connection.stream` of its events; it must be there (`ensure`)."""
        try:
            return self._connection.stream("/v1/events", query=query, last_event_id=last_event_id)
        except DaemonNotRunning:
            self._agreed = False
            raise

    def if_running(
        self, method: str, path: str, body: object = None, *, query: Query | None = None
    ) -> Json | None:
        """`call` of one that is there, or None where that came to nothing: for what the store says as well."""
        try:
            return self._connection.call(method, path, body, query=query)
        except BgfetchError:
            return None

    def ensure(self) -> None:
        """Have one that answers and fits; looked at once for each daemon.

        Raises:
            DaemonNotRunning, ProtocolMismatch: As `call`.
        """
        with self._lock:
            if self._agreed:
                return
            hello = self._found() or self._begun()
            if not self._fits(hello):
                self._end(hello)
                hello = self._begun()
                if not self._fits(hello):
                    raise ProtocolMismatch(
                        f"a daemon of version {hello.version} keeps coming back: see what starts it"
                    )
            self._agreed = True

    def _found(self) -> Hello | None:
        try:
            return self._connection.hello()
        except DaemonNotRunning:
            return None

    def _fits(self, hello: Hello) -> bool:
        """Whether to go on with it; False when it should make room for one of this version."""
        older = _parts(hello.version) < _parts(__version__)
        if older and hello.restartable:
            return False
        if hello.protocol == PROTOCOL:
            return True
        if not older:
            raise ProtocolMismatch(
                f"the daemon is of version {hello.version} and speaks protocol {hello.protocol}, this is {__version__} "
                f"and speaks {PROTOCOL}: upgrade bgfetch here"
            )
        raise ProtocolMismatch(
            f"the daemon is of version {hello.version} and speaks protocol {hello.protocol}, this is {__version__}. "
            f"Restarting it would lose {', '.join(hello.restart_loses)}: wait for that, or say `bgfetch daemon restart`"
        )

    def _end(self, hello: Hello) -> None:
        with contextlib.suppress(DaemonNotRunning):
            self._connection.call("POST", "/v1/stop", {})
        until = time.monotonic() + _PATIENCE
        while self._announced() == hello.pid and _lives(hello.pid):
            if time.monotonic() > until:
                raise DaemonNotRunning(
                    f"the daemon of version {hello.version}, pid {hello.pid}, does not end"
                )
            time.sleep(_STEP)

    def _announced(self) -> int:
        """Which process says of itself that it is the daemon: it takes that away last. 0 where none does."""
        try:
            return int(load(self._connection.address.facts.read_bytes(), "daemon.json")["pid"])
        except (OSError, BgfetchError, KeyError, TypeError, ValueError):
            return 0

    def _begun(self) -> Hello:
        """One that answers, begun by this process or by another one that is quicker."""
        folder = self._connection.address.folder
        private_directory(folder)
        lock = _lock(folder / "starting")
        until = time.monotonic() + _PATIENCE
        try:
            attempt = _Attempt(self._command(), self._inherited(), folder / "log")
            while (hello := self._found()) is None:
                if _taken(lock):
                    attempt.go_on()
                if time.monotonic() > until:
                    raise DaemonNotRunning(f"no daemon answers after {_PATIENCE:g} s{attempt.last_words()}")
                time.sleep(_STEP)
            return hello
        finally:
            lock.release()

    def _command(self) -> list[str]:
        if not sys.executable:
            raise DaemonNotRunning(
                "this Python does not know its own path: start `bgfetch daemon run` by other means"
            )
        home = os.fspath(self._connection.address.home)
        return [sys.executable, "-P", "-m", "bgfetch", "--home", home, "daemon", "run"]

    def _inherited(self) -> dict[str, str]:
        """A new daemon's environment: no secrets, nothing that counts for this client only, and able to import bgfetch."""
        left_out = {*self._not_inherited, "BGFETCH_IN_PROCESS", "BGFETCH_HOME"}
        kept = {name: value for name, value in harmless(self._environ).items() if name not in left_out}
        package = Path(__file__).resolve().parents[2]
        if package.name not in ("site-packages", "dist-packages"):
            kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), kept.get("PYTHONPATH", "")]))
        return kept


class _Attempt:
    """A daemon being begun, up to three times: the first may find that another one is just about to end."""

    def __init__(self, command: list[str], environ: dict[str, str], logs: Path) -> None:
        self._command = command
        self._environ = environ
        self._logs = logs
        self._process: subprocess.Popen[bytes] | None = None
        self._left = _TRIES
        self._not_before = 0.0

    def go_on(self) -> None:
        """Begin it unless it lives; DaemonNotRunning when it ended too often."""
        if self._process is not None and self._process.returncode is None:
            self._not_before = time.monotonic() + _BETWEEN
            return
        if time.monotonic() < self._not_before:
            return
        if not self._left:
            raise DaemonNotRunning(f"the daemon ends as soon as it is started{self.last_words()}")
        self._left -= 1
        self._not_before = time.monotonic() + _BETWEEN
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        """A process that outlives this one: a session of its own, nothing of ours open in it, and no folder held."""
        private_directory(self._logs)
        words = os.open(
            self._words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600
        )
        try:
            process = subprocess.Popen(
                self._command,
                env=self._environ,
                cwd=os.sep,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        except OSError as error:
            raise DaemonNotRunning(f"no daemon can be started: {error}") from error
        finally:
            os.close(words)
        # While this process lives it is the parent: a daemon that has ended is not to look alive.
        threading.Thread(target=process.wait, name="bgfetch-daemon-parent", daemon=True).start()
        return process

    def last_words(self) -> str:
        """What it said, for an error."""
        with contextlib.suppress(OSError):
            text = self._words.read_text("utf-8", "replace")[-_TOLD:].strip()
            return f"; its last words: {text}" if text else ""
        return ""

    @property
    def _words(self) -> Path:
        return self._logs / "start.log"


def _lock(path: Path) -> FileLock:
    from filelock import FileLock  # noqa: PLC0415 - needed by who starts a daemon only

    return FileLock(path, timeout=0, thread_local=False, mode=0o600)


def _taken(lock: FileLock) -> bool:
    from filelock import Timeout  # noqa: PLC0415 - as above

    if lock.is_locked:
        return True
    try:
        lock.acquire()
    except Timeout:
        return False
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _parts(version: str) -> tuple[int, ...]:
    """The numbers a version begins with, for comparing."""
    numbers: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers.append(int(digits or 0))
        if digits != part:
            break
    return tuple(numbers)
