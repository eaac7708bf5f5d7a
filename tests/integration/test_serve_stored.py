"""The cache as a place of models: entries are loaded once and kept, and what comes and goes meanwhile is noticed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.asgi import curl, serving

from bgfetch.cache.entries import Entry, Placed, SqliteEntries
from bgfetch.config import Settings
from bgfetch.core.model import Headers, ReplyHead, Request, Verified
from bgfetch.web import ModelServer
from bgfetch.web.stored import Stored
from bgfetch.wiring import Wiring

MANY = 300


class Shelf:
    """A home whose entries are put and removed by hand."""

    def __init__(self, home: Path) -> None:
        self.wiring = Wiring(Settings(home=home))
        self._caches = self.wiring.entries.open_cache("default", "downloads")

    def put(self, *names: str, body: bytes = b"model") -> None:
        """Store this body under URLs of these names."""
        sha256 = hashlib.sha256(body).hexdigest()
        blob = f"sha256/{sha256[:2]}/{sha256}"
        path = self.wiring.blobs.path(blob)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        urls = [f"https://host/{name}" for name in names]
        reply = ReplyHead(urls[0], 200, Headers([]))
        self.wiring.entries.put(
            self._caches,
            *(
                Entry(Request(url), reply, blob, len(body), Verified.DIGEST, f"sha256:{sha256}", 10.0)
                for url in urls
            ),
        )

    def delete(self, name: str) -> None:
        """Remove its entry, and leave its blob."""
        assert self.wiring.entries.delete(self._caches, Request(f"https://host/{name}"))


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """An empty one."""
    made = Shelf(tmp_path / "home")
    yield made
    made.wiring.close()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Grows by one each time that all entries of a scope are loaded."""
    seen: list[str | None] = []
    placed = SqliteEntries.placed

    def counted(self: SqliteEntries, scope: str | None = None) -> list[Placed]:
        seen.append(scope)
        return placed(self, scope)

    monkeypatch.setattr(SqliteEntries, "placed", counted)
    return seen


def read(stored: Stored, name: str) -> bytes:
    """What is given out under a name."""
    with os.fdopen(stored.open(("host", name)), "rb") as file:
        return file.read()


def test_entries_are_loaded_once(shelf: Shelf, loads: list[str | None]) -> None:
    """Files and a manifest of hundreds, found or not, are answered from one load."""
    shelf.put(*(f"{number}.bin" for number in range(MANY)))
    models = ModelServer.of_cache(settings=shelf.wiring.settings)
    try:
        with serving(models) as url:
            for number in range(20):
                assert curl(f"{url}/host/{number}.bin").body == b"model"
            assert curl(f"{url}/host/none.bin").status == 404
            curl(f"{url}/host/manifest.json")
            assert models.wait_hashed(30)
            manifest = curl(f"{url}/host/manifest.json")
            assert len(json.loads(manifest.body)["files"]) == MANY
    finally:
        models.close()
    assert loads == ["default"]


def test_what_is_put_is_there_at_once(shelf: Shelf) -> None:
    """A name that is new, and one whose former bytes are gone; no time has to pass."""
    shelf.put("old.bin", body=b"first")
    stored = Stored(shelf.wiring, "default", lambda: 0.0)
    assert read(stored, "old.bin") == b"first"
    shelf.put("new.bin")
    assert read(stored, "new.bin") == b"model"
    former = stored.path(("host", "old.bin"))
    shelf.put("old.bin", body=b"second")
    former.unlink()
    assert read(stored, "old.bin") == b"second"


def test_what_is_deleted_is_gone_after_a_second(shelf: Shelf) -> None:
    """Also where as many were put as were deleted; a list never names it."""
    instant = 0.0
    shelf.put("a.bin", "b.bin")
    stored = Stored(shelf.wiring, "default", lambda: instant)
    assert read(stored, "b.bin") == b"model"
    shelf.delete("b.bin")
    shelf.put("c.bin")
    instant = 1.0
    with pytest.raises(FileNotFoundError):
        stored.open(("host", "b.bin"))
    shelf.delete("c.bin")
    assert [path for path, _ in stored.files()] == [("host", "a.bin")]
    shelf.wiring.entries.delete_cache("default", "downloads")
    instant = 2.0
    with pytest.raises(FileNotFoundError):
        stored.open(("host", "a.bin"))


def test_a_blob_that_is_gone_is_not_found(shelf: Shelf, loads: list[str | None]) -> None:
    """Its entry may be there still."""
    shelf.put("a.bin")
    stored = Stored(shelf.wiring, "default", lambda: 0.0)
    stored.path(("host", "a.bin")).unlink()
    with pytest.raises(FileNotFoundError):
        stored.open(("host", "a.bin"))
    assert len(loads) == 1
