"""Bytes of an open file to a client, block by block, in memory for one block whatever the file's size.

The rule it keeps: an answer that is whole is of one version. The file is looked at after each block was read and before
it is sent; where it changed, the answer ends short of its Content-Length, which no client takes for complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any, Self

from bgfetch.core.spans import Span
from bgfetch.response import off_loop
from bgfetch.vfs import Vfs
from bgfetch.web.folder import Stamp, stamp_of
from bgfetch.web.limits import Pace

__all__ = ["BLOCK", "Departure", "Receive", "Send", "send_file"]

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

BLOCK = 1 << 18


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


async def send_file(
    fd: int,
    span: Span,
    stamp: Stamp,
    send: Send,
    *,
    departure: Departure,
    patience: float,
    pace: Pace | None = None,
    vfs: Vfs,
) -> bool:
    """Send these bytes as the body of an answer whose head was sent; whether that was all of it.

    Args:
        fd: The open file.
        span: Not empty.
        stamp: What the file was when the head was made.
        send: The application's.
        departure: Ends it.
        patience: Seconds for the client to take a block.
        pace: Of the client.
        vfs: What reads.
    """
    clock = asyncio.get_running_loop().time
    for start in range(span.start, span.stop, BLOCK):
        length = min(BLOCK, span.stop - start)
        block = await _read(vfs, fd, start, length)
        if len(block) < length or stamp_of(fd) != stamp or departure.happened:
            return False
        if pace is not None and (delay := pace.delay(length, clock())):
            await asyncio.sleep(delay)
        message = {"type": "http.response.body", "body": block, "more_body": start + length < span.stop}
        try:
            async with asyncio.timeout(patience):
                await send(message)
        except (TimeoutError, OSError):  # OSError: gone, as newer servers say it
            return False
    return True


async def _read(vfs: Vfs, fd: int, start: int, length: int) -> bytes:
    """The block: at once where it is in memory, from a thread where a disk must be waited for.

    A thread costs as much as reading 200 KiB from the page cache. The block's last page is in memory only when the rest
    is: the kernel reads files in order.
    """
    if _in_memory(fd, start + length - 1):
        return os.pread(fd, length, start)
    return await off_loop(_read_now, vfs, fd, start, length)


def _in_memory(fd: int, offset: int) -> bool:
    if not hasattr(os, "preadv") or not hasattr(
        os, "RWF_NOWAIT"
    ):  # pragma: no cover - nothing else than Linux says
        return False
    with contextlib.suppress(OSError):  # it is not, or this file system cannot say
        return os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    return False


def _read_now(vfs: Vfs, fd: int, start: int, length: int) -> bytes:
    buffer = bytearray(length)
    return bytes(buffer[: vfs.pread_into(fd, memoryview(buffer), start)])
