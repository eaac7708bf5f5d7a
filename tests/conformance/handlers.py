"""The worker of the cases, as the service workers of web-platform-tests: it tells the page what it saw.

What it does besides follows from the first word of the registration's id. What it saw goes into the cache `told`,
where the page looks whoever runs it, when the scope's bell rings.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bgfetch import Response
from bgfetch.core.model import Icon
from bgfetch.errors import BgfetchError
from bgfetch.event import BackgroundFetchEvent, BackgroundFetchUpdateUIEvent
from bgfetch.registration import BackgroundFetchRecord
from bgfetch.worker import on

TOLD = "told"


def place(id_: str, type_: str = "") -> str:
    """The URL under which it is told of an event of a registration."""
    return f"https://told.example/{quote(id_, safe='')}/{type_}"


def bell(scope: str) -> Path:
    """The named pipe in which a page of the scope hears that it was told something."""
    return Path(tempfile.gettempdir()) / f"bgfetch-bell-{quote(scope, safe='')}"


def _ring(scope: str) -> None:
    with contextlib.suppress(OSError):  # the page is gone
        end = os.open(bell(scope), os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(end, b"!")
        finally:
            os.close(end)


async def seen(record: BackgroundFetchRecord | None) -> dict[str, Any]:
    """What a page can be told of a record: its response, or the name of the error instead."""
    if record is None:
        return {"missing": True}
    try:
        response = await record.response_ready
    except BgfetchError as error:
        return {"error": error.name, "type_error": isinstance(error, TypeError)}
    return {"url": response.url, "status": response.status, "text": await response.text()}


async def _all(event: BackgroundFetchEvent) -> list[dict[str, Any]]:
    if (
        event.type == "backgroundfetchclick"
    ):  # what is active may not have a response for long, what is over has none
        return []
    return [await seen(record) for record in await event.registration.match_all()]


async def _existing(event: BackgroundFetchEvent) -> list[dict[str, Any]]:
    (record,) = await event.registration.match_all()
    return [await seen(await event.registration.match(record.request.url))]


async def _missing(event: BackgroundFetchEvent) -> list[dict[str, Any]]:
    return [await seen(await event.registration.match("http://127.0.0.1/does-not-exist.txt"))]


async def _twice(event: BackgroundFetchEvent) -> list[dict[str, Any]]:
    return [*await _existing(event), *await _existing(event)]


async def _update(event: BackgroundFetchEvent, *, times: int = 1) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    for number in range(times):
        try:
            assert isinstance(event, BackgroundFetchUpdateUIEvent)
            await event.update_ui(title=f"title {number}", icons=[Icon("new.png")])
            said.append({"update": "success"})
        except BgfetchError as error:
            said.append({"update": error.name})
    return said


async def _update_twice(event: BackgroundFetchEvent) -> list[dict[str, Any]]:
    return await _update(event, times=2)


async def _flaky(event: BackgroundFetchEvent) -> list[dict[str, Any]]:
    if event.attempt == 1:
        raise RuntimeError("the first delivery ends badly")
    return await _all(event)


DOES: dict[str, Callable[[BackgroundFetchEvent], Awaitable[list[dict[str, Any]]]]] = {
    "existing": _existing,
    "missing": _missing,
    "twice": _twice,
    "updates": _update,
    "updates-twice": _update_twice,
    "flaky": _flaky,
}


@on("backgroundfetchsuccess")
@on("backgroundfetchfail")
@on("backgroundfetchabort")
@on("backgroundfetchclick")
def handle(event: BackgroundFetchEvent) -> Awaitable[None] | None:
    """Do what the id says, and tell of it."""
    word = event.registration.id.partition(" ")[0]
    if word == "updates-late":
        _KEPT.append(asyncio.ensure_future(_late(event)))
        return None
    return _tell(event, DOES.get(word, _all))


_KEPT: list[asyncio.Task[None]] = []


async def _late(event: BackgroundFetchEvent) -> None:
    """Not covered by `wait_until`: what is left of it when the event is over runs while the process ends."""
    try:
        await asyncio.Event().wait()  # longer than any event lasts
    finally:
        await _tell(event, _update)


async def _tell(
    event: BackgroundFetchEvent, does: Callable[[BackgroundFetchEvent], Awaitable[list[dict[str, Any]]]]
) -> None:
    registration = event.registration
    told = {
        "type": event.type,
        "event_id": event.event_id,
        "attempt": event.attempt,
        "result": registration.result,
        "failure_reason": registration.failure_reason,
        "downloaded": registration.downloaded,
        "uploaded": registration.uploaded,
        "results": await does(event),
    }
    cache = await event.caches.open(TOLD)
    await cache.put(place(registration.id, event.type), Response(json.dumps(told)))
    _ring(event.scope)
    for client in await event.clients.match_all():
        await client.post_message({"type": event.type, "id": registration.id})
