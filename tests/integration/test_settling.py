"""Who is told that a registration has settled finds its files; who comes after a kill does too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.lab import Lab, asking

import bgfetch
from bgfetch.config import Settings
from bgfetch.core.model import Progress, State
from bgfetch.testing import OriginServer
from bgfetch.wiring import Wiring

BODY = b"\x08\x07" * 30_000


async def fetch_here(wiring: Wiring, url: str) -> bgfetch.Result:
    """Fetch it in this process; how it settled."""
    registration = await wiring.manager("default").fetch("x", url)
    return await registration.wait()


def test_files_are_in_the_cache_before_anybody_is_told(tmp_path: Path) -> None:
    """At the very moment of the last progress the cache has the entry."""
    seen: list[int] = []
    wiring = Wiring(Settings(tmp_path, in_process=True))
    publish = wiring.runner.bulletin.publish
    with OriginServer(BODY) as origin:

        def look(uid: int, progress: Progress) -> None:
            if progress.state is State.SETTLED:
                entry = wiring.entries.by_url("default", origin.url)
                seen.append(0 if entry is None else entry.size)
            publish(uid, progress)

        wiring.runner.bulletin.publish = look  # type: ignore[method-assign]
        try:
            assert asyncio.run(fetch_here(wiring, origin.url)) is bgfetch.Result.SUCCESS
        finally:
            wiring.close()
    assert seen == [len(BODY)]


def test_what_settled_and_was_not_handed_on_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends after it settled and before its handler ran leaves a file, not a second download."""
    monkeypatch.setenv("BGFETCH_HOME", str(tmp_path))
    with OriginServer(BODY) as origin:
        with Lab(tmp_path) as lab:  # it has no handler at all
            lab.fetch(asking(origin.url))
        asked = len(origin.requests)
        assert bgfetch.get(origin.url).read_bytes() == BODY
        assert len(origin.requests) == asked
