"""Keeps what is stored below a quota that a person set, and says what registrations still need.

Everything counts once: finished bodies, unfinished ones with the room reserved for them. What goes is decided by
`core/quota`; here is found out who needs what. Rule kept: nothing goes that a registration needs whose event was not
handled yet, that a deleted cache still holds, that somebody reads or that was touched a moment ago on its way.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from bgfetch.cache.entries import Placed
from bgfetch.cache.maintenance import Kept, remove
from bgfetch.cache.room import OverQuota
from bgfetch.core.quota import Plan, Stored, plan
from bgfetch.registrations.port import RecordRow, Registrations

__all__ = ["Eviction", "Needed"]

_ON_ITS_WAY = 60.0  # seconds: a body that nobody refers to yet is about to be referred to
_COUNT_AGAIN = 10.0  # seconds: other processes store things too


class Needed:
    """What registrations need once those that are over have let go of their records.

    Only those whose settle event has been handled let go: until then a handler may read them.

    Args:
        registrations: The store.
        blobs: Only registrations that hold one of these let go; None for all.
        before: And that settled before this instant.
    """

    def __init__(
        self, registrations: Registrations, *, blobs: set[str] | None = None, before: float = math.inf
    ) -> None:
        self._store = registrations
        owed = {event.uid for event in self._store.pending(now=math.inf)}
        self._over: list[int] = []
        self._records: list[RecordRow] = []
        for row in self._store.listing():
            records = self._store.records(row.uid) if row.records_available else []
            held = blobs is None or any(record.blob in blobs for record in records)
            if held and row.settled_at is not None and row.settled_at < before and row.uid not in owed:
                self._over.append(row.uid)
            else:
                self._records += records

    def keys(self) -> set[str]:
        """Keys of partials never to be deleted."""
        return {record.key for record in self._records}

    def blobs(self) -> set[str]:
        """Blobs never to be deleted."""
        return {record.blob for record in self._records if record.blob}

    def release(self) -> None:
        """Let those that are over let go."""
        for uid in self._over:
            self._store.release_records(uid)


class Eviction:
    """The quota of one home.

    Args:
        kept: The stores.
        registrations: Who else needs what is stored.
        quota: Most bytes of all that is stored; 0 = no quota.
        now: The time, seconds since the epoch.
        monotonic: Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        kept: Kept,
        registrations: Registrations,
        *,
        quota: int,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.quota = quota
        self._kept = kept
        self._registrations = registrations
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._used = 0
        self._counted_at = -math.inf

    def make_room(self, incoming: int) -> None:
        """Evict until so many more bytes fit the quota; they count as stored from here on.

        Raises:
            OverQuota: They do not fit, whatever is evicted; nothing was.
            CacheError: The store refuses.
        """
        if not self.quota:
            return
        with self._lock:
            if self._monotonic() - self._counted_at > _COUNT_AGAIN:
                self._count()
            if self._used + incoming > self.quota:
                self.keep_to(self.quota, incoming=incoming)
            self._used += incoming

    def settle(self) -> None:
        """Evict until what is stored already fits the quota. As `make_room`."""
        self._counted_at = -math.inf
        self.make_room(0)

    def keep_to(self, most: int, *, incoming: int = 0, dry_run: bool = False) -> Plan:
        """Evict until all that is stored, and this, is so many bytes at the most; what was, or would be, evicted.

        Raises:
            OverQuota: It cannot be; nothing was evicted.
        """
        with self._lock:
            stored = list(self._stored())
            used = sum(each.size for each in stored)
            made = plan(stored, quota=most, incoming=incoming)
            if made.short:
                raise OverQuota(
                    f"{incoming} bytes more would make {used + incoming} where {most} are allowed, and "
                    f"{made.short} too many of them are pinned or in use"
                )
            if not dry_run:
                self._evict(made)
                self._used, self._counted_at = used - made.freed, self._monotonic()
            return made

    def _count(self) -> None:
        kept = self._kept
        bodies = sum(kept.blobs.size(name) or 0 for name in kept.blobs.names())
        partials = sum(self._partial_size(key) for key in kept.partials.keys())  # noqa: SIM118 - not a mapping
        self._used, self._counted_at = bodies + partials, self._monotonic()

    def _partial_size(self, key: str) -> int:
        return self._kept.vfs.size(self._kept.partials.path(key) / "data") or 0

    def _stored(self) -> Iterator[Stored]:
        """Everything there is. What is on disk is listed before it is asked who needs it: others work meanwhile."""
        kept, blobs, keys = self._kept, list(self._kept.blobs.names()), self._kept.partials.keys()
        promised = {each.blob for each in map(kept.blobs.promised, map(kept.partials.path, keys)) if each}
        needed = Needed(self._registrations)
        places = self._places()
        held = needed.blobs() | promised | (kept.entries.blobs() - places.keys())
        for name in blobs:
            yield self._blob(name, places.get(name, []), held=name in held)
        wanted = needed.keys()
        for key in keys:
            touched = kept.vfs.touched(kept.partials.path(key) / "data") or 0.0
            leased = key in wanted or self._on_its_way(touched)
            yield Stored(key, self._partial_size(key), touched, leased=leased)

    def _blob(self, name: str, placed: list[Placed], *, held: bool) -> Stored:
        path = self._kept.blobs.path(name)
        touched = 0.0 if placed else self._kept.vfs.touched(path) or 0.0
        return Stored(
            name,
            self._kept.blobs.size(name) or 0,
            max((each.entry.last_used for each in placed), default=touched),
            pinned=any(each.entry.pinned for each in placed),
            leased=held or self._on_its_way(touched) or self._kept.vfs.is_leased(path),
        )

    def _on_its_way(self, touched: float) -> bool:
        return self._now() - touched < _ON_ITS_WAY

    def _places(self) -> dict[str, list[Placed]]:
        places: dict[str, list[Placed]] = {}
        for placed in self._kept.entries.placed():
            places.setdefault(placed.entry.blob, []).append(placed)
        return places

    def _evict(self, made: Plan) -> None:
        kept, places = self._kept, self._places()
        Needed(self._registrations, blobs=set(made.evict)).release()
        for name in made.evict:
            with suppress(OSError):  # what cannot be deleted now is counted again, and may go the next time
                if name in places:
                    remove(kept, self._registrations, places[name])
                elif "/" not in name:
                    kept.partials.remove(name)
                elif name not in kept.entries.blobs():
                    kept.blobs.remove(name)
