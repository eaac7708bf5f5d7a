"""A daemon of a home of its own, as a process, and what it answers.

Imported by tests as `tests.daemons`: pytest is run as `python -m pytest` from the root.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.waiting import has_ended

from bgfetch.address import Address
from bgfetch.client.connection import Connection, Event
from bgfetch.core.model import State
from bgfetch.database import Database
from bgfetch.errors import DaemonNotRunning
from bgfetch.registrations.sqlite import SqliteRegistrations
from bgfetch.wire import Hello, Json
from bgfetch.wiring import Wiring
from bgfetch.worker.mailbox import Mailbox

__all__ = ["DaemonProcess", "is_ready", "stop"]

_ROOT = Path(__file__).resolve().parents[1]


def is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Whether the daemon says that it answers; False where it ends before."""
    assert process.stderr is not None
    return any(b" answers; " in line for line in process.stderr)


class DaemonProcess:
    """One daemon at a time, begun and ended by a test.

    Args:
        home: BGFETCH_HOME.
        settings: Of the environment, besides those that make it give up soon.
    """

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.address = Address(home)
        self.settings = {
            "BGFETCH_HOME": str(home),
            "BGFETCH_RETRY_SCALE": "0.02",
            "BGFETCH_CONNECT_TIMEOUT": "2s",
            "BGFETCH_HEAD_TIMEOUT": "5s",
            "NO_PROXY": "127.0.0.1",
            **(settings or {}),
        }
        self.connection = Connection(self.address, os.environ)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environ(self) -> dict[str, str]:
        """Of the daemon and of commands that use it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BGFETCH_")}
        paths = [str(_ROOT / "src"), *filter(None, [kept.get("PYTHONPATH")])]
        return {**kept, **self.settings, "PYTHONPATH": os.pathsep.join(paths)}

    def start(self, *args: str, wait: bool = True) -> subprocess.Popen[bytes]:
        """Begin it, and wait until it answers."""
        command = [sys.executable, "-m", "bgfetch", "daemon", "run", *args]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, env=self.environ, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        if wait:
            self.process = process
            assert is_ready(process), process.communicate()
        return process

    def answers(self) -> Hello | None:
        """The handshake, or None where nobody answers."""
        try:
            return self.connection.hello()
        except DaemonNotRunning:
            return None

    def command(self, *args: str, within: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Run a command of the CLI that uses it."""
        return subprocess.run(
            [sys.executable, "-m", "bgfetch", *args],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def call(self, method: str, path: str, body: object = None, **query: str) -> Json:
        """Ask it."""
        return self.connection.call(method, path, body, query=query)

    def fetch(self, url: str, *, id: str = "x", scope: str = "app", **more: object) -> int:  # noqa: A002 - the standard's word
        """Register a URL over the API; the uid."""
        asked = {"scope": scope, "id": id, "requests": [{"url": url}], **more}
        return int(self.call("POST", "/v1/registrations", asked)["uid"])

    def settled(self, uid: int, *, within: float = 15.0) -> Json:
        """The registration, once it is over."""
        return self.is_in(uid, State.SETTLED, within=within)

    def logged(self, *names: str, within: float = 15.0, **query: str) -> Event:
        """The first line of the log that is called so, once it is written."""
        with self.events(after=0, within=within, **query) as told:
            for event in told:
                if event.name == "log" and event.data["name"] in names:
                    return event
        raise AssertionError(f"no line {' or '.join(names)} within {within:g} s")

    def reaches(self, uid: int, said: Callable[[Json], Any], *, within: float = 15.0) -> Json:
        """The registration once this is so of it; it is looked at whenever anything is told of it."""
        row: Json = {}
        with self.events(after=0, within=within, registration=str(uid)) as told:
            for event in told:
                if event.name in ("log", "progress"):
                    row = self.call("GET", f"/v1/registrations/{uid}")
                    if said(row):
                        return row
        raise AssertionError(f"not within {within:g} s: {row}")

    def holds(self, uid: int, count: int = 1, *, within: float = 15.0) -> Json:
        """The registration once so many bytes have come."""
        return self.reaches(uid, lambda row: row["downloaded"] >= count, within=within)

    def is_in(self, uid: int, state: State, *, within: float = 15.0) -> Json:
        """The registration once it is in this state."""
        return self.reaches(uid, lambda row: row["state"] == state, within=within)

    def leave_message(self, scope: str, data: object) -> None:
        """Put it into the mailbox of the scope: the first app that is connected gets it, and so knows that it is."""
        with self.store() as store:
            Mailbox(store._database).put(scope, data, now=time.time())

    @contextmanager
    def events(
        self, *, after: int | None = None, within: float = 60.0, **query: str
    ) -> Iterator[Iterator[Event]]:
        """What it tells from now on, for so many seconds."""
        stream = self.connection.stream("/v1/events", query=query, last_event_id=after)
        told = iter(stream)
        bound = threading.Timer(within, stream.close)
        bound.start()
        try:
            yield told
        finally:
            bound.cancel()
            stream.close()
            with suppress(DaemonNotRunning):
                for _rest in told:  # its end gives the socket back
                    pass

    @contextmanager
    def store(self) -> Iterator[SqliteRegistrations]:
        """The registrations of its home."""
        database = Database.open(self.home / "state" / "bgfetch.sqlite3", now=time.time())
        try:
            yield SqliteRegistrations(database)
        finally:
            database.close()

    def log(self) -> str:
        """What it wrote."""
        try:
            return self.address.log.read_text("utf-8")
        except FileNotFoundError:
            return ""

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self, *, within: float = 10.0) -> int:
        """Its exit code, once it has ended."""
        assert self.process is not None
        self.process.communicate(timeout=within)
        return self.process.returncode

    def kill(self) -> None:
        """As the machine's power does, for this process."""
        self.signal(signal.SIGKILL)
        self.ended()

    def close(self) -> None:
        """End it if it runs."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.ended(within=5.0)
            except subprocess.TimeoutExpired:
                self.kill()


def stop(wiring: Wiring) -> None:
    """End the daemon that clients of this home have started, if they have."""
    hello = wiring.daemon.if_running("GET", "/v1/")
    if hello is not None:
        wiring.daemon.if_running("POST", "/v1/stop", {})
        assert has_ended(hello["pid"])
