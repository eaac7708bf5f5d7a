"""The page of the cases: an app with a scope of its own, whose worker tells it what it saw, and a server."""

from __future__ import annotations

import asyncio
import functools
import json
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, ParamSpec

from tests.conformance.handlers import TOLD, bell, place
from tests.waiting import Pipe

import bgfetch
from bgfetch.api import App
from bgfetch.manager import BackgroundFetchManager
from bgfetch.registration import BackgroundFetchRegistration
from bgfetch.response import off_loop
from bgfetch.testing import Exchange, OriginServer, plain, text_reply

P = ParamSpec("P")

FEATURE = "/background-fetch/resources/feature-name.txt"
UPLOAD = "/background-fetch/resources/upload.py"
SLOW = "/common/slow.py"
TEXT = b"Background Fetch"

_PATIENCE = 15.0


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
    """An app of a scope of its own.

    Args:
        rung: Is set when its worker has told something.
    """

    def __init__(self, app: App, scope: str, rung: asyncio.Event) -> None:
        self.app = app
        self.scope = scope
        self._rung = rung

    @property
    def background_fetch(self) -> BackgroundFetchManager:
        """Of the scope."""
        return self.app.background_fetch

    async def told(self, id_: str, type_: str = "") -> dict[str, Any]:
        """What its worker says of an event of a registration, once it has come; of any event without a type."""
        cache = await self.app.caches.open(TOLD)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while True:
                    self._rung.clear()
                    for key in await cache.keys():
                        if key.url.startswith(place(id_, type_)) and (found := await cache.match(key)):
                            told: dict[str, Any] = json.loads(await found.text())
                            return told
                    await self._rung.wait()
        raise AssertionError(f"the worker was not told of {id_!r} within {_PATIENCE:g} s")

    async def acknowledged(self, registration: BackgroundFetchRegistration) -> None:
        """Return when the registration's events have been handled."""
        await off_loop(self._acknowledged, registration.uid)

    def _acknowledged(self, uid: int) -> None:
        wiring = self.app._wiring
        if wiring.settings.in_process:
            wiring.worker.deliver_pending(self.scope, wiring.clock.now())
            assert wiring.worker.wait_idle(_PATIENCE)
            return
        stream = wiring.daemon.stream(query={"registration": [uid]}, last_event_id=0)
        try:
            assert any(event.data.get("name") == "acknowledged" for event in stream)
        finally:
            stream.close()


@asynccontextmanager
async def page(*, worker: bool = True) -> AsyncIterator[Page]:
    """A new page; what it still fetches in the end is aborted."""
    scope = f"page-{secrets.token_hex(4)}"
    async with bgfetch.connect(scope) as app:
        if worker:
            await app.register("tests.conformance.handlers")
        try:
            with _bell(scope) as rung:
                yield Page(app, scope, rung)
        finally:
            for each in await app.background_fetch.get_ids():
                if (found := await app.background_fetch.get(each)) is not None:
                    await found.abort()


@contextmanager
def _bell(scope: str) -> Iterator[asyncio.Event]:
    rung, loop = asyncio.Event(), asyncio.get_running_loop()

    def hear() -> None:
        pipe.read()
        rung.set()

    try:
        with Pipe(bell(scope)) as pipe:
            loop.add_reader(pipe.fileno(), hear)
            yield rung
            loop.remove_reader(pipe.fileno())
    finally:
        bell(scope).unlink()
