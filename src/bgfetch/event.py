"""The standard's events as a worker gets them: ExtendableEvent, BackgroundFetchEvent, BackgroundFetchUpdateUIEvent.

An event is active while a handler of it runs and while anything waits that was given to `wait_until`; an `async def` handler is
given to it by itself. `event_id`, `caches` and `clients` on the event are ours: there is no global scope here.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bgfetch.caches import CacheStorage
from bgfetch.core.model import Icon
from bgfetch.errors import InvalidState
from bgfetch.registration import BackgroundFetchRegistration
from bgfetch.worker.clients import Client, Clients
from bgfetch.worker.handlers import Listener

__all__ = [
    "BackgroundFetchEvent",
    "BackgroundFetchUpdateUIEvent",
    "ExtendableEvent",
    "MessageEvent",
    "Surroundings",
    "UpdateUi",
    "dispatch",
]

UpdateUi = Callable[[int, str | None, Sequence[Icon] | None], None]
"""Changes what is shown of a registration (by its uid): title and icons, None for as it is."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker has around it.

    Args:
        scope: Whose worker.
        caches: `caches` of the scope.
        clients: `clients` of the scope.
        update_ui: What `updateUI` does in the end.
    """

    scope: str
    caches: CacheStorage
    clients: Clients
    update_ui: UpdateUi


class ExtendableEvent:
    """An event; one that a program makes itself is not trusted and can neither be extended nor update anything.

    Args:
        type: Its name.
        event_id: Stable over deliveries: a handler may tell a repetition by it. 0 for those that come once.
        attempt: Which delivery this is, from 1.
        around: Set for trusted events only.
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the standard's word
        *,
        event_id: int = 0,
        attempt: int = 1,
        around: Surroundings | None = None,
    ) -> None:
        self.type = type
        self.event_id = event_id
        self.attempt = attempt
        self._around = around
        self._dispatched = False
        self._pending: set[asyncio.Future[object]] = set()

    @property
    def is_trusted(self) -> bool:
        """Whether bgfetch made it."""
        return self._around is not None

    @property
    def scope(self) -> str:
        """Whose worker this is."""
        return self._surely().scope

    @property
    def caches(self) -> CacheStorage:
        """The caches of the scope."""
        return self._surely().caches

    @property
    def clients(self) -> Clients:
        """The apps of the scope that are connected."""
        return self._surely().clients

    def wait_until(self, work: Awaitable[object]) -> None:
        """The event is not over before this is; if it fails, the event has not been handled.

        Raises:
            InvalidState: The event is over, or was not made by bgfetch.

        Source: Service Workers, `waitUntil`.
        """
        if not self._active():
            if inspect.iscoroutine(work):
                work.close()
            raise InvalidState(f"the event {self.type} is over, or was never dispatched: nothing extends it")
        self._pending.add(asyncio.ensure_future(work))

    def _active(self) -> bool:
        return self._around is not None and (self._dispatched or any(not it.done() for it in self._pending))

    def _surely(self) -> Surroundings:
        if self._around is None:
            raise InvalidState(f"this {self.type} was not made by bgfetch")
        return self._around

    async def _over(self) -> list[BaseException]:
        """Wait for all that extends it; what went wrong."""
        wrong: list[BaseException] = []
        while self._pending:
            done, _ = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            self._pending -= done
            wrong += [error for each in done if (error := _error(each)) is not None]
        return wrong


class BackgroundFetchEvent(ExtendableEvent):
    """`backgroundfetchabort` and `backgroundfetchclick`.

    Args:
        type: Its name.
        registration: What it is about.
        event_id, attempt, around: See `ExtendableEvent`.
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the standard's word
        *,
        registration: BackgroundFetchRegistration,
        event_id: int = 0,
        attempt: int = 1,
        around: Surroundings | None = None,
    ) -> None:
        super().__init__(type, event_id=event_id, attempt=attempt, around=around)
        self.registration = registration


class BackgroundFetchUpdateUIEvent(BackgroundFetchEvent):
    """`backgroundfetchsuccess` and `backgroundfetchfail`."""

    _updated = False

    async def update_ui(self, *, title: str | None = None, icons: Sequence[Icon] | None = None) -> None:
        """Change what people are shown of the registration, once; None leaves a thing as it is.

        Raises:
            InvalidState: It was called before, the event is over, or bgfetch did not make it.

        Source: Background Fetch, `updateUI`.
        """
        around = self._surely()
        if self._updated:
            raise InvalidState("update_ui() was called before on this event")
        if not self._active():
            raise InvalidState("the event is over: call update_ui() in the handler, or within wait_until()")
        self._updated = True
        if title is not None or icons is not None:
            await asyncio.to_thread(around.update_ui, self.registration.uid, title, icons)


class MessageEvent(ExtendableEvent):
    """`message`: an app posted something to the worker.

    Args:
        data: What it posted.
        source: The app, while it is connected.
        around: See `ExtendableEvent`.
    """

    def __init__(
        self, data: object, *, source: Client | None = None, around: Surroundings | None = None
    ) -> None:
        super().__init__("message", around=around)
        self.data = data
        self.source = source


async def dispatch(event: ExtendableEvent, listeners: Sequence[Listener]) -> None:
    """Have each listener handle the event; returns when the event is over.

    Raises:
        ExceptionGroup: What listeners raised, and what failed of that which extended the event.
    """
    wrong: list[BaseException] = []
    event._dispatched = True  # noqa: SLF001 - one module
    try:
        for listener in listeners:
            try:
                work = listener(event)
                if inspect.isawaitable(work):
                    event.wait_until(work)
            except Exception as error:  # noqa: BLE001 - told to the log; the other listeners are called all the same
                wrong.append(error)
    finally:
        event._dispatched = False  # noqa: SLF001
    wrong += await event._over()  # noqa: SLF001
    if wrong:
        raise BaseExceptionGroup(f"{event.type} was not handled", wrong)


def _error(work: asyncio.Future[object]) -> BaseException | None:
    return (
        asyncio.CancelledError("what extended the event was cancelled")
        if work.cancelled()
        else work.exception()
    )
