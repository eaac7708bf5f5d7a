"""What every store of cache entries promises, run on the one in memory first and then on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bgfetch.cache.entries import Entries, Entry, MemoryEntries, SqliteEntries
from bgfetch.core.matching import QueryOptions
from bgfetch.core.model import Headers, ReplyHead, Request, Verified
from bgfetch.database import Database
from bgfetch.errors import CacheError

URL = "https://host/model.bin"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Entries]:
    """Each implementation in turn."""
    if request.param == "memory":
        yield MemoryEntries()
        return
    database = Database.open(tmp_path / "bgfetch.sqlite3", now=0.0)
    yield SqliteEntries(database)
    database.close()


def entry(url: str = URL, blob: str = "aa", **headers: str) -> Entry:
    """An entry whose reply has these headers, and whose request has those named `ask_…`."""
    asked = [
        (name[4:].replace("_", "-"), value) for name, value in headers.items() if name.startswith("ask_")
    ]
    told = [(name, value) for name, value in headers.items() if not name.startswith("ask_")]
    reply = ReplyHead(url, 200, Headers(told))
    return Entry(Request(url, headers=Headers(asked)), reply, blob, 5, Verified.DIGEST, "sha256:aa", 10.0)


def blobs(entries: list[Entry]) -> list[str]:
    """What tells entries apart here."""
    return [it.blob for it in entries]


def test_caches_by_scope_and_name(store: Entries) -> None:
    """A cache is made once per scope and name; names come in the order made; any text is a name."""
    first = store.open_cache("app", "zz")
    assert store.open_cache("app", "zz") == first
    names = ["zz", "", "\ud800", "\x00a", "🙂"]
    assert len({store.open_cache("app", name) for name in names}) == len(names)
    assert store.open_cache("other", "zz") != first
    assert store.names("app") == names
    assert store.names("nowhere") == []
    assert store.has("app", "\ud800")
    assert not store.has("other", "")


def test_deleted_cache_is_doomed(store: Entries) -> None:
    """A holder of a deleted cache goes on with it; the name gives a fresh cache, last in order."""
    held = store.open_cache("app", "one")
    store.open_cache("app", "two")
    store.put(held, entry())
    assert store.delete_cache("app", "one")
    assert not store.delete_cache("app", "one")
    assert not store.has("app", "one")
    store.put(held, entry("https://host/b", "bb"))
    assert blobs(store.entries(held)) == ["aa", "bb"]
    fresh = store.open_cache("app", "one")
    assert store.entries(fresh) == []
    assert store.names("app") == ["two", "one"]
    assert store.blobs() == {"aa", "bb"}
    assert store.placed() == []
    assert store.by_url("app", URL) is None


def test_doomed_are_dropped(store: Entries) -> None:
    """Once nobody can hold a doomed cache it goes with what is in it, and putting into it is refused."""
    held = store.open_cache("app", "one")
    kept = store.open_cache("app", "two")
    store.put(held, entry())
    store.put(kept, entry(blob="bb"))
    store.delete_cache("app", "one")
    store.drop_doomed()
    assert store.blobs() == {"bb"}
    assert store.entries(held) == []
    with pytest.raises(CacheError, match="gone"):
        store.put(held, entry())


def test_put_comes_back(store: Entries) -> None:
    """An entry is read as it was put, with a number of its own."""
    cache_id = store.open_cache("app", "c")
    request = Request(URL + "?x#f", headers=Headers([("a", "1")]), integrity="sha256:aa", expected_size=5)
    given = Entry(
        request,
        ReplyHead(URL, 404, Headers([("b", "2")])),
        "ab",
        1 << 40,
        Verified.LENGTH,
        "",
        3.0,
        pinned=True,
    )
    (stored,) = store.put(cache_id, given)
    assert stored == replace(given, entry_id=stored.entry_id, last_used=3.0)
    assert stored.entry_id
    assert store.entries(cache_id) == [stored]
    assert store.find(cache_id, Request(URL + "?x")) == stored


def test_put_replaces_and_moves_to_the_end(store: Entries) -> None:
    """What the request matches is gone, other fragments included, and the new entry is the last."""
    cache_id = store.open_cache("app", "c")
    store.put(cache_id, entry(URL + "#old", "a"), entry(URL + "?q", "b"), entry("https://host/other", "c"))
    store.put(cache_id, entry(URL + "#new", "d"))
    assert blobs(store.entries(cache_id)) == ["b", "c", "d"]


def test_variants_live_together(store: Entries) -> None:
    """Entries that differ in a header their replies vary by do not replace each other."""
    cache_id = store.open_cache("app", "c")
    store.put(cache_id, entry(blob="en", vary="accept-language", ask_accept_language="en"))
    store.put(cache_id, entry(blob="de", vary="accept-language", ask_accept_language="de"))
    asked = Request(URL, headers=Headers([("accept-language", "de")]))
    assert blobs(store.find_all(cache_id, asked)) == ["de"]
    assert blobs(store.find_all(cache_id, asked, QueryOptions(ignore_vary=True))) == ["en", "de"]
    assert store.find(cache_id, Request(URL)) is None


def test_batch_is_all_or_nothing(store: Entries) -> None:
    """Several entries are put together, the later winning over an equal earlier one."""
    cache_id = store.open_cache("app", "c")
    stored = store.put(cache_id, entry(blob="a"), entry("https://host/b", "b"), entry(blob="c"))
    assert blobs(stored) == ["a", "b", "c"]
    assert blobs(store.entries(cache_id)) == ["b", "c"]


def test_queries(store: Entries) -> None:
    """Queries answer in the order put, with the standard's options."""
    cache_id = store.open_cache("app", "c")
    store.put(cache_id, entry(URL + "?1", "a"), entry(URL, "b"), entry(URL + "x", "c"))
    assert blobs(store.find_all(cache_id, Request(URL))) == ["b"]
    assert blobs(store.find_all(cache_id, Request(URL), QueryOptions(ignore_search=True))) == ["a", "b"]
    assert store.find_all(cache_id, Request(URL, "PUT")) == []
    assert blobs(store.find_all(cache_id, Request(URL, "PUT"), QueryOptions(ignore_method=True))) == ["b"]
    assert store.find(cache_id, Request("https://host/")) is None
    assert store.find(99, Request(URL)) is None


def test_delete(store: Entries) -> None:
    """Delete takes what the query matches and says whether there was any."""
    cache_id = store.open_cache("app", "c")
    store.put(cache_id, entry(URL + "?1", "a"), entry(URL, "b"), entry(URL + "?2", "c"))
    assert not store.delete(cache_id, Request(URL, "PUT"))
    assert store.delete(cache_id, Request(URL + "?1"))
    assert not store.delete(cache_id, Request(URL + "?1"))
    assert store.delete(cache_id, Request(URL), QueryOptions(ignore_search=True))
    assert store.entries(cache_id) == []


def test_by_url(store: Entries) -> None:
    """The first cache made wins, of this scope only, for exactly this URL; spelling of the host does not matter."""
    later, first = store.open_cache("app", "a"), store.open_cache("app", "b")
    store.put(first, entry(blob="b"))
    store.put(store.open_cache("other", "c"), entry(blob="c"))
    assert blobs([it for it in [store.by_url("app", URL)] if it]) == ["b"]
    store.put(later, entry(blob="a", vary="accept"))
    found = store.by_url("app", "HTTPS://HOST:443/model.bin#part")
    assert found is not None
    assert found.blob == "a"
    assert store.by_url("app", URL + "?") is None
    assert store.by_url("nowhere", URL) is None


def test_placed(store: Entries) -> None:
    """Everything is listed with its place, by cache and in the order put, of one scope or of all."""
    one, two = store.open_cache("app", "1"), store.open_cache("z", "2")
    store.put(two, entry(blob="c"))
    store.put(one, entry(blob="a"), entry(URL + "?", "b"))
    assert [(it.scope, it.cache, it.entry.blob) for it in store.placed()] == [
        ("app", "1", "a"),
        ("app", "1", "b"),
        ("z", "2", "c"),
    ]
    assert [it.entry.blob for it in store.placed("z")] == ["c"]


def test_state(store: Entries) -> None:
    """It is another one after each change of the scope's entries, also where one goes and one comes, and after no other."""
    states = [store.state("app")]
    one = store.open_cache("app", "1")

    def seen() -> tuple[int, int]:
        states.append(store.state("app"))
        return states[-1]

    (first,) = store.put(one, entry(blob="a"))
    seen()
    store.put(one, entry(URL + "?", "b"))
    before = seen()
    store.touch(first.entry_id, 99.0)
    store.pin(first.entry_id, pinned=True)
    store.put(store.open_cache("z", "2"), entry(blob="c"))
    assert store.state("app") == before
    store.delete(one, Request(URL))
    store.put(one, entry(URL + "?3", "d"))
    seen()
    store.put(one, entry(URL + "?3", "e"))
    seen()
    store.delete_cache("app", "1")
    assert seen() == (0, 0)
    assert len(set(states)) == len(states) - 1  # it ends as it began


def test_use_and_pin(store: Entries) -> None:
    """The last use only moves forward, a pin comes and goes, and an entry can be evicted by its number."""
    cache_id = store.open_cache("app", "c")
    (stored,) = store.put(cache_id, entry())
    assert stored.last_used == 10.0
    store.touch(stored.entry_id, 50.0)
    store.touch(stored.entry_id, 40.0)
    store.pin(stored.entry_id, pinned=True)
    assert store.entries(cache_id) == [replace(stored, last_used=50.0, pinned=True)]
    store.pin(stored.entry_id, pinned=False)
    assert store.entries(cache_id) == [replace(stored, last_used=50.0)]
    assert store.remove(stored.entry_id)
    assert not store.remove(stored.entry_id)
    store.touch(stored.entry_id, 60.0)
    assert store.entries(cache_id) == []


def test_secrets_are_not_kept(store: Entries) -> None:
    """Secret request headers keep their names only, cookies are left out of replies, bodies are not kept."""
    cache_id = store.open_cache("app", "c")
    request = Request(URL, headers=Headers([("authorization", "s3cret")]), body=b"s3cret")
    head = ReplyHead(URL + "?sig=s3cret", 200, Headers([("set-cookie", "s3cret")]))
    (stored,) = store.put(cache_id, Entry(request, head, "aa", 1, Verified.LENGTH, "", 1.0))
    assert "s3cret" not in repr(stored)
    assert stored.request.headers.pairs == (("authorization", ""),)
    assert store.entries(cache_id) == [stored]
