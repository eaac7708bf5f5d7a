"""The standard's Response: a head, and a body that is used once.

A body is bytes in memory, a finished file, or a download that is still coming; each can be read from its first byte
any number of times, which is what makes `clone` cost nothing. Files are read off the event loop, a mebibyte at a
time, so memory does not follow the size of a model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

from bgfetch.core.model import Headers, Verified
from bgfetch.core.urls import redacted
from bgfetch.errors import Aborted, CacheError, InvalidRequest
from bgfetch.vfs import Vfs

__all__ = ["Body", "BytesBody", "FileBody", "GrowingBody", "Response", "Stand", "off_loop"]

_BLOCK = 1 << 20
_P = ParamSpec("_P")
_T = TypeVar("_T")


async def off_loop(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What the function gives, run in a thread; not left before that ends, also when cancelled.

    Who closes a file afterwards must know that nobody is using it.
    """
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class Body(Protocol):
    """The bytes of a response."""

    @property
    def path(self) -> Path | None:
        """The file that holds exactly these bytes, or None where there is none (yet)."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes from the first one on, at most 1 MiB at a time; each call begins anew.

        Raises:
            Aborted, InvalidRequest, CacheError: They will not all come.
        """


@dataclass(frozen=True, slots=True)
class BytesBody:
    """A body in memory."""

    data: bytes

    @property
    def path(self) -> Path | None:
        """None: it is no file."""
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `Body`."""
        for start in range(0, len(self.data), _BLOCK):
            yield self.data[start : start + _BLOCK]


@dataclass(frozen=True, slots=True)
class FileBody:
    """A body that is a finished file.

    Args:
        file: Where its bytes are.
        blob: Its name among the blobs, or "" for a file that is none.
        size: Its length, bytes.
        verified: How it was checked.
        digest: "ALG:HEX", or "".
        publish: Gives the file a proper name when somebody asks for its path; without it the path is `file`.
    """

    file: Path
    blob: str
    size: int
    verified: Verified = Verified.NONE
    digest: str = ""
    publish: Callable[[], Path] | None = None
    vfs: Vfs = field(default_factory=Vfs, repr=False, compare=False)

    @property
    def path(self) -> Path:
        """The file, read-only and shared: copy it before changing it.

        Raises:
            CacheError: It is gone, or the disk refused to give it a name.
        """
        if self.publish is None:
            return self.file
        try:
            return self.publish()
        except OSError as error:
            raise _unreadable(self.file, error) from error

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `Body`. The file may be deleted meanwhile; CacheError when it is shorter than it was."""
        try:
            fd = self.vfs.open(self.file, readonly=True)
        except OSError as error:
            raise _unreadable(self.file, error) from error
        self.vfs.lease(fd)
        try:
            for start in range(0, self.size, _BLOCK):
                yield await self._read(fd, start, min(_BLOCK, self.size - start))
        finally:
            self.vfs.close(fd)

    async def _read(self, fd: int, start: int, length: int) -> bytes:
        buffer = bytearray(length)
        try:
            got = await off_loop(self.vfs.pread_into, fd, memoryview(buffer), start)
        except OSError as error:
            raise _unreadable(self.file, error) from error
        if got < length:
            raise CacheError(
                f"{self.file} was cut short to {start + got} of {self.size} bytes; fetch it again"
            )
        return bytes(buffer)


class Stand(NamedTuple):
    """How far a download has come.

    Args:
        front: Bytes from the first one on that are there without a gap.
        total: Length of the whole, or None while unknown.
        over: Nothing more will come.
        error: Why it ended before it was complete, or None.
    """

    front: int
    total: int | None
    over: bool
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class GrowingBody:
    """A body that follows a download which is still coming.

    Its bytes are not verified yet: that they were the right ones is known when it ends without an error, which it
    does only after the whole has been checked.

    Args:
        read_into: Fills a buffer from an offset and says how many bytes; of one version of the body only.
        advanced: Waits until there is more than `position`, or it is over, and says how it stands.

    Source: Background Fetch, "expose a record": the stream errors when the record becomes unexposable.
    """

    read_into: Callable[[memoryview, int], int]
    advanced: Callable[[int], Awaitable[Stand]]

    @property
    def path(self) -> Path | None:
        """None: the file is not final."""
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `Body`.

        Raises:
            Aborted: The fetch was aborted.
            InvalidRequest: The record failed, or began again from its first byte.
        """
        position = 0
        while True:
            stand = await self.advanced(position)
            _raise_if_broken(stand, position)
            while position < stand.front:
                chunk = await self._read(position, min(_BLOCK, stand.front - position))
                yield chunk
                position += len(chunk)
            if stand.over:  # not at the last byte: the whole is verified after that
                return

    async def _read(self, position: int, length: int) -> bytes:
        buffer = bytearray(length)
        try:
            got = await off_loop(self.read_into, memoryview(buffer), position)
        except OSError as error:
            raise InvalidRequest(
                f"the download could not be read back at byte {position}: {error}"
            ) from error
        if got == 0:
            raise _began_again(position)
        return bytes(buffer[:got])


def _raise_if_broken(stand: Stand, position: int) -> None:
    if isinstance(stand.error, Aborted):
        raise stand.error
    if stand.error is not None:
        raise InvalidRequest(f"the body ends here, its download failed: {stand.error}") from stand.error
    if stand.front < position:
        raise _began_again(position)
    if stand.over and stand.total is not None and stand.front < stand.total:
        raise InvalidRequest(f"the download ended at byte {stand.front} of {stand.total}")


def _began_again(position: int) -> InvalidRequest:
    return InvalidRequest(
        f"the download began again, so the {position} bytes read so far are void; match again"
    )


def _unreadable(file: Path, error: OSError) -> CacheError:
    return CacheError(f"{file} cannot be read ({error.strerror or error}); fetch it again")


class Response:
    """What answered a request.

    Args:
        body: Text (sent as UTF-8), bytes, another `Body`, or None for no body at all.
        status: HTTP status; 0 for a network error.
        headers: (name, value) pairs, or a mapping. Text without a Content-Type gets text/plain.
        url: What answered, after redirects; "" for a response made here.

    Source: Fetch, Response class; without the browser's types and filters, which keep secrets between sites.
    """

    __slots__ = ("_body", "_used", "headers", "status", "url")

    def __init__(
        self,
        body: bytes | str | Body | None = None,
        *,
        status: int = 200,
        headers: Iterable[tuple[str, str]] | Mapping[str, str] = (),
        url: str = "",
    ) -> None:
        self.status = status
        self.headers = _headers(headers)
        self.url = url
        self._used = False
        if isinstance(body, str):
            if "content-type" not in self.headers:
                self.headers = Headers([*self.headers.pairs, ("content-type", "text/plain;charset=UTF-8")])
            body = body.encode()
        self._body: Body | None = BytesBody(body) if isinstance(body, bytes) else body

    def __repr__(self) -> str:
        shown = f" {redacted(self.url)}" if self.url else ""
        return f"<Response {self.status}{shown}>"

    @property
    def ok(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status <= 299

    @property
    def body_used(self) -> bool:
        """Whether the body has been read, or is being read. No body is never used."""
        return self._used

    @property
    def path(self) -> Path | None:
        """The finished file, for whoever wants no copy; None where the body is in memory or still coming.

        Asking for it uses nothing up. It is read-only and shared with the cache: copy it before changing it.
        """
        return None if self._body is None else self._body.path

    def take(self) -> Body | None:
        """The body itself, for whoever stores it; it counts as used from now on.

        Raises:
            InvalidRequest: It has been used.
        """
        self._must_be_unused()
        self._used = self._body is not None
        return self._body

    def clone(self) -> Response:
        """Another response with the same body, both of which may be used.

        Raises:
            InvalidRequest: The body has been used.
        """
        self._must_be_unused()
        return Response(self._body, status=self.status, headers=self.headers, url=self.url)

    def __aiter__(self) -> AsyncIterator[bytes]:
        body = self.take()
        return (BytesBody(b"") if body is None else body).chunks()

    async def read(self) -> bytes:
        """All bytes, in memory: for small bodies. `path` or `async for` serve large ones."""
        return b"".join([chunk async for chunk in self])

    async def text(self) -> str:
        """The body as UTF-8, without a byte order mark; what is no UTF-8 shows as U+FFFD."""
        return (await self.read()).decode("utf-8-sig", "replace")

    async def json(self) -> Any:
        """The body parsed as JSON; ValueError when it is none."""
        return json.loads(await self.text())

    def _must_be_unused(self) -> None:
        if self._used:
            raise InvalidRequest("the body of this response has been used; clone() it before the first use")


def _headers(given: Iterable[tuple[str, str]] | Mapping[str, str]) -> Headers:
    if isinstance(given, Headers):
        return given
    return Headers(given.items() if isinstance(given, Mapping) else given)
