"""Finished bodies under their final names: read-only, never written again, shared by whoever refers to them.

``blobs/sha256/ab/<hex>`` is content of that digest. ``blobs/unverified/ab/<hex>`` is a body for which nobody knew a
digest: its name is random, since hashing a file that nothing is compared with would cost as much as fetching it.
Beside each stand ``.pieces`` (core.pieces), by which damage is found and mended piece by piece, and ``.json``, by
which a lost database is rebuilt.

The order (containerd's): sync the bytes, rename, sync the directory, and only then may anybody be told.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from bgfetch.cache.facts import BlobFacts, decode, encode
from bgfetch.cache.partials import Partial
from bgfetch.core.pieces import Slot, decode_slots, piece_span
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Spans
from bgfetch.vfs import Vfs

__all__ = ["Blobs", "Finished"]

_NAME = re.compile(r"(sha256|unverified)/([0-9a-f]{2})/(\2[0-9a-f]{62})")


@dataclass(frozen=True, slots=True)
class Finished:
    """A partial that is whole and checked, on its way to its final name.

    Args:
        partial: Its bytes.
        total: Their length.
        sha256: Hex of their digest, or "" where it was not computed.
        facts: What to write beside it.
    """

    partial: Partial
    total: int
    sha256: str
    facts: BlobFacts


class Blobs:
    """The directory of finished bodies."""

    def __init__(self, root: Path, vfs: Vfs) -> None:
        self._root = root
        self._vfs = vfs

    def path(self, name: str) -> Path:
        """Where this blob stands; ValueError for anything that is not a blob's name."""
        if _NAME.fullmatch(name) is None:
            msg = f"not a blob's name: {name[:80]!r}"
            raise ValueError(msg)
        return self._root / name

    def size(self, name: str) -> int | None:
        """Its length in bytes, or None where there is no such blob."""
        return self._vfs.size(self.path(name))

    def adopt(self, finished: Sequence[Finished]) -> list[str]:
        """Give all of these their final names, durably, and return the names in the same order.

        Their directories are synced once for all: that is most of the cost of a thousand small files.
        A partial whose content is here already loses its bytes. OSError leaves every partial usable.
        """
        names = [self._name(each) for each in finished]
        touched: dict[Path, None] = {}
        for each in finished:
            each.partial.seal(each.total)
        for name, each in zip(names, finished, strict=True):
            self._place(self.path(name), each, touched)
        for directory in touched:
            self._vfs.sync_directory(directory)
        for each in finished:
            self._vfs.remove_tree(each.partial.path)
        return names

    @staticmethod
    def _name(each: Finished) -> str:
        kind, digest = ("sha256", each.sha256) if each.sha256 else ("unverified", os.urandom(32).hex())
        return f"{kind}/{digest[:2]}/{digest}"

    def _place(self, target: Path, each: Finished, touched: dict[Path, None]) -> None:
        if self._vfs.size(target) == each.total:
            return
        if target.parent not in touched:
            for directory in (target.parent, target.parent.parent, self._root):
                self._vfs.make_directory(directory)
                touched[directory] = None
        with contextlib.suppress(FileNotFoundError):  # a second try after a failure in between
            self._vfs.rename(each.partial.pieces_path, _beside(target, "pieces"))
        self._vfs.replace(_beside(target, "json"), encode(each.facts), durable=False)
        self._vfs.rename(each.partial.data_path, target)
        # Last, since a partial that a failed attempt left behind must stay writable.
        self._vfs.make_read_only(target)

    def remove(self, name: str) -> int:
        """Delete a blob and what stands beside it; bytes freed."""
        path = self.path(name)
        freed = self._vfs.size(path) or 0
        for each in (path, _beside(path, "pieces"), _beside(path, "json")):
            self._vfs.unlink(each)
        return freed

    def names(self) -> Iterator[str]:
        """Every blob there is."""
        for kind in ("sha256", "unverified"):
            for shelf in self._vfs.names(self._root / kind):
                for name in self._vfs.names(self._root / kind / shelf):
                    full = f"{kind}/{shelf}/{name}"
                    if _NAME.fullmatch(full):
                        yield full

    def facts(self, name: str) -> BlobFacts | None:
        """What was written beside it, or None where that cannot be read."""
        try:
            return decode(BlobFacts, self._vfs.read(_beside(self.path(name), "json"), most=BlobFacts.LARGEST))
        except OSError:
            return None

    def slots(self, name: str) -> list[Slot]:
        """Its table of pieces; empty where it was lost."""
        try:
            return decode_slots(self._vfs.read(_beside(self.path(name), "pieces")))
        except OSError:
            return []

    def damaged(self, name: str) -> Spans:
        """The pieces whose bytes no longer have the checksum they were stored with, or are missing."""
        size = self.size(name) or 0
        slots = self.slots(name)
        bad = [
            piece_span(index, slot.length)
            for index, slot in enumerate(slots)
            if not self._intact(name, index, slot)
        ]
        claimed = sum(slot.length for slot in slots)
        return Spans.of([*bad, (claimed, size)] if slots and claimed < size else bad)

    def _intact(self, name: str, index: int, slot: Slot) -> bool:
        buffer = memoryview(bytearray(slot.length))
        fd = self._vfs.open(self.path(name), readonly=True)
        try:
            got = self._vfs.pread_into(fd, buffer, index * PIECE)
        finally:
            self._vfs.close(fd)
        return got == slot.length and google_crc32c.extend(0, bytes(buffer)) == slot.crc

    def withdraw(self, name: str, partial: Partial, damaged: Spans) -> None:
        """Copy a blob's good pieces back into a partial, so that only the damaged ones are fetched again."""
        path, buffer = self.path(name), memoryview(bytearray(PIECE))
        fd = self._vfs.open(path, readonly=True)
        try:
            for index, slot in enumerate(self.slots(name)):
                if damaged.covers(piece_span(index, slot.length)) or not slot.length:
                    continue
                got = self._vfs.pread_into(fd, buffer[: slot.length], index * PIECE)
                if got == slot.length:
                    partial.store(index, 0, buffer[:got], slot)
        finally:
            self._vfs.close(fd)


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")
