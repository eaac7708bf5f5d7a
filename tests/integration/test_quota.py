"""A quota that a person set, pins, and pruning while others work: what anybody needs stays."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import pytest
from tests.command import Command

from bgfetch.cache import maintenance
from bgfetch.cache.blobs import Finished
from bgfetch.cache.facts import BlobFacts
from bgfetch.config import load
from bgfetch.core.identity import request_key
from bgfetch.core.model import Request
from bgfetch.core.pieces import Slot
from bgfetch.errors import QuotaExceeded
from bgfetch.response import Response
from bgfetch.testing import OriginServer
from bgfetch.wiring import Wiring

MIB = 1 << 20
FILES = {f"/{name}": os.urandom(4 * MIB) for name in "abcd"}
DAY = 86400.0


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command line with a quota for two of the files, and a bit."""
    command = Command(tmp_path / "home")
    command.settings["BGFETCH_CACHE_QUOTA"] = "9M"
    return command


def names(command: Command) -> list[str]:
    """The last letters of what is in the cache."""
    return sorted(row["url"][-1] for row in command("cache", "ls", "--json").objects if row["path"])


def stored(command: Command) -> int:
    """Bytes in bodies on the disk."""
    blobs = command.home / "blobs"
    return sum(path.stat().st_size for path in blobs.rglob("*") if path.is_file() and not path.suffix)


def test_the_least_recently_used_makes_room(command: Command) -> None:
    """Before the room is needed, not after; what was used lately, or is pinned, stays."""
    with OriginServer(FILES) as server:
        for name in "ab":
            assert command("get", server.url_of(f"/{name}")).code == 0
        assert "8.0 MiB stored in all of a quota of 9.0 MiB" in command("cache", "ls").out
        assert command("get", server.url_of("/c")).code == 0
        assert names(command) == ["b", "c"]
        assert stored(command) == 8 * MIB
        assert command("cache", "pin", server.url_of("/b")).code == 0
        assert command("get", server.url_of("/d")).code == 0
        assert names(command) == ["b", "d"]
        assert "pinned" in command("cache", "ls").out
        assert not list((command.home / "names").rglob("c"))


def test_what_does_not_fit_ends_at_once(command: Command) -> None:
    """It is a named error before the first byte, and nothing is evicted in vain."""
    with OriginServer({**FILES, "/large": os.urandom(10 * MIB)}) as server:
        for name in "ab":
            command("get", server.url_of(f"/{name}"))
            command("cache", "pin", server.url_of(f"/{name}"))
        for path in ("/c", "/large"):
            said = command("get", server.url_of(path))
            assert (said.code, "quota" in said.err, "pinned or in use" in said.err) == (7, True, True)
        assert names(command) == ["a", "b"]
        assert command("cache", "unpin", server.url_of("/a")).code == 0
        assert command("get", server.url_of("/c")).code == 0
        assert names(command) == ["b", "c"]


def test_prune_to_a_size(command: Command) -> None:
    """The same by hand, and what cannot be is said."""
    with OriginServer(FILES) as server:
        for name in "ab":
            command("get", server.url_of(f"/{name}"))
        (row,) = command("cache", "prune", "--to", "5M", "--dry-run", "--json").objects
        assert (row["freed"], len(row["evicted"]), names(command)) == (4 * MIB, 1, ["a", "b"])
        assert command("cache", "prune", "--to", "5M", "--yes").err == "bgfetch: 4.0 MiB freed\n"
        assert names(command) == ["b"]
        command("cache", "pin", server.url_of("/b"))
        assert command("cache", "prune", "--to", "1M", "--yes").code == 7
        assert names(command) == ["b"]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Wiring]:
    """A home with a quota, as a program uses it."""
    wiring = Wiring(load({"home": tmp_path / "home", "cache_quota": 9 * MIB, "in_process": True}, environ={}))
    yield wiring
    wiring.close()


def test_a_pin_stays_on_what_replaces_the_file(home: Wiring) -> None:
    """It is a wish about the name."""

    async def story() -> None:
        cache = await home.caches("app").open("models")
        for body in (b"one", b"two"):
            await cache.put("https://host/model", Response(body))
            (placed,) = home.entries.placed("app")
            assert placed.entry.pinned == (body == b"two")
            home.entries.pin(placed.entry.entry_id, pinned=True)

    asyncio.run(story())


def test_a_file_that_is_read_is_not_evicted(home: Wiring) -> None:
    """By any process: the lease is the operating system's, and ends with the reader."""

    async def story() -> None:
        cache = await home.caches("app").open("models")
        for name in "ab":
            await cache.put(f"https://host/{name}", Response(os.urandom(4 * MIB)))
        found = await cache.match("https://host/a")
        assert found is not None
        reading = aiter(found)
        assert len(await anext(reading)) == MIB
        await cache.put("https://host/c", Response(os.urandom(4 * MIB)))
        assert await cache.match("https://host/b") is None
        with pytest.raises(QuotaExceeded, match="in use"):
            await cache.put("https://host/d", Response(os.urandom(6 * MIB)))
        async for _ in reading:
            pass

    asyncio.run(story())


def test_unfinished_work_is_not_evicted(home: Wiring) -> None:
    """A partial that a registration refers to, and the room reserved for it, count and stay."""
    request = Request("https://host/half")
    key = request_key(request)
    home.registrations.add("app", "x", [(request, key)], now=0.0)
    partial = home.partials.open(key)
    partial.allocate(6 * MIB)
    partial.close()
    os.utime(home.partials.path(key) / "data", (0, 0))

    async def story() -> None:
        cache = await home.caches("app").open("models")
        with pytest.raises(QuotaExceeded):
            await cache.put("https://host/c", Response(os.urandom(4 * MIB)))

    asyncio.run(story())
    assert home.partials.exists(key)


def test_prune_beside_a_running_system(tmp_path: Path) -> None:
    """Everything that looks old is pruned again and again while files come: each comes, whole."""
    command = Command(tmp_path / "home")
    wiring = Wiring(load({"home": command.home}, environ={}))
    over = threading.Event()
    rounds = 0

    def prune() -> None:
        nonlocal rounds
        while not over.is_set():
            # As if a day had passed: nothing is protected by being new, only by being needed.
            now = wiring.clock.now() + DAY
            maintenance.prune(wiring.kept, wiring.registrations, now=now, older_than=60.0)
            rounds += 1

    files = {f"/{number}": os.urandom(3 * MIB + number) for number in range(12)}
    with OriginServer(files) as server:
        server.rate = 20e6
        pruning = threading.Thread(target=prune)
        pruning.start()
        try:
            said = command("get", "--quiet", *map(server.url_of, files))
        finally:
            over.set()
            pruning.join()
            wiring.close()
        assert (said.code, len(said.lines), rounds > 3) == (0, 12, True), said.err
        assert [Path(line).read_bytes() for line in said.lines] == list(files.values())
        assert len(server.requests) < 40


def test_what_was_placed_and_not_told_of_is_not_pruned(home: Wiring) -> None:
    """A process that ends between giving a body its name and settling leaves `placed.json`: that refers to the body."""
    body = os.urandom(2 * MIB)
    wiring = home
    with OriginServer(body) as server:
        request = Request(server.url)
        key = request_key(request)
        row = wiring.registrations.add("default", "x", [(request, key)], now=1.0)
        partial = wiring.partials.open(key)
        for index in range(2):
            piece = body[index * MIB : (index + 1) * MIB]
            assert partial.grow(index, 0, piece, Slot(MIB, google_crc32c.extend(0, piece)))
        facts = BlobFacts(server.url, size=len(body), verified="length")
        owner = f"{row.uid}.0.{row.created_at!r}"
        (name,) = wiring.blobs.adopt([Finished(partial, len(body), "", facts, owner)])
        partial.close()
        later = wiring.clock.now() + DAY
        for _ in range(2):
            pruned = maintenance.prune(wiring.kept, wiring.registrations, now=later, older_than=60.0)
            assert (pruned.blobs, pruned.partials) == ((), ())
        assert maintenance.usage(wiring.kept, wiring.registrations).unreferenced == 0
        assert wiring.runner.run(row.uid)
        settled = threading.Event()
        wiring.runner.listen(row.uid, lambda progress: settled.set() if progress.result else None)
        assert settled.wait(10)
        assert not server.requests
        assert wiring.registrations.records(row.uid)[0].blob == name


def test_strays_go(home: Wiring) -> None:
    """Names of bodies that are gone, tables without a body, drafts: deleted once they are old, and nothing else."""
    blob = home.blobs.path("sha256/ab/" + "ab" * 32)
    blob.parent.mkdir(parents=True)
    litter = [blob.with_name(blob.name + kind) for kind in (".pieces", ".json", ".json.1.2.new")]
    lost = home.links.path("c" * 64, "model.bin")
    lost.parent.mkdir(parents=True)
    for path in (*litter, lost):
        path.write_bytes(b"left behind")

    async def story() -> Path:
        cache = await home.caches("app").open("models")
        await cache.put("https://host/a", Response(b"kept"))
        found = await cache.match("https://host/a")
        assert found is not None
        assert found.path is not None
        draft = found.path.with_name(".0123456789abcdef.bgfetch")
        os.link(found.path, draft)
        return found.path

    kept = asyncio.run(story())
    old = home.clock.now() - 1.0
    maintenance.prune(home.kept, home.registrations, now=old, older_than=60.0)
    assert all(path.exists() for path in (*litter, lost))
    maintenance.prune(home.kept, home.registrations, now=old + DAY, older_than=60.0)
    assert not any(path.exists() for path in (*litter, lost))
    assert [path.name for path in kept.parent.iterdir()] == ["a"]
    assert kept.read_bytes() == b"kept"
