"""CacheStorage and Cache of the standard, over named entries and blobs.

Kept to the letter, with these differences: relative URLs are refused, since there is no page they could be relative
to; of secret request headers only the presence is stored and compared (`Vary`), never the value; a signed address
in a reply (its query, Location) is not stored. Putting a finished download is a link: no byte is copied.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import replace
from typing import Final, TypeVar
from urllib.parse import quote

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.drafts import Draft
from bgfetch.cache.entries import Entries, Entry
from bgfetch.cache.links import Links
from bgfetch.cache.partials import Partials
from bgfetch.cache.room import OverQuota
from bgfetch.core.identity import request_key
from bgfetch.core.matching import QueryOptions, matches, may_be_put
from bgfetch.core.model import ReplyHead, Request, Verified
from bgfetch.core.names import name_from_content_disposition, name_from_url
from bgfetch.core.urls import parse_http_url, redacted
from bgfetch.errors import CacheError, InvalidRequest, InvalidState, QuotaExceeded
from bgfetch.response import Body, FileBody, Response, off_loop
from bgfetch.stored import without_secrets

__all__ = ["Cache", "CacheStorage", "Fetch"]

Fetch = Callable[[Request], AbstractAsyncContextManager[Response]]
"""Gives the response to a request, which is to be kept before the block ends."""

_USED_EVERY: Final = 3600.0  # noting each use would make every look a write that waits for the disk
_FRAGMENT_SAFE: Final = "!$%&'()*+,/:;=?@[]|~#"
_T = TypeVar("_T")


class CacheStorage:
    """The caches of a scope.

    Args:
        scope: Namespace of caches.
        entries: What is in them.
        blobs: The bodies.
        partials: Where a body is written before it is one of them.
        links: Gives bodies their file names.
        now: The time, seconds since the epoch.
        fetch: Gets the response for `Cache.add`; it must follow the body to its end.
        settle: Brings what is stored below its quota, or raises `OverQuota`.
    """

    def __init__(
        self,
        scope: str,
        entries: Entries,
        blobs: Blobs,
        partials: Partials,
        links: Links,
        now: Callable[[], float],
        *,
        fetch: Fetch | None = None,
        settle: Callable[[], None] | None = None,
    ) -> None:
        self._scope = scope
        self._entries = entries
        self._shelf = _Shelf(scope, entries, blobs, partials, links, now, settle or _no_quota)
        self._fetch = fetch

    async def open(self, name: str) -> Cache:
        """The cache of this name, made if there is none. Any text is a name, "" too."""
        cache_id = await off_loop(self._entries.open_cache, self._scope, name)
        return Cache(cache_id, self._shelf, self._fetch)

    async def has(self, name: str) -> bool:
        """Whether there is a cache of exactly this name."""
        return await off_loop(self._entries.has, self._scope, name)

    async def delete(self, name: str) -> bool:
        """Remove the cache; whether there was one. Whoever holds it may go on with it."""
        return await off_loop(self._entries.delete_cache, self._scope, name)

    async def keys(self) -> list[str]:
        """The names of all caches, in the order they were made."""
        return await off_loop(self._entries.names, self._scope)

    async def match(
        self,
        request: str | Request,
        *,
        cache_name: str | None = None,
        ignore_search: bool = False,
        ignore_method: bool = False,
        ignore_vary: bool = False,
    ) -> Response | None:
        """The first response that answers, over all caches in the order they were made, or of the one named."""
        asked = _asked(request)
        options = QueryOptions(ignore_search, ignore_method, ignore_vary)
        return await off_loop(self._first, asked, cache_name, options)

    def _first(self, asked: Request, cache_name: str | None, options: QueryOptions) -> Response | None:
        names = self._entries.names(self._scope)
        for name in names if cache_name is None else [name for name in names if name == cache_name]:
            found = self._shelf.find(self._entries.open_cache(self._scope, name), asked, options, most=1)
            if found:
                return found[0]
        return None


class Cache:
    """One cache; `CacheStorage.open` gives it."""

    def __init__(self, cache_id: int, shelf: _Shelf, fetch: Fetch | None) -> None:
        self._id = cache_id
        self._shelf = shelf
        self._fetch = fetch

    async def match(
        self,
        request: str | Request,
        *,
        ignore_search: bool = False,
        ignore_method: bool = False,
        ignore_vary: bool = False,
    ) -> Response | None:
        """The first response that answers, in the order they were put, or None."""
        options = QueryOptions(ignore_search, ignore_method, ignore_vary)
        found = await off_loop(self._shelf.find, self._id, _asked(request), options, most=1)
        return found[0] if found else None

    async def match_all(
        self,
        request: str | Request | None = None,
        *,
        ignore_search: bool = False,
        ignore_method: bool = False,
        ignore_vary: bool = False,
    ) -> list[Response]:
        """All responses that answer, in the order they were put; every response without a request."""
        options = QueryOptions(ignore_search, ignore_method, ignore_vary)
        asked = None if request is None else _asked(request)
        return await off_loop(self._shelf.find, self._id, asked, options)

    async def put(self, request: str | Request, response: Response) -> None:
        """Store the response, replacing what the request matches; its body is used by that.

        Raises:
            InvalidRequest: The URL is not http or https, the method not GET, the status 206, `Vary` contains "*",
                or the body has been used.
            QuotaExceeded: The disk is full; nothing was stored.
            CacheError: The disk refused, or somebody deleted what was to be linked; nothing was stored.

        Source: Service Workers, Cache `put`.
        """
        asked = _asked(request)
        if not isinstance(response, Response):
            raise InvalidRequest(f"a Response can be put into a cache, not a {type(response).__name__}")
        await self._shelf.put(self._id, [await self._shelf.keep(asked, response)])

    async def add(self, request: str | Request) -> None:
        """Fetch the request and put what answers; see `add_all`."""
        await self.add_all([request])

    async def add_all(self, requests: Iterable[str | Request]) -> None:
        """Fetch all of these and put what answers: every one of them or, on any failure, none.

        Raises:
            InvalidRequest: A request is not for http or https, or not GET; a status is not 200 to 299, or is 206;
                a `Vary` contains "*".
            InvalidState: Two of them are the same entry.
            FetchError: The network failed (the standard has a TypeError here).
            CacheError: There is nothing to fetch with; or as `put`.

        Source: Service Workers, Cache `addAll` and "batch cache operations".
        """
        asked = [_fetchable(_given(request)) for request in requests]
        fetch = self._fetch
        if fetch is None and asked:
            raise CacheError("nothing here can fetch: put() what was fetched elsewhere")
        async with AsyncExitStack() as until_put:
            entries = await _all_of(
                [self._fetched(fetch, each, until_put) for each in asked if fetch is not None]
            )
            _refuse_doubles(entries)
            await self._shelf.put(self._id, entries)

    async def _fetched(self, fetch: Fetch, asked: Request, until_put: AsyncExitStack) -> Entry:
        response = await until_put.enter_async_context(fetch(asked))
        if not response.ok:
            raise InvalidRequest(
                f"{redacted(asked.url)} answered {response.status}, which add() does not store"
            )
        return await self._shelf.keep(without_secrets(asked), response)

    async def delete(
        self,
        request: str | Request,
        *,
        ignore_search: bool = False,
        ignore_method: bool = False,
        ignore_vary: bool = False,
    ) -> bool:
        """Remove what the request matches; whether there was anything."""
        options = QueryOptions(ignore_search, ignore_method, ignore_vary)
        return await off_loop(self._shelf.delete, self._id, _asked(request), options)

    async def keys(
        self,
        request: str | Request | None = None,
        *,
        ignore_search: bool = False,
        ignore_method: bool = False,
        ignore_vary: bool = False,
    ) -> list[Request]:
        """The stored requests, in the order they were put; those that the request matches, if one is given."""
        options = QueryOptions(ignore_search, ignore_method, ignore_vary)
        asked = None if request is None else _asked(request)
        return await off_loop(self._shelf.keys, self._id, asked, options)


class _Shelf:
    """What all caches of a scope have in common: entries become responses, and responses entries."""

    def __init__(
        self,
        scope: str,
        entries: Entries,
        blobs: Blobs,
        partials: Partials,
        links: Links,
        now: Callable[[], float],
        settle: Callable[[], None],
    ) -> None:
        self._scope = scope
        self._entries = entries
        self._blobs = blobs
        self._partials = partials
        self._links = links
        self._now = now
        self._settle = settle

    def find(
        self, cache_id: int, asked: Request | None, options: QueryOptions, *, most: int | None = None
    ) -> list[Response]:
        """The responses that answer, `most` at the most."""
        found = self._present(cache_id, asked, options)[:most]
        for entry in found:
            self._used(entry)
        return [self._response(entry) for entry in found]

    def keys(self, cache_id: int, asked: Request | None, options: QueryOptions) -> list[Request]:
        return [entry.request for entry in self._present(cache_id, asked, options)]

    def delete(self, cache_id: int, asked: Request, options: QueryOptions) -> bool:
        return self._entries.delete(cache_id, asked, options)

    def _present(self, cache_id: int, asked: Request | None, options: QueryOptions) -> list[Entry]:
        """What answers. An entry whose file a person deleted or cut is no entry any longer."""
        found = (
            self._entries.entries(cache_id)
            if asked is None
            else self._entries.find_all(cache_id, asked, options)
        )
        whole = [entry for entry in found if self._is_whole(entry)]
        for entry in found:
            if entry not in whole:
                self._entries.remove(entry.entry_id)
        return whole

    def _is_whole(self, entry: Entry) -> bool:
        return self._blobs.intact(entry.blob, entry.size)

    def _used(self, entry: Entry) -> None:
        now = self._now()
        if now - entry.last_used >= _USED_EVERY:
            with suppress(CacheError):  # a store that cannot be written can still be read
                self._entries.touch(entry.entry_id, now)

    def _response(self, entry: Entry) -> Response:
        blob = self._blobs.path(entry.blob)
        body = FileBody(
            blob,
            entry.blob,
            entry.size,
            entry.verified,
            entry.digest,
            publish=lambda: self._links.publish(blob, request_key(entry.request), _file_name(entry)),
        )
        # What is stored of the answering URL has no query; where it was not redirected, the request knows it.
        asked_for = entry.request.url.partition("#")[0]
        url = asked_for if asked_for.partition("?")[0] == entry.reply.url else entry.reply.url
        return Response(body, status=entry.reply.status, headers=entry.reply.headers, url=url)

    async def keep(self, asked: Request, response: Response) -> Entry:
        """An entry for these, not yet in any cache; the body is among the blobs."""
        head = ReplyHead(response.url, response.status, response.headers)
        refusal = may_be_put(asked, head)
        if refusal is not None:
            raise InvalidRequest(f"{redacted(asked.url)}: {refusal}")
        body = response.take()
        if isinstance(body, FileBody) and self._is_ours(body):
            return Entry(asked, head, body.blob, body.size, body.verified, body.digest, self._now())
        return await self._copied(asked, head, body)

    def _is_ours(self, body: FileBody) -> bool:
        return bool(body.blob) and body.file == self._blobs.path(body.blob)

    async def _copied(self, asked: Request, head: ReplyHead, body: Body | None) -> Entry:
        draft = Draft(self._partials)
        try:
            if body is not None:
                async for chunk in body.chunks():
                    await _on_disk(draft.write, chunk)
                await _on_disk(self._settle)
            name = await _on_disk(draft.adopt, self._blobs, self._scope, asked.url, head)
        finally:
            await _on_disk(draft.drop)
        return Entry(asked, head, name, draft.size, Verified.LENGTH, f"sha256:{draft.sha256}", self._now())

    async def put(self, cache_id: int, entries: list[Entry]) -> None:
        if entries:
            await _on_disk(self._put, cache_id, entries)

    def _put(self, cache_id: int, entries: list[Entry]) -> None:
        stored = self._entries.put(cache_id, *entries)
        # A blob nobody refers to may be pruned at any moment, so a look before the entry was there proves nothing.
        gone = [entry for entry in stored if not self._is_whole(entry)]
        for entry in gone:
            self._entries.remove(entry.entry_id)
        if gone:
            raise CacheError(f"the file of {redacted(gone[0].request.url)} is gone; fetch it again")


async def _on_disk(function: Callable[..., _T], *args: object) -> _T:
    try:
        return await off_loop(function, *args)
    except OverQuota as full:
        raise QuotaExceeded(f"{full}; nothing was stored") from full
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise QuotaExceeded("there is no room on the disk for this body; nothing was stored") from error
        raise CacheError(f"the body could not be stored: {error.strerror or error}") from error


def _no_quota() -> None:
    """Nothing is too much."""


async def _all_of(jobs: list[Awaitable[Entry]]) -> list[Entry]:
    """All results in order; the first failure ends the other jobs and is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _given(request: str | Request) -> Request:
    """The request with its URL in normal form, fragment kept.

    Raises:
        InvalidRequest: It is relative, has credentials, or is no URL (Fetch, Request constructor).
    """
    asked = Request(request) if isinstance(request, str) else request
    if not isinstance(asked, Request):
        raise InvalidRequest(f"a URL or a Request is wanted, not a {type(asked).__name__}")
    scheme, colon, _ = asked.url.partition(":")
    if not colon or re.fullmatch("[A-Za-z][A-Za-z0-9+.-]*", scheme) is None:
        raise InvalidRequest(f"{redacted(asked.url)!r} is relative; give the absolute URL")
    url = asked.url
    if scheme.lower() in ("http", "https"):
        url = parse_http_url(url)
        fragment = asked.url.partition("#")[2]
        url += f"#{quote(fragment, safe=_FRAGMENT_SAFE)}" if fragment else ""
    return replace(asked, url=url, method=asked.method.upper())


def _asked(request: str | Request) -> Request:
    """The request as entries are compared with it: without the values of secret headers, as they are stored."""
    return without_secrets(_given(request))


def _fetchable(request: Request) -> Request:
    refusal = may_be_put(request, ReplyHead(request.url, 200, type(request.headers)()))
    if refusal is not None:
        raise InvalidRequest(f"{redacted(request.url)}: {refusal}")
    return request


def _refuse_doubles(entries: list[Entry]) -> None:
    for at, entry in enumerate(entries):
        if any(
            matches(entry.request, earlier.request, earlier.reply, QueryOptions()) for earlier in entries[:at]
        ):
            raise InvalidState(f"{redacted(entry.request.url)} is given twice; nothing was stored")


def _file_name(entry: Entry) -> str:
    disposition = entry.reply.headers.get("content-disposition", "")
    return name_from_content_disposition(disposition) or name_from_url(entry.request.url)
