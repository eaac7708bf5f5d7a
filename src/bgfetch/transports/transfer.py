"""One exchange while it lasts, on its loop's thread: its head gathered and limited, its deadlines, how it ended.

Deadlines and head limits are our own: per-read time-outs do not stop a peer that drips.
"""

from __future__ import annotations

import contextlib
import time

import pycurl

from bgfetch.core.model import Fault, Headers, ReplyHead
from bgfetch.core.urls import allowed_address, redacted
from bgfetch.transports.base import Deadlines, Exchange, Receiver
from bgfetch.transports.faults import disk_fault, fault_of

__all__ = ["Transfer"]

_HEAD_BYTES = 64 << 10
_HEAD_LINES = 100
_AT_ONCE = 16  # chunks of 16 KiB, which is what libcurl gives
_DRAIN = 64 << 10  # a short unwanted body is read to its end, so that its connection can be used again


class Transfer:
    """One exchange under way. What the `on_` methods return is what libcurl wants of its callbacks.

    Args:
        exchange: What was asked.
        receiver: Whom to tell.
        deadlines: When the peer is given up.
    """

    def __init__(self, exchange: Exchange, receiver: Receiver, deadlines: Deadlines) -> None:
        self.exchange = exchange
        self.receiver = receiver
        self.deadlines = deadlines
        self.fault: Fault | None = None
        self.finished = False
        self._dialled: float | None = None  # when the last connection was begun for it
        self._paused_at: float | None = None
        self.head_done = False
        self.began = self.heard = self.window_from = time.monotonic()
        self.window_bytes = 0
        self._lines: list[bytes] = []
        self._line_count = 0
        self._byte_count = 0
        self._left: int | None = None  # bytes of the body still to come, where the head says so
        self._chunks: list[bytes] = []  # come and not handed over
        self._at_once = 1  # a limit on speed must hear of the first bytes before more of them have come
        self._answer: int | None = None  # what libcurl is told of bytes that nobody wants

    def on_header(self, line: bytes) -> int | None:
        """A line of the head with its end, the empty one last; -1 to go no further."""
        if self.head_done:  # a trailer
            return None
        self._line_count += 1
        self._byte_count += len(line)
        if self._line_count > _HEAD_LINES or self._byte_count > _HEAD_BYTES:
            where = redacted(self.exchange.url)
            self.fault = Fault("header-bomb", f"{where}: the reply's head is larger than any honest one")
            return -1
        if line not in (b"\r\n", b"\n"):
            self._lines.append(line)
            return None
        return self._head_complete()

    def _head_complete(self) -> int | None:
        lines, self._lines = self._lines, []
        status = _status(lines[0]) if lines else 0
        if 100 <= status < 200:
            return None
        self.head_done = True
        self.heard = self.window_from = time.monotonic()
        pairs = (line.decode("latin-1").partition(":")[::2] for line in lines[1:] if b":" in line)
        reply = ReplyHead(self.exchange.url, status, Headers(pairs))
        self._left = _length(reply)
        wanted = False
        with self._disk_errors():
            wanted = self.receiver.head(reply)
        return None if wanted else self._decline(abort=-1)

    def _decline(self, *, abort: int) -> int | None:
        """Nothing more is wanted: read a short rest, so that the connection can be used again, or cut a long one."""
        self.finished = self.fault is None
        short = self._left is not None and self._left <= _DRAIN
        return None if self.finished and short else abort

    def on_body(self, chunk: bytes) -> int | None:
        """The next bytes; 0 to go no further. As short as can be: it runs 65,000 times a GiB."""
        self._chunks.append(chunk)
        return self.hand_over() if len(self._chunks) >= self._at_once else None

    @property
    def holds(self) -> bool:
        """Whether bytes have come and the receiver has not been given them yet."""
        return bool(self._chunks)

    def hand_over(self) -> int | None:
        """Give the receiver what has come; 0 to go no further."""
        chunks, self._chunks = self._chunks, []
        self._at_once = min(_AT_ONCE, 2 * self._at_once)
        size = sum(map(len, chunks))
        self.heard = time.monotonic()
        self.window_bytes += size
        if self._left is not None:
            self._left -= size
        if self.finished or self.fault is not None:
            return self._answer
        wanted = False
        with self._disk_errors():
            wanted = self.receiver.body(chunks)
        if not wanted:
            self._answer = self._decline(abort=0)
        return self._answer

    def on_upload(self, _total: int, _got: int, _upload_total: int, sent: int) -> int:
        """How much of the request is sent."""
        self.receiver.sent(sent)
        return 0

    def on_dialled(self, _fd: int, _purpose: int) -> int:
        """A connection is being made."""
        self._dialled = time.monotonic()
        return int(pycurl.SOCKOPT_OK)

    def on_connected(self, address: str, _local: str, _port: int, _local_port: int) -> int:
        """Whether this address may be asked."""
        inside = self.exchange.public_only
        if not allowed_address(address, named_by_person=not inside, came_from_public=inside):
            where = redacted(self.exchange.url)
            detail = f"{where}: what was public led to {address}, which is not"
            self.fault = Fault("redirect-private", detail)
            return int(pycurl.PREREQFUNC_ABORT)
        self.receiver.connected(address)
        return int(pycurl.PREREQFUNC_OK)

    @property
    def paused(self) -> bool:
        """Whether nothing is to be read now."""
        return self._paused_at is not None

    def pause(self) -> None:
        """Let the deadlines stand still, and begin with few bytes when they go on."""
        self._paused_at = time.monotonic()
        self._at_once = 1

    def resume(self) -> None:
        """Let the deadlines go on from where they stood still."""
        if self._paused_at is not None:
            stood = time.monotonic() - self._paused_at
            self.began, self.heard, self.window_from = (
                self.began + stood,
                self.heard + stood,
                self.window_from + stood,
            )
        self._paused_at = None

    def silent(self, now: float) -> float:
        """Seconds since anything was heard of the server, 0 while nobody wants to."""
        return 0.0 if self.paused else now - max(self.began, self.heard)

    @property
    def dials(self) -> bool:
        """Whether it may be that nobody has answered its SYN yet."""
        return self._dialled is not None and not self.head_done

    def unanswered(self, now: float) -> Fault | None:
        """That nobody answers the SYN in time; ask only while the connection is not there."""
        if self._dialled is None or now - self._dialled <= self.deadlines.dial:
            return None
        where = redacted(self.exchange.url)
        return Fault("connect", f"{where}: nobody answers", transient=True)

    def tick(self, now: float) -> Fault | None:
        """What is overdue, if anything is."""
        with self._disk_errors():
            self.receiver.tick()
        if self.fault is not None or self.paused:
            return self.fault
        where, limit = redacted(self.exchange.url), self.deadlines
        if not self.head_done:
            waited = now - max(self.began, self.heard) if self.exchange.body else now - self.began
            if waited > limit.head:
                return Fault(
                    "stall", f"{where}: no complete reply head within {limit.head:g} s", transient=True
                )
            return None
        if now - self.heard > limit.silence:
            return Fault("stall", f"{where}: no byte for {limit.silence:g} s", transient=True)
        if now - self.window_from > limit.window:
            if self.window_bytes < limit.least_rate * limit.window:
                return Fault(
                    "stall", f"{where}: fewer than {limit.least_rate} bytes a second", transient=True
                )
            self.window_from, self.window_bytes = now, 0
        return None

    def over(self, code: int) -> None:
        """Tell the receiver how it ended."""
        if self.fault is not None:
            self.receiver.failed(self.fault)
        elif code == 0 or self.finished:
            if self.head_done:
                self.receiver.ended()
            else:
                self.receiver.failed(fault_of(8, redacted(self.exchange.url)))
        else:
            self.receiver.failed(fault_of(code, redacted(self.exchange.url)))

    @contextlib.contextmanager
    def _disk_errors(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a private context manager
        try:
            yield
        except OSError as error:
            self.fault = disk_fault(error)


def _status(line: bytes) -> int:
    parts = line.split(None, 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() and len(parts[1]) == 3 else 0


def _length(reply: ReplyHead) -> int | None:
    """What Content-Length says, or None where it does not count."""
    text = reply.headers.get("content-length", "")
    if "transfer-encoding" in reply.headers or not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    return int(text)
