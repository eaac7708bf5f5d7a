"""What `Cache.add` fetches with: a registration in a scope of its own, gone as soon as its response was put.

So `add` goes on where it broke off, tries again and verifies like every other fetch, and no app sees it among its own.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from bgfetch.caches import Fetch
from bgfetch.core.model import Request
from bgfetch.errors import BadStatus, BgfetchError, NotFound
from bgfetch.manager import BackgroundFetchManager
from bgfetch.registration import BackgroundFetchRegistration, Home
from bgfetch.response import Response, off_loop
from bgfetch.worker.builtin import ERRANDS

__all__ = ["errands"]


def errands(home: Home) -> Fetch:
    """Fetches for the caches of this home.

    The response is there once its body is complete and verified, and its file is kept while the block lasts. Raises
    FetchError when nothing answered; who stops waiting aborts it.
    """
    manager = BackgroundFetchManager(ERRANDS, home)

    def fetch(request: Request) -> AbstractAsyncContextManager[Response]:
        return _errand(manager, home, request)

    return fetch


@asynccontextmanager
async def _errand(manager: BackgroundFetchManager, home: Home, request: Request) -> AsyncIterator[Response]:
    registration = await manager.fetch(secrets.token_hex(8), request)
    try:
        yield await _response(registration)
    finally:
        if not await registration.abort():  # it is over
            with suppress(NotFound):
                await off_loop(home.registrations.purge, registration.uid)


async def _response(registration: BackgroundFetchRegistration) -> Response:
    await registration.wait()
    error: BgfetchError | None = registration.error()
    if error is not None and not isinstance(error, BadStatus):
        raise error
    (record,) = await registration.match_all()
    return await record.response_ready
