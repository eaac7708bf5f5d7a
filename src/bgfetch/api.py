"""What an application calls: `get` and wait, or `connect` and use the standard's objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bgfetch.config import load
from bgfetch.core.model import Progress, Result
from bgfetch.errors import NetworkError
from bgfetch.getting import Getting, Outcome
from bgfetch.shelf import Shelf
from bgfetch.sources.https import checked_request
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
        progress: Called at most ten times a second, from another thread's event loop.

    Returns:
        The file under its own name. It is read-only and shared with the cache: copy it before changing it.

    Raises:
        InvalidRequest: The URL, the digest or a header can never work.
        FetchError: The download failed for good; see its subclasses.
        TimeoutError: It is not done yet; nothing is lost.
    """
    request = checked_request(
        url, headers=headers, integrity=f"sha256:{sha256}" if sha256 else "", expected_size=expected_size
    )
    wiring = Wiring(load())
    try:
        getting, shelf = Getting(wiring, scope), Shelf(wiring, scope)
        if getting.missing([request], shelf):
            outcome = getting.get([request], told=_without_id(progress), timeout=timeout)
            found = shelf.fetched(_succeeded(wiring, scope, outcome).records, request)
        else:
            found = shelf.cached(request)
        if found is None:
            raise NetworkError(f"{url.partition('?')[0]} was fetched, but its file is gone again")
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


def _without_id(progress: Callable[[Progress], None] | None) -> Callable[[str, Progress], None]:
    def told(_id: str, seen: Progress) -> None:
        if progress is not None:
            progress(seen)

    return told


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
