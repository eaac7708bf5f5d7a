"""Bytes of an open file to a client, block by block, in memory for one block whatever the file's size.

The rule it keeps: an answer that is whole is of one version. The file is looked at after each block was read and before
it is sent; where it changed, the answer ends short of its Content-Length, which no client takes for complete.

Where the server offers it, bytes go from the page cache to the socket without a copy. What lies in the socket is then
still the file's own memory, and changes with the file. So the last bytes are always copied: more of them than sockets
hold at both ends, so that when the last look is taken, the client has read everything that was not a copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from bgfetch.core.spans import Span
from bgfetch.response import off_loop
from bgfetch.vfs import Vfs
from bgfetch.web.folder import Stamp, stamp_of
from bgfetch.web.limits import Pace

__all__ = ["BLOCK", "DIRECT", "ZERO_COPY", "Departure", "Receive", "Send", "Sender", "copied_tail", "paced"]

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

BLOCK = 1 << 18  # bytes: fits a processor's cache between being read and being sent
ZERO_COPY: Final = "http.response.zerocopysend"
DIRECT: Final = "bgfetch.direct"  # see `connections`
_LARGEST = 1 << 22  # bytes sent without copying between two looks at the file
_AT_ONCE = 1 << 20  # bytes that a client must take within its patience
_QUICK = 0.5  # s for one of these; slower clients are given less, so that none of them takes minutes


class Departure:
    """Whether the client has gone: an ASGI server swallows what is sent to nobody, and the file may be long.

    Args:
        receive: The application's; nothing else may use it meanwhile.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.ensure_future(self._watch())
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()

    @property
    def happened(self) -> bool:
        """Whether it has."""
        return self._task is not None and self._task.done()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends a part of a file as the body of an answer whose head was sent.

    Args:
        fd: The open file.
        stamp: What the file was when the head was made.
        send: The application's.
        departure: Ends it.
        patience: Seconds for the client to take a MiB.
        pace: Of the client, where it has one.
        offered: The server's extensions.
        vfs: What reads.
    """

    fd: int
    stamp: Stamp
    send: Send
    departure: Departure
    patience: float
    pace: Pace | None
    offered: Container[str]
    vfs: Vfs

    async def send_all(self, span: Span) -> bool:
        """Send these bytes, at least one; whether that was all of them. Where it was not, the answer stays incomplete."""
        try:
            start = await self._without_copying(span) if ZERO_COPY in self.offered else span.start
            return await self._copied(Span(start, span.stop))
        except (TimeoutError, OSError):  # slow, gone, or the disk refused: cut short, each of them
            return False

    async def _without_copying(self, span: Span) -> int:
        """Send all but the end; where that begins."""
        clock, at, block = asyncio.get_running_loop().time, span.start, BLOCK
        most = _LARGEST if self.pace is None else self.pace.portion
        while (count := min(block, most, span.stop - copied_tail() - at)) > 0 and self._sound():
            await paced(self.pace, count)
            began = clock()
            message = {"type": ZERO_COPY, "file": self.fd, "offset": at, "count": count, "more_body": True}
            async with asyncio.timeout(self.patience * max(1.0, count / _AT_ONCE)):
                await self.send(message)
            at += count
            block = min(_LARGEST, block * 2) if clock() - began < _QUICK else max(BLOCK, block // 2)
        return at

    async def _copied(self, span: Span) -> bool:
        most = BLOCK if self.pace is None else min(BLOCK, self.pace.portion)
        buffer = memoryview(bytearray(min(most, span.length)))
        for start in range(span.start, span.stop, most):
            block = buffer[: min(most, span.stop - start)]
            more = start + len(block) < span.stop
            await paced(self.pace, len(block))
            if await _read_into(self.vfs, self.fd, block, start) < len(block) or not self._sound():
                return False
            await self._within_patience(block, more=more)
            await asyncio.sleep(
                0
            )  # nothing above need have waited: others have their turn, and news that the client is gone
        return True

    def _sound(self) -> bool:
        return stamp_of(self.fd) == self.stamp and not self.departure.happened

    async def _within_patience(self, block: memoryview, *, more: bool) -> None:
        """What is not sent directly the server may keep, so it gets a copy: the buffer is used again."""
        direct = more and DIRECT in self.offered
        body = block if direct else bytes(block)
        async with asyncio.timeout(self.patience):
            await self.send(
                {"type": DIRECT if direct else "http.response.body", "body": body, "more_body": more}
            )


async def paced(pace: Pace | None, count: int) -> None:
    """Wait until a client may have so many bytes."""
    delay = 0.0 if pace is None else pace.delay(count, asyncio.get_running_loop().time())
    if delay:
        await asyncio.sleep(delay)


@functools.cache
def copied_tail() -> int:
    """Bytes that the sockets of a connection hold together at most, on both ends of a loopback, and a few blocks.

    Source: Linux, tcp(7), tcp_rmem and tcp_wmem; socket(7), rmem_max, which the kernel doubles.
    """
    if sys.platform != "linux":  # pragma: no cover - nothing is known of others
        return sys.maxsize
    net = Path("/proc/sys/net")
    try:
        sending = int((net / "ipv4/tcp_wmem").read_text("ascii").split()[2])
        receiving = int((net / "ipv4/tcp_rmem").read_text("ascii").split()[2])
        asked = 2 * int((net / "core/rmem_max").read_text("ascii")) if (net / "core/rmem_max").exists() else 0
    except (OSError, ValueError, IndexError):
        return sys.maxsize
    return sending + max(receiving, asked) + 4 * BLOCK


async def _read_into(vfs: Vfs, fd: int, block: memoryview, start: int) -> int:
    """Fill the block: at once where that is in memory, from a thread where a disk must be waited for; bytes read.

    A thread costs as much as reading 200 KiB from the page cache. The block's last page is in memory only when the rest
    is: the kernel reads files in order.
    """
    if _in_memory(fd, start + len(block) - 1):
        return vfs.pread_into(fd, block, start)
    return await off_loop(vfs.pread_into, fd, block, start)


def _in_memory(fd: int, offset: int) -> bool:
    if not hasattr(os, "preadv") or not hasattr(
        os, "RWF_NOWAIT"
    ):  # pragma: no cover - nothing else than Linux says
        return False
    with contextlib.suppress(OSError):  # it is not, or this file system cannot say
        return os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    return False
