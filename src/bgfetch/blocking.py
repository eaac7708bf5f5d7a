"""The asynchronous API for programs that are not: one object that waits for anything, instead of a twin of everything.

>>> with bgfetch.blocking.connect("my-app") as wait:  # doctest: +SKIP
...     registration = wait(wait.app.background_fetch.fetch("gemma", URL))
...     for progress in wait.each(registration):
...         print(progress.downloaded)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from bgfetch.api import App
from bgfetch.api import connect as connect_async

__all__ = ["Waiter", "connect"]

_T = TypeVar("_T")


class Waiter:
    """Waits for what the API promises; its event loop runs in a thread of its own.

    Attributes:
        app: What `bgfetch.connect` gives.
    """

    def __init__(self, app: App, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self._loop = loop

    def __call__(self, awaitable: Awaitable[_T]) -> _T:
        """What it gives, once it does; Ctrl-C ends the waiting, and cancels what was waited for."""
        return _waited(self._loop, awaitable)

    def each(self, items: AsyncIterable[_T]) -> Iterator[_T]:
        """Its items, one by one as they come."""
        source = aiter(items)
        nothing = object()

        async def following() -> _T | object:
            return await anext(source, nothing)

        while (item := self(following())) is not nothing:
            yield item  # type: ignore[misc]  # it is no `nothing`


@contextmanager
def connect(scope: str = "default") -> Iterator[Waiter]:
    """`bgfetch.connect`, without `async`.

    Args:
        scope: Namespace of ids and caches.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="bgfetch-blocking", daemon=True)
    thread.start()
    try:
        opened = connect_async(scope)
        app = _waited(loop, opened.__aenter__())
        try:
            yield Waiter(app, loop)
        finally:
            _waited(loop, opened.__aexit__(None, None, None))
    finally:
        _waited(loop, loop.shutdown_asyncgens())
        _waited(loop, loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _waited(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[_T]) -> _T:
    async def done() -> _T:
        return await awaitable

    future = asyncio.run_coroutine_threadsafe(done(), loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
