"""The page of the cases: an app with a scope of its own, whose worker tells it what it saw, and a server."""

from __future__ import annotations

import asyncio
import functools
import json
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec

from tests.conformance.handlers import TOLD, place

import bgfetch
from bgfetch.api import App
from bgfetch.manager import BackgroundFetchManager
from bgfetch.response import Response
from bgfetch.testing import Exchange, OriginServer, plain, text_reply

P = ParamSpec("P")

FEATURE = "/background-fetch/resources/feature-name.txt"
UPLOAD = "/background-fetch/resources/upload.py"
SLOW = "/common/slow.py"
TEXT = b"Background Fetch"

_PATIENCE = 15.0
_STEP = 0.02


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test, run to its end in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def server() -> OriginServer:
    """What the cases fetch from: a small text, a reply that does not come, and what was uploaded."""
    return OriginServer({FEATURE: TEXT}, _answer)


def _answer(exchange: Exchange) -> None:
    if exchange.request.path == SLOW:
        exchange.hold()
    elif exchange.request.method not in ("GET", "HEAD"):
        exchange.send(text_reply(200, exchange.request.body.decode()))
    else:
        plain(exchange)


class Page:
    """An app of a scope of its own."""

    def __init__(self, app: App, scope: str) -> None:
        self.app = app
        self.scope = scope

    @property
    def background_fetch(self) -> BackgroundFetchManager:
        """Of the scope."""
        return self.app.background_fetch

    async def told(self, id_: str, type_: str = "") -> dict[str, Any]:
        """What its worker says of an event of a registration, once it has come; of any event without a type."""
        cache = await self.app.caches.open(TOLD)
        end = asyncio.get_running_loop().time() + _PATIENCE
        while asyncio.get_running_loop().time() < end:
            for key in await cache.keys():
                if key.url.startswith(place(id_, type_)) and (found := await cache.match(key)) is not None:
                    told: dict[str, Any] = json.loads(await found.text())
                    return told
            await asyncio.sleep(_STEP)
        raise AssertionError(f"the worker was not told of {id_!r} within {_PATIENCE:g} s")

    async def downloaded(self, url: str) -> Response:
        """What the built-in worker has put into the cache `downloads`: its event comes after the settlement."""
        end = asyncio.get_running_loop().time() + _PATIENCE
        while (found := await self.app.caches.match(url, cache_name="downloads")) is None:
            assert asyncio.get_running_loop().time() < end, f"{url} did not come into the cache"
            await asyncio.sleep(_STEP)
        return found


@asynccontextmanager
async def page(*, worker: bool = True) -> AsyncIterator[Page]:
    """A new page; what it still fetches in the end is aborted."""
    scope = f"page-{secrets.token_hex(4)}"
    async with bgfetch.connect(scope) as app:
        if worker:
            await app.register("tests.conformance.handlers")
        try:
            yield Page(app, scope)
        finally:
            for each in await app.background_fetch.get_ids():
                if (found := await app.background_fetch.get(each)) is not None:
                    await found.abort()


async def until(said: Callable[[], bool], *, within: float = _PATIENCE) -> None:
    """Wait for what somebody else does."""
    end = asyncio.get_running_loop().time() + within
    while not said():
        assert asyncio.get_running_loop().time() < end, f"it did not happen within {within:g} s"
        await asyncio.sleep(_STEP)
