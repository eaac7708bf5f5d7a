"""Room on the disk: asked for before the first byte, so that a download that cannot end does not begin.

One gate for all bodies that come to this home. The disk's reserve makes a download wait, a quota that a person set
ends it (Background Fetch, "quota-exceeded"), a file system that cannot hold such a file ends it too.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

from bgfetch.cache.partials import Partial
from bgfetch.core.room import reserve_of, shortage
from bgfetch.vfs import Vfs

__all__ = ["OverQuota", "Room"]


class OverQuota(Exception):
    """The quota cannot hold this, whatever is evicted; the message says how much there is of what."""


class Room:
    """The gate of one home.

    Args:
        root: The home, there already or not.
        vfs: The file system.
        reserve: Bytes that stay free; None: see `core.room`.
        make_room: Called with bytes about to be taken: brings the cache below its quota, or raises `OverQuota`.
    """

    def __init__(
        self,
        root: Path,
        vfs: Vfs,
        *,
        reserve: int | None = 0,
        make_room: Callable[[int], None] | None = None,
    ) -> None:
        self._root = root
        self._vfs = vfs
        self._reserve = reserve
        self._make_room = make_room
        self._asking = threading.Lock()  # two that ask at once must not both be told of the same room

    def lacking(self, partial: Partial, total: int) -> int:
        """Bytes a body of this length takes beyond those it has on the disk already."""
        return max(0, total - (self._vfs.size(partial.data_path) or 0))

    def shortage(self, needed: int) -> str:
        """Why so many more bytes have no room now, or "". OSError."""
        free, disk = self._vfs.space(self._root)
        return shortage(needed, free=free, reserve=reserve_of(self._reserve, disk))

    def allocate(self, partial: Partial, total: int) -> None:
        """Give a body of this length its room.

        Raises:
            OverQuota: It has none under the quota, and never will by waiting.
            OSError: ENOSPC beyond the reserve, EFBIG where no file may be so long.
        """
        with self._asking:
            self._check(self.lacking(partial, total))
            partial.allocate(total)

    def check(self, needed: int) -> None:
        """Raise what `allocate` would if so many more bytes came, of a body whose length nobody knows."""
        with self._asking:
            self._check(needed)

    def _check(self, needed: int) -> None:
        if self._make_room is not None:
            self._make_room(needed)
        words = self.shortage(needed) if needed else ""
        if words:
            raise OSError(errno.ENOSPC, words)
