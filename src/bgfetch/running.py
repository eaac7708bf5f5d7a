"""Who runs registrations, as those see it who only want them run: this process, or the daemon.

`engine.runner.Runner` and `client.remote.RemoteRunner` both are this. Rows, records and caches are read from the
store by everybody; only the work, and what is told of it before it is stored, goes through here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bgfetch.core.model import Progress, ReplyHead, Request, Result, State
from bgfetch.registrations.port import RegistrationOptions, RegistrationRow, Wish

__all__ = ["Listener", "Look", "Runs", "stored_progress"]

Listener = Callable[[Progress], None]
"""Is given progress, at most ten times a second and always the last one, on a thread of the runner's: be quick."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a record stands at one moment.

    Args:
        reply: The head of its response, once that is there.
        generation: Counts its beginnings: bytes of another one are void.
        front: Bytes held from the first one on.
        total: Length of the body, or None while unknown.
    """

    reply: ReplyHead | None
    generation: int
    front: int
    total: int | None


class Runs(Protocol):
    """Runs registrations. Every method may be called from any thread and may wait for a disk or a socket."""

    @property
    def bug(self) -> BaseException | None:
        """What it died of, or None while it lives; listeners are called once when it dies."""

    def run(self, uid: int, requests: Sequence[Request] | None = None) -> bool:
        """Work on a registration; False when somebody else does, or when it has settled.

        Args:
            uid: The registration.
            requests: With the secrets that the store does not keep; None where there are none to add.

        Raises:
            DaemonError: The daemon neither answers nor can be started; the registration stays in the store.
        """

    def running(self, uid: int) -> bool:
        """Whether it works on this one, as far as it knows without asking."""

    def look(self, uid: int, index: int) -> Look | None:
        """How a record stands that is under way here, or None."""

    def last(self, uid: int) -> Progress | None:
        """What was told last of it, or None."""

    def listen(self, uid: int, listener: Listener) -> Callable[[], None]:
        """Be told of progress, beginning with what is known; returns how to stop that."""

    def wish(self, uid: int, wish: Wish) -> bool:
        """Ask it to run, pause or abort, whoever runs it; False when it is over."""

    def amend(self, uid: int, options: RegistrationOptions) -> None:
        """Run it with these options from now on, whoever runs it."""

    def close(self) -> None:
        """Let go. What runs in this process stops, keeping every byte; what the daemon runs goes on."""


def stored_progress(row: RegistrationRow) -> Progress:
    """How a registration stands by what the store says."""
    came = row.downloaded if row.result is Result.SUCCESS else 0
    return Progress(
        downloaded=row.downloaded,
        download_total=row.download_total or came,
        uploaded=row.uploaded,
        upload_total=row.upload_total,
        state=State.SETTLED if row.settled_at is not None else row.state,
        until=row.until,
        result=row.result,
        failure_reason=row.failure_reason,
        failure_detail=row.failure_detail,
    )
