"""Pull-through: a model that is not here yet is fetched by bgfetch's engine and sent on while it comes.

What is sent was stored with its checksum before; and the end of a file is held back until the whole has been verified,
so that an answer which is complete is right. One download serves all who ask, and goes on when they have gone: it is a
registration like any other, resumed, verified and kept in the cache.

Only what lies below the upstream's URL is ever asked for: a path is made of plain names, each one encoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from bgfetch.core.identity import default_id
from bgfetch.core.model import FailureReason, Request, Result
from bgfetch.core.urls import redacted
from bgfetch.errors import BgfetchError, DuplicateId, InvalidRequest
from bgfetch.response import off_loop
from bgfetch.sources.https import checked_request
from bgfetch.web.coming import Coming
from bgfetch.web.folder import Folder, Note, Stamp, stamp_of
from bgfetch.web.paths import Parts, parts_of, url_path
from bgfetch.web.stored import note_of, open_entry

if TYPE_CHECKING:
    from bgfetch.cache.entries import Entry
    from bgfetch.registration import BackgroundFetchRegistration
    from bgfetch.registrations.port import RecordRow
    from bgfetch.wiring import Wiring

__all__ = ["Mirror", "Unobtainable"]

SCOPE: Final = "mirror"
_LOOK: Final = 0.05  # s between two looks at a download that was begun
_HEAD_WITHIN: Final = 30.0  # s for the upstream to answer at all
_MISSING_FOR: Final = 30.0  # s that a 404 of the upstream is believed
_MOST_MISSING: Final = 4096
_MOST_PULLS: Final = 16  # downloads at once: names that nobody has must not fill the store


class Unobtainable(Exception):
    """The upstream does not give it.

    Args:
        status: 404, 502, 503 or 504.
        words: Why.
        retry_after: Seconds, or 0 where coming back is of no use.
    """

    def __init__(self, status: int, words: str, retry_after: int = 0) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.retry_after = retry_after


class Mirror:
    """A folder, and behind it what is below a URL.

    Args:
        folder: Looked in first.
        upstream: URL of a folder, such as "https://host/models/".
        wiring: The home that fetches and keeps.

    Raises:
        InvalidRequest: The upstream is no http or https URL, or has a query.
    """

    def __init__(self, folder: Folder, upstream: str, wiring: Wiring) -> None:
        url = checked_request(upstream).url
        if "?" in url:
            raise InvalidRequest(f"{redacted(url)}: the upstream is a folder; give its URL without a query")
        self._upstream = url if url.endswith("/") else f"{url}/"
        self._folder = folder
        self.wiring = wiring
        self._missing: dict[Parts, float] = {}

    def open(self, parts: Parts) -> int:
        """A descriptor for the caller to close; FileNotFoundError where it is neither in the folder nor stored."""
        with contextlib.suppress(FileNotFoundError):
            return self._folder.open(parts)
        return open_entry(self.wiring, self._entry(parts))

    def files(self, parts: Parts = ()) -> Sequence[tuple[Parts, Stamp]]:
        """All files below a folder that are here, sorted; FileNotFoundError where there are none."""
        found: dict[Parts, Stamp] = {}
        for path in self._stored():
            if path[: len(parts)] == parts:
                with contextlib.suppress(OSError):
                    found[path] = self._stamp(path)
        try:
            found |= dict(self._folder.files(parts))
        except FileNotFoundError:
            if not found:
                raise
        return sorted(found.items())

    def path(self, parts: Parts) -> Path:
        """The file in the folder, or the blob."""
        with contextlib.suppress(FileNotFoundError):
            if not self._in_folder(parts):
                return self.wiring.blobs.path(self._entry(parts).blob)
        return self._folder.path(parts)

    def note(self, parts: Parts) -> Note:
        """What was found out when it was fetched."""
        return Note() if self._in_folder(parts) else note_of(self._entry(parts))

    async def pull(self, parts: Parts) -> Coming | None:
        """Have it fetched, and wait for the upstream's answer; None when it is here by now.

        Raises:
            Unobtainable: It cannot be had, or not now.
        """
        if self._missing.get(parts, 0.0) > time.monotonic():
            raise Unobtainable(404, "the upstream has no such model")
        request = checked_request(self._upstream + url_path(parts))
        try:
            registration = await self._registration(request, parts)
            if registration is None:
                return None
            async with asyncio.timeout(_HEAD_WITHIN):
                return await self._answered(registration, parts)
        except TimeoutError:
            raise Unobtainable(
                504, "the upstream does not answer; it is asked again in the background", 30
            ) from None
        except BgfetchError as error:
            raise Unobtainable(502, f"it cannot be fetched: {error}", 30) from error

    async def _registration(self, request: Request, parts: Parts) -> BackgroundFetchRegistration | None:
        """The one that fetches this: whoever asks first registers, here or in another process; None when it is here."""
        manager = self.wiring.manager(SCOPE)
        name = default_id([request])
        for _ in range(3):
            found = await manager.get(name)
            if found is not None:
                await off_loop(self.wiring.runs.run, found.uid, [request])
                return found
            # One that settled a moment ago may not have handed its file on yet.
            await off_loop(self.wiring.worker.deliver_pending, SCOPE, self.wiring.clock.now())
            if await off_loop(self._is_here, parts):
                return None
            if len(await manager.get_ids()) >= _MOST_PULLS:
                raise Unobtainable(503, "too much is being fetched; come back", 10)
            with contextlib.suppress(DuplicateId):
                return await manager.fetch(name, request, title=request.url.rpartition("/")[2])
        raise Unobtainable(503, "it is being registered; come back", 1)

    async def _answered(self, registration: BackgroundFetchRegistration, parts: Parts) -> Coming | None:
        while True:
            row = await off_loop(self._record, registration.uid)
            if row.result is Result.FAILURE:
                raise self._failed(row, parts)
            if row.result is Result.SUCCESS and await off_loop(self._is_here, parts):
                return None
            coming = await off_loop(self._coming, registration.uid, row)
            if coming is not None:
                return coming
            await asyncio.sleep(_LOOK)

    def _record(self, uid: int) -> RecordRow:
        records = self.wiring.registrations.records(uid)
        if not records:
            raise InvalidRequest("the download was removed")
        return records[0]

    def _coming(self, uid: int, row: RecordRow) -> Coming | None:
        look = self.wiring.runs.look(uid, row.index)
        if look is None or look.reply is None or not 200 <= look.reply.status <= 299:
            return None
        try:
            fd = self.wiring.vfs.open(self.wiring.partials.path(row.key) / "data", readonly=True)
        except OSError:  # small enough to be kept in memory, or given its final name just now
            return None
        return Coming(self.wiring, uid, look.reply, look.generation, row.restarts, look.total, fd)

    def _failed(self, row: RecordRow, parts: Parts) -> Unobtainable:
        if row.failure_detail.startswith(("status-404", "status-410")):
            if len(self._missing) >= _MOST_MISSING:
                self._missing.clear()
            self._missing[parts] = time.monotonic() + _MISSING_FOR
            return Unobtainable(404, "the upstream has no such model")
        if row.failure_reason is FailureReason.QUOTA_EXCEEDED:
            return Unobtainable(503, "there is no room for it here", 600)
        return Unobtainable(502, f"the upstream failed: {row.failure_detail or row.failure_reason}", 30)

    def _is_here(self, parts: Parts) -> bool:
        try:
            os.close(self.open(parts))
        except FileNotFoundError:
            return False
        return True

    def _in_folder(self, parts: Parts) -> bool:
        try:
            os.close(self._folder.open(parts))
        except FileNotFoundError:
            return False
        return True

    def _entry(self, parts: Parts) -> Entry:
        entry = self.wiring.entries.by_url(SCOPE, self._upstream + url_path(parts))
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "not here", "/".join(parts))
        return entry

    def _stored(self) -> list[Parts]:
        urls = [placed.entry.request.url for placed in self.wiring.entries.placed(SCOPE)]
        below = [url.removeprefix(self._upstream) for url in urls if url.startswith(self._upstream)]
        return [parts for each in below if (parts := parts_of(unquote(each)))]

    def _stamp(self, parts: Parts) -> Stamp:
        fd = open_entry(self.wiring, self._entry(parts))
        try:
            return stamp_of(fd)
        finally:
            os.close(fd)
