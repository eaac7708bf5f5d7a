"""What an application calls: `get` and wait, or `connect` and use the standard's objects.

Both leave the fetching to the daemon, so that it outlives them, unless `in_process` is set.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgfetch.config import load
from bgfetch.core.model import Progress, Request, Result
from bgfetch.core.names import name_from_url
from bgfetch.core.urls import redacted
from bgfetch.errors import CacheError, NetworkError
from bgfetch.getting import Getting, Outcome
from bgfetch.shelf import Shelf
from bgfetch.sources.https import checked_request
from bgfetch.terminal.bar import Bar
from bgfetch.wiring import Wiring, mended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bgfetch.caches import CacheStorage
    from bgfetch.inbox import Inbox
    from bgfetch.manager import BackgroundFetchManager
    from bgfetch.worker.workers import Handler

__all__ = ["App", "connect", "get"]


class App:
    """What a scope gives an application.

    Attributes:
        background_fetch: `ServiceWorkerRegistration.backgroundFetch`.
        caches: `CacheStorage`.
        id: What workers know this application by, as `Client.id`.
    """

    def __init__(self, wiring: Wiring, scope: str, inbox: Inbox) -> None:
        self.background_fetch: BackgroundFetchManager = wiring.manager(scope)
        self.caches: CacheStorage = wiring.caches(scope)
        self.id = inbox.client
        self._wiring = wiring
        self._scope = scope
        self._inbox = inbox

    def messages(self) -> AsyncIterator[Any]:
        """What workers of the scope post to this application, from the moment it first fetches or asks for messages.

        Ends when the connection is closed. Source: ServiceWorkerContainer, the event "message".
        """
        if not self._wiring.settings.in_process:
            self._wiring.remote.attend()
        return self._inbox.messages()

    async def register(
        self,
        worker: str | Sequence[str],
        *,
        time_limit: float = 300.0,
        mailbox: bool = False,
        version: str = "",
    ) -> None:
        """Have the events of the scope handled by this worker, also when this application is gone.

        Args:
            worker: A Python entry point, `module` or `module:function`, which is looked for where this process looks; or
                a command with its arguments, which gets the event as JSON on stdin.
            time_limit: Seconds for one event.
            mailbox: Keep messages while no application of the scope is there.
            version: Tells it from a former one; "" for one made of its source.

        Raises:
            InvalidRequest: It can never work, or its install event failed; a former one stays.
        """
        from bgfetch.response import off_loop  # noqa: PLC0415 - needed by who registers only

        handler = _handler(worker, time_limit, mailbox=mailbox)
        await off_loop(self._wiring.scopes.register, self._scope, handler, version=version)


def _handler(worker: str | Sequence[str], time_limit: float, *, mailbox: bool) -> Handler:
    from bgfetch.worker.workers import Handler, Kind  # noqa: PLC0415 - needed by who registers only

    here = str(Path.cwd())
    if not isinstance(worker, str):
        return Handler(Kind.ARGV, tuple(worker), "", (), here, time_limit, mailbox)
    path = tuple(str(Path(each).absolute()) for each in sys.path)
    return Handler(Kind.ENTRY_POINT, (worker,), sys.executable, path, here, time_limit, mailbox)


def get(
    url: str,
    *,
    sha256: str = "",
    headers: Iterable[tuple[str, str]] = (),
    expected_size: int | None = None,
    scope: str = "default",
    timeout: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Fetch a file, wait for it, and return its path; one that is here already is not fetched again.

    Args:
        url: Absolute http or https URL.
        sha256: What the file must have, 64 hex digits, or "".
        headers: Extra request header fields.
        expected_size: What its length must be, bytes.
        scope: Namespace of ids and caches.
        timeout: Seconds to wait at most; what came is kept and the next call goes on.
        progress: Called at most ten times a second; without it a bar is drawn where stderr is a terminal.

    Returns:
        The file under its own name. It is read-only and shared with the cache: copy it before changing it.

    Raises:
        InvalidRequest: The URL, the digest or a header can never work.
        FetchError: The download failed for good; see its subclasses.
        TimeoutError: It is not done yet; nothing is lost.
    """
    integrity = f"sha256:{sha256}" if sha256 else ""
    request = checked_request(url, headers=headers, integrity=integrity, expected_size=expected_size)

    def job(started: Callable[[Getting], None]) -> Path:
        return _get(request, scope, timeout, progress, started)

    return _beside_the_loop(job) if _in_a_loop() else job(_ignore)


def _get(
    request: Request,
    scope: str,
    timeout: float | None,
    progress: Callable[[Progress], None] | None,
    started: Callable[[Getting], None],
) -> Path:
    wiring = Wiring(load())
    try:
        return _got(wiring, request, scope, timeout, progress, started)
    except CacheError as error:
        wiring.close()
        if not mended(wiring.settings, error):
            raise
    finally:
        wiring.close()
    wiring = Wiring(load())
    try:
        return _got(wiring, request, scope, timeout, progress, started)
    finally:
        wiring.close()


def _got(
    wiring: Wiring,
    request: Request,
    scope: str,
    timeout: float | None,
    progress: Callable[[Progress], None] | None,
    started: Callable[[Getting], None],
) -> Path:
    getting, shelf = Getting(wiring, scope), Shelf(wiring, scope)
    if getting.missing([request], shelf):
        started(getting)
        with Bar(quiet=progress is not None) as bar:
            told = _tell(bar, name_from_url(request.url), progress)
            outcome = getting.get([request], told=told, timeout=timeout)
        (record,) = _succeeded(wiring, scope, outcome).records
        found = shelf.fetched(record, request)
    else:
        found = shelf.cached(request)
    if found is None:
        raise NetworkError(f"{redacted(request.url)} was fetched, but its file is gone again")
    return found.path


def _succeeded(wiring: Wiring, scope: str, outcome: Outcome) -> Outcome:
    if not outcome.settled:
        msg = f"{outcome.id} is not done yet; {outcome.last.downloaded} bytes are kept, and the next call goes on"
        raise TimeoutError(msg)
    if outcome.last.result is Result.SUCCESS:
        return outcome
    from bgfetch.registration import failure  # noqa: PLC0415 - what it imports is here once something was fetched

    row = wiring.registrations.latest(scope, outcome.id)
    error = None if row is None else failure(row)
    raise error or NetworkError(outcome.last.failure_detail, registration_id=outcome.id)


def _tell(
    bar: Bar, name: str, progress: Callable[[Progress], None] | None
) -> Callable[[str, Progress], None]:
    def told(_id: str, seen: Progress) -> None:
        bar.show(name, seen)
        if progress is not None:
            progress(seen)

    return told


def _in_a_loop() -> bool:
    """Whether an event loop runs in this thread, as in a notebook; where asyncio was never imported none does."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - documented


def _beside_the_loop(job: Callable[[Callable[[Getting], None]], Path]) -> Path:
    """What the job gives, run in a thread of its own; Ctrl-C stops it, keeping what came."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only where a loop runs

    running: list[Getting] = []
    with ThreadPoolExecutor(1, thread_name_prefix="bgfetch-get") as pool:
        # A notebook finds the cell that output belongs to by the context.
        future = pool.submit(copy_context().run, job, running.append)
        try:
            return future.result()
        except KeyboardInterrupt:
            for getting in running:
                getting.stop()
            raise


@asynccontextmanager
async def connect(scope: str = "default") -> AsyncIterator[App]:
    """The standard's objects of a scope. What is fetched goes on when the block ends, and when the program does.

    Where `in_process` is set, fetches run here while the block lasts, and go on the next time.

    Args:
        scope: Namespace of ids and caches.
    """
    from bgfetch.client.remote import Audience  # noqa: PLC0415 - `get` of what is here needs none
    from bgfetch.inbox import Inbox  # noqa: PLC0415 - as above
    from bgfetch.response import off_loop  # noqa: PLC0415 - as above

    inbox = Inbox()
    wiring = Wiring(load(), audience=Audience(scope, inbox.client, inbox.put))
    try:
        yield App(wiring, scope, inbox)
    finally:
        inbox.close()
        await off_loop(wiring.close)


def _ignore(_getting: Getting) -> None:
    pass
