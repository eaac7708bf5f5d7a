"""The standard's objects, in Python: BackgroundFetchManager, BackgroundFetchRegistration, BackgroundFetchRecord.

Names and meanings are the standard's, in snake_case. `pause`, `resume`, `wait`, `state`, `failure_detail` and the
per-request `integrity` and `expected_size` are ours. Differences are listed in docs/conformance.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.partials import Partials
from bgfetch.clock import Clock
from bgfetch.core.identity import request_key
from bgfetch.core.matching import QueryOptions, match_records
from bgfetch.core.model import FailureReason, Icon, Progress, ReplyHead, Request, Result, State
from bgfetch.engine.runner import Runner
from bgfetch.errors import (
    Aborted,
    BadStatus,
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
from bgfetch.registrations.port import (
    RecordRow,
    RegistrationOptions,
    RegistrationRow,
    Registrations,
    Wish,
)
from bgfetch.response import FileBody, Response
from bgfetch.sources.https import checked_request
from bgfetch.vfs import Vfs
from bgfetch.worker.builtin import full_reply

__all__ = [
    "BackgroundFetchManager",
    "BackgroundFetchRecord",
    "BackgroundFetchRegistration",
    "Home",
    "failure",
]

_POLL = 0.25
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


class Home:
    """Where one user's registrations and bytes are, and what runs them; made by wiring."""

    def __init__(
        self,
        *,
        registrations: Registrations,
        partials: Partials,
        blobs: Blobs,
        runner: Runner,
        clock: Clock,
        vfs: Vfs,
        root: Path,
    ) -> None:
        self.registrations = registrations
        self.partials = partials
        self.blobs = blobs
        self.runner = runner
        self.clock = clock
        self.vfs = vfs
        self.root = root


class BackgroundFetchManager:
    """`ServiceWorkerRegistration.backgroundFetch` of a scope.

    Args:
        scope: Namespace of ids.
        home: Where things are.
    """

    def __init__(self, scope: str, home: Home) -> None:
        self._scope = scope
        self._home = home
        self._objects: dict[int, BackgroundFetchRegistration] = {}

    async def fetch(
        self,
        id: str,  # noqa: A002 - the standard's word
        requests: str | Request | Sequence[str | Request],
        *,
        title: str = "",
        icons: Iterable[Icon] = (),
        download_total: int = 0,
        options: RegistrationOptions | None = None,
    ) -> BackgroundFetchRegistration:
        """Register requests under an id and begin to fetch them.

        Args:
            id: Any text but ""; free again as soon as the fetch has settled.
            requests: One or more absolute URLs or `Request`s.
            title: Shown to people.
            icons: Shown to people.
            download_total: Bytes all bodies have together at most; more ends it with
                "download-total-exceeded". 0 = unknown.
            options: Ours: priority, limits.

        Raises:
            InvalidRequest: No requests, or one that can never work; nothing was registered.
            DuplicateId: The id is active.
            QuotaExceeded: This machine has no room for `download_total`.

        Source: Background Fetch, fetch(), steps 1 to 9.
        """
        if not id:
            raise InvalidRequest("a registration needs an id that is not empty")
        wanted = [
            _checked(each) for each in ([requests] if isinstance(requests, str | Request) else requests)
        ]
        if not wanted:
            raise InvalidRequest("there is nothing to fetch: the list of requests is empty")
        self._check_room(download_total)
        keyed = [(request, _key(request, place)) for place, request in enumerate(wanted)]
        row = self._home.registrations.add(
            self._scope,
            id,
            keyed,
            title=title,
            icons=list(icons),
            download_total=download_total,
            options=options,
            now=self._home.clock.now(),
        )
        self._home.runner.run(row.uid, wanted)
        return self._object(row)

    def _check_room(self, download_total: int) -> None:
        if download_total < 0:
            raise InvalidRequest(f"download_total is {download_total}; it cannot be negative")
        free = self._home.vfs.free_space(self._home.root)
        if download_total > free:
            raise QuotaExceeded(
                f"{download_total} bytes are to come, and {free} are free below {self._home.root}; "
                "nothing was registered. Make room, or move BGFETCH_HOME"
            )

    async def get(self, id: str) -> BackgroundFetchRegistration | None:  # noqa: A002 - the standard's word
        """The active registration with this id, or None.

        Raises:
            InvalidRequest: The id is empty.
        """
        if not id:
            raise InvalidRequest("a registration's id is not empty")
        row = self._home.registrations.active(self._scope, id)
        return None if row is None else self._object(row)

    async def get_ids(self) -> list[str]:
        """Ids of active registrations, in the order they were made."""
        return self._home.registrations.ids(self._scope)

    def _object(self, row: RegistrationRow) -> BackgroundFetchRegistration:
        if row.uid not in self._objects:
            self._objects[row.uid] = BackgroundFetchRegistration(row, self._home)
        return self._objects[row.uid]


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
        """What people are shown."""
        return self._row.title

    @property
    def icons(self) -> tuple[Icon, ...]:
        """What people are shown."""
        return self._row.icons

    @property
    def progress(self) -> Progress:
        """How it stands now."""
        if self._home.runner.running(self.uid):
            last = self._home.runner.bulletin.last(self.uid)
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
        """Progress until it settles; one that another process runs is looked at four times a second."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        latest: list[Progress] = []

        def told(progress: Progress) -> None:
            latest[:] = [progress]
            loop.call_soon_threadsafe(changed.set)

        stop = None
        try:
            while True:
                if stop is None and self._home.runner.run(self.uid):
                    stop = self._home.runner.listen(self.uid, told)
                if stop is None:
                    await asyncio.sleep(_POLL)
                    progress = stored_progress(self._refreshed())
                else:
                    await changed.wait()
                    changed.clear()
                    progress = latest[0]
                yield progress
                if progress.state is State.SETTLED:
                    return
        finally:
            if stop is not None:
                stop()

    async def wait(self) -> Result:
        """How it settled, once it has."""
        async for _progress in self:
            pass
        return self._refreshed().result

    async def abort(self) -> bool:
        """End it; True if it was active. Then its reason is "aborted", whatever its records do meanwhile."""
        return self._home.runner.wish(self.uid, Wish.ABORT)

    async def pause(self) -> bool:
        """Let it rest until `resume`; False if it is over."""
        return self._home.runner.wish(self.uid, Wish.PAUSE)

    async def resume(self) -> bool:
        """Go on, in this process if no other one runs it; False if it is over."""
        accepted = self._home.runner.wish(self.uid, Wish.RUN)
        if accepted:
            self._home.runner.run(self.uid)
        return accepted

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
        query = None if request is None else _checked(request)
        stored: list[tuple[Request, ReplyHead | None]] = [(each.request, each.reply) for each in records]
        places = match_records(query, stored, options or QueryOptions())
        return [BackgroundFetchRecord(self, records[place], self._home) for place in places]

    def error(self) -> FetchError | None:
        """The error it failed with, or None."""
        return failure(self._refreshed())

    def records(self) -> list[RecordRow]:
        """What is stored of its records, also after they are gone for the app; ours."""
        return self._home.registrations.records(self.uid)

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

        Raises:
            Aborted: It was aborted before it was complete.
            InvalidRequest: It failed (named TypeError, as in the standard).
        """
        return asyncio.ensure_future(self._response())

    async def _response(self) -> Response:
        async for _progress in self._progress():
            row = self._current()
            if row.blob:
                return self._finished(row)
            if row.result is Result.FAILURE:
                return self._failed(row)
        return self._finished(self._current())

    async def _progress(self) -> AsyncIterator[Progress | None]:
        yield None
        async for progress in self._registration:
            yield progress

    def _current(self) -> RecordRow:
        return self._home.registrations.records(self._registration.uid)[self._row.index]

    def _finished(self, row: RecordRow) -> Response:
        if not row.blob:
            return self._failed(row)
        reply = full_reply(row)
        path = self._home.blobs.path(row.blob)
        body = FileBody(path, row.blob, row.total or 0, row.verified, row.digest)
        return Response(body, status=reply.status, headers=reply.headers, url=reply.url)

    @staticmethod
    def _failed(row: RecordRow) -> Response:
        if row.failure_reason is FailureReason.BAD_STATUS and row.reply is not None:
            return Response(b"", status=row.reply.status, headers=row.reply.headers, url=row.reply.url)
        if row.failure_reason is FailureReason.ABORTED:
            raise Aborted(f"{row.request.url.partition('?')[0]} was aborted before it was complete")
        raise InvalidRequest(row.failure_detail or "the record failed")


def stored_progress(row: RegistrationRow) -> Progress:
    """How a registration stands by what the store says."""
    return Progress(
        downloaded=row.downloaded,
        download_total=row.download_total,
        uploaded=row.uploaded,
        upload_total=row.upload_total,
        state=State.SETTLED if row.settled_at is not None else row.state,
        until=row.until,
        result=row.result,
        failure_reason=row.failure_reason,
        failure_detail=row.failure_detail,
    )


def failure(row: RegistrationRow) -> FetchError | None:
    """The error a settled registration stands for, or None if it succeeded or is active."""
    if row.result is not Result.FAILURE:
        return None
    kind, _, detail = row.failure_detail.partition(": ")
    by_kind = _ERRORS.get(kind) if row.failure_reason is FailureReason.FETCH_ERROR else None
    make = by_kind or _BY_REASON.get(row.failure_reason, NetworkError)
    return make(detail or row.failure_detail or str(row.failure_reason), registration_id=row.id)


def _checked(request: str | Request) -> Request:
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


def _key(request: Request, place: int) -> str:
    return request_key(request, nonce="" if request.resumable else str(place))
