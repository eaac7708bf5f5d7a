"""Ranges read from libcurl's connections by our own hand, a quarter of a mebibyte at a time.

libcurl gives a body away 16 KiB at a time, each with a call into Python: 65,536 a GiB, which cost more than the
network (measured). So libcurl finds the host, connects, does TLS and believes the certificate or not; the request and
the reply of the plainest kind of HTTP/1.1 are spoken here. Of that kind is a GET of a range, straight to the server,
answered with one Content-Length and no coding. Whatever else is answered is asked for again through libcurl, which
knows all of HTTP: nothing is guessed here (RFC 9112, section 11: guesses are how replies get smuggled).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

import pycurl

from bgfetch.transports.base import Exchange
from bgfetch.transports.transfer import HEAD_BYTES, Transfer

__all__ = ["CHUNK", "Bulk", "Head", "Step", "parse_head", "request_for"]

CHUNK = 256 << 10
"""Bytes read at once: few calls, and what was read is still in the processor's cache when it is stored."""

_URL = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?(/[!\"$-~]*)", re.ASCII)
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[\t -~]*", re.ASCII)
_STATUS = re.compile(rb"HTTP/1\.1 ([2-9][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_REPLY_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_PORTS = {"http": ":80", "https": ":443"}
_NOT_PLAIN = frozenset(
    {"connection", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"}
)
_BODY_WANTED = frozenset({200, 206})
_CURLE_OK, _CURLE_NOTHING, _CURLE_TRUNCATED, _CURLE_RECEIVE = 0, 52, 18, 56


def request_for(exchange: Exchange, user_agent: str) -> bytes | None:
    """The request as libcurl would send it, or None where it is not a plain GET of a range.

    Source: RFC 9112 section 3; curl's order of fields.
    """
    url = _URL.fullmatch(exchange.url)
    names = {name.lower() for name, _ in exchange.headers}
    if (
        url is None
        or exchange.method != "GET"
        or exchange.body is not None
        or exchange.multiplex
        or "range" not in names
        or names & _NOT_PLAIN
    ):
        return None
    scheme, host, port, target = url.groups()
    defaults = [("User-Agent", user_agent), ("Accept", "*/*")]
    lines = [f"{name}: {value}" for name, value in defaults if name.lower() not in names]
    lines += [f"{name}: {value}" if value else f"{name}:" for name, value in exchange.headers]
    if not all(_FIELD.fullmatch(line) for line in lines):
        return None
    where = host if port in (None, _PORTS[scheme]) else host + port
    return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {where}", *lines, "", ""]).encode("ascii")


class Head(NamedTuple):
    """What a reply's head says about its own framing.

    Args:
        status: 200 to 999.
        length: Bytes of the body, or None where it does not simply say so.
        keep: Whether the connection can be used again.
    """

    status: int
    length: int | None
    keep: bool


def parse_head(lines: list[bytes]) -> Head | None:
    """The framing of a final HTTP/1.1 reply; None of what is not beyond doubt one.

    Args:
        lines: Its lines without their ends, the empty one not included.
    """
    status = _STATUS.fullmatch(lines[0])
    fields = [_REPLY_FIELD.fullmatch(line) for line in lines[1:]]
    lengths, coded, keep = [], False, True
    for field in fields:
        if field is None:
            return None
        name, value = field[1].lower(), field[2].strip()
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding" or (name == b"content-encoding" and value.lower() != b"identity"):
            coded = True
        elif name == b"connection":
            keep = keep and value.lower() == b"keep-alive"
    if status is None:
        return None
    plain = not coded and len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]) is not None
    bodiless = int(status[1]) in (204, 304)
    return Head(int(status[1]), int(lengths[0]) if plain and not bodiless else None, keep)


class Step(Enum):
    """What is next for a bulk exchange."""

    WAIT = "until there is more to read"
    AGAIN = "at once: TLS may hold bytes that the socket does not show"
    END = "nothing: it is over, `code` says how"
    ODD = "libcurl: nothing was told to the receiver"


class Bulk:
    """One exchange on a connection of libcurl's.

    Args:
        transfer: What it is told to.
        handle: CONNECT_ONLY, and used by nobody else meanwhile.
        request: The bytes to send.
        used: Whether the connection has served before; its server may then have closed it for no fault of anybody's.
        buffer: CHUNK bytes to read into, shared by the exchanges of a thread.
    """

    __slots__ = ("_buffer", "_head", "_left", "_request", "code", "fd", "handle", "keep", "transfer", "used")

    def __init__(
        self, transfer: Transfer, handle: pycurl.Curl, request: bytes, *, used: bool, buffer: memoryview
    ) -> None:
        self.transfer = transfer
        self.handle = handle
        self.used = used
        self.fd = -1  # none yet
        self.code = _CURLE_OK
        self.keep = False
        self._request = request
        self._buffer = buffer
        self._head = b""
        self._left: int | None = None  # bytes of the body still to come, once the head is known

    def send(self) -> Step:
        """Ask, as soon as there is a connection."""
        try:
            sent = self.handle.send(self._request)
        except (pycurl.error, BlockingIOError):
            return Step.ODD
        return Step.WAIT if sent == len(self._request) else Step.ODD

    def read(self) -> Step:
        """Take what has come, up to CHUNK bytes."""
        return self._read_head() if self._left is None else self._read_body(self._left)

    def _receive(self, most: int) -> tuple[int, bool]:
        """Read until there is no more now or `most` bytes are there: bytes read, and whether no more can come.

        A record of TLS is 16 KiB and libcurl reads one at a time, so this runs 65,000 times a GiB.
        """
        buffer, receive, got = self._buffer, self.handle.recv_into, 0
        try:
            while got < most:
                count = receive(buffer[got:most])
                if count == 0:
                    return got, True
                got += count
        except BlockingIOError:
            pass
        except pycurl.error:
            self.code = _CURLE_RECEIVE
            return got, True
        return got, False

    def _read_head(self) -> Step:
        got, over = self._receive(16 << 10)
        self._head += bytes(self._buffer[:got])
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if over and not self._head:
                return self._no_reply()
            return Step.ODD if over or len(head) > HEAD_BYTES else Step.WAIT
        return self._judge(head.split(b"\r\n"), rest, over=over)

    def _no_reply(self) -> Step:
        self.code = self.code or _CURLE_NOTHING
        return Step.ODD if self.used else Step.END

    def _judge(self, lines: list[bytes], rest: bytes, *, over: bool) -> Step:
        head = parse_head(lines)
        if head is None or (head.length is None and head.status in _BODY_WANTED):
            return Step.ODD
        aborted = None
        for line in (*lines, b""):
            aborted = self.transfer.on_header(line + b"\r\n")
            if aborted is not None:
                return Step.END
        if head.length is None:  # of a reply that nobody wants the body of
            return Step.END
        self._left = head.length
        self.keep = head.keep and len(rest) <= head.length
        return self._take(rest[: head.length], over=over)

    def _read_body(self, left: int) -> Step:
        got, over = self._receive(min(CHUNK, left))
        return self._take(bytes(self._buffer[:got]), over=over)

    def _take(self, chunk: bytes, *, over: bool) -> Step:
        assert self._left is not None  # noqa: S101 - a body comes after its head
        self._left -= len(chunk)
        if chunk and self.transfer.on_body(chunk) is not None:
            self.keep = self.keep and self._left == 0
            return Step.END
        if self._left == 0:
            self.keep = self.keep and not over
            self.code = _CURLE_OK
            return Step.END
        if over:
            self.keep = False
            self.code = self.code or _CURLE_TRUNCATED
            return Step.END
        return Step.AGAIN

    @property
    def silent(self) -> bool:
        """Whether a connection that had served before ended without a byte of a reply."""
        return self.used and not self._head

    @property
    def whole(self) -> bool:
        """Whether the reply was read to its end and the connection can be used again."""
        return self.keep and self._left == 0
