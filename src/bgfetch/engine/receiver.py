"""Stands between a transport and a record: judges the head, stores the body, reports both to the driver.

Runs on the transport's thread. It decides nothing itself: the reply checker does, on facts that cannot change while
the flight lasts (a record that restarts gives up its flights and begins a new generation).
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from functools import partial as bind

from bgfetch.cache.partials import Partial
from bgfetch.cache.room import OverQuota, Room
from bgfetch.cache.writer import BufferPool, PieceWriter, UnacceptableBytes
from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.digests import digests_from_headers, strongest
from bgfetch.core.model import FailureReason, Fault, ReplyHead
from bgfetch.core.ranges import Accept, Follow, Known, Refuse, check_reply
from bgfetch.core.sniff import refusal
from bgfetch.transports.faults import disk_fault

__all__ = ["FlightReceiver"]

_STEP = 8 << 20
"""Bytes of a body of unknown length between two looks at the room: it takes so much beyond the reserve at most."""


class FlightReceiver:
    """`transports.base.Receiver` for one flight.

    Args:
        command: What was asked.
        known: What was known of the body then.
        partial: Where its bytes go.
        generation: Of the record's bytes; a later one makes this flight's bytes worthless.
        pool: Lends buffers.
        now: Reads the clock.
        post: Takes events for the driver.
        reached: Takes the address connected to.
        replied: Takes the head of an accepted reply, and the length of the whole body where it says so.
        sent: Takes the number of body bytes uploaded.
        room: Asked for the body's room before the first byte.
        needs: Takes how many bytes it waits for room for, 0 when it has it.
    """

    def __init__(
        self,
        command: do.OpenFlight,
        *,
        known: Known,
        partial: Partial,
        generation: int,
        pool: BufferPool,
        now: Callable[[], float],
        post: Callable[[on.Event], None],
        reached: Callable[[str], None],
        replied: Callable[[ReplyHead, int | None], None],
        sent: Callable[[int], None],
        room: Room,
        needs: Callable[[int], None],
    ) -> None:
        self._command = command
        self._known = known
        self._partial = partial
        self._generation = generation
        self._pool = pool
        self._now = now
        self._post = post
        self._reached = reached
        self._replied = replied
        self._sent = sent
        self._room = room
        self._needs = needs
        self._ending = threading.Lock()  # the transport's end of it and the driver's
        self._waiting = self._hopeless = False
        self._stop_at: int | None = None
        self._checked_to = _STEP
        self._writer: PieceWriter | None = None
        self._fault: Fault | None = None

    def shorten(self, stop: int) -> None:
        """Take nothing from `stop` on. Any thread."""
        self._stop_at = stop
        if self._writer is not None:
            self._writer.stop = stop

    @property
    def gathered(self) -> int:
        """Bytes taken and not stored yet. Any thread."""
        writer = self._writer
        return 0 if writer is None else writer.gathered

    def connected(self, address: str) -> None:
        """Remember whether a public address was reached."""
        self._reached(address)

    def head(self, reply: ReplyHead) -> bool:
        """Judge the reply; True when its body is to be stored. OSError when there is no room for it."""
        command = self._command
        verdict = check_reply(command.ask, reply, self._known, now=self._now())
        digest = None
        if isinstance(verdict, Accept | Follow):  # Hugging Face promises the digest where it redirects
            digest = strongest(digests_from_headers(reply.headers, status=reply.status))
        if isinstance(verdict, Accept):
            try:
                self._open_writer(reply, verdict)
            except OverQuota as full:
                verdict = Refuse(_quota_fault(full))
        if isinstance(verdict, Accept | Refuse):  # a 404 is shown with its status too
            self._replied(reply, verdict.total if isinstance(verdict, Accept) else None)
        self._post(on.ReplyJudged(command.flight, verdict, digest))
        return self._writer is not None

    def _open_writer(self, reply: ReplyHead, accept: Accept) -> None:
        command = self._command
        if accept.total is not None and not self._known.version:
            self._needs(self._room.lacking(self._partial, accept.total))
            self._room.allocate(self._partial, accept.total)
            self._needs(0)
        self._writer = PieceWriter(
            self._partial,
            accept.start,
            accept.stop if self._stop_at is None else self._stop_at,
            stored=self._stored if accept.total is not None else self._stored_of_unknown,
            pool=self._pool,
            inspect=bind(
                refusal, content_type=reply.headers.get("content-type", ""), asked=command.ask.named
            ),
            compare=command.compare,
            ahead=command.ahead,
        )

    def _stored(self, start: int, stop: int, differs: bool) -> None:  # noqa: FBT001 - the writer's callback
        self._post(on.BytesStored(self._command.flight, self._generation, start, stop, differs))

    def _stored_of_unknown(self, start: int, stop: int, differs: bool) -> None:  # noqa: FBT001 - as above
        self._stored(start, stop, differs)
        if stop >= self._checked_to:  # nothing is reserved for it, so it asks as it grows
            self._checked_to = stop + _STEP
            self._needs(_STEP)
            try:
                self._room.check(_STEP)
            except OverQuota as full:
                raise UnacceptableBytes(_quota_fault(full)) from full
            self._needs(0)

    def body(self, chunks: Sequence[bytes]) -> bool:
        """Store the next bytes; False when enough have come. OSError from the disk."""
        assert self._writer is not None  # noqa: S101 - a body comes only after an accepted head
        try:
            return self._writer.write_all(chunks)
        except UnacceptableBytes as found:
            self._fault = found.fault
            return False

    def tick(self) -> None:
        """Store what was gathered. OSError from the disk."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except UnacceptableBytes as found:
                self._fault = found.fault

    def sent(self, count: int) -> None:
        """Bytes of the request body sent so far."""
        self._sent(count)

    def ended(self) -> None:
        """The exchange is over: store the rest, then say so; what is ahead of its piece waits for `settle`."""
        with self._ending:
            self._waiting = True
            self._try_to_end()

    @property
    def waiting(self) -> bool:
        """Whether all came and the bytes before it are not stored yet. Any thread."""
        return self._waiting

    def settle(self, *, hopeless: bool = False) -> None:
        """End what waits, if it can be stored now. Any thread.

        Args:
            hopeless: It should be by now, or is not wanted any more: it fails otherwise.
        """
        with self._ending:
            self._hopeless = self._hopeless or hopeless
            if self._waiting:
                self._try_to_end()

    def _try_to_end(self) -> None:
        flushed = self._flushed()
        fault = self._fault or flushed
        if fault is None and self._writer is not None and self._writer.ahead:
            if not self._hopeless:
                return
            fault = disk_fault(OSError(errno.EIO, "a piece has lost its beginning"))
        self._waiting = False
        self._close()
        flight = self._command.flight
        self._post(on.FlightEnded(flight) if fault is None else on.FlightFailed(flight, fault))

    def failed(self, fault: Fault) -> None:
        """The exchange broke: what came before is good."""
        disk = self._flushed()
        self._close()
        if disk is not None and fault.kind in ("stopped", "truncated", "reset", "stall"):
            fault = disk
        self._post(on.FlightFailed(self._command.flight, self._fault or fault))

    def _flushed(self) -> Fault | None:
        if self._writer is None:
            return None
        try:
            self._writer.flush()
        except UnacceptableBytes as found:
            return found.fault
        except OSError as error:
            return disk_fault(error)
        return None

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _quota_fault(full: OverQuota) -> Fault:
    return Fault("quota", str(full), FailureReason.QUOTA_EXCEEDED)
