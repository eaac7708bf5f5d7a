"""Finished bodies under their final names: read-only, never written again, shared by whoever refers to them.

``blobs/sha256/ab/<hex>`` is content of that digest. ``blobs/unverified/ab/<hex>`` is a body for which nobody knew a
digest: its name is random, since hashing a file that nothing is compared with would cost as much as fetching it.
Beside each stand ``.pieces`` (core.pieces), by which damage is found and mended piece by piece, and ``.json``, by
which a lost database is rebuilt. A small body has its one checksum in the ``.json`` instead: a file less.

The order (containerd's): sync the bytes, rename, sync the directory, and only then may anybody be told. Between the
rename and the telling, `placed.json` in the partial's directory says whose bytes went where: a process that ends
there has lost nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import google_crc32c

from bgfetch.cache.facts import BlobFacts, decode, encode
from bgfetch.cache.partials import Partial
from bgfetch.core.model import Verified
from bgfetch.core.pieces import Slot, decode_slots, encode_slot, held_in, piece_span
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Span, Spans
from bgfetch.vfs import Vfs

__all__ = ["Blobs", "Finished", "Placed"]

_PLACED = "placed.json"
_MOST_PLACED = 1 << 12  # bytes
_CRC = re.compile(r"[0-9a-f]{8}")
_GROUP = 64  # small bodies written at once: two descriptors each
_DATES_DIFFER = 2.0  # s: FAT notes no finer dates, and a small body is written right after its facts
_NAME = re.compile(r"(sha256|unverified)/([0-9a-f]{2})/(\2[0-9a-f]{62})")


@dataclass(frozen=True, slots=True)
class Finished:
    """A partial that is whole and checked, on its way to its final name.

    Args:
        partial: Its bytes.
        total: Their length.
        sha256: Hex of their digest, or "" where it was not computed.
        facts: What to write beside it.
        owner: The record that waits for it, in words that never mean another one; "" = nobody will ask again.
    """

    partial: Partial
    total: int
    sha256: str
    facts: BlobFacts
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """`placed.json`: the body is whole, checked and synced, and this is its final name.

    Args:
        owner: The record it answers.
        blob: Its name.
        digest, verified: As in `BlobFacts`.
        size: Bytes.
    """

    owner: str
    blob: str
    digest: str
    size: int
    verified: Verified


class Blobs:
    """The directory of finished bodies."""

    def __init__(self, root: Path, vfs: Vfs) -> None:
        self._root = root
        self._vfs = vfs
        self._known: set[Path] = set()  # directories whose own names are durable

    def path(self, name: str) -> Path:
        """Where this blob stands; ValueError for anything that is not a blob's name."""
        if _NAME.fullmatch(name) is None:
            msg = f"not a blob's name: {name[:80]!r}"
            raise ValueError(msg)
        return self._root / name

    def size(self, name: str) -> int | None:
        """Its length in bytes, or None where there is no such blob."""
        return self._vfs.size(self.path(name))

    def intact(self, name: str, size: int) -> bool:
        """Whether it is there, so long, and not changed by anybody since; cheap, unless its date says it was written to.

        Its facts were written when its bytes were complete: a later date of the bytes is somebody else's, who may
        have edited a file that is read-only, or only copied the folder. Then its pieces tell, and once is enough.
        """
        if self.size(name) != size:
            return False
        path = self.path(name)
        noted, written = self._vfs.written(_beside(path, "json")), self._vfs.written(path)
        if noted is None or written is None or written <= noted + _DATES_DIFFER:
            return True
        if not self.slots(name) or self.damaged(name):
            return False
        facts = self.facts(name)
        if facts is not None:
            with contextlib.suppress(OSError):
                self._vfs.replace(_beside(path, "json"), encode(facts), durable=False)
        return True

    def adopt(self, finished: Sequence[Finished]) -> list[str]:
        """Give all of these their final names, durably, and return the names in the same order.

        Their directories are synced once for all: that is most of the cost of a thousand small files. Where the
        very content is here already, that one stays and the partial's bytes go with it. A partial with an owner
        must be removed by the caller once its record is settled, and not before.

        Raises:
            OSError: Nobody may be told yet; calling again goes on where this stopped, under the same names.
        """
        common = os.urandom(1).hex()  # one for all whose name is random: its directory is synced once
        names = [self._name(each, common) for each in finished]
        fresh = [
            (name, each) for name, each in zip(names, finished, strict=True) if not self._placed(name, each)
        ]
        for _name, each in fresh:
            each.partial.seal(each.total)
        shelves = dict.fromkeys(self.path(name).parent for name in names)
        self._make_shelves(shelves)
        absent = [(name, each) for name, each in fresh if not self._stands(name, each)]
        small = {
            name: each for name, each in absent if each.partial.body is not None
        }  # of equal ones just one
        for some in _groups(list(small.items())):
            self._place_small(some)
        for name, each in absent:
            if each.partial.body is None:
                self._place(name, each)
        for name in names:
            self._vfs.make_read_only(self.path(name))
        for shelf in shelves:
            self._vfs.sync_directory(shelf)
        for each in finished:
            if not each.owner:
                self._vfs.remove_tree(each.partial.path)
        return names

    def resume(self, directory: Path, owner: str) -> Placed | None:
        """What the partial of this directory became, where a process ended between placing it and telling.

        Args:
            directory: The partial's; not open.
            owner: The record that asks. What another one left is not for it.
        """
        placed = self.promised(directory)
        if placed is None:
            return None
        if placed.owner != owner or self.size(placed.blob) != placed.size:
            self._vfs.unlink(directory / _PLACED)
            return None
        target = self.path(placed.blob)
        self._vfs.make_read_only(target)
        for shelf in (target.parent, *_above(target.parent, self._root)):
            self._vfs.sync_directory(shelf)
        return placed

    def promised(self, directory: Path) -> Placed | None:
        """What `placed.json` in the partial's directory says, whoever it is for; None where there is none."""
        try:
            found = json.loads(self._vfs.read(directory / _PLACED, most=_MOST_PLACED))
            owner, blob, digest = (str(found[name]) for name in ("owner", "blob", "digest"))
            verified = Verified(found["verified"])
            self.path(blob)
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if found.get("version") != 1 or type(found.get("size")) is not int:
            return None
        return Placed(owner, blob, digest, found["size"], verified)

    def _promise(self, name: str, each: Finished) -> None:
        facts = each.facts
        placed = {
            "version": 1,
            "owner": each.owner,
            "blob": name,
            "size": each.total,
            "digest": facts.digest,
            "verified": facts.verified,
        }
        self._vfs.replace(each.partial.path / _PLACED, json.dumps(placed).encode())
        each.partial.sync_names()

    @staticmethod
    def _name(each: Finished, common: str) -> str:
        if not each.partial.blob:
            digest = each.sha256 or common + os.urandom(31).hex()
            kind = "sha256" if each.sha256 else "unverified"
            each.partial.blob = f"{kind}/{digest[:2]}/{digest}"
        return each.partial.blob

    def _placed(self, name: str, each: Finished) -> bool:
        """Whether an earlier attempt came so far that the bytes have left the partial."""
        if each.partial.body is not None:
            return False
        return self._vfs.size(each.partial.data_path) is None and self.size(name) == each.total

    def _stands(self, name: str, each: Finished) -> bool:
        """Whether this very content has its name already: not only a file of that name, which may have rotted."""
        if not each.sha256 or self.size(name) != each.total:
            return False
        slots = each.partial.slots()
        return not self._bad_pieces(self.path(name), slots) and held_in(slots).covers((0, each.total))

    def _make_shelves(self, shelves: Iterable[Path]) -> None:
        """Directories that will not vanish with what is moved there."""
        new = [shelf for shelf in shelves if shelf not in self._known]
        for shelf in new:
            self._vfs.make_directory(shelf)
        for directory in dict.fromkeys(above for shelf in new for above in _above(shelf, self._root)):
            self._vfs.sync_directory(directory)
        self._known.update(new)

    def _place(self, name: str, each: Finished) -> None:
        target = self.path(name)
        if each.owner and each.total >= PIECE:  # less is fetched again sooner than it is written twice
            self._promise(name, each)
        table = b"".join(encode_slot(slot._replace(synced=True)) for slot in each.partial.slots())
        self._vfs.put(_beside(target, "pieces"), table)
        self._vfs.replace(_beside(target, "json"), encode(each.facts), durable=False)
        self._vfs.rename(each.partial.data_path, target)

    def _place_small(self, some: Sequence[tuple[str, Finished]]) -> None:
        """Write these bodies from memory; what stands beside each has its name before it."""
        files: list[tuple[Path, bytes]] = []
        for name, each in some:
            target, body = self.path(name), each.partial.body or b""
            facts = replace(each.facts, crc32c=f"{google_crc32c.value(body):08x}")
            files += [(_beside(target, "json"), encode(facts)), (target, body)]
        self._vfs.put_all(files)

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

    def beside(self) -> Iterator[Path]:
        """Every file in the directories of blobs that is none."""
        for kind in ("sha256", "unverified"):
            for shelf in self._vfs.names(self._root / kind):
                for name in self._vfs.names(self._root / kind / shelf):
                    if not _NAME.fullmatch(f"{kind}/{shelf}/{name}"):
                        yield self._root / kind / shelf / name

    def facts(self, name: str) -> BlobFacts | None:
        """What was written beside it, or None where that cannot be read."""
        try:
            return decode(BlobFacts, self._vfs.read(_beside(self.path(name), "json"), most=BlobFacts.LARGEST))
        except OSError:
            return None

    def slots(self, name: str) -> list[Slot]:
        """Its table of pieces, or the one piece of a small one; empty where that was lost."""
        try:
            return decode_slots(self._vfs.read(_beside(self.path(name), "pieces")))
        except FileNotFoundError:
            facts = self.facts(name)
        if facts is None or not 0 < facts.size <= PIECE or _CRC.fullmatch(facts.crc32c) is None:
            return []
        return [Slot(facts.size, int(facts.crc32c, 16), synced=True)]

    def damaged(self, name: str) -> Spans:
        """The pieces whose bytes no longer have the checksum they were stored with, or are missing.

        Nothing where the table of pieces was lost: only a digest can tell then.
        """
        slots = self.slots(name)
        held, size = held_in(slots), self.size(name)
        if size is None or not slots:
            return held
        bad = self._bad_pieces(self.path(name), slots)
        return Spans.of(bad).union(held.gaps(size))

    def _bad_pieces(self, path: Path, slots: Sequence[Slot]) -> list[Span]:
        buffer = memoryview(bytearray(PIECE))
        fd = self._vfs.open(path, readonly=True)
        try:
            return [
                piece_span(index, slot.length)
                for index, slot in enumerate(slots)
                if slot.length and not self._intact(fd, index, slot, buffer)
            ]
        finally:
            self._vfs.close(fd)

    def _intact(self, fd: int, index: int, slot: Slot, buffer: memoryview) -> bool:
        try:
            got = self._vfs.pread_into(fd, buffer[: slot.length], index * PIECE)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False  # a bad sector
        return got == slot.length and google_crc32c.extend(0, bytes(buffer[:got])) == slot.crc

    def withdraw(self, name: str, partial: Partial, damaged: Spans) -> None:
        """Copy a blob's good pieces back into a partial, so that only the damaged ones are fetched again."""
        path, buffer = self.path(name), memoryview(bytearray(PIECE))
        fd = self._vfs.open(path, readonly=True)
        try:
            for index, slot in enumerate(self.slots(name)):
                if damaged.covers(piece_span(index, slot.length)) or not slot.length:
                    continue
                if self._intact(fd, index, slot, buffer):
                    partial.grow(index, 0, buffer[: slot.length], slot._replace(synced=False))
        finally:
            self._vfs.close(fd)


def _groups(all_: Sequence[tuple[str, Finished]]) -> Iterator[Sequence[tuple[str, Finished]]]:
    return (all_[start : start + _GROUP] for start in range(0, len(all_), _GROUP))


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")


def _above(shelf: Path, root: Path) -> tuple[Path, ...]:
    """The directories whose entries lead to this shelf."""
    return (shelf.parent, root, root.parent)
