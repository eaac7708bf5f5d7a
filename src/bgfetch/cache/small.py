"""Small bodies, kept in memory until they have their final name.

Making and deleting files is most of what a thousand small files cost, and a small one is fetched again sooner than
its pieces are read back. So a body that comes in one go and is known to be small has no files of its own while it
is unfinished. Whatever else is asked of it, from a piece stored too early to a repair, makes those files first.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable
from functools import partial as bind
from pathlib import Path

from bgfetch.cache.facts import PartialFacts
from bgfetch.cache.partials import Partial, Partials
from bgfetch.core.pieces import Slot
from bgfetch.core.spans import Span, Spans
from bgfetch.vfs import Vfs

__all__ = ["SmallBodies", "SmallPartial"]

_SMALL = 256 << 10  # bytes of one body
_ROOM = 16 << 20  # bytes of all: memory does not grow with how long the disk takes


class SmallBodies:
    """Opens partials of which small bodies stay in memory.

    Args:
        partials: Where all others are.
        room: Bytes in memory at most.
    """

    def __init__(self, partials: Partials, *, room: int = _ROOM) -> None:
        self._partials = partials
        self._room = room
        self._lock = threading.Lock()

    def open(self, key: str) -> Partial:
        """The partial of this key; without files yet where there are none."""
        return self._partials.open_new(key, bind(SmallPartial, take=self._take))

    def _take(self, count: int) -> bool:
        with self._lock:
            if count > self._room:
                return False
            self._room -= count
            return True


class SmallPartial(Partial):
    """A `Partial` that makes its files when they are needed.

    Args:
        path: Its directory, which does not exist.
        vfs: The file system.
        take: Asks for so many bytes of memory, or gives them back; False when there is no room.
    """

    def __init__(self, path: Path, vfs: Vfs, take: Callable[[int], bool]) -> None:
        self._take = take
        self._total = -1
        self._body: bytes | None = None
        self._has_files = False
        self._making = threading.Lock()
        super().__init__(path, vfs)

    def _begin(self) -> None:
        pass

    @property
    def body(self) -> bytes | None:
        """All bytes, where they are in memory and no file of it was made."""
        return None if self._has_files else b"" if self._total == 0 else self._body

    def _make_files(self) -> None:
        with self._making:
            if self._has_files:
                return
            body, slots = self._body, self._slots
            try:
                super()._begin()
                if body is not None:
                    self._vfs.pwrite(self._data, body, 0)
                    self._put_slot(0, slots[0])
            except BaseException:
                self._close_files()
                self._slots = slots
                raise
            self._has_files = True
            self._drop_body()

    def _drop_body(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            self._take(-len(body))

    def allocate(self, total: int) -> None:
        """Note the length of a small body; reserve room for a large one."""
        if total <= _SMALL and not self._has_files:
            self._total = total
            return
        self._make_files()
        super().allocate(total)

    def grow(self, index: int, offset: int, data: bytes | memoryview, slot: Slot) -> bool:
        """Keep a body that comes whole in memory, and write others."""
        if self._kept(index, offset, data, slot):
            return True
        if self._sealed:
            return False
        self._make_files()
        return super().grow(index, offset, data, slot)

    def _kept(self, index: int, offset: int, data: bytes | memoryview, slot: Slot) -> bool:
        with self._making:
            new = not (self._has_files or self._sealed or index or offset or self._slots)
            if not new or not len(data) == slot.length == self._total or not self._take(len(data)):
                return False
            self._body = bytes(data)
            self._note_slot(0, slot)
            return True

    def mend(self, index: int, data: bytes | memoryview, slot: Slot) -> bool:
        """As for any other."""
        self._make_files()
        return super().mend(index, data, slot)

    def forget(self, spans: Iterable[Span]) -> None:
        """Hold none of these pieces any longer."""
        with self._making:
            if not self._has_files:
                self._drop_body()
                self._slots, self._unsynced = [], {}
                self._note_mend()
                return
        super().forget(spans)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`; bytes read."""
        body = self.body
        if body is None:
            self._make_files()
            return super().read_into(buffer, offset)
        found = body[offset : offset + len(buffer)]
        buffer[: len(found)] = found
        return len(found)

    def datasync(self) -> None:
        """As for any other."""
        self._make_files()
        super().datasync()

    def freeze(self) -> None:
        """Take no more bytes."""
        with self._making:
            self._sealed = True
        if self._has_files:
            super().freeze()

    def _make_whole(self, total: int) -> None:
        if self.body is None:
            self._make_files()
            super()._make_whole(total)
        elif len(self.body) != total:
            raise OSError(errno.EIO, "the body is not as long as it should be")

    def recover(self) -> Spans:
        """What is held: nothing where there were no files."""
        return super().recover() if self._has_files else Spans()

    def save_facts(self, facts: PartialFacts) -> None:
        """As for any other."""
        self._make_files()
        super().save_facts(facts)

    def facts(self) -> PartialFacts | None:
        """What stands in `facts.json`."""
        return super().facts() if self._has_files else None

    def _give_back(self) -> None:
        self._drop_body()
        super()._give_back()
