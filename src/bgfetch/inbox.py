"""Messages of workers to an application that is there, from the thread they come on to whoever iterates."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

__all__ = ["Inbox"]

_MOST: Final = 1000  # that nobody has read yet; the oldest go first


class Inbox:
    """One application's messages. Made on its event loop; `put` may be called from any thread.

    Attributes:
        client: The application's own id, made by chance.
    """

    def __init__(self) -> None:
        self.client = secrets.token_hex(16)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Any] = deque(maxlen=_MOST)
        self._news = asyncio.Event()
        self._closed = False

    def put(self, message: dict[str, Any]) -> None:
        """One has come."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, message)

    def _put(self, message: dict[str, Any]) -> None:
        self._waiting.append(message.get("data"))
        self._news.set()

    async def messages(self) -> AsyncIterator[Any]:
        """Each message once, among all who iterate; until `close`."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()

    def close(self) -> None:
        """No more will come; what has come is still given."""
        self._closed = True
        self._news.set()
