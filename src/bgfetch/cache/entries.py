"""What is in the named caches: which stored request and reply go with which blob.

The store below CacheStorage and Cache of the standard. Caches belong to a scope and come in the order they were
made; entries come in the order they were put. Which stored request answers a query is decided by `core/matching`;
this only finds the candidates fast. Blobs themselves are elsewhere: an entry names one by its digest.

Rules kept: a deleted cache is doomed, so whoever holds its number goes on reading and writing it while a new one may
take the name; several entries are put in one transaction or not at all; no secret is stored (`bgfetch.stored`).
"""

# ruff: noqa: D102 - the port says what each method does

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from bgfetch.core.matching import QueryOptions, early_miss, matches, url_key
from bgfetch.core.model import ReplyHead, Request, Verified
from bgfetch.database import Damaged, Database, load_queries
from bgfetch.errors import CacheError
from bgfetch.stored import checksum, pack_reply, pack_request, unpack_reply, unpack_request, without_secrets

__all__ = ["Entries", "Entry", "MemoryEntries", "Placed", "SqliteEntries"]

_SQL: Final = load_queries(Path(__file__).with_name("entries.sql"))
_EXACT: Final = QueryOptions()


@dataclass(frozen=True, slots=True)
class Entry:
    """A request and reply in a cache, and the blob that is the reply's body.

    Args:
        size: Length of the body, bytes.
        digest: "ALG:HEX" of the body, or "".
        added_at: Seconds since the epoch, like every instant here.
        entry_id: Given when it is put; 0 before.
        last_used: Never before `added_at`.
        pinned: Not to be evicted; what is put in its place is pinned too.
    """

    request: Request
    reply: ReplyHead
    blob: str
    size: int
    verified: Verified
    digest: str
    added_at: float
    entry_id: int = 0
    last_used: float = 0.0
    pinned: bool = False


class Placed(NamedTuple):
    """An entry and where it is."""

    scope: str
    cache: str
    entry: Entry


class Entries(Protocol):
    """The store. Every method may be called from any thread, and raises `CacheError` when the store refuses."""

    def open_cache(self, scope: str, name: str) -> int:
        """The number of the cache with this name, made if there is none. Any text is a name, "" too."""

    def has(self, scope: str, name: str) -> bool:
        """Whether the scope has a cache of this name."""

    def delete_cache(self, scope: str, name: str) -> bool:
        """Doom the cache; whether there was one."""

    def drop_doomed(self) -> None:
        """Forget doomed caches and what is in them: when nobody holds one, at the start of the daemon."""

    def names(self, scope: str) -> list[str]:
        """The scope's caches in the order they were made."""

    def put(self, cache_id: int, *entries: Entry) -> list[Entry]:
        """The entries as stored, last in the cache; each replaced those that its request matches.

        All or nothing, in this order (Service Workers, "batch cache operations"). Whether a pair may be put at all
        is asked of `core.matching.may_be_put` before.

        Raises:
            CacheError: There is no such cache.
        """

    def entries(self, cache_id: int) -> list[Entry]:
        """All entries in the order they were put; none when there is no such cache."""

    def find_all(self, cache_id: int, query: Request, options: QueryOptions = _EXACT) -> list[Entry]:
        """The entries that answer the query, in the order they were put."""

    def find(self, cache_id: int, query: Request, options: QueryOptions = _EXACT) -> Entry | None:
        """The first of `find_all`."""
        return next(iter(self.find_all(cache_id, query, options)), None)

    def delete(self, cache_id: int, query: Request, options: QueryOptions = _EXACT) -> bool:
        """Remove the entries that answer the query; whether there were any."""

    def remove(self, entry_id: int) -> bool:
        """Remove this entry; whether it was there. For eviction."""

    def by_url(self, scope: str, url: str) -> Entry | None:
        """The first entry, over the scope's caches as they were made, for a GET of just this URL; no look at Vary."""

    def placed(self, scope: str | None = None) -> list[Placed]:
        """Every entry of one scope or of all, by cache and in the order put. Doomed caches are left out."""

    def state(self, scope: str) -> tuple[int, int]:
        """Another one after each put and removal in the scope; use and pins leave it. How many `placed`, and the last number.

        Numbers are never given twice: of two sets of entries with one count and one last number neither has what the other
        has not. SQLite's `PRAGMA data_version` would change with each use.
        """

    def blobs(self) -> set[str]:
        """Every blob that an entry names, in doomed caches too: never delete these."""

    def touch(self, entry_id: int, now: float) -> None:
        """Note that the entry was used now, for eviction of those least recently used."""

    def pin(self, entry_id: int, *, pinned: bool) -> None:
        """Keep the entry from eviction, or no longer."""


class SqliteEntries(Entries):
    """The port over a `Database`, which is shared and stays the caller's to close."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open_cache(self, scope: str, name: str) -> int:
        place = {"scope": scope, "name": _packed_name(name)}
        found = self._rows("cache", place)
        if found:
            return int(found[0][0])
        with self._database.write() as connection:
            found = self._rows("cache", place)
            return int(found[0][0]) if found else connection.execute(_SQL["add_cache"], place).lastrowid or 0

    def has(self, scope: str, name: str) -> bool:
        return bool(self._rows("cache", {"scope": scope, "name": _packed_name(name)}))

    def delete_cache(self, scope: str, name: str) -> bool:
        return self._change("doom_cache", {"scope": scope, "name": _packed_name(name)})

    def drop_doomed(self) -> None:
        self._change("drop_doomed", {})

    def names(self, scope: str) -> list[str]:
        return [_name(row[0]) for row in self._rows("names", {"scope": scope})]

    def put(self, cache_id: int, *entries: Entry) -> list[Entry]:
        with self._database.write() as connection:
            if not self._rows("exists", {"cache_id": cache_id}):
                raise _no_cache(cache_id)
            stored = []
            for entry in entries:
                for former in self._answers(cache_id, entry.request, _EXACT):
                    connection.execute(_SQL["remove"], {"entry_id": former.entry_id})
                    entry = replace(entry, pinned=entry.pinned or former.pinned)  # noqa: PLW2901 - a pin is of the request
                entry_id = connection.execute(_SQL["add"], _columns(cache_id, entry)).lastrowid or 0
                stored.append(_as_stored(entry, entry_id))
            return stored

    def entries(self, cache_id: int) -> list[Entry]:
        return self._unpacked(self._rows("entries", {"cache_id": cache_id}))

    def find_all(self, cache_id: int, query: Request, options: QueryOptions = _EXACT) -> list[Entry]:
        return [] if early_miss(query, options) else self._answers(cache_id, query, options)

    def delete(self, cache_id: int, query: Request, options: QueryOptions = _EXACT) -> bool:
        with self._database.write() as connection:
            found = self.find_all(cache_id, query, options)
            connection.executemany(_SQL["remove"], [{"entry_id": entry.entry_id} for entry in found])
            return bool(found)

    def remove(self, entry_id: int) -> bool:
        return self._change("remove", {"entry_id": entry_id})

    def by_url(self, scope: str, url: str) -> Entry | None:
        found = self._unpacked(self._rows("by_url", {"scope": scope, "url": url_key(url)}))
        if found and url_key(found[0].request.url) != url_key(url):
            raise Damaged(f"{self._database.path} is damaged: an index leads to another URL's entry")
        return found[0] if found else None

    def placed(self, scope: str | None = None) -> list[Placed]:
        rows = self._rows("placed", {"scope": scope})
        entries = self._unpacked([row[:14] for row in rows])
        return [Placed(row[14], _name(row[15]), entry) for row, entry in zip(rows, entries, strict=True)]

    def state(self, scope: str) -> tuple[int, int]:
        count, last = self._rows("state", {"scope": scope})[0]
        return count, last or 0

    def blobs(self) -> set[str]:
        return {row[0] for row in self._rows("blobs", {})}

    def touch(self, entry_id: int, now: float) -> None:
        self._change("touch", {"entry_id": entry_id, "now": now})

    def pin(self, entry_id: int, *, pinned: bool) -> None:
        self._change("pin", {"entry_id": entry_id, "pinned": pinned})

    def unreadable(self) -> list[int]:
        """Entries that are not what was written."""
        return [entry_id for (entry_id,) in self._rows("entry_ids", {}) if not self._is_readable(entry_id)]

    def mend(self) -> int:
        """Remove entries that are not what was written; how many.

        Raises:
            Damaged: The file itself is, not only rows of it.
        """
        lost = self.unreadable()
        with self._database.write() as connection:
            connection.executemany(_SQL["remove"], [{"entry_id": entry_id} for entry_id in lost])
        return len(lost)

    def _is_readable(self, entry_id: int) -> bool:
        try:
            return bool(self._unpacked(self._rows("entry", {"entry_id": entry_id})))
        except Damaged:
            return False

    def _answers(self, cache_id: int, query: Request, options: QueryOptions) -> list[Entry]:
        place = {"cache_id": cache_id, "bare_url": url_key(query.url, ignore_search=True)}
        return [
            entry
            for entry in self._unpacked(self._rows("candidates", place))
            if matches(query, entry.request, entry.reply, options)
        ]

    def _rows(self, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        return self._database.rows(_SQL[query], parameters)

    def _change(self, query: str, parameters: dict[str, Any]) -> bool:
        with self._database.write() as connection:
            return connection.execute(_SQL[query], parameters).rowcount > 0

    def _unpacked(self, rows: Sequence[tuple[Any, ...]]) -> list[Entry]:
        try:
            return [_entry(row) for row in rows]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Damaged(f"{self._database.path}: a cache entry is not what was written: {error}") from error


class MemoryEntries(Entries):
    """The port over lists, for tests; one lock makes each method a transaction."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._named: dict[int, tuple[str, str]] = {}  # caches that are not doomed
        self._held: dict[int, list[Entry]] = {}
        self._last_cache = 0
        self._last_entry = 0

    def open_cache(self, scope: str, name: str) -> int:
        with self._lock:
            found = self._find_cache(scope, name)
            if found is None:
                self._last_cache += 1
                found = self._last_cache
                self._named[found] = (scope, name)
                self._held[found] = []
            return found

    def has(self, scope: str, name: str) -> bool:
        with self._lock:
            return self._find_cache(scope, name) is not None

    def delete_cache(self, scope: str, name: str) -> bool:
        with self._lock:
            found = self._find_cache(scope, name)
            return found is not None and bool(self._named.pop(found))

    def drop_doomed(self) -> None:
        with self._lock:
            self._held = {cache_id: held for cache_id, held in self._held.items() if cache_id in self._named}

    def names(self, scope: str) -> list[str]:
        with self._lock:
            return [name for own, name in self._named.values() if own == scope]

    def put(self, cache_id: int, *entries: Entry) -> list[Entry]:
        with self._lock:
            if cache_id not in self._held:
                raise _no_cache(cache_id)
            stored = []
            for entry in entries:
                former = self._answers(cache_id, entry.request, _EXACT)
                self._last_entry += 1
                pinned = entry.pinned or any(it.pinned for it in former)
                entry = replace(entry, pinned=pinned)  # noqa: PLW2901 - a pin is of the request, not of its body
                stored.append(_as_stored(entry, self._last_entry))
                kept = [it for it in self._held[cache_id] if it not in former]
                self._held[cache_id] = [*kept, stored[-1]]
            return stored

    def entries(self, cache_id: int) -> list[Entry]:
        with self._lock:
            return list(self._held.get(cache_id, ()))

    def find_all(self, cache_id: int, query: Request, options: QueryOptions = _EXACT) -> list[Entry]:
        with self._lock:
            return [] if early_miss(query, options) else self._answers(cache_id, query, options)

    def delete(self, cache_id: int, query: Request, options: QueryOptions = _EXACT) -> bool:
        with self._lock:
            found = self.find_all(cache_id, query, options)
            for entry in found:
                self.remove(entry.entry_id)
            return bool(found)

    def remove(self, entry_id: int) -> bool:
        with self._lock:
            for cache_id, held in self._held.items():
                kept = [entry for entry in held if entry.entry_id != entry_id]
                if len(kept) < len(held):
                    self._held[cache_id] = kept
                    return True
            return False

    def by_url(self, scope: str, url: str) -> Entry | None:
        entries = (entry for _, _, entry in self.placed(scope) if entry.request.method == "GET")
        return next((entry for entry in entries if url_key(entry.request.url) == url_key(url)), None)

    def placed(self, scope: str | None = None) -> list[Placed]:
        with self._lock:
            named = [
                (cache_id, *place) for cache_id, place in self._named.items() if scope in (None, place[0])
            ]
            return [
                Placed(own, name, entry) for cache_id, own, name in named for entry in self._held[cache_id]
            ]

    def state(self, scope: str) -> tuple[int, int]:
        numbers = [each.entry.entry_id for each in self.placed(scope)]
        return len(numbers), max(numbers, default=0)

    def blobs(self) -> set[str]:
        with self._lock:
            return {entry.blob for held in self._held.values() for entry in held}

    def touch(self, entry_id: int, now: float) -> None:
        self._change(entry_id, last_used=now)

    def pin(self, entry_id: int, *, pinned: bool) -> None:
        self._change(entry_id, pinned=pinned)

    def _find_cache(self, scope: str, name: str) -> int | None:
        return next((cache_id for cache_id, place in self._named.items() if place == (scope, name)), None)

    def _answers(self, cache_id: int, query: Request, options: QueryOptions) -> list[Entry]:
        held = self._held.get(cache_id, ())
        return [entry for entry in held if matches(query, entry.request, entry.reply, options)]

    def _change(self, entry_id: int, *, last_used: float = 0.0, pinned: bool | None = None) -> None:
        with self._lock:
            for held in self._held.values():
                for at, entry in enumerate(held):
                    if entry.entry_id == entry_id:
                        used = max(entry.last_used, last_used)
                        kept = entry.pinned if pinned is None else pinned
                        held[at] = replace(entry, last_used=used, pinned=kept)


def _as_stored(entry: Entry, entry_id: int) -> Entry:
    """The entry as it will be read: without secrets, used when it was added."""
    reply = unpack_reply(pack_reply(entry.reply))
    assert reply is not None  # noqa: S101 - only no reply becomes none
    return replace(
        entry,
        request=replace(without_secrets(entry.request), body=None),
        reply=reply,
        added_at=float(entry.added_at),
        entry_id=entry_id,
        last_used=max(entry.last_used, float(entry.added_at)),
    )


def _columns(cache_id: int, entry: Entry) -> dict[str, Any]:
    checked: dict[str, Any] = {
        "cache_id": cache_id,
        "url": url_key(entry.request.url),
        "method": entry.request.method,
        "request": pack_request(entry.request),
        "reply": pack_reply(entry.reply),
        "blob": entry.blob,
        "size": entry.size,
        "verified": entry.verified.value,
        "digest": entry.digest,
        "added_at": float(entry.added_at),
    }
    return checked | {
        "bare_url": url_key(entry.request.url, ignore_search=True),
        "checksum": checksum(*checked.values()),
        "last_used": max(entry.last_used, float(entry.added_at)),
        "pinned": entry.pinned,
    }


def _entry(row: tuple[Any, ...]) -> Entry:
    entry_id, _, _, _, request, reply, blob, size, verified, digest, added_at, check, last_used, pinned = row
    head = unpack_reply(reply)
    if checksum(*row[1:11]) != check or head is None:
        raise ValueError("its checksum does not fit")
    return Entry(
        unpack_request(request),
        head,
        blob,
        size,
        Verified(verified),
        digest,
        added_at,
        entry_id,
        last_used,
        bool(pinned),
    )


def _packed_name(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _name(packed: bytes) -> str:
    return packed.decode("utf-8", "surrogatepass")


def _no_cache(cache_id: int) -> CacheError:
    return CacheError(f"cache {cache_id} is gone: open it again by its name")
