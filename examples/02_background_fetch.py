"""The Background Fetch API in Python: `python examples/02_background_fetch.py URL`.

The names are the standard's: a registration with an id and a title, progress, records, responses and caches.
"""

import asyncio
import sys

import bgfetch


async def main(url: str) -> None:
    """Give the file from the cache, or from a background fetch that is begun or gone on with."""
    async with bgfetch.connect(scope="example") as app:
        if await app.caches.match(url) is None:
            await fetch(app.background_fetch, url)
        cached = await app.caches.match(url)  # where the scope's built-in worker put it
        if cached is not None:
            print(cached.path)


async def fetch(manager: bgfetch.BackgroundFetchManager, url: str) -> None:
    """Fetch it, say how it goes and what answered."""
    registration = await manager.get("a-model") or await manager.fetch("a-model", url, title="A model")
    record = await registration.match(url)
    async for progress in registration:  # ends when it settles
        print(f"{progress.state}: {progress.downloaded:,} of {progress.download_total:,}", file=sys.stderr)
    if registration.result is bgfetch.Result.FAILURE:
        sys.exit(f"{registration.failure_reason}: {registration.failure_detail}")
    if record is not None:
        response = await record.response_ready
        print(f"{response.status}, {response.headers.get('content-type')}", file=sys.stderr)


asyncio.run(main(sys.argv[1]))
