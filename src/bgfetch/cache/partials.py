"""Unfinished bodies on disk: the bytes, the table of pieces, and what a stranger needs to go on from them.

``partials/<key>/`` holds `data` (preallocated, written at offsets), `pieces` (core.pieces) and `facts.json`. The
rule: `data` is written before its slot, synced before a registration's spans name it, and never deleted while a
registration refers to it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c

from bgfetch.cache.facts import PartialFacts, decode, encode
from bgfetch.core.pieces import (
    SLOT_BYTES,
    Slot,
    decode_slots,
    durable_prefix,
    encode_slot,
    held_in,
    piece_span,
    unproven,
)
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Span, Spans
from bgfetch.vfs import Vfs

__all__ = ["Partial", "Partials"]


class Partial:
    """One unfinished body, open for positional reads and writes from several threads.

    Args:
        path: Its directory.
        vfs: The file system.
    """

    def __init__(self, path: Path, vfs: Vfs) -> None:
        self.path = path
        self._vfs = vfs
        self._lock = threading.Lock()
        self._users = 1
        vfs.make_directory(path)
        self._data = vfs.open(self.data_path, create=True)
        try:
            self._table = vfs.open(self.pieces_path, create=True)
            self._slots = decode_slots(vfs.read(self.pieces_path))
        except BaseException:
            vfs.close(self._data)
            raise

    @property
    def data_path(self) -> Path:
        """The bytes; holes where nothing is held yet."""
        return self.path / "data"

    @property
    def pieces_path(self) -> Path:
        """The table of pieces."""
        return self.path / "pieces"

    @property
    def held(self) -> Spans:
        """What the table claims."""
        with self._lock:
            return held_in(self._slots)

    def slot(self, index: int) -> Slot:
        """What is held of one piece."""
        with self._lock:
            return self._slots[index] if index < len(self._slots) else Slot(0, 0)

    def allocate(self, total: int) -> None:
        """Reserve the whole body's room; OSError ENOSPC when the disk cannot hold it."""
        self._vfs.allocate(self._data, total)

    def store(self, index: int, offset: int, data: bytes | bytearray | memoryview, slot: Slot) -> None:
        """Write bytes of a piece from `offset` within it, then its new slot."""
        self._vfs.pwrite(self._data, data, index * PIECE + offset)
        self._put_slot(index, slot)

    def datasync(self) -> None:
        """Return when all that was stored before the call would survive a power cut."""
        self._vfs.datasync(self._data)
        self._vfs.datasync(self._table)

    def seal(self, total: int) -> None:
        """Make the body exactly `total` bytes long and durable, size and all."""
        self._vfs.truncate(self._data, total)
        self._vfs.sync(self._data)
        self._vfs.sync(self._table)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`; bytes read."""
        return self._vfs.pread_into(self._data, buffer, offset)

    def recover(self, durable: Spans) -> Spans:
        """What really is held after any end of the process: claims proved, bytes that were lost given up.

        Args:
            durable: Spans recorded after they had been synced.
        """
        size = self._vfs.size(self.data_path) or 0
        durable = durable.without([(size, max(size, durable.items[-1].stop))]) if durable else durable
        buffer = memoryview(bytearray(PIECE))
        for index in unproven(self._slots, durable):
            self._prove(index, durable_prefix(durable, index), buffer)
        return self.held

    def damaged(self, spans: Iterable[Span] | None = None) -> Spans:
        """Pieces whose bytes no longer have the checksum they were stored with."""
        buffer = memoryview(bytearray(PIECE))
        bad = []
        for index in self._indices(spans):
            slot = self.slot(index)
            if slot.length and not self._matches(index, slot, buffer):
                bad.append(piece_span(index))
        return Spans.of(bad)

    def forget(self, spans: Iterable[Span]) -> None:
        """Hold none of these pieces any longer."""
        for index in self._indices(spans):
            self._put_slot(index, Slot(0, 0))

    def save_facts(self, facts: PartialFacts) -> None:
        """Replace `facts.json`. Not synced: a power cut may leave the older one, or none; a kill does not."""
        self._vfs.replace(self.path / "facts.json", encode(facts), durable=False)

    def facts(self) -> PartialFacts | None:
        """What stands in `facts.json`, or None where that cannot be read."""
        try:
            return decode(PartialFacts, self._vfs.read(self.path / "facts.json", most=PartialFacts.LARGEST))
        except OSError:
            return None

    def unlink(self) -> None:
        """Take the files' names away; whoever still writes to this object writes where nobody reads."""
        for path in (self.pieces_path, self.data_path):
            self._vfs.unlink(path)

    def acquire(self) -> None:
        """Keep the descriptors open for one more user; the one who opened it counts as the first."""
        with self._lock:
            self._users += 1

    def close(self) -> None:
        """One user less; the last one gives the descriptors back. The bytes stay."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
        for fd in (self._data, self._table):
            with contextlib.suppress(OSError):
                self._vfs.close(fd)

    def _put_slot(self, index: int, slot: Slot) -> None:
        self._vfs.pwrite(self._table, encode_slot(slot), index * SLOT_BYTES)
        with self._lock:
            missing = index + 1 - len(self._slots)
            if missing > 0:
                self._slots.extend([Slot(0, 0)] * missing)
            self._slots[index] = slot

    def _indices(self, spans: Iterable[Span] | None) -> Iterator[int]:
        if spans is None:
            yield from range(len(self._slots))
            return
        for span in spans:
            yield from range(span.start // PIECE, (span.stop + PIECE - 1) // PIECE)

    def _matches(self, index: int, slot: Slot, buffer: memoryview) -> bool:
        got = self._vfs.pread_into(self._data, buffer[: slot.length], index * PIECE)
        return got == slot.length and google_crc32c.extend(0, bytes(buffer[:got])) == slot.crc

    def _prove(self, index: int, durable: int, buffer: memoryview) -> None:
        slot = self.slot(index)
        if slot.length > durable and self._matches(index, slot, buffer):
            return
        got = self._vfs.pread_into(self._data, buffer[:durable], index * PIECE) if durable else 0
        self._put_slot(index, Slot(got, google_crc32c.extend(0, bytes(buffer[:got]))) if got else Slot(0, 0))


class Partials:
    """The directory of unfinished bodies, by the key of the request they answer."""

    def __init__(self, root: Path, vfs: Vfs) -> None:
        self._root = root
        self._vfs = vfs

    def path(self, key: str) -> Path:
        """Where the partial of this key stands; keys are 64 hex digits, never text from outside."""
        if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
            msg = f"not a partial's key: {key[:80]!r}"
            raise ValueError(msg)
        return self._root / key

    def open(self, key: str) -> Partial:
        """The partial of this key, made if it is not there."""
        return Partial(self.path(key), self._vfs)

    def replace(self, partial: Partial, key: str) -> Partial:
        """An empty partial in the place of this one, whose transfers may not have stopped yet."""
        partial.unlink()
        partial.close()
        return self.open(key)

    def exists(self, key: str) -> bool:
        """Whether bytes of it are on disk."""
        return self._vfs.size(self.path(key) / "data") is not None

    def remove(self, key: str) -> None:
        """Delete it with its bytes."""
        self._vfs.remove_tree(self.path(key))

    def facts(self) -> Iterator[tuple[str, PartialFacts]]:
        """Every partial whose facts can be read, for rebuilding a lost database."""
        for key in self._vfs.names(self._root):
            with contextlib.suppress(OSError, ValueError):
                facts = decode(
                    PartialFacts, self._vfs.read(self.path(key) / "facts.json", most=PartialFacts.LARGEST)
                )
                if facts is not None:
                    yield key, facts
