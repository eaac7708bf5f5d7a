"""The worker of `03_app.py`: what is to happen when its model is here, although the app is gone.

It is what a service worker is to a page, and does what the one of every tutorial does: puts what came into a cache.
"""

from typing import Any

from bgfetch.worker import on


@on("backgroundfetchsuccess")
async def downloaded(event: Any) -> None:
    """Keep each record in the cache `models`: a link to the bytes, not a copy. Then tell who is there."""
    cache = await event.caches.open("models")
    for record in await event.registration.match_all():
        await cache.put(record.request, await record.response_ready)
    await event.update_ui(title=f"{event.registration.title} is here")
    for client in await event.clients.match_all():
        await client.post_message({"message": "download-complete", "id": event.registration.id})
    print(f"{event.registration.id}: {event.registration.downloaded:,} bytes are in the cache")


@on("backgroundfetchfail")
async def failed(event: Any) -> None:
    """Say why."""
    print(
        f"{event.registration.id}: {event.registration.failure_reason}, {event.registration.failure_detail}"
    )
