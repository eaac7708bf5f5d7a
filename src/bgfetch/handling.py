"""A process that handles one event with an app's own module; `worker/launcher.py` starts it."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from bgfetch.config import load
from bgfetch.core.model import Icon
from bgfetch.errors import InvalidRequest, NotFound
from bgfetch.event import (
    BackgroundFetchEvent,
    BackgroundFetchUpdateUIEvent,
    ExtendableEvent,
    MessageEvent,
    Surroundings,
    dispatch,
)
from bgfetch.registration import BackgroundFetchRegistration
from bgfetch.wiring import Wiring
from bgfetch.worker.child import UNUSABLE, watch
from bgfetch.worker.clients import Clients
from bgfetch.worker.handlers import EVENTS, LISTENERS, Listener

__all__ = ["listeners_of", "main"]

# A function that is named itself handles what concerns fetches, not how workers come and go.
_OF_FETCHES: Final = frozenset(EVENTS) - {"install", "activate"}


class _Missing(InvalidRequest):
    """The entry point's own module is not there; one that it imports is a fault of its own, and has a traceback."""


def main(order: dict[str, Any]) -> int:
    """Handle the event of an order; 0 when it has been handled, else what went wrong is on stderr."""
    watch()
    event = order["event"]
    try:
        listeners = listeners_of(order["target"][0], event["type"])
        wiring = Wiring(load({"home": event["home"]}))
        try:
            asyncio.run(_handle(wiring, event, listeners))
        finally:
            wiring.close()
    except _Missing as error:
        print(error, file=sys.stderr)  # noqa: T201 - it is its log
        return UNUSABLE
    except BaseException:  # noqa: BLE001 - its exit code says it
        traceback.print_exc()
        return 1
    sys.stdout.flush()
    return 0


def listeners_of(target: str, event: str) -> list[Listener]:
    """What of an entry point listens for this event; the module is imported.

    Raises:
        InvalidRequest: There is no such function, or the module listens for nothing.
        Exception: Whatever the module raises.
    """
    name, _, function = target.partition(":")
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise _Missing(
            f"there is no module {name!r} where Python looks: say this in the folder that holds it, or install what has it"
        ) from None
    if not function:
        if not LISTENERS:
            raise InvalidRequest(f"{name} listens for nothing: decorate functions with @bgfetch.worker.on(…)")
        return LISTENERS.of(event)
    found: Any = module
    for part in function.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InvalidRequest(f"{name} has no function {function!r}")
    return [found] if event in _OF_FETCHES else LISTENERS.of(event)


async def _handle(wiring: Wiring, told: dict[str, Any], listeners: Sequence[Listener]) -> None:
    around = _around(wiring, told)
    await dispatch(await _event(wiring, told, around), listeners)


def _around(wiring: Wiring, told: dict[str, Any]) -> Surroundings:
    scope = str(told["scope"])

    def keep(data: object) -> None:
        wiring.mailbox.put(scope, data, now=wiring.clock.now())

    def update_ui(uid: int, title: str | None, icons: Sequence[Icon] | None) -> None:
        wiring.registrations.amend(uid, title=title, icons=icons)
        wiring.registrations.log(uid, wiring.clock.now(), "updated-ui", title or "")

    clients = Clients(scope, wiring.switchboard, keep if told.get("mailbox") else None)
    return Surroundings(scope, wiring.caches(scope), clients, update_ui)


async def _event(wiring: Wiring, told: dict[str, Any], around: Surroundings) -> ExtendableEvent:
    type_ = str(told["type"])
    if type_ == "message":
        source = await around.clients.get(str(told["source"]))
        return MessageEvent(told["data"], source=source, around=around)
    if "registration" not in told:
        return ExtendableEvent(type_, around=around)
    row = wiring.registrations.get(told["registration"]["uid"])
    if row is None:
        raise NotFound("the registration has been removed")
    registration = BackgroundFetchRegistration(row, wiring.home)
    make = (
        BackgroundFetchUpdateUIEvent
        if type_ in ("backgroundfetchsuccess", "backgroundfetchfail")
        else BackgroundFetchEvent
    )
    return make(
        type_,
        registration=registration,
        event_id=told["event_id"],
        attempt=told["attempt"],
        around=around,
    )
