"""The public API as a type checker sees it: checked, never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import bgfetch


def blocking() -> None:
    """The one-liner gives a path."""
    assert_type(bgfetch.get("https://host/model.bin", sha256="0" * 64), Path)


async def the_standard() -> None:
    """The standard's objects give the standard's types."""
    async with bgfetch.connect(scope="my-app") as app:
        registration = await app.background_fetch.fetch(
            "gemma-2b", ["https://host/a", bgfetch.Request("https://host/b")], icons=[bgfetch.Icon("i.png")]
        )
        assert_type(registration, bgfetch.BackgroundFetchRegistration)
        assert_type(await app.background_fetch.get("x"), bgfetch.BackgroundFetchRegistration | None)
        assert_type(await app.background_fetch.get_ids(), list[str])
        assert_type(registration.result, bgfetch.Result)
        assert_type(registration.failure_reason, bgfetch.FailureReason)
        async for progress in registration:
            assert_type(progress, bgfetch.Progress)
        record = await registration.match("https://host/a")
        assert_type(record, bgfetch.BackgroundFetchRecord | None)
        for each in await registration.match_all():
            assert_type(await each.response_ready, bgfetch.Response)
        assert_type(await app.caches.match("https://host/a"), bgfetch.Response | None)
        cache = await app.caches.open("downloads")
        assert_type(cache, bgfetch.Cache)
        assert_type(await registration.abort(), bool)
