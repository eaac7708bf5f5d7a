"""An app that hands a model over and leaves: `python examples/03_app.py URL SHA256`.

The daemon fetches it. When it is here, `app_worker.py` is run, although nothing of this app runs any more.
"""

import asyncio
import sys

import bgfetch


async def main(url: str, sha256: str) -> None:
    """Ask for the model unless it is here or on its way, and do not wait for it."""
    request = bgfetch.Request(url, integrity=f"sha256:{sha256}")
    async with bgfetch.connect(scope="example-app") as app:
        cached = await app.caches.match(request)
        if cached is not None:
            print(cached.path)
            return
        await app.register("app_worker")
        manager = app.background_fetch
        registration = await manager.get("model") or await manager.fetch("model", request, title="A model")
        print(f"{registration.id} is on its way; this app ends now")


asyncio.run(main(*sys.argv[1:]))
