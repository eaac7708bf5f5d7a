"""A model that is still being fetched, sent on as it comes.

Bytes are taken from behind the front of the download: what was stored with a checksum. The last byte of a file waits for
the download to be verified and to have its final name, so an answer that is whole is of one version, and right.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bgfetch.core.model import Headers, ReplyHead, Result
from bgfetch.core.ranges import is_strong
from bgfetch.core.spans import Span
from bgfetch.response import off_loop
from bgfetch.web.asked import Asked, Reply
from bgfetch.web.conditions import Answer, Representation, decide
from bgfetch.web.fields import Fields, content_type, text_fields
from bgfetch.web.manifest import hashing_json
from bgfetch.web.sending import Departure

if TYPE_CHECKING:
    from bgfetch.registrations.port import RecordRow
    from bgfetch.wiring import Wiring

__all__ = ["Broken", "Coming"]

_LOOK: Final = 0.05  # s
_LONGEST_LOOK: Final = 0.5  # s, where what is asked for lies far behind the front
_BLOCK: Final = 1 << 18
_ENDLESS: Final = 1 << 62


class Broken(Exception):
    """The rest will not come, or would be of another version: the answer must end short."""


@dataclass(frozen=True, slots=True)
class Coming:
    """A model on its way.

    Args:
        wiring: The home that fetches it.
        uid: Its registration.
        reply: The head of the upstream's answer.
        generation: Of the download: bytes of another one are of another version.
        restarts: How often it had begun again by then.
        total: Length, bytes, or None where the upstream does not say.
        fd: Its bytes; `close` gives it back.
    """

    wiring: Wiring
    uid: int
    reply: ReplyHead
    generation: int
    restarts: int
    total: int | None
    fd: int

    def close(self) -> None:
        """Give the descriptor back; the download goes on."""
        os.close(self.fd)

    def answer(self, request: Asked) -> tuple[Answer, Fields]:
        """What to answer, and the fields of that; without conditions and ranges where nobody knows the length."""
        etag = self.reply.headers.get("etag", "")
        tags = (etag,) if is_strong(etag) else ()
        headers = request.headers if self.total is not None else Headers()
        file = Representation(self.total or 0, tags, None)
        answer = decide(request.method, headers, file, now=time.time())
        fields: Fields = [
            ("cache-control", "no-cache, no-transform"),
            ("x-accel-buffering", "no"),  # nginx in front would wait for what is still to come
            ("x-content-type-options", "nosniff"),
            *([("etag", etag)] if tags else []),
            *([("accept-ranges", "bytes")] if self.total is not None else []),
        ]
        if answer.status == 416:
            body = b"the file has no such bytes\n"
            return answer, [*fields, *text_fields(body)[:2], ("content-range", f"bytes */{self.total}")]
        if answer.status in (200, 206):
            fields.append(("content-type", content_type(request.path.rpartition("/")[2])))
            if self.total is not None:
                fields.append(("content-length", str(answer.span.length)))
        if answer.status == 206:
            fields.append(("content-range", f"bytes {answer.span.start}-{answer.span.stop - 1}/{self.total}"))
        return answer, fields

    def wait(self) -> Reply:
        """What is said to who wants a digest: come back when it is here."""
        look = self.wiring.runs.look(self.uid, 0)
        body = hashing_json(0 if look is None else look.front, self.total or 0)
        fields = [*text_fields(body, "application/json"), ("cache-control", "no-store"), ("retry-after", "2")]
        return Reply(503, fields, body)

    async def chunks(self, span: Span, departure: Departure) -> AsyncIterator[bytes]:
        """The bytes of a span of it, as soon as they are there; all of it where the length is not known.

        Raises:
            Broken: Not all will come, or the client has gone.
        """
        stop = span.stop if self.total is not None else _ENDLESS
        whole = hashlib.sha256() if span.start == 0 and stop >= (self.total or 0) else None
        position, row = span.start, None
        while position < stop:
            front, row = await self._advanced(position, row, departure)
            stop = min(stop, front) if row is not None else stop
            while position < min(front, stop):
                block = await off_loop(self._read, position, min(_BLOCK, min(front, stop) - position))
                if whole is not None:
                    whole.update(block)
                position += len(block)
                if position == stop and whole is not None and row is not None:
                    _must_be(row, whole.hexdigest())
                yield block

    async def _advanced(
        self, position: int, row: RecordRow | None, departure: Departure
    ) -> tuple[int, RecordRow | None]:
        """How far the download may be sent on, more than `position`; with its record once that is over."""
        wait = _LOOK
        while row is None or row.result is Result.NONE:
            if departure.happened:
                raise Broken("the client has gone")
            look = await off_loop(self.wiring.runs.look, self.uid, 0)
            if look is not None and look.generation != self.generation:
                raise Broken("it began again")
            front = 0 if look is None else look.front
            if self.total is not None:
                front = min(front, self.total - 1)
            if front > position:
                return front, None
            row = await off_loop(self._record)
            if row.result is Result.NONE:
                await asyncio.sleep(wait)
                wait = min(_LONGEST_LOOK, wait * 1.5)
        if (
            row.result is Result.FAILURE
            or row.restarts != self.restarts
            or self.total not in (None, row.total)
        ):
            raise Broken(row.failure_detail or "it is of another version now")
        return row.total or 0, row

    def _record(self) -> RecordRow:
        records = self.wiring.registrations.records(self.uid)
        if not records:
            raise Broken("it was removed")
        return records[0]

    def _read(self, position: int, length: int) -> bytes:
        buffer = bytearray(length)
        got = self.wiring.vfs.pread_into(self.fd, memoryview(buffer), position)
        if not got:
            raise Broken("its bytes are gone")
        return bytes(buffer[:got])


def _must_be(row: RecordRow, sha256: str) -> None:
    """Bytes that were wrong when they were sent on, and mended since, must not look like the file."""
    if row.digest.startswith("sha256:") and row.digest != f"sha256:{sha256}":
        raise Broken("it was mended after it had been sent on")
