"""Commands and events over a WebSocket: what the DevTools protocol, WebDriver BiDi and WebKit's inspector have in common.

A command is `{"id", "method", "params"}`, its answer has the same id, and what has none is an event.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable
from typing import Any

from tests.browser.browsers import PATIENCE, BrowserError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

__all__ = ["Message", "Wire"]

Message = dict[str, Any]


class Wire:
    """One connection; used by one thread.

    Args:
        url: `ws://` address.
    """

    def __init__(self, url: str) -> None:
        self._held = contextlib.ExitStack()
        # Screenshots are large, and a browser need not wait for us to read its events.
        opening = connect(url, max_size=None, max_queue=None, proxy=None, ping_interval=None)
        self._socket = self._held.enter_context(opening)
        self._numbers = itertools.count(1)
        self._events: list[Message] = []

    def call(
        self, method: str, params: Message | None = None, *, within: float = PATIENCE, **more: Any
    ) -> Any:
        """The result of a command; `more` stands beside its params, such as a session.

        Raises:
            BrowserError: It failed, did not answer in time, or the browser is gone.
        """
        number = self.send(method, params, **more)
        answer = self._until(lambda message: message.get("id") == number, within, method)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer.get('message') or answer['error']}")
        return answer.get("result", {})

    def send(self, method: str, params: Message | None = None, **more: Any) -> int:
        """Send a command whose answer is waited for later, or never; its number."""
        number = next(self._numbers)
        try:
            self._socket.send(json.dumps({"id": number, "method": method, "params": params or {}, **more}))
        except ConnectionClosed as gone:
            raise BrowserError(f"{method}: the browser is gone") from gone
        return number

    def forget(self) -> None:
        """Let no event that came before now end an `expect`."""
        self._events.clear()

    def heard(self) -> list[Message]:
        """Events since `forget`, with those that have come unread."""
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            while True:
                message = json.loads(self._socket.recv(timeout=0))
                if "id" not in message:
                    self._events.append(message)
        return list(self._events)

    def expect(
        self, wanted: Callable[[Message], bool], *, within: float = PATIENCE, what: str = ""
    ) -> Message:
        """The first event since `forget` that is wanted, once it has come.

        Raises:
            BrowserError: It did not come in time, or the browser is gone.
        """
        for event in self._events:
            if wanted(event):
                return event
        return self._until(
            lambda message: "id" not in message and wanted(message), within, what or "an event"
        )

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(Exception):  # the other side may have gone in any way
            self._held.close()

    def _until(self, wanted: Callable[[Message], bool], within: float, what: str) -> Message:
        end = time.monotonic() + within
        while True:
            try:
                message = json.loads(self._socket.recv(timeout=max(0.0, end - time.monotonic())))
            except TimeoutError:
                raise BrowserError(f"{what}: no answer within {within:g} s") from None
            except ConnectionClosed as gone:
                raise BrowserError(f"{what}: the browser is gone") from gone
            if "id" not in message:
                self._events.append(message)
            if wanted(message):
                found: Message = message
                return found
