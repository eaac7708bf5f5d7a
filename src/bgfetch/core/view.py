"""What the driver and whoever shows progress read of a record's machine."""

from __future__ import annotations

from bgfetch.core.digests import Digest
from bgfetch.core.flights import Leg
from bgfetch.core.model import Request, State
from bgfetch.core.spans import Spans
from bgfetch.core.transfer import Transfer
from bgfetch.core.verdicts import Known

__all__ = ["RecordView"]


class RecordView:
    """A record as it is seen.

    Args:
        request: What to fetch, unresolved.
        transfer: Its bytes.
    """

    def __init__(self, request: Request, transfer: Transfer) -> None:
        self.request = request
        self.state = State.QUEUED
        self.until: float | None = None
        self.waiting_for = ""
        self.restarts = 0
        self._transfer = transfer

    def _enter(self, state: State, until: float | None = None, waiting_for: str = "") -> None:
        self.state, self.until, self.waiting_for = state, until, waiting_for

    @property
    def held(self) -> Spans:
        """Bytes held."""
        return self._transfer.held

    @property
    def total(self) -> int | None:
        """Length of the body, or None while it is unknown."""
        return self._transfer.total

    @total.setter
    def total(self, total: int | None) -> None:
        self._transfer.total = total

    @property
    def etag(self) -> str:
        """Entity tag of the version held, or ""."""
        return self._transfer.etag

    @property
    def last_modified(self) -> str:
        """Its Last-Modified, or ""."""
        return self._transfer.last_modified

    @property
    def content_type(self) -> str:
        """Its Content-Type, or ""."""
        return self._transfer.content_type

    @property
    def digest(self) -> Digest | None:
        """What the body must have: what a person said, else what the server promised."""
        return self._transfer.digest

    @property
    def witness(self) -> Digest | None:
        """What the server says the body hashes to, where a person said something else, or None."""
        return self._transfer.witness

    @property
    def generation(self) -> int:
        """Of the bytes held; those stored under an earlier one are worthless."""
        return self._transfer.generation

    @property
    def flights(self) -> dict[int, Leg]:
        """Segments under way, by number."""
        return self._transfer.flights

    @property
    def known(self) -> Known:
        """What the reply checker is told."""
        return self._transfer.known

    @property
    def wants_connections(self) -> int:
        """How many connections could be put to use, >= 1."""
        return self._transfer.wants_connections

    @property
    def idle(self) -> int:
        """Connections it may use and does not."""
        return self._transfer.idle

    @property
    def settled(self) -> bool:
        """Whether it is over."""
        return self.state is State.SETTLED
