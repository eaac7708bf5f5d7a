"""Unfinished bodies on disk: the bytes, the table of pieces, and what a stranger needs to go on from them.

``partials/<key>/`` holds `data` (preallocated, written at offsets), `pieces` (core.pieces) and `facts.json`. The
rules: `data` is written before its slot, synced before the slot says so; what is held is not written over, except
to mend it; bytes without facts are of nobody knows which version, and worth nothing.

After a failed sync the kernel may take the pages it could not write for clean, and say nothing the next time
(Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020). So what a failed sync covered is
read back, compared and written again before the next one is believed.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import google_crc32c

from bgfetch.cache.facts import PartialFacts, decode, encode
from bgfetch.core.pieces import SLOT_BYTES, Slot, decode_slots, encode_slot, held_in, piece_span, unproven
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Span, Spans
from bgfetch.vfs import Vfs

__all__ = ["Partial", "Partials"]

_LOCKS = 16
_NOTHING = Slot(0, 0)
_MOST_TABLE = 1 << 26  # bytes: 8 TiB of body
_DATES_DIFFER = 2.0  # s: FAT notes no finer dates


class Partial:
    """One unfinished body, open for positional reads and writes from several threads.

    Args:
        path: Its directory.
        vfs: The file system.
    """

    def __init__(self, path: Path, vfs: Vfs) -> None:
        self.path = path
        self.blob = ""  # its final name, once that is chosen: a second try must not choose another one
        self._vfs = vfs
        self._lock = threading.Lock()  # the table in memory and the users
        # From reading a slot to replacing it. Pieces share few locks: two transfers write at the same time.
        self._pieces = tuple(threading.Lock() for _ in range(_LOCKS))
        self._syncing = threading.Lock()  # one sync at a time, so that each hears of its own failure
        self._users = 1
        self._sealed = False
        self._mends = 0
        self._unsynced: dict[int, Slot] = {}
        self._suspect: set[int] = set()
        self._facts: PartialFacts | None = None  # those that could not be saved yet
        self._names_synced = False
        self._slots: list[Slot] = []
        self._data = self._table = -1
        self._begin()

    def _begin(self) -> None:
        vfs = self._vfs
        vfs.make_directory(self.path)
        self._data = vfs.open(self.data_path, create=True)
        try:
            self._table = vfs.open(self.pieces_path, create=True)
            self._slots = decode_slots(self._read_table())
        except BaseException:
            self._close_files()
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
    def facts_path(self) -> Path:
        """What the bytes are."""
        return self.path / "facts.json"

    @property
    def body(self) -> bytes | None:
        """All bytes, where they are in memory and no file of it was made."""
        return None

    @property
    def held(self) -> Spans:
        """What the table claims."""
        with self._lock:
            return held_in(self._slots)

    def slot(self, index: int) -> Slot:
        """What is held of one piece."""
        with self._lock:
            return self._slots[index] if index < len(self._slots) else _NOTHING

    def slots(self) -> list[Slot]:
        """The whole table."""
        with self._lock:
            return list(self._slots)

    # Storing.

    def allocate(self, total: int) -> None:
        """Reserve the whole body's room; OSError ENOSPC when the disk cannot hold it."""
        self._vfs.allocate(self._data, total)

    def grow(self, index: int, offset: int, data: bytes | memoryview, slot: Slot) -> bool:
        """Write bytes of a piece from `offset` within it, then its new slot; what is held already stays as it is.

        Returns:
            Whether the piece holds these bytes now. False: bytes before `offset` are missing, or it is sealed.
        """
        with self._piece(index):
            held = self.slot(index)
            if held.length < offset or self._sealed:
                return False
            if slot.length > held.length:
                fresh = data[held.length - offset :]
                if (
                    held.length > offset
                ):  # somebody else's bytes stand before ours: the checksum is of what stands
                    slot = Slot(slot.length, google_crc32c.extend(held.crc, bytes(fresh)))
                self._vfs.pwrite(self._data, fresh, index * PIECE + held.length)
                self._put_slot(index, slot)
            return True

    def mend(self, index: int, data: bytes | memoryview, slot: Slot) -> bool:
        """Put these bytes in the place of whatever stands in the piece; False when it is sealed."""
        with self._piece(index):
            if self._sealed:
                return False
            try:
                self._put_slot(index, _NOTHING)
                self._vfs.pwrite(self._data, data, index * PIECE)
                self._put_slot(index, slot)
            finally:
                self._note_mend()  # afterwards, so that whoever began to read in between is told too
            return True

    def forget(self, spans: Iterable[Span]) -> None:
        """Hold none of these pieces any longer. Never fails: a claim that stays on disk is found wrong once more."""
        for index in self._indices(spans):
            with self._piece(index), contextlib.suppress(OSError):
                self._note_slot(index, _NOTHING)
                self._put_slot(index, _NOTHING)
        self._note_mend()

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`; bytes read."""
        return self._vfs.pread_into(self._data, buffer, offset)

    # Surviving a power cut.

    def datasync(self) -> None:
        """Return when all that was stored before the call would survive a power cut. OSError: nothing is promised."""
        with self._syncing:
            self.sync_names()
            self._sync_bytes(self._vfs.datasync)
            self._vfs.datasync(self._table)

    @property
    def mends(self) -> int:
        """How often bytes that were held have been replaced or given up: what was read before may be another thing."""
        return self._mends

    def freeze(self) -> None:
        """Take no more bytes: what is verified from here on is what will be sealed, whoever still transfers."""
        with contextlib.ExitStack() as writes:
            for lock in self._pieces:  # what is being written now is written when this returns
                writes.enter_context(lock)
            self._sealed = True

    def thaw(self) -> None:
        """Take bytes again: the whole was not what it should be."""
        self._sealed = False

    def seal(self, total: int) -> None:
        """Make the body exactly `total` bytes long and durable; nothing can be written any more.

        Raises:
            OSError: Not durable yet; or EIO when the disk lost bytes since they were stored.
        """
        self.freeze()
        try:
            with self._syncing:
                self._make_whole(total)
        except BaseException:
            self.thaw()
            raise

    def _make_whole(self, total: int) -> None:
        if not self.held.covers((0, total)):
            raise OSError(errno.EIO, "the disk lost bytes that it had taken")
        if self._vfs.size(self.data_path) is None:
            self._name_again(total)
        self._vfs.truncate(self._data, total)
        self._sync_bytes(self._vfs.sync)

    def sync_names(self) -> None:
        """Return when the directory would survive a power cut with its facts; instantly but the first time."""
        if self._facts is not None:
            self.save_facts(self._facts)
        if self._names_synced:
            return
        self._names_synced = True
        try:
            if self._vfs.size(self.facts_path) is not None:
                self._vfs.sync_file(self.facts_path)
            for directory in (self.path, self.path.parent, self.path.parent.parent):
                self._vfs.sync_directory(directory)
        except BaseException:
            self._names_synced = False
            raise

    def _sync_bytes(self, sync: Callable[[int], None]) -> None:
        with self._lock:
            due, self._unsynced = self._unsynced, {}
        try:
            self._write_suspects_again()
            sync(self._data)
        except BaseException:
            with self._lock:
                self._unsynced = {**due, **self._unsynced}
                self._suspect |= self._unsynced.keys()
            raise
        with self._lock:
            self._suspect.clear()
        for index, slot in due.items():
            with self._piece(index):
                if self.slot(index) == slot:
                    self._put_slot(index, slot._replace(synced=True))

    def _write_suspects_again(self) -> None:
        buffer = memoryview(bytearray(PIECE)) if self._suspect else memoryview(b"")
        for index in sorted(self._suspect):
            with self._piece(index):
                slot = self.slot(index)
                if not self._matches(index, slot, buffer):
                    self._put_slot(index, _NOTHING)
                    raise OSError(errno.EIO, "the disk lost bytes that it had taken")
                self._vfs.pwrite(self._data, buffer[: slot.length], index * PIECE)

    def _name_again(self, total: int) -> None:
        """Somebody deleted the file under our hands: copy what the descriptor still reaches to a new one."""
        self._vfs.make_directory(self.path)
        buffer = memoryview(bytearray(PIECE))
        fd = self._vfs.open(self.data_path, create=True)
        try:
            for start in range(0, total, PIECE):
                got = self._vfs.pread_into(self._data, buffer, start)
                self._vfs.pwrite(fd, buffer[:got], start)
            self._vfs.sync(fd)
        except BaseException:
            self._vfs.close(fd)
            self._vfs.unlink(self.data_path)
            raise
        old, self._data = self._data, fd
        self._vfs.close(old)

    # Coming back.

    def recover(self) -> Spans:
        """What really is held after any end of a process: what was synced, and what its checksum proves.

        Raises:
            OSError: The disk cannot be read now; nothing was given up for that.
        """
        if self.facts() is None:
            self._empty()
        edited = self._is_edited()  # before the table has a new date
        whole = len(self.slots()) * SLOT_BYTES
        if self._vfs.size(self.pieces_path) != whole:  # half a slot would become one when the next is written
            self._vfs.truncate(self._table, whole)
        size = self._vfs.size(self.data_path) or 0
        for index, slot in enumerate(self.slots()):
            if slot.length and index * PIECE + slot.length > size:
                self._put_slot(index, _NOTHING)
        buffer = memoryview(bytearray(PIECE))
        every = [index for index, slot in enumerate(self.slots()) if slot.length]
        for index in every if edited else unproven(self.slots()):
            slot = self.slot(index)
            self._put_slot(index, slot if self._proved(index, slot, buffer) else _NOTHING)
        held = self.held
        if not held and self._vfs.size(self.facts_path) is not None:
            self._vfs.unlink(self.facts_path)  # whatever comes next may be of another version
            self._vfs.sync_directory(self.path)
        return held

    def _is_edited(self) -> bool:
        """Whether somebody else may have written to the bytes: we write a slot after each piece, and once more later."""
        data, table = self._vfs.written(self.data_path), self._vfs.written(self.pieces_path)
        return data is not None and table is not None and data > table + _DATES_DIFFER

    def _proved(self, index: int, slot: Slot, buffer: memoryview) -> bool:
        try:
            return self._matches(index, slot, buffer)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False  # a bad sector: written anew, the drive puts another one in its place

    def _empty(self) -> None:
        with self._lock:
            self._slots = []
        self._vfs.truncate(self._table, 0)
        self._vfs.truncate(self._data, 0)

    def damaged(self, spans: Iterable[Span] | None = None) -> Spans:
        """Pieces whose bytes no longer have the checksum they were stored with."""
        buffer = memoryview(bytearray(PIECE))
        bad = []
        for index in range(len(self.slots())) if spans is None else self._indices(spans):
            slot = self.slot(index)
            if slot.length and not self._proved(index, slot, buffer):
                bad.append(piece_span(index))
        return Spans.of(bad)

    # What the bytes are.

    def save_facts(self, facts: PartialFacts) -> None:
        """Replace `facts.json`; the next `datasync` makes it durable, and tries again when it fails here.

        Those that are durable already are replaced by bytes that are: an empty file in their place would cost all.
        """
        self._facts, self._names_synced = facts, False
        if self._vfs.size(self.facts_path) is None:
            self._vfs.replace(self.facts_path, encode(facts), durable=False)
        else:
            self._vfs.put(self.facts_path, encode(facts))
        self._facts = None

    def facts(self) -> PartialFacts | None:
        """What stands in `facts.json`, or None where there is none or nobody can make sense of it. OSError."""
        try:
            return decode(PartialFacts, self._vfs.read(self.facts_path, most=PartialFacts.LARGEST))
        except FileNotFoundError:
            return None

    # Who uses it.

    def acquire(self) -> None:
        """Keep the descriptors open for one more user; the one who opened it counts as the first."""
        with self._lock:
            self._users += 1

    def close(self) -> None:
        """One user less; the last one gives the descriptors back. The bytes stay."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._give_back()

    def _give_back(self) -> None:
        self._close_files()

    def _close_files(self) -> None:
        # Not to be mistaken for whatever the system gives these numbers to next.
        descriptors, self._data, self._table = (self._data, self._table), -1, -1
        for fd in descriptors:
            with contextlib.suppress(OSError):
                if fd >= 0:
                    self._vfs.close(fd)

    def _read_table(self) -> bytes:
        buffer = bytearray(min(_MOST_TABLE, self._vfs.size(self.pieces_path) or 0))
        got = self._vfs.pread_into(self._table, memoryview(buffer), 0)
        return bytes(buffer[:got])

    def _put_slot(self, index: int, slot: Slot) -> None:
        self._vfs.pwrite(self._table, encode_slot(slot), index * SLOT_BYTES)
        self._note_slot(index, slot)

    def _note_slot(self, index: int, slot: Slot) -> None:
        with self._lock:
            self._slots.extend([_NOTHING] * (index + 1 - len(self._slots)))
            self._slots[index] = slot
            if slot.length and not slot.synced:
                self._unsynced[index] = slot
            else:
                self._unsynced.pop(index, None)

    def _piece(self, index: int) -> threading.Lock:
        return self._pieces[index % _LOCKS]

    def _note_mend(self) -> None:
        with self._lock:
            self._mends += 1

    def _indices(self, spans: Iterable[Span]) -> Iterator[int]:
        for span in spans:
            yield from range(span.start // PIECE, (span.stop + PIECE - 1) // PIECE)

    def _matches(self, index: int, slot: Slot, buffer: memoryview) -> bool:
        got = self.read_into(buffer[: slot.length], index * PIECE)
        return got == slot.length and google_crc32c.extend(0, bytes(buffer[:got])) == slot.crc


class Partials:
    """The directory of unfinished bodies, by the key of the request they answer."""

    def __init__(self, root: Path, vfs: Vfs) -> None:
        self._root = root
        self._vfs = vfs

    def path(self, key: str) -> Path:
        """Where the partial of this key stands; keys are 64 hex digits, never text from outside."""
        if not _is_key(key):
            msg = f"not a partial's key: {key[:80]!r}"
            raise ValueError(msg)
        return self._root / key

    def open(self, key: str) -> Partial:
        """The partial of this key, made if it is not there."""
        return Partial(self.path(key), self._vfs)

    def open_new(self, key: str, make: Callable[[Path, Vfs], Partial]) -> Partial:
        """The partial of this key, as `make` makes it where there is none."""
        path = self.path(key)
        return (make if self._vfs.touched(path) is None else Partial)(path, self._vfs)

    def fresh(self, key: str) -> Partial:
        """An empty partial in the place of whatever stands there, whose transfers may not have stopped yet:
        those go on writing where nobody reads. Nothing new is there before the old names are gone for good.
        """
        path = self.path(key)
        for name in ("facts.json", "pieces", "data"):
            self._vfs.unlink(path / name)
        self._vfs.make_directory(path)
        self._vfs.sync_directory(path)
        return Partial(path, self._vfs)

    def exists(self, key: str) -> bool:
        """Whether bytes of it are on disk."""
        return self._vfs.size(self.path(key) / "data") is not None

    def keys(self) -> list[str]:
        """The keys of all that there are."""
        return [name for name in self._vfs.names(self._root) if _is_key(name)]

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


def _is_key(name: str) -> bool:
    return len(name) == 64 and set(name) <= set("0123456789abcdef")
