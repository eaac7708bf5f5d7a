"""Finding what rotted, and mending it with as few bytes as can be.

Rules kept: nothing is called damaged that was not read twice; a blob that is damaged loses its final name; its good
pieces go back into a partial, from which an ordinary fetch of the same request goes on.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import google_crc32c

from bgfetch.cache.entries import Placed
from bgfetch.cache.facts import PartialFacts
from bgfetch.cache.maintenance import Kept, References
from bgfetch.core.identity import request_key
from bgfetch.core.model import Headers, Request, Verified
from bgfetch.core.pieces import Slot, piece_span
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Spans
from bgfetch.core.urls import is_secret_header, redacted
from bgfetch.errors import CacheError, InvalidState, NotFound
from bgfetch.vfs import Vfs

__all__ = ["Repair", "Report", "repair", "repaired", "verify"]

OnRead = Callable[[str, int, int], None]
"""Told (blob, bytes read, its size) while one is verified."""


@dataclass(frozen=True, slots=True)
class Report:
    """What reading a blob again came to.

    Args:
        blob: Its name.
        size: Its length as it should be, bytes.
        damaged: What differs from what was stored, whole pieces; everything when the file is gone or nobody knows where.
        checked: By what: "digest", "pieces" (checksums), or only "length" where there was nothing to compare with.
        placed: The entries that are damaged with it.
    """

    blob: str
    size: int
    damaged: Spans
    checked: Literal["digest", "pieces", "length"]
    placed: tuple[Placed, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.damaged


@dataclass(frozen=True, slots=True)
class Repair:
    """What to fetch so that a damaged blob is whole again.

    Args:
        request: Fetch this under `key`; the good pieces are in its partial, and it must be the same content.
            Secret header fields it once had are not known any longer: add them where the server wants them.
        key: Of the partial.
        blob: The one that was damaged; it is gone.
        good: Bytes that need not be fetched.
        missing: Bytes that must.
        placed: The entries that want the new blob; hand this to `repaired`.
    """

    request: Request
    key: str
    blob: str
    good: int
    missing: int
    placed: tuple[Placed, ...]


def verify(kept: Kept, blobs: Iterable[str] | None = None, on_read: OnRead | None = None) -> Iterator[Report]:
    """Each blob read again, or each of these, one report at a time; it may be left at any moment.

    Args:
        kept: The stores.
        blobs: Names; None for all that are there or that an entry names.
        on_read: Told how far it is.

    Raises:
        CacheError: The disk cannot be read at all.
    """
    owners: dict[str, list[Placed]] = {}
    for placed in kept.entries.placed():
        owners.setdefault(placed.entry.blob, []).append(placed)
    for name in sorted({*kept.blobs.names(), *owners}) if blobs is None else blobs:
        try:
            yield _verified(kept, name, tuple(owners.get(name, ())), on_read or _nobody)
        except OSError as error:
            raise CacheError(f"{kept.blobs.path(name)} cannot be read: {error.strerror or error}") from error


def _verified(kept: Kept, name: str, placed: tuple[Placed, ...], on_read: OnRead) -> Report:
    size = kept.blobs.size(name)
    wanted = placed[0].entry.size if placed else size or 0
    whole = Spans.of([(0, max(wanted, 1))])
    if size is None:
        return Report(name, wanted, whole, "length", placed)
    slots = kept.blobs.slots(name)
    sha256 = name.rpartition("/")[2] if name.startswith("sha256/") else ""
    checked: Literal["digest", "pieces", "length"] = "digest" if sha256 else "pieces" if slots else "length"
    bad, found = _read(kept, name, slots, on_read)
    if sha256 and found != sha256:
        again, found = _read(kept, name, slots, _nobody)
        bad = Spans() if found == sha256 else _both(bad, again) or whole
    elif sha256:
        bad = Spans()  # the content is right, so it is the table that rotted
    elif bad:
        again, _ = _read(kept, name, slots, _nobody)
        bad = _both(bad, again)
    if size != wanted:
        bad = bad.union([(min(size, wanted), max(size, wanted))])
    return Report(name, wanted, bad, checked, placed)


def _read(kept: Kept, name: str, slots: list[Slot], on_read: OnRead) -> tuple[Spans, str]:
    """The pieces that differ from the table, and the sha256 of the whole ("" where a part cannot be read)."""
    size = kept.blobs.size(name) or 0
    sha256, readable, bad = hashlib.sha256(), True, Spans()
    buffer = memoryview(bytearray(PIECE))
    fd = kept.vfs.open(kept.blobs.path(name), readonly=True)
    try:
        for index in range(max(len(slots), -(-size // PIECE))):
            got = _piece(kept.vfs, fd, buffer, index)
            readable = readable and got is not None
            sha256.update(buffer[: got or 0])
            if slots and not _fits(slots, index, buffer, got):
                bad = bad.add(piece_span(index))
            on_read(name, min(size, (index + 1) * PIECE), size)
    finally:
        kept.vfs.close(fd)
    return bad, sha256.hexdigest() if readable else ""


def _piece(vfs: Vfs, fd: int, buffer: memoryview, index: int) -> int | None:
    try:
        return vfs.pread_into(fd, buffer, index * PIECE)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None  # a bad sector


def _fits(slots: list[Slot], index: int, buffer: memoryview, got: int | None) -> bool:
    slot = slots[index] if index < len(slots) else Slot(0, 0)
    return got == slot.length and google_crc32c.extend(0, bytes(buffer[:got])) == slot.crc


def _both(one: Spans, other: Spans) -> Spans:
    return one.without(one.without(other))


def repair(kept: Kept, references: References, report: Report) -> Repair:
    """Take a damaged blob out of use and put its good pieces where an ordinary fetch goes on from them.

    Fetch `request` under `key`, then call `repaired`. Should nobody come so far, the good pieces wait in the partial
    for any fetch of the same request; entries that name the blob answer nothing until then.

    Raises:
        InvalidState: Nothing is wrong with it, or a registration still needs the partial: wait for its end.
        NotFound: Nobody knows where it came from, so it cannot be fetched again.
        CacheError: The disk refused; the blob is still there.
    """
    if report.sound:
        raise InvalidState(f"nothing is wrong with {report.blob}")
    request, facts = _origin(kept, report)
    key = request_key(request)
    if key in references.keys():  # noqa: SIM118 - not a mapping
        raise InvalidState(
            f"{redacted(request.url)} belongs to a registration that is not over: repair it then"
        )
    try:
        good = _withdrawn(kept, report, key, facts)
        kept.blobs.remove(report.blob)
        for each in {key, *(request_key(placed.entry.request) for placed in report.placed)}:
            kept.links.remove(each)
    except OSError as error:
        raise CacheError(f"{report.blob} could not be taken apart: {error.strerror or error}") from error
    return Repair(request, key, report.blob, good, report.size - good, report.placed)


def _origin(kept: Kept, report: Report) -> tuple[Request, PartialFacts]:
    """The request that brings this content, and what its partial has to say of it."""
    if report.placed:
        scope, _, entry = report.placed[0]
        request, headers = entry.request, entry.reply.headers
    else:
        facts = kept.blobs.facts(report.blob)
        if facts is None:
            raise NotFound(f"nobody knows any longer where {report.blob} came from")
        scope, request, headers = facts.scope, Request(facts.url), Headers(facts.headers)
    kept_pairs = [pair for pair in request.headers.pairs if pair[1] or not is_secret_header(pair[0])]
    kind, _, digest = report.blob.split("/")
    integrity = f"sha256:{digest}" if kind == "sha256" else request.integrity
    request = replace(request, headers=Headers(kept_pairs), integrity=integrity, expected_size=report.size)
    return request, PartialFacts(
        url=request.url,
        headers=request.headers.pairs,
        total=report.size,
        etag=headers.get("etag", ""),
        last_modified=headers.get("last-modified", ""),
        content_type=headers.get("content-type", ""),
        digest=integrity,
        scope=scope,
    )


def _withdrawn(kept: Kept, report: Report, key: str, facts: PartialFacts) -> int:
    """Bytes that the partial of this key now holds, durably."""
    partial = kept.partials.fresh(key)
    try:
        if kept.blobs.size(report.blob) is not None:
            kept.blobs.withdraw(report.blob, partial, report.damaged)
        if partial.held:
            partial.save_facts(facts)
            partial.datasync()
        return partial.held.length
    finally:
        partial.close()


def repaired(kept: Kept, done: Repair, *, blob: str, size: int, verified: Verified, digest: str = "") -> int:
    """Let the entries of a repair name the blob that was fetched; how many there are now.

    An entry that somebody has put anew meanwhile stays as it is.
    """
    count = 0
    for scope, cache, entry in done.placed:
        cache_id = kept.entries.open_cache(scope, cache)
        current = kept.entries.find(cache_id, entry.request)
        if current is None or (current.blob == done.blob and current.blob != blob):
            fresh = replace(entry, blob=blob, size=size, verified=verified, digest=digest or entry.digest)
            kept.entries.put(cache_id, fresh)
            current = fresh
        count += current.blob == blob
    return count


def _nobody(blob: str, read: int, size: int) -> None:
    """Nobody watches."""
