"""One request and the connection to answer it on, down to the single byte.

Everything that waits here ends when the client goes away or the server closes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from bgfetch.testing.content import CHUNK, Chunk, Content
from bgfetch.testing.message import Reply, SeenRequest, correct_reply, text_reply

if TYPE_CHECKING:
    from bgfetch.testing.origin import OriginServer

__all__ = ["Connection", "Exchange", "Fuse", "Handler", "Tamper"]

_MOST_HEAD = 1 << 18  # a test may send long signed URLs and cookies; more than 256 KiB is a mistake
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER, no time: close() sends RST


class Fuse:
    """A count of bytes or requests that runs out, shared by all connections; None never does."""

    def __init__(self, count: int | None) -> None:
        self._left = sys.maxsize if count is None else max(0, count)
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> int:
        """How many of these are still allowed; they are counted."""
        with self._lock:
            allowed = min(count, self._left)
            self._left -= allowed
            return allowed

    def give_back(self, count: int) -> None:
        """Take so many back that were allowed and not used."""
        with self._lock:
            self._left += count

    @property
    def burnt(self) -> bool:
        """Whether nothing is left."""
        return self._left == 0


class Connection:
    """An accepted socket: reads requests, writes bytes, and can end in every way that TCP knows."""

    def __init__(self, sock: socket.socket, *, number: int) -> None:
        self.sock = sock
        self.number = number
        self.sent = 0
        self._buffer = b""

    def next_request(self) -> SeenRequest | None:
        """The next request, or None when the client has no more, or sent what is none."""
        while b"\r\n\r\n" not in self._buffer:
            data = self.sock.recv(65_536)
            if not data or len(self._buffer) > _MOST_HEAD:
                return None
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        request_line, *lines = head.decode("latin-1").split("\r\n")
        words = request_line.split(" ")
        if len(words) != 3:
            return None
        headers = _fields(lines)
        if "100-continue" in headers.get("expect", ""):
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._read(int(headers.get("content-length", "0")))
        return SeenRequest(words[0], words[1], headers, body, self.number, time.monotonic())

    def _read(self, length: int) -> bytes:
        while len(self._buffer) < length:
            data = self.sock.recv(65_536)
            if not data:
                raise ConnectionAbortedError("the client went away within its request body")
            self._buffer += data
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def close(self, *, clean: bool) -> None:
        """End it; a clean end says goodbye in TLS, another one is a truncation there."""
        with contextlib.suppress(OSError, ValueError):
            if clean and isinstance(self.sock, ssl.SSLSocket):
                self.sock.settimeout(1.0)  # the client need not answer our goodbye
                self.sock.unwrap()
        with contextlib.suppress(OSError):
            self.sock.close()

    def kill(self) -> None:
        """Wake whoever waits on this socket, from another thread."""
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: that one also takes TLS away under the feet of its thread.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def reset_on_close(self) -> None:
        """Make the end of this connection an RST; bytes that were not sent yet are lost."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


class Exchange:
    """A request, and the means to answer it well or badly.

    Writing raises OSError when the client has gone or the server closes; handlers let it pass.

    Args:
        server: The server that was asked.
        connection: Where the request came in.
        request: What was asked.
        number: How many requests the server saw before this one.
    """

    def __init__(
        self, server: OriginServer, connection: Connection, request: SeenRequest, *, number: int
    ) -> None:
        self.server = server
        self.connection = connection
        self.request = request
        self.number = number
        self.keep_alive = request.headers.get("connection", "").lower() != "close"
        self.clean = True

    @property
    def content(self) -> Content | None:
        """What is there under the path that was asked for, or None."""
        return self.server.contents.get(self.request.path)

    @property
    def wants_bytes(self) -> bool:
        """Whether a correct origin would answer with bytes of the content: what most faults are about."""
        return self.request.method == "GET" and self.correct().status in {200, 206}

    def correct(self, content: Content | None = None, *, if_range: bool = True) -> Reply:
        """The reply of a correct origin, for this content or for what is there under the path."""
        content = content or self.content
        if content is None:
            return text_reply(404, "there is nothing here\n")
        if self.request.method not in {"GET", "HEAD"}:
            return text_reply(405, "only GET and HEAD\n").but(allow="GET, HEAD")
        digest = self.server.repr_digest
        return correct_reply(self.request, content, if_range=if_range, repr_digest=digest)

    def send(self, reply: Reply, *fuses: Fuse, tamper: Tamper | None = None) -> bool:
        """Send a reply, its body only as far as every fuse lasts.

        Returns:
            Whether all of it went out. If not, the connection will be closed with FIN, or with RST if `reset()` is called.
        """
        self.server.count_reply(reply.status)
        self.write(self.closing(reply).head())
        if self.request.method == "HEAD" or reply.status in {204, 304}:
            return True
        return self.stream(_body(reply, tamper), *fuses)

    def send_chunked(self, reply: Reply, *fuses: Fuse, last: bool = True) -> bool:
        """Send a reply with `Transfer-Encoding: chunked`; without its last chunk it is a truncated one."""
        chunked = reply.but(content_length=None, transfer_encoding="chunked")
        self.write(self.closing(chunked).head())
        if self.request.method == "HEAD":
            return True
        for chunk in _body(reply, None):
            self.write(b"%x\r\n" % len(chunk))
            if not self.stream([chunk], *fuses):
                return False
            self.write(b"\r\n")
        if last:
            self.write(b"0\r\n\r\n")
        else:
            self.drop()
        return last

    def send_unframed(self, reply: Reply, *fuses: Fuse) -> None:
        """Send a reply without a length: its end is the end of the connection."""
        self.keep_alive = False
        self.send(reply.but(content_length=None), *fuses)
        self.clean = True  # such a body looks whole however short it is; in TLS too

    def closing(self, reply: Reply) -> Reply:
        """The reply, saying that the connection ends with it if it does."""
        return reply if self.keep_alive else reply.but(connection="close")

    def stream(self, chunks: Iterable[Chunk], *fuses: Fuse) -> bool:
        """Write body bytes as far as every fuse lasts, at the server's rate; whether all of them went out."""
        for chunk in chunks:
            allowed = _allowed(len(chunk), fuses)
            self._paced(chunk[:allowed])
            if allowed < len(chunk):
                self.server.count_cut()
                self.drop()
                return False
        return True

    def _paced(self, chunk: Chunk) -> None:
        rate = self.server.rate
        step = max(1, int(rate / 50)) if rate else CHUNK
        for at in range(0, len(chunk), step):
            part = chunk[at : at + step]
            self.write(part)
            self.connection.sent += len(part)
            self.server.count_bytes(len(part))
            if rate:
                self.pause(len(part) / rate)

    def write(self, data: Chunk) -> None:
        """Write bytes as they are."""
        self.connection.sock.sendall(data)

    def drip(self, data: Chunk, *, interval: float) -> None:
        """Write bytes one by one, `interval` seconds apart."""
        for at in range(len(data)):
            self.write(data[at : at + 1])
            self.pause(interval)

    def pause(self, seconds: float) -> None:
        """Let this time pass, unless the server closes: then the connection ends."""
        if self.server.stopping.wait(seconds):
            raise ConnectionAbortedError("the server closes")

    def hold(self, seconds: float | None = None) -> None:
        """Say nothing for so many seconds, or for good; ends the connection when the client goes away."""
        until = None if seconds is None else time.monotonic() + seconds
        try:
            while until is None or until > time.monotonic():
                self.connection.sock.settimeout(until and max(0.001, until - time.monotonic()))
                if not self.connection.sock.recv(65_536):
                    raise ConnectionAbortedError("the client went away")
        except TimeoutError:
            return
        finally:
            self.connection.sock.settimeout(None)

    def drop(self) -> None:
        """Let the connection end with FIN after this exchange, and in TLS without a goodbye."""
        self.keep_alive = False
        self.clean = False

    def reset(self) -> None:
        """Let the connection end with RST after this exchange."""
        self.drop()
        self.connection.reset_on_close()


Handler = Callable[[Exchange], None]
"""Answers one request; called in the connection's own thread."""

Tamper = Callable[[int, Chunk], Chunk]
"""Given the offset of a chunk in the content, and the chunk: what to send instead, of the same length."""


def _body(reply: Reply, tamper: Tamper | None) -> Iterable[Chunk]:
    for start, stop in reply.spans:
        for chunk in reply.content.chunks(start, stop):
            yield tamper(start, chunk) if tamper else chunk
            start += len(chunk)  # noqa: PLW2901  the chunks of a span follow each other


def _allowed(count: int, fuses: Iterable[Fuse]) -> int:
    """How many bytes every one of the fuses allows; each counts only those."""
    takes: list[tuple[Fuse, int]] = []
    allowed = count
    for fuse in fuses:
        allowed = fuse.take(allowed)
        takes.append((fuse, allowed))
    for fuse, taken in takes:
        fuse.give_back(taken - allowed)
    return allowed


def _fields(lines: Iterable[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        key = name.strip().lower()
        fields[key] = f"{fields[key]}, {value.strip()}" if key in fields else value.strip()
    return fields
