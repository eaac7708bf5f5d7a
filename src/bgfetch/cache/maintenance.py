"""What a person does to the cache: look, measure, remove, prune, export. `cache/repair` has verify and repair.

Rule kept: a partial that a registration refers to and a blob that anybody refers to are never deleted. So what is on
disk is listed before it is asked who refers to it, and asked about once more right before it goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.entries import Entries, Placed
from bgfetch.cache.links import Links
from bgfetch.cache.partials import Partials
from bgfetch.cache.strays import strays
from bgfetch.core.identity import request_key
from bgfetch.core.urls import redacted
from bgfetch.errors import NotFound
from bgfetch.vfs import Vfs

__all__ = ["Kept", "Listed", "Pruned", "References", "Usage", "export", "listing", "prune", "remove", "usage"]


class References(Protocol):
    """Who else needs what is on disk; registrations are such."""

    def keys(self) -> set[str]:
        """Keys of partials never to be deleted."""

    def blobs(self) -> set[str]:
        """Blobs never to be deleted."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Everything that is kept, of all scopes."""

    entries: Entries
    blobs: Blobs
    partials: Partials
    links: Links
    vfs: Vfs


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry, where it is, and whether its file is there and as long as it should be."""

    placed: Placed
    present: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on this disk.

    Args:
        caches: By (scope, cache); a blob that two caches share counts in both.
        partials: Of unfinished bodies, the room that is reserved for them included.
        unreferenced: Of blobs that nobody refers to; `prune` frees them.
        total: Of all blobs and partials, each counted once.
    """

    caches: dict[tuple[str, str], int]
    partials: int
    unreferenced: int
    total: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was, or in a dry run would be, deleted: keys of partials, blobs, keys of names; the bytes of it; stray files."""

    partials: tuple[str, ...]
    blobs: tuple[str, ...]
    names: tuple[str, ...]
    freed: int
    strays: tuple[Path, ...] = ()


def listing(kept: Kept, scope: str | None = None) -> list[Listed]:
    """Every entry of one scope or of all, by cache and in the order put."""
    return [
        Listed(placed, kept.blobs.size(placed.entry.blob) == placed.entry.size)
        for placed in kept.entries.placed(scope)
    ]


def usage(kept: Kept, references: References) -> Usage:
    """Who takes how much of the disk."""
    sizes = {name: kept.blobs.size(name) or 0 for name in kept.blobs.names()}
    caches: dict[tuple[str, str], set[str]] = {}
    for placed in kept.entries.placed():
        caches.setdefault((placed.scope, placed.cache), set()).add(placed.entry.blob)
    used = _promised(kept, references.keys()) | references.blobs() | kept.entries.blobs()
    partials = sum(_partial_size(kept, key) for key in kept.partials.keys())  # noqa: SIM118 - not a mapping
    return Usage(
        {place: sum(sizes.get(name, 0) for name in names) for place, names in caches.items()},
        partials,
        sum(size for name, size in sizes.items() if name not in used),
        partials + sum(sizes.values()),
    )


def remove(kept: Kept, references: References, placed: Iterable[Placed]) -> int:
    """Remove these entries, with their names and those blobs that nobody else refers to; bytes freed."""
    gone = [each.entry for each in placed if kept.entries.remove(each.entry.entry_id)]
    keys = {request_key(entry.request) for entry in gone} - _live_keys(kept, references)
    for key in keys:
        kept.links.remove(key)
    return sum(
        kept.blobs.remove(blob)
        for blob in {entry.blob for entry in gone}
        if not _used(kept, references, blob)
    )


def prune(
    kept: Kept, references: References, *, now: float, older_than: float, dry_run: bool = False
) -> Pruned:
    """Delete what nobody refers to and nobody has touched lately; what deleted caches held goes with it.

    A handle on a deleted cache that somebody still has is void afterwards.

    Args:
        kept: The stores.
        references: Who else needs what is on disk.
        now: Instant, seconds since the epoch.
        older_than: Seconds since the last touch that a thing must be left alone. A body on its way into the cache
            is referred to by nobody yet, so a minute at the least.
        dry_run: Only say what would go.
    """
    partials, blobs, names = kept.partials.keys(), list(kept.blobs.names()), kept.links.keys()
    if not dry_run:
        kept.entries.drop_doomed()
    wanted = references.keys()
    # In the order in which a body is handed on, so that none slips through between two looks.
    used = _promised(kept, wanted) | references.blobs()
    used |= {each.entry.blob for each in kept.entries.placed()}  # without what deleted caches hold
    live = {key[:32] for key in _live_keys(kept, references)}
    before = now - older_than
    gone = tuple(
        key for key in names if key not in live and _touched(kept, kept.links.directory(key)) < before
    )
    stray = strays(kept.blobs, kept.links, kept.vfs, used, before=before)
    pruned = Pruned(
        tuple(key for key in partials if key not in wanted and _partial_touched(kept, key) < before),
        tuple(blob for blob in blobs if blob not in used and _touched(kept, kept.blobs.path(blob)) < before),
        gone,
        0,
        tuple(path for path in stray if path.parent.name not in gone),
    )
    if dry_run:
        sizes = [kept.blobs.size(blob) or 0 for blob in pruned.blobs]
        return replace(pruned, freed=sum(sizes) + sum(_partial_size(kept, key) for key in pruned.partials))
    return replace(pruned, freed=_delete(kept, references, pruned))


def _delete(kept: Kept, references: References, pruned: Pruned) -> int:
    """Each is asked about once more, right before it goes: others work meanwhile."""
    freed = 0
    for key in pruned.names:
        kept.links.remove(key)
    for blob in pruned.blobs:
        if blob not in _promised(kept, references.keys()) and not _used(kept, references, blob):
            freed += kept.blobs.remove(blob)
    for path in pruned.strays:
        kept.vfs.unlink(path)
    for key in pruned.partials:
        if key not in references.keys():  # noqa: SIM118 - not a mapping
            freed += _partial_size(kept, key)
            kept.partials.remove(key)
    return freed


def export(kept: Kept, placed: Placed, target: Path) -> None:
    """Put the file of an entry where a person wants it: a second name, or a copy on another file system.

    Raises:
        NotFound: The file is gone from the cache.
        InvalidRequest: The target is a directory, a link, or cannot be written.
        CacheError: The disk refused.
    """
    if kept.blobs.size(placed.entry.blob) != placed.entry.size:
        raise NotFound(f"the file of {redacted(placed.entry.request.url)} is gone; fetch it again")
    kept.links.export(kept.blobs.path(placed.entry.blob), target)


def _promised(kept: Kept, wanted: set[str]) -> set[str]:
    """Blobs that a process placed and had not told of when it ended: whoever takes its record over will."""
    keys = [key for key in kept.partials.keys() if key in wanted]  # noqa: SIM118 - not a mapping
    placed = [kept.blobs.promised(kept.partials.path(key)) for key in keys]
    return {each.blob for each in placed if each is not None}


def _live_keys(kept: Kept, references: References) -> set[str]:
    return {request_key(each.entry.request) for each in kept.entries.placed()} | references.keys()


def _used(kept: Kept, references: References, blob: str) -> bool:
    return blob in references.blobs() or blob in kept.entries.blobs()


def _partial_size(kept: Kept, key: str) -> int:
    return kept.vfs.size(kept.partials.path(key) / "data") or 0


def _partial_touched(kept: Kept, key: str) -> float:
    directory = kept.partials.path(key)
    return max(_touched(kept, path) for path in (directory, directory / "data", directory / "pieces"))


def _touched(kept: Kept, path: Path) -> float:
    return kept.vfs.touched(path) or 0.0
