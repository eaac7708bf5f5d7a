"""The standard's BackgroundFetchRegistration and BackgroundFetchRecord, in Python.

`pause`, `resume`, `wait`, `set_priority`, `set_limit_rate`, `state` and `failure_detail` are ours. Differences are listed in docs/conformance.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial as bind
from pathlib import Path

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.links import Links
from bgfetch.cache.partials import Partials
from bgfetch.cache.room import Room
from bgfetch.clock import Clock
from bgfetch.core.matching import QueryOptions, match_records
from bgfetch.core.model import FailureReason, Icon, Progress, ReplyHead, Request, Result, State
from bgfetch.core.names import name_from_url
from bgfetch.core.urls import redacted
from bgfetch.errors import (
    Aborted,
    BadStatus,
    BgfetchError,
    DownloadTotalExceeded,
    FetchError,
    IntegrityError,
    InvalidPartialResponse,
    InvalidRequest,
    InvalidState,
    NetworkError,
    NotFound,
    QuotaExceeded,
)
from bgfetch.registrations.port import RecordRow, RegistrationRow, Registrations, Wish
from bgfetch.response import FileBody, GrowingBody, Response, Stand, off_loop
from bgfetch.running import Look, Runs, stored_progress
from bgfetch.sources.https import checked_request
from bgfetch.vfs import Vfs
from bgfetch.worker.builtin import full_reply, whole_reply

__all__ = ["BackgroundFetchRecord", "BackgroundFetchRegistration", "Home", "checked", "failure"]

_POLL = 0.1
_SILENCE = 2.0  # seconds without a word from whoever runs it, after which the store is looked at
_ERRORS: dict[str, type[FetchError]] = {
    "integrity": IntegrityError,
    "size": IntegrityError,
    "bad-range-reply": InvalidPartialResponse,
    "no-ranges": InvalidPartialResponse,
}
_BY_REASON: dict[FailureReason, type[FetchError]] = {
    FailureReason.ABORTED: Aborted,
    FailureReason.BAD_STATUS: BadStatus,
    FailureReason.QUOTA_EXCEEDED: QuotaExceeded,
    FailureReason.DOWNLOAD_TOTAL_EXCEEDED: DownloadTotalExceeded,
}


@dataclass(frozen=True, slots=True)
class Home:
    """Where one user's registrations and bytes are, and what runs them; made by wiring."""

    registrations: Registrations
    partials: Partials
    blobs: Blobs
    links: Links
    runner: Runs
    clock: Clock
    vfs: Vfs
    room: Room
    root: Path


class BackgroundFetchRegistration:
    """One fetch. The same object for the same registration of one manager.

    Iterating over it gives a `Progress` at most ten times a second and ends with the one that says how it settled.
    """

    def __init__(self, row: RegistrationRow, home: Home) -> None:
        self._row = row
        self._home = home

    @property
    def uid(self) -> int:
        """Its number in the store; ours."""
        return self._row.uid

    @property
    def id(self) -> str:
        """What it was registered under."""
        return self._row.id

    @property
    def title(self) -> str:
        """What people are shown now; `update_ui` of its worker changes it."""
        return self._latest().title

    @property
    def icons(self) -> tuple[Icon, ...]:
        """What people are shown now; `update_ui` of its worker changes them."""
        return self._latest().icons

    @property
    def progress(self) -> Progress:
        """How it stands now."""
        if self._home.runner.running(self.uid):
            last = self._home.runner.last(self.uid)
            if last is not None:
                return last
        return stored_progress(self._refreshed())

    @property
    def download_total(self) -> int:
        """What the app promised, bytes; 0 = unknown."""
        return self._row.download_total

    @property
    def downloaded(self) -> int:
        """Bytes stored now; may fall when a record restarts."""
        return self.progress.downloaded

    @property
    def upload_total(self) -> int:
        """Bytes of all request bodies."""
        return self._row.upload_total

    @property
    def uploaded(self) -> int:
        """Bytes of request bodies sent."""
        return self.progress.uploaded

    @property
    def result(self) -> Result:
        """See `Result`."""
        return self.progress.result

    @property
    def failure_reason(self) -> FailureReason:
        """See `FailureReason`."""
        return self.progress.failure_reason

    @property
    def failure_detail(self) -> str:
        """What exactly went wrong; ours."""
        return self.progress.failure_detail

    @property
    def state(self) -> State:
        """What it is doing; ours."""
        return self.progress.state

    @property
    def records_available(self) -> bool:
        """Whether `match` still works."""
        return self._refreshed().records_available

    async def __aiter__(self) -> AsyncIterator[Progress]:
        """Progress until it settles; one that nobody tells of is looked at ten times a second."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        latest: list[Progress] = []

        def told(progress: Progress) -> None:
            latest[:] = [progress]
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(changed.set)

        stop = None
        try:
            while True:
                if stop is None and await off_loop(self._home.runner.run, self.uid):
                    stop = await off_loop(self._home.runner.listen, self.uid, told)
                if stop is None:
                    await asyncio.sleep(_POLL)
                    progress = stored_progress(self._refreshed())
                elif await _within(changed, _SILENCE):
                    changed.clear()
                    self._raise_if_broken()
                    progress = latest[0]
                else:  # words can get lost; what is stored cannot
                    self._raise_if_broken()
                    progress = stored_progress(self._refreshed())
                    if progress.state is not State.SETTLED:
                        continue
                yield progress
                if progress.state is State.SETTLED:
                    return
        finally:
            if stop is not None:
                stop()

    def _raise_if_broken(self) -> None:
        bug = self._home.runner.bug
        if isinstance(bug, BgfetchError):
            raise bug
        if bug is not None:
            msg = f"bgfetch stopped by a bug of its own ({bug!r}); every byte that came is kept, and {self.id!r} goes on when asked again"
            raise RuntimeError(msg) from bug

    async def wait(self) -> Result:
        """How it settled, once it has. Its event is delivered after that, so a worker may still be storing it."""
        async for _progress in self:
            pass
        return self._refreshed().result

    async def abort(self) -> bool:
        """End it; True if it was active. Then its reason is "aborted", whatever its records do meanwhile."""
        row = self._home.registrations.get(self.uid)
        if row is not None and row.wish is Wish.ABORT:  # it has been ended, and may not have settled yet
            return False
        return await off_loop(self._home.runner.wish, self.uid, Wish.ABORT)

    async def pause(self) -> bool:
        """Let it rest until `resume`; False if it is over."""
        return await off_loop(self._home.runner.wish, self.uid, Wish.PAUSE)

    async def resume(self) -> bool:
        """Go on; False if it is over."""
        accepted = await off_loop(self._home.runner.wish, self.uid, Wish.RUN)
        if accepted:
            await off_loop(self._home.runner.run, self.uid)
        return accepted

    async def set_priority(self, priority: int) -> None:
        """Let it go before those of a lower priority, from now on."""
        await off_loop(
            self._home.runner.amend, self.uid, replace(self._refreshed().options, priority=priority)
        )

    async def set_limit_rate(self, limit_rate: int) -> None:
        """Receive at most so many bytes a second, from now on; 0 = no limit."""
        await off_loop(
            self._home.runner.amend, self.uid, replace(self._refreshed().options, limit_rate=limit_rate)
        )

    async def match(
        self, request: str | Request, options: QueryOptions | None = None
    ) -> BackgroundFetchRecord | None:
        """The first record whose request matches, or None.

        Raises:
            InvalidState: Its records are gone.
        """
        return next(iter(await self.match_all(request, options)), None)

    async def match_all(
        self, request: str | Request | None = None, options: QueryOptions | None = None
    ) -> list[BackgroundFetchRecord]:
        """The records whose requests match, in the order they were given; all of them without a request.

        Raises:
            InvalidState: Its records are gone.
        """
        if not self._refreshed().records_available:
            raise InvalidState(f"the records of {self.id!r} are gone: its settle event has been handled")
        records = self._home.registrations.records(self.uid)
        query = None if request is None else checked(request)
        stored: list[tuple[Request, ReplyHead | None]] = [(each.request, each.reply) for each in records]
        places = match_records(query, stored, options or QueryOptions())
        return [BackgroundFetchRecord(self, records[place], self._home) for place in places]

    def error(self) -> FetchError | None:
        """The error it failed with, or None."""
        return failure(self._refreshed())

    def records(self) -> list[RecordRow]:
        """What is stored of its records, also after they are gone for the app; ours."""
        return self._home.registrations.records(self.uid)

    def _latest(self) -> RegistrationRow:
        with contextlib.suppress(NotFound):  # what was known last is what people were shown
            self._refreshed()
        return self._row

    def _refreshed(self) -> RegistrationRow:
        row = self._home.registrations.get(self.uid)
        if row is None:
            raise NotFound(f"the registration {self.id!r} has been removed")
        self._row = row
        return row


class BackgroundFetchRecord:
    """A request of a registration, and its response."""

    def __init__(self, registration: BackgroundFetchRegistration, row: RecordRow, home: Home) -> None:
        self._registration = registration
        self._row = row
        self._home = home

    @property
    def request(self) -> Request:
        """The request, its body included, without the values of secret headers."""
        return self._row.request

    @property
    def response_ready(self) -> asyncio.Task[Response]:
        """Awaitable: the response, as soon as its head is there; its body streams while it still comes.

        A record that another process fetches has its response when it is complete.

        Raises:
            Aborted: It was aborted before its head was there.
            InvalidRequest: It failed (named TypeError, as in the standard).

        Source: Background Fetch, "expose a record".
        """
        return asyncio.ensure_future(self._response())

    async def _response(self) -> Response:
        while True:
            row = self._current()
            if row.result is not Result.NONE:
                return self._finished(row)
            look = await self._look()
            if look is not None and look.reply is not None and 200 <= look.reply.status <= 299:
                growing = self._growing(look)
                if growing is not None:
                    return growing
            await off_loop(self._home.runner.run, self._registration.uid)
            await asyncio.sleep(_POLL)

    def _current(self) -> RecordRow:
        return self._home.registrations.records(self._registration.uid)[self._row.index]

    async def _look(self) -> Look | None:
        return await off_loop(self._home.runner.look, self._registration.uid, self._row.index)

    def _growing(self, look: Look) -> Response | None:
        assert look.reply is not None  # noqa: S101 - asked before
        try:
            data = self._home.partials.path(self._row.key) / "data"
            read = _reader(self._home.vfs, self._home.vfs.open(data, readonly=True))
        except OSError:  # it has just been given its final name
            return None
        reply = whole_reply(look.reply, look.total)
        body = GrowingBody(read, bind(self._advanced, look.generation))
        return Response(body, status=reply.status, headers=reply.headers, url=reply.url)

    async def _advanced(self, generation: int, position: int) -> Stand:
        """Wait until there is more than `position`, or it is over."""
        while True:
            look = await self._look()
            if look is not None and look.generation != generation:
                return Stand(-1, None, over=False)
            if look is not None and look.front > position:
                return Stand(look.front, look.total, over=False)
            row = self._current()
            if row.result is Result.SUCCESS:
                total = row.total or 0
                return Stand(total, total, over=True)
            if row.result is Result.FAILURE:
                return Stand(position, row.total, over=True, error=_record_error(row))
            await asyncio.sleep(_POLL)

    def _finished(self, row: RecordRow) -> Response:
        if row.result is Result.FAILURE:
            if row.failure_reason is FailureReason.BAD_STATUS and row.reply is not None:
                return Response(b"", status=row.reply.status, headers=row.reply.headers, url=row.reply.url)
            raise _record_error(row)
        reply = full_reply(row)
        path = self._home.blobs.path(row.blob)
        publish = bind(self._home.links.publish, path, row.key, name_from_url(row.request.url))
        body = FileBody(path, row.blob, row.total or 0, row.verified, row.digest, publish)
        return Response(body, status=reply.status, headers=reply.headers, url=reply.url)


def _record_error(row: RecordRow) -> Aborted | InvalidRequest:
    if row.failure_reason is FailureReason.ABORTED:
        return Aborted(f"{redacted(row.request.url)} was aborted before it was complete")
    return InvalidRequest(row.failure_detail or "the record failed")


def _reader(vfs: Vfs, fd: int) -> Callable[[memoryview, int], int]:
    """Reads a file by its descriptor, which outlives the file's name; closed when nobody reads any more."""

    def read_into(buffer: memoryview, offset: int) -> int:
        return vfs.pread_into(fd, buffer, offset)

    weakref.finalize(read_into, vfs.close, fd)
    return read_into


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether it was set in time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def failure(row: RegistrationRow) -> FetchError | None:
    """The error a settled registration stands for, or None if it succeeded or is active."""
    if row.result is not Result.FAILURE:
        return None
    kind, _, detail = row.failure_detail.partition(": ")
    by_kind = _ERRORS.get(kind) if row.failure_reason is FailureReason.FETCH_ERROR else None
    make = by_kind or _BY_REASON.get(row.failure_reason, NetworkError)
    return make(detail or row.failure_detail or str(row.failure_reason), registration_id=row.id)


def checked(request: str | Request) -> Request:
    """The request, looked at as `fetch()` does; InvalidRequest says what is wrong with it."""
    if isinstance(request, str):
        return checked_request(request)
    return checked_request(
        request.url,
        method=request.method,
        headers=request.headers.pairs,
        body=request.body,
        integrity=request.integrity,
        expected_size=request.expected_size,
    )
