"""A daemon that listens for browsers with something in it worth stealing, and what an attacker does to it, byte by byte.

Imported by tests as `tests.attacks`: pytest is run as `python -m pytest` from the root.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.canaries import Canary
from tests.daemons import DaemonProcess
from tests.waiting import looked_for

from bgfetch.core.model import State
from bgfetch.daemon.routes import ROUTES, Route
from bgfetch.wire import Json

__all__ = ["Answer", "Target", "concrete", "free_port", "target"]

TREASURE = Canary("the title of a registration")
"""What stands in the store, so that any answer with data in it is recognised."""

_UID = 1


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def concrete(route: Route) -> str:
    """A path of a route that leads to something that is there."""
    names = {"uid": str(_UID), "index": "0", "event": "1", "client": "app", "scope": "app"}
    return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], route.path)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Args:
        status: Of its first line; 0 where the connection was only closed.
        head: With the first line.
        body: The rest, with whatever followed.
        closed: Whether the other side ended the connection.
    """

    status: int
    head: bytes
    body: bytes
    closed: bool


@dataclass(frozen=True, slots=True)
class Target:
    """A daemon on a port, and what an honest caller would say to it.

    Args:
        daemon: Reached over its socket by those who are to know the truth.
        port: Of loopback.
        token: Its own.
    """

    daemon: DaemonProcess
    port: int
    token: str

    @property
    def honest(self) -> dict[str, str]:
        """Header fields that are let in."""
        return {
            "Host": f"127.0.0.1:{self.port}",
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
        }

    def raw(self, *parts: bytes, patience: float = 5.0) -> Answer:
        """Send bytes and read until the answer is whole, or the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience) as end:
            with contextlib.suppress(ConnectionError):  # it may hang up before it has heard everything
                for part in parts:
                    end.sendall(part)
            return _answer(end)

    def ask(
        self,
        method: str,
        path: str,
        fields: Iterable[tuple[str, str]],
        body: bytes = b"",
        *,
        version: str = "1.1",
    ) -> Answer:
        """One request and its answer."""
        given = [*fields, ("Connection", "close"), *([("Content-Length", str(len(body)))] if body else [])]
        lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in given), "", ""]
        return self.raw("\r\n".join(lines).encode("latin-1") + body)

    def truth(self) -> tuple[Json, ...]:
        """All that could be changed: every row of the store, the settings, and which process answers."""
        hello = self.daemon.call("GET", "/v1/")
        assert hello["pid"] == self._pid, "it is another process"
        return (*_rows(self.daemon.home), self.daemon.call("GET", "/v1/settings"))

    def told_nothing(self, text: bytes) -> bool:
        """Whether an answer holds nothing that an attacker does not know."""
        facts = (str(self.daemon.home), self.token, f'"pid":{self._pid}', "bgfetch_", "openapi", "event: ")
        secret = [*TREASURE.forms, *(each.encode() for each in facts)]
        return not any(each in text for each in secret)

    @property
    def _pid(self) -> int:
        assert self.daemon.process is not None
        return self.daemon.process.pid


def _answer(end: socket.socket) -> Answer:
    got, closed = bytearray(), False
    with contextlib.suppress(TimeoutError):
        try:
            while chunk := end.recv(65536):
                got += chunk
            closed = True
        except ConnectionError:
            closed = True
    head, _, body = bytes(got).partition(b"\r\n\r\n")
    status = int(head.split(None, 2)[1]) if head else 0
    return Answer(status, head, body, closed)


def _rows(home: Path) -> Iterator[Json]:
    """Every row of every table."""
    with contextlib.closing(sqlite3.connect(home / "state" / "bgfetch.sqlite3")) as store:
        names = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in sorted(names):
            yield {name: sorted(map(repr, store.execute(f'SELECT * FROM "{name}"')))}  # noqa: S608 - of the schema


@contextlib.contextmanager
def target(home: Path) -> Iterator[Target]:
    """A daemon on a port with one registration that rests, a worker's scope and a client."""
    port = free_port()
    daemon = DaemonProcess(home)
    daemon.start("--tcp", str(port))
    try:
        url = f"http://127.0.0.1:{free_port()}/model.bin"
        uid = daemon.fetch(url, title=TREASURE.value)
        assert uid == _UID
        path = f"/v1/registrations/{uid}"
        daemon.call("PATCH", path, {"wish": "pause"})
        daemon.is_in(uid, State.PAUSED)
        with daemon.events(client="app", scope="app") as told:
            next(told)
            # From then on nothing changes by itself.
            looked_for(
                lambda: any(
                    "'paused'" in str(table["registrations"])
                    for table in _rows(home)
                    if "registrations" in table
                ),
                because="nobody is told when the store has heard what they were told",
            )
            yield Target(daemon, port, (home / "daemon" / "token").read_text("ascii"))
    finally:
        daemon.close()


def errors_only(answer: Answer) -> bool:
    """Whether the body is one of our errors, or nothing."""
    try:
        return not answer.body or set(json.loads(answer.body)) == {"error"}
    except ValueError:
        return False


def routes() -> list[Route]:
    """Every route there is."""
    return list(ROUTES)
