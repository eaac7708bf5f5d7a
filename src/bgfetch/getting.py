"""The main job, whole: requests in, files out, whatever was here before.

What the cache has is not fetched again. What an unfinished registration of the same requests holds is gone on with,
and one that somebody else runs is followed, and taken over when that process dies: of fifty who ask at once, one
registers, and all get the answer. The command line and the blocking `bgfetch.get` are two faces of this.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from bgfetch.core.identity import default_id, request_key
from bgfetch.core.model import FailureReason, Progress, Request, Result, State
from bgfetch.errors import DuplicateId, InvalidRequest, InvalidState, NotFound
from bgfetch.shelf import Shelf
from bgfetch.wiring import Wiring

if TYPE_CHECKING:  # the engine is imported only when something must be fetched
    import asyncio

    from bgfetch.registration import BackgroundFetchRegistration
    from bgfetch.registrations.port import RecordRow, RegistrationOptions, RegistrationRow

__all__ = ["Getting", "Outcome", "over_or_unknown"]

_POLL: Final = 0.25
_T = TypeVar("_T")
Told = Callable[[str, Progress], None]
"""Is given the id and the progress of each registration that is waited for, at most ten times a second."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a registration that was waited for.

    Args:
        id: What it is registered under.
        last: The last that was seen of it; not settled when the time was up.
        records: As they are stored, in the order of the requests.
    """

    id: str
    last: Progress
    records: Sequence[RecordRow]

    @property
    def settled(self) -> bool:
        """Whether it is over."""
        return self.last.state is State.SETTLED


class Getting:
    """Gets files for one scope.

    Args:
        wiring: The home.
        scope: Namespace of ids and caches.
    """

    def __init__(self, wiring: Wiring, scope: str) -> None:
        self._wiring = wiring
        self._scope = scope
        self._begun = wiring.clock.now()
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Task[object]] | None = None

    def missing(self, requests: Sequence[Request], shelf: Shelf, *, id: str = "") -> list[Request]:  # noqa: A002 - as above
        """Which of these must be fetched, each once; all of them where a fetch of all has begun."""
        each = list({request_key(request): request for request in requests}.values())
        missing = [request for request in each if shelf.cached(request) is None]
        if missing:  # a process may have ended between settling and handing its files on
            self._deliver_pending()
            missing = [request for request in missing if shelf.cached(request) is None]
        if missing and len(missing) < len(each):
            live = self._wiring.registrations.active(self._scope, id or default_id(each))
            if live is not None and _same(self._wiring.registrations.records(live.uid), each):
                return each
        return missing

    def get(
        self,
        requests: Sequence[Request],
        *,
        told: Told,
        id: str = "",  # noqa: A002 - the standard's word
        title: str = "",
        download_total: int = 0,
        options: RegistrationOptions | None = None,
        timeout: float | None = None,
    ) -> Outcome:
        """Fetch these, and block until that is over or the time is up.

        Args:
            requests: What to fetch.
            told: Is told how it goes.
            id: What to register it under; "" for one made of the requests.
            title: Shown to people.
            download_total: Bytes all bodies have together at most; 0 = unknown.
            options: Priority and limits, where it is not registered yet.
            timeout: Seconds, or None for as long as it takes.

        Raises:
            DuplicateId: The id is active with other requests; the message names it.
        """

        async def job() -> Outcome:
            registration = await self._registration(requests, id, title, download_total, options)
            return await self._wait(registration, requests, told, timeout)

        return self._run(job)

    def begin(
        self,
        requests: Sequence[Request],
        *,
        id: str = "",  # noqa: A002 - the standard's word
        title: str = "",
        download_total: int = 0,
        options: RegistrationOptions | None = None,
    ) -> str:
        """As `get`, without waiting; the id. Somebody else must run it: the daemon."""

        async def job() -> str:
            return (await self._registration(requests, id, title, download_total, options)).id

        return self._run(job)

    def wait(self, ids: Sequence[str], *, told: Told, timeout: float | None = None) -> list[Outcome]:
        """Block until these are over, which they may be already, or the time is up.

        Raises:
            NotFound: One of them does not exist.
        """
        import asyncio  # noqa: PLC0415 - a cached file is given without it

        async def job() -> list[Outcome]:
            found = [self._latest(each) for each in ids]
            return await asyncio.gather(*(self._wait(each, None, told, timeout) for each in found))

        return self._run(job)

    def _latest(self, id: str) -> BackgroundFetchRegistration:  # noqa: A002 - the standard's word
        row = self._wiring.registrations.latest(self._scope, id)
        if row is None:
            raise over_or_unknown(self._wiring, self._scope, id)
        return self._wiring.manager(self._scope).of(row)

    def resume(self, ids: Sequence[str], *, told: Told, timeout: float | None = None) -> list[Outcome]:
        """Go on with these, without the secrets they were made with, and block until they are over.

        Raises:
            NotFound: One of them does not exist; nothing was done.
            InvalidState: One of them is over; nothing was done.
        """
        import asyncio  # noqa: PLC0415 - a cached file is given without it

        async def job() -> list[Outcome]:
            found = [await self.active(each) for each in ids]
            for registration in found:
                await registration.resume()
            return await asyncio.gather(*(self._wait(each, None, told, timeout) for each in found))

        return self._run(job)

    def abort(self, ids: Sequence[str], *, timeout: float) -> list[Outcome]:
        """End these, and block until whoever runs them has done so; what nobody runs is settled here.

        Raises:
            NotFound, InvalidState: As `resume`.
        """
        import asyncio  # noqa: PLC0415 - a cached file is given without it

        async def job() -> list[Outcome]:
            found = [await self.active(each) for each in ids]
            for registration in found:
                await registration.abort()
            return await asyncio.gather(*(self._wait(each, None, _ignore, timeout) for each in found))

        outcomes = self._run(job)
        self._drop_partials([each for outcome in outcomes if outcome.settled for each in outcome.records])
        return outcomes

    def _drop_partials(self, records: Sequence[RecordRow]) -> None:
        """Delete what aborted records held, also where whoever settled them had not opened it yet."""
        registrations = self._wiring.registrations
        active = registrations.listing(active=True)
        wanted = {record.key for row in active for record in registrations.records(row.uid)}
        for record in records:
            if record.failure_reason is FailureReason.ABORTED and record.key not in wanted:
                self._wiring.partials.remove(record.key)

    def stop(self) -> None:
        """End the waiting, from another thread; who waits gets CancelledError, and every byte is kept."""
        if self._waiting is not None:
            loop, task = self._waiting
            loop.call_soon_threadsafe(task.cancel)

    async def active(self, id: str) -> BackgroundFetchRegistration:  # noqa: A002 - the standard's word
        """The registration with this id.

        Raises:
            NotFound: There is none.
            InvalidState: It is over.
        """
        found = await self._wiring.manager(self._scope).get(id)
        if found is not None:
            return found
        raise over_or_unknown(self._wiring, self._scope, id)

    async def _registration(
        self,
        requests: Sequence[Request],
        id: str,  # noqa: A002 - the standard's word
        title: str,
        download_total: int,
        options: RegistrationOptions | None,
    ) -> BackgroundFetchRegistration:
        """The live one with the same id and requests, or a new one; it runs, if somebody can run it."""
        from bgfetch.response import off_loop  # noqa: PLC0415 - a cached file is given without it

        self._deliver_pending()
        manager = self._wiring.manager(self._scope)
        name = id or default_id(list(requests))
        with self._wiring.database.write():  # whoever asks at the same moment asks before this or after it
            row = self._found(name, requests)
            if row is None:
                found = manager.add(
                    name, requests, title=title, download_total=download_total, options=options
                )
            else:
                found = manager.of(row)
        await off_loop(self._wiring.runs.run, found.uid, requests)
        if row is not None and row.settled_at is None and row.wish != "run":
            await found.resume()
        return found

    def _found(self, name: str, requests: Sequence[Request]) -> RegistrationRow | None:
        """The one to follow: it is active, or it brought all of this since we began to look."""
        live = self._wiring.registrations.active(self._scope, name)
        row = live or self._wiring.registrations.latest(self._scope, name)
        if row is None:
            return None
        records = self._wiring.registrations.records(row.uid)
        same = _same(records, requests)
        if live is not None and not same:
            raise DuplicateId(
                f"the id {name!r} is busy with other requests; see `bgfetch show {name}`, or choose another id"
            )
        if live is not None:
            return live
        brought = same and row.result is Result.SUCCESS and (row.settled_at or 0.0) >= self._begun
        here = brought and all(self._wiring.blobs.intact(each.blob, each.total or 0) for each in records)
        return row if here else None

    def _deliver_pending(self) -> None:
        """What an ended process left undelivered, or has settled but not handed on this very moment."""
        self._wiring.worker.deliver_pending(self._scope, self._wiring.clock.now())

    async def _wait(
        self,
        registration: BackgroundFetchRegistration,
        requests: Sequence[Request] | None,
        told: Told,
        timeout: float | None,  # noqa: ASYNC109 - passed on to asyncio.timeout
    ) -> Outcome:
        import asyncio  # noqa: PLC0415 - a cached file is given without it

        last = registration.progress
        try:
            async with asyncio.timeout(timeout):
                async for progress in self._follow(registration, requests):
                    last = progress
                    told(registration.id, progress)
        except TimeoutError:
            pass
        return Outcome(registration.id, last, registration.records())

    async def _follow(
        self, registration: BackgroundFetchRegistration, requests: Sequence[Request] | None
    ) -> AsyncIterator[Progress]:
        """Its progress until it settles, run here as soon as no other process does.

        The registration's own iteration would take over without the requests' secrets.
        """
        import asyncio  # noqa: PLC0415 - a cached file is given without it

        from bgfetch.response import off_loop  # noqa: PLC0415 - as above

        while not await off_loop(self._wiring.runs.run, registration.uid, requests):
            progress = registration.progress
            yield progress
            if progress.state is State.SETTLED:
                return
            await asyncio.sleep(_POLL)
        async for progress in registration:
            yield progress

    def _run(self, job: Callable[[], Awaitable[_T]]) -> _T:
        import asyncio  # noqa: PLC0415 - a cached file is given without it

        async def told_where() -> _T:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - this is one
            self._waiting = (asyncio.get_running_loop(), task)
            try:
                return await job()
            finally:
                self._waiting = None

        return asyncio.run(told_where())


def over_or_unknown(wiring: Wiring, scope: str, id: str) -> NotFound | InvalidState:  # noqa: A002
    """Why there is no active registration with this id."""
    if not id:
        raise InvalidRequest("a registration's id is not empty")
    latest = wiring.registrations.latest(scope, id)
    if latest is None:
        return NotFound(f"there is no registration {id!r} in the scope {scope!r}; `bgfetch ls` lists all")
    return InvalidState(f"{id!r} is over ({latest.failure_reason or latest.result}); nothing was changed")


def _same(records: Sequence[RecordRow], requests: Sequence[Request]) -> bool:
    """Whether these records are those of the requests; who promises no digest accepts any."""
    if [record.key for record in records] != [request_key(request) for request in requests]:
        return False
    pairs = zip(records, requests, strict=True)
    return all(
        "" in (record.request.integrity, request.integrity) or record.request.integrity == request.integrity
        for record, request in pairs
    )


def _ignore(_id: str, _progress: Progress) -> None:
    pass
