"""The main job, whole: requests in, files out, whatever was here before.

What the cache has is not fetched again. What an unfinished registration of the same requests holds is gone on with.
The command line and the blocking `bgfetch.get` are two faces of this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bgfetch.core.digests import Digest, new_hasher
from bgfetch.core.identity import default_id, request_key
from bgfetch.core.model import Progress, Request, Result, State, Verified
from bgfetch.core.names import name_from_content_disposition, name_from_url
from bgfetch.errors import DuplicateId
from bgfetch.wiring import Wiring

if TYPE_CHECKING:  # the engine is imported only when something must be fetched
    from bgfetch.cache.entries import Entry
    from bgfetch.manager import BackgroundFetchRegistration

__all__ = ["Getting", "Got"]

_BLOCK = 4 << 20


@dataclass(frozen=True, slots=True)
class Got:
    """A file that is here.

    Args:
        path: Where it is, under its own name.
        url: What it was asked for by.
        size: Bytes.
        verified: How it was checked.
        digest: "ALG:HEX", or "" where none is known.
    """

    path: Path
    url: str
    size: int
    verified: Verified
    digest: str


class Getting:
    """Gets files for one scope.

    Args:
        wiring: The home.
        scope: Namespace of ids and caches.
    """

    def __init__(self, wiring: Wiring, scope: str) -> None:
        self._wiring = wiring
        self._scope = scope

    def cached(self, request: Request) -> Got | None:
        """The file, if it is here and is what is asked for; imports and touches as little as can be."""
        entry = self._entry(request)
        if entry is None or not self._is_good(entry, request):
            return None
        blob = self._wiring.blobs.path(entry.blob)
        path = self._wiring.links.publish(blob, request_key(request), _name(entry))
        return Got(path, request.url, entry.size, entry.verified, entry.digest)

    def _entry(self, request: Request) -> Entry | None:
        entry = self._wiring.entries.by_url(self._scope, request.url)
        if entry is None:  # a process may have ended between settling and handing its files on
            self._wiring.worker.deliver_pending(self._scope, self._wiring.clock.now())
            entry = self._wiring.entries.by_url(self._scope, request.url)
        return entry

    def _is_good(self, entry: Entry, request: Request) -> bool:
        if self._wiring.blobs.size(entry.blob) != entry.size:
            return False
        if request.expected_size not in (None, entry.size):
            return False
        if not request.integrity or request.integrity == entry.digest:
            return True
        wanted = Digest.parse(request.integrity)
        if entry.digest.startswith(f"{wanted.algorithm}:"):
            return False
        return _digest_of(self._wiring.blobs.path(entry.blob), wanted.algorithm) == wanted.value

    async def registration(
        self,
        requests: Sequence[Request],
        *,
        id: str = "",
        title: str = "",  # noqa: A002 - the standard's word
    ) -> BackgroundFetchRegistration:
        """The registration that fetches these: the live one with the same id and requests, or a new one.

        Raises:
            DuplicateId: The id is active with other requests; the message names it.
        """
        self._wiring.worker.deliver_pending(self._scope, self._wiring.clock.now())
        manager = self._wiring.manager(self._scope)
        name = id or default_id(list(requests))
        live = await manager.get(name)
        if live is None:
            return await manager.fetch(name, list(requests), title=title)
        if [record.key for record in live.records()] != [request_key(request) for request in requests]:
            raise DuplicateId(
                f"the id {name!r} is busy with other requests; see `bgfetch show {name}`, or choose another id"
            )
        self._wiring.runner.run(live.uid, requests)
        await live.resume()
        return live

    async def wait(
        self,
        registration: BackgroundFetchRegistration,
        told: Callable[[Progress], None],
        timeout: float | None,
    ) -> Progress:
        """Follow it until it settles or the time is up; the last that was seen of it."""
        import asyncio  # noqa: PLC0415 - a cached file is given without it

        last = registration.progress
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                async for progress in registration:
                    last = progress
                    told(progress)
        return last

    def get(
        self,
        requests: Sequence[Request],
        *,
        told: Callable[[Progress], None],
        id: str = "",  # noqa: A002 - the standard's word
        title: str = "",
        timeout: float | None = None,
    ) -> tuple[Progress, BackgroundFetchRegistration]:
        """Fetch what is not here, and block until that is over or the time is up."""
        import asyncio  # noqa: PLC0415 - a cached file is given without it

        async def job() -> tuple[Progress, BackgroundFetchRegistration]:
            registration = await self.registration(requests, id=id, title=title)
            return await self.wait(registration, told, timeout), registration

        return asyncio.run(job())


def succeeded(progress: Progress) -> bool:
    """Whether all of it is here."""
    return progress.state is State.SETTLED and progress.result is Result.SUCCESS


def _name(entry: Entry) -> str:
    disposition = entry.reply.headers.get("content-disposition", "")
    return (name_from_content_disposition(disposition) if disposition else None) or name_from_url(
        entry.request.url
    )


def _digest_of(path: Path, algorithm: str) -> bytes:
    hasher = new_hasher(algorithm)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.digest()
