"""What the handlers of the local API work with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from bgfetch.daemon.clients import Clients
from bgfetch.daemon.steering import Steering
from bgfetch.daemon.stream import Hub
from bgfetch.engine.admission import Admission
from bgfetch.registrations.port import RegistrationRow
from bgfetch.wire import Asked, Run
from bgfetch.wiring import Wiring
from bgfetch.worker.notices import Notices, has_desktop

__all__ = ["State"]


def _nothing() -> None:
    pass


@dataclass(slots=True)
class State:
    """A daemon at work.

    Args:
        started_at: Seconds since the epoch.
        stop: Ends it; may be called from any thread.
        deliver: Says that an event may be due; may be called from any thread.
        notices: Tells people what is over, where there is a desktop.
        ending: Whether its parts are being closed, so that it can answer nothing any more.
    """

    wiring: Wiring
    admission: Admission
    hub: Hub
    clients: Clients
    steering: Steering
    started_at: float
    stop: Callable[[], None]
    deliver: Callable[[], None] = _nothing
    notices: Notices | None = None
    ending: bool = False

    def begin(self) -> None:
        """Fetch and deliver from now on."""
        self.admission.start()
        if has_desktop(os.environ):
            self.notices = Notices(self.click)
        self.wiring.worker.start(None if self.notices is None else self.notices.told)

    def click(self, uid: int) -> int:
        """A person chose a registration; the number of the event that says so.

        Raises:
            InvalidState: It is gone.
        """
        event_id = self.wiring.registrations.click(uid, now=self.wiring.clock.now())
        self.deliver()
        return event_id

    def fetch(self, asked: Asked) -> RegistrationRow:
        """Register what a client asked for, and begin; blocks.

        Raises:
            DuplicateId, InvalidRequest, QuotaExceeded: As `BackgroundFetchManager.fetch`.
        """
        self.admission.expect(asked.scope, asked.id, asked.environment)
        manager = self.wiring.manager(asked.scope)
        registration = asyncio.run(
            manager.fetch(
                asked.id,
                list(asked.requests),
                title=asked.title,
                icons=asked.icons,
                download_total=asked.download_total,
                options=asked.options,
            )
        )
        row = self.wiring.registrations.get(registration.uid)
        assert row is not None  # noqa: S101 - just added
        return row

    def run(self, uid: int, said: Run) -> bool:
        """Go on with a registration, with what its client says; whether it runs here, or will."""
        return self.admission.run(uid, said.requests, said.environment)

    def parked(self) -> int:
        """Events that were given up, until somebody asks for them again."""
        return len(self.wiring.outbox.parked())

    def busy(self) -> bool:
        """Whether anything is to be done, or owed."""
        outbox, now = self.wiring.outbox, self.wiring.clock.now()
        return not self.admission.idle or bool(outbox.due(now=now)) or outbox.next_due(now=now) is not None

    def close(self) -> None:
        """Stop what runs, keeping every byte."""
        self.ending = True
        self.wiring.worker.close()
        self.admission.close()
        self.wiring.close()
        if self.notices is not None:
            self.notices.close()

    def would_lose(self) -> list[str]:
        """What ends with this process, each in words."""
        lost = []
        for uid in self.admission.would_lose:
            row = self.wiring.registrations.get(uid)
            if row is not None and row.settled_at is None:
                lost.append(f"the secrets of {row.id!r}")
        return lost
