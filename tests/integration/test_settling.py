"""Who is told that a registration has settled finds its files; who comes after a kill does too."""

from __future__ import annotations

from pathlib import Path

from tests.lab import Lab, asking

from bgfetch.config import Settings
from bgfetch.core.model import Progress, State
from bgfetch.getting import Getting, Got
from bgfetch.sources.https import checked_request
from bgfetch.testing import OriginServer
from bgfetch.wiring import Wiring

BODY = b"\x08\x07" * 30_000


def test_files_are_in_the_cache_before_anybody_is_told(tmp_path: Path) -> None:
    """At the very moment of the last progress the cache has the entry."""
    seen: list[Got | None] = []
    with OriginServer(BODY) as origin:
        wiring = Wiring(Settings(tmp_path))
        getting = Getting(wiring, "default")
        request = checked_request(origin.url)
        listen = wiring.runner.bulletin.publish

        def publish(uid: int, progress: Progress) -> None:
            if progress.state is State.SETTLED:
                entry = wiring.entries.by_url("default", request.url)
                seen.append(None if entry is None else getting.cached(request))
            listen(uid, progress)

        wiring.runner.bulletin.publish = publish  # type: ignore[method-assign]
        try:
            getting.get([request], told=lambda _: None, timeout=10)
        finally:
            wiring.close()
    assert [file.path.read_bytes() for file in seen if file is not None] == [BODY]


def test_what_settled_and_was_not_handed_on_is_not_fetched_again(tmp_path: Path) -> None:
    """A process that ends after it settled and before its handler ran leaves a file, not a second download."""
    with OriginServer(BODY) as origin:
        with Lab(tmp_path) as lab:  # it has no handler at all
            lab.fetch(asking(origin.url))
        wiring = Wiring(Settings(tmp_path))
        try:
            file = Getting(wiring, "default").cached(checked_request(origin.url))
            assert file is not None
            assert file.path.read_bytes() == BODY
        finally:
            wiring.close()
        assert len(origin.requests) == 1
