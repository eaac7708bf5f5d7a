"""A driver with real stores in a folder and the real transport, and what came of each registration.

Imported by tests as `tests.lab`: pytest is run as `python -m pytest` from the root.
"""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.partials import Partials
from bgfetch.cache.room import Room
from bgfetch.clock import SystemClock
from bgfetch.core.machine import Policy
from bgfetch.core.model import Headers, Request
from bgfetch.database import Database
from bgfetch.engine.driver import Driver, Stores
from bgfetch.engine.scheduler import Caps
from bgfetch.engine.tasks import Job
from bgfetch.registrations.port import (
    LoggedEvent,
    OutboxEvent,
    RecordRow,
    RegistrationOptions,
    RegistrationRow,
)
from bgfetch.registrations.sqlite import SqliteRegistrations
from bgfetch.transports.base import Deadlines, Limits, Transport
from bgfetch.transports.curl import CurlTransport, Trust
from bgfetch.transports.loops import Loops
from bgfetch.vfs import Vfs

__all__ = ["IMPATIENT", "QUICK", "Ended", "Lab", "asking"]

QUICK = Deadlines(connect=1.0, head=1.0, silence=1.0, least_rate=20_000, window=1.0)
IMPATIENT = Policy(
    attempts=4, first_attempts=3, server_waits=3, retry_scale=0.02, disk_poll=0.05, most_bytes=64 << 20
)


@dataclass(frozen=True)
class Ended:
    """A registration that has settled, and the bodies under final names."""

    row: RegistrationRow
    records: Sequence[RecordRow]
    outbox: Sequence[OutboxEvent]
    log: Sequence[LoggedEvent]
    bodies: Sequence[bytes | None]

    @property
    def body(self) -> bytes | None:
        """Of the first record."""
        return self.bodies[0]


def asking(
    url: str, *, sha256: str = "", headers: Sequence[tuple[str, str]] = (), expected_size: int | None = None
) -> Request:
    """A GET for this URL."""
    integrity = f"sha256:{sha256}" if sha256 else ""
    return Request(url, headers=Headers(headers), integrity=integrity, expected_size=expected_size)


class Lab:
    """One process's engine under a folder.

    Args:
        home: The folder; a second lab on the same one is the next process.
        policy: How long to go on trying.
        deadlines: When a peer is given up.
        caps: Most connections.
        transport: Instead of libcurl with these deadlines.
        trust: Certificates to believe.
        vfs: Instead of the real file system, for partials and blobs.
        limits: Where rates are set.
        room: Instead of a disk without a reserve.
    """

    def __init__(
        self,
        home: Path,
        *,
        policy: Policy = IMPATIENT,
        deadlines: Deadlines = QUICK,
        caps: Caps | None = None,
        transport: Transport | None = None,
        trust: Trust | None = None,
        vfs: Vfs | None = None,
        limits: Limits | None = None,
        room: Room | None = None,
    ) -> None:
        vfs = vfs or Vfs()
        clock = SystemClock()
        self.home = home
        self.database = Database.open(home / "state" / "bgfetch.sqlite3", now=clock.now())
        self.store = SqliteRegistrations(self.database)
        self.clock = clock
        self.stores = Stores(
            self.store,
            Partials(home / "partials", vfs),
            Blobs(home / "blobs", vfs),
            room or Room(home, vfs),
        )
        self.transport = transport or Loops(
            [
                CurlTransport(deadlines=deadlines, trust=trust or Trust(), user_agent="bgfetch-test")
                for _ in range(2)
            ]
        )
        self._settled: queue.Queue[tuple[int, int]] = queue.Queue()
        self.driver = Driver(
            self.stores,
            self.transport,
            clock=clock,
            policy=policy,
            caps=caps or Caps(),
            settled=self._on_settled,
            limits=limits,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop it as a process that ends well does."""
        self.driver.close()
        self.database.close()

    def begin(
        self,
        *requests: Request,
        id: str = "x",  # noqa: A002 - the standard's word
        download_total: int = 0,
        options: RegistrationOptions | None = None,
    ) -> int:
        """Register and start; the uid."""
        keyed = [(request, hashlib.sha256(request.url.encode()).hexdigest()) for request in requests]
        row = self.store.add(
            "default", id, keyed, download_total=download_total, options=options, now=self.clock.now()
        )
        self.resume(row.uid, *requests)
        return row.uid

    def resume(self, uid: int, *requests: Request) -> None:
        """Claim and start a registration that is in the store; without requests: those stored."""
        epoch = self.store.claim(uid, "lab")
        row = self.store.get(uid)
        assert row is not None
        self.driver.start(row, epoch, requests or [record.request for record in self.store.records(uid)])

    def _on_settled(self, job: Job, event_id: int) -> None:
        self._settled.put((job.row.uid, event_id))

    def wait(self, timeout: float = 15.0) -> Ended:
        """The next registration that settles; TimeoutError when none does in time."""
        try:
            uid, _ = self._settled.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"nothing settled within {timeout:g} s: {self.lines()}") from None
        row = self.store.get(uid)
        assert row is not None
        records = self.store.records(uid)
        bodies = [self.stores.blobs.path(each.blob).read_bytes() if each.blob else None for each in records]
        outbox = [event for event in self.store.pending(now=self.clock.now()) if event.uid == uid]
        return Ended(row, records, outbox, self.store.events(uid), bodies)

    def fetch(self, *requests: Request, timeout: float = 15.0, download_total: int = 0) -> Ended:
        """Register, start and wait."""
        self.begin(*requests, download_total=download_total)
        return self.wait(timeout)

    def lines(self) -> list[str]:
        """The whole log as text."""
        return [f"{line.name}: {line.detail}" for line in self.store.events()]
