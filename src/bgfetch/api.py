"""What an application calls: `get` and wait, or `connect` and use the standard's objects."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bgfetch.config import load
from bgfetch.core.model import Progress, Request, Result
from bgfetch.core.names import name_from_url
from bgfetch.core.urls import redacted
from bgfetch.errors import NetworkError
from bgfetch.getting import Getting, Outcome
from bgfetch.shelf import Shelf
from bgfetch.sources.https import checked_request
from bgfetch.terminal.bar import Bar
from bgfetch.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bgfetch.caches import CacheStorage
    from bgfetch.manager import BackgroundFetchManager

__all__ = ["App", "connect", "get"]


@dataclass(frozen=True, slots=True)
class App:
    """What a scope gives an application.

    Args:
        background_fetch: `ServiceWorkerRegistration.backgroundFetch`.
        caches: `CacheStorage`.
    """

    background_fetch: BackgroundFetchManager
    caches: CacheStorage


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
    finally:
        wiring.close()


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
        future = pool.submit(job, running.append)
        try:
            return future.result()
        except KeyboardInterrupt:
            for getting in running:
                getting.stop()
            raise


@asynccontextmanager
async def connect(scope: str = "default") -> AsyncIterator[App]:
    """The standard's objects of a scope; fetches run in this process while the block lasts, and resume later.

    Args:
        scope: Namespace of ids and caches.
    """
    wiring = Wiring(load())
    try:
        yield App(wiring.manager(scope), wiring.caches(scope))
    finally:
        wiring.close()


def _ignore(_getting: Getting) -> None:
    pass
