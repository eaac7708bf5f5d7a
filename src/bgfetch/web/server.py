"""The model server: an ASGI application that gives out models so that browsers can resume and verify them.

    app.mount("/models", ModelServer("models/"))

What is answered is decided elsewhere (`library`, `conditions`, `fields`), in one call off the event loop; this sends it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Collection, Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgfetch.config import Settings, load
from bgfetch.core.names import printable
from bgfetch.errors import BgfetchError
from bgfetch.response import off_loop
from bgfetch.vfs import Vfs
from bgfetch.web.asked import TOO_LONG, Asked, Reply, asked, refused, send_head
from bgfetch.web.coming import Broken, Coming
from bgfetch.web.fields import Cors, Fields
from bgfetch.web.folder import Folder
from bgfetch.web.hashing import Hashing, Progress
from bgfetch.web.index import Index
from bgfetch.web.library import MANIFEST, Library, Models, Opened
from bgfetch.web.limits import Busy, Clients, Limits, Pace
from bgfetch.web.mirror import Mirror, Unobtainable
from bgfetch.web.paths import Parts, parts_of
from bgfetch.web.sending import Departure, Receive, Send, Sender, paced

if TYPE_CHECKING:
    from bgfetch.wiring import Wiring

__all__ = ["ModelServer"]

_log = logging.getLogger(__name__)


class ModelServer:
    """An ASGI application over a folder of models. Hashing begins at once, in the background.

    Args:
        directory: The folder. Names with a leading dot, and those that some platform could not store, are not given out.
        cors: Origins whose pages may read what is served, such as "https://app.example"; "*" for all.
        limits: What one client may take at once.
        upstream: URL of a folder that what is not here is fetched from, kept in bgfetch's cache, and sent on as it comes.
        index: The file that digests are remembered in; one below BGFETCH_HOME when nothing is said, None for none.
        settings: As the environment and `config.toml` have them when nothing is said.
    """

    _mirror: Mirror | None = None
    _wiring: Wiring | None = None  # what is ours to close

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        cors: str | Collection[str] = (),
        limits: Limits | None = None,
        upstream: str = "",
        index: str | os.PathLike[str] | None = "",
        settings: Settings | None = None,
    ) -> None:
        used, folder = settings or load(), Folder(Path(directory))
        mirror = _mirror(folder, upstream, used) if upstream else None
        self._begin(mirror or folder, cors, limits, index, used)
        self._mirror, self._wiring = mirror, None if mirror is None else mirror.wiring

    @classmethod
    def of_cache(
        cls,
        scope: str = "default",
        *,
        cors: str | Collection[str] = (),
        limits: Limits | None = None,
        settings: Settings | None = None,
    ) -> ModelServer:
        """Over what bgfetch has stored, under paths made of URLs: `https://host/m/a.gguf` is `host/m/a.gguf`.

        Args:
            scope: Whose caches.
            cors: As of the class.
            limits: As of the class.
            settings: As of the class.
        """
        from bgfetch.web.stored import Stored  # noqa: PLC0415 - the store costs more to import than a folder needs
        from bgfetch.wiring import Wiring  # noqa: PLC0415 - as above

        self = cls.__new__(cls)
        used = settings or load()
        wiring = Wiring(used)
        self._begin(Stored(wiring, scope), cors, limits, "", used, hash_all=False)
        self._wiring = wiring
        return self

    def _begin(
        self,
        models: Models,
        cors: str | Collection[str],
        limits: Limits | None,
        index: str | os.PathLike[str] | None,
        settings: Settings,
        *,
        hash_all: bool = True,
    ) -> None:
        self._vfs = Vfs()
        place = settings.home / "state" / "web.sqlite3" if index == "" else index
        self._hashing = Hashing(
            models.open, Index(None if place is None else Path(place), self._vfs), self._vfs
        )
        self._library = Library(models, self._hashing)
        self._cors = Cors(frozenset({cors} if isinstance(cors, str) else cors) - {""})
        self._clients = Clients(limits or Limits(), time.monotonic)
        if hash_all:
            self._hashing.begin(self._library.hash_all)

    @property
    def hashing(self) -> Progress:
        """How far hashing has come, of all that was to be hashed since this began."""
        return self._hashing.overall

    def wait_hashed(self, timeout: float | None = None) -> bool:
        """Block until nothing is left to hash, or for so many seconds; whether nothing is."""
        return self._hashing.wait(timeout)

    def folders(self) -> list[Parts]:
        """The outermost folders that hold files themselves, or something below; () where files lie in none. Blocking."""
        return self._library.folders()

    def close(self) -> None:
        """Stop hashing and fetching; what is done is remembered, what came is kept."""
        self._hashing.close()
        if self._wiring is not None:
            self._wiring.close()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the model server speaks HTTP, not {scope['type']!r}")
        began = time.perf_counter()
        try:
            request = asked(scope)
        except ValueError:
            await TOO_LONG.send(send, head=scope["method"] == "HEAD")
            return
        more = self._cors.fields(request.headers.get("origin", ""))
        if request.method == "OPTIONS":
            # It takes no place: of a preflight that is refused a browser says that the network was lost.
            await Reply(204, [*self._cors.preflight(), *more]).send(send, head=False)
            return
        try:
            with self._clients.place(request.client) as pace:
                found = await self._found(request)
                more.append(("server-timing", f"open;dur={(time.perf_counter() - began) * 1e3:.1f}"))
                if isinstance(found, Opened):
                    offered = scope.get("extensions") or {}
                    await self._send_file(request, found, more, receive, send, pace=pace, offered=offered)
                    return
                if isinstance(found, Coming):
                    await self._send_coming(request, found, more, receive, send, pace=pace)
                    return
        except Busy as busy:
            found = _busy(busy)
        reply = Reply(found.status, [*found.fields, *more], found.body)
        await reply.send(send, head=request.method == "HEAD")

    async def _found(self, request: Asked) -> Opened | Coming | Reply:
        match request.method:
            case "GET" | "HEAD":
                pass
            case _:
                return refused(405, "models are only read", ("allow", "GET, HEAD, OPTIONS"))
        try:
            return await _off_loop(self._library, request)
        except FileNotFoundError:
            return await self._pulled(request)
        except OSError as error:
            return refused(
                503, f"the disk refused ({error.strerror}); try again later", ("retry-after", "10")
            )
        except BgfetchError as error:
            return refused(503, printable(str(error)), ("retry-after", "10"))

    async def _pulled(self, request: Asked) -> Opened | Coming | Reply:
        """What is not here, from upstream if there is one."""
        parts = parts_of(request.path)
        if self._mirror is None or not parts or request.path.endswith("/") or parts[-1] == MANIFEST:
            return refused(404, "there is no such model here")
        if self._cors.is_foreign(request.headers):
            return refused(403, "a page of another site may not have a model fetched here")
        try:
            coming = await self._mirror.pull(parts)
            if coming is None:
                return await _off_loop(self._library, request)
        except Unobtainable as error:
            again = [("retry-after", str(error.retry_after))] if error.retry_after else []
            return refused(error.status, error.words, *again)
        except FileNotFoundError:
            return refused(503, "it was here, and is gone again", ("retry-after", "1"))
        # By HTTP/1.0 the end of the connection is the end of the file, also where it broke off.
        endless = coming.total is None and request.http == "1.0"
        if endless or "manifest" in request.query or "sha256" in request.query:
            try:
                return await off_loop(coming.wait)
            finally:
                coming.close()
        return coming

    async def _send_coming(
        self,
        request: Asked,
        coming: Coming,
        more: Fields,
        receive: Receive,
        send: Send,
        *,
        pace: Pace | None,
    ) -> None:
        try:
            answer, fields = coming.answer(request)
            await send_head(send, answer.status, [*fields, *more])
            if request.method == "HEAD" or (coming.total is not None and not answer.span.length):
                await send({"type": "http.response.body", "body": b""})
                return
            with Departure(receive) as departure:
                left = answer.span.length if coming.total is not None else None
                async for block in coming.chunks(answer.span, departure):
                    await paced(pace, len(block))
                    if departure.happened:
                        return
                    left = None if left is None else left - len(block)
                    async with asyncio.timeout(self._clients.limits.patience):
                        await send({"type": "http.response.body", "body": block, "more_body": left != 0})
                if left is None:
                    await send({"type": "http.response.body", "body": b""})
        except (Broken, TimeoutError, OSError):
            return  # short of its length: nobody takes it for whole
        finally:
            coming.close()

    async def _send_file(
        self,
        request: Asked,
        found: Opened,
        more: Fields,
        receive: Receive,
        send: Send,
        *,
        pace: Pace | None,
        offered: Container[str],
    ) -> None:
        try:
            await send_head(send, found.status, [*found.fields, *more])
            with Departure(receive) as departure:
                sender = Sender(
                    found.fd,
                    found.stamp,
                    send,
                    departure,
                    self._clients.limits.patience,
                    pace,
                    offered,
                    self._vfs,
                )
                if not await sender.send_all(found.span) and not departure.happened:
                    _log.warning(
                        "%s was cut short: it changed while it was sent, or the client took nothing of it for too long",
                        printable(request.path),
                    )
        finally:
            os.close(found.fd)


async def _off_loop(library: Library, request: Asked) -> Opened | Reply:
    """What the library gives; a file that was opened for a request which is given up meanwhile is closed."""
    task = asyncio.ensure_future(asyncio.to_thread(library.look, request))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if task.exception() is None and isinstance(found := task.result(), Opened):
            os.close(found.fd)
        raise


def _mirror(folder: Folder, upstream: str, settings: Settings) -> Mirror:
    from bgfetch.wiring import Wiring  # noqa: PLC0415 - a folder by itself needs no store

    return Mirror(folder, upstream, Wiring(settings))


def _busy(busy: Busy) -> Reply:
    words = "too many downloads at once from your address" if busy.status == 429 else "the server is full"
    return refused(busy.status, f"{words}; come back", ("retry-after", str(busy.retry_after)))
