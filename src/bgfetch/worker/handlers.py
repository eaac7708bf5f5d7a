"""What a worker's module says it handles: `@on("backgroundfetchsuccess")`.

A process that runs a worker is what a ServiceWorkerGlobalScope is to a page: what listens in it, listens for all of it, so
the listeners are the process's, whatever module names them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from bgfetch.errors import InvalidRequest

__all__ = ["EVENTS", "LISTENERS", "Listener", "Listeners", "on"]

EVENTS: Final = (
    "install",
    "activate",
    "backgroundfetchsuccess",
    "backgroundfetchfail",
    "backgroundfetchabort",
    "backgroundfetchclick",
    "message",
)

Listener = Callable[[Any], Awaitable[None] | None]
_L = TypeVar("_L", bound=Listener)


class Listeners:
    """Functions by the event they handle, in the order they were named."""

    def __init__(self) -> None:
        self._by_event: dict[str, list[Listener]] = {}

    def on(self, event: str) -> Callable[[_L], _L]:
        """Have the decorated function called with each event of this name.

        Raises:
            InvalidRequest: No event has this name.
        """
        if event not in EVENTS:
            raise InvalidRequest(f"there is no event {str(event)[:40]!r}; there are {', '.join(EVENTS)}")

        def listen(function: _L) -> _L:
            self._by_event.setdefault(event, []).append(function)
            return function

        return listen

    def of(self, event: str) -> list[Listener]:
        """Who listens for this event."""
        return list(self._by_event.get(event, ()))

    def __bool__(self) -> bool:
        return bool(self._by_event)


LISTENERS: Final = Listeners()
on = LISTENERS.on
