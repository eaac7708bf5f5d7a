"""Digests that follow the contiguous front of a body while the rest still comes.

The bytes are read back from the page cache a mebibyte or more at a time: `update` releases the GIL for large pieces,
and the transfer thread never waits for a hash.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from bgfetch.cache.partials import Partial
from bgfetch.core.digests import new_hasher

__all__ = ["FrontHasher"]

_BLOCK = 4 << 20


class FrontHasher:
    """Digests of the first `position` bytes of a partial.

    Args:
        partial: The body.
        algorithms: Names of the digests to compute.
    """

    def __init__(self, partial: Partial, algorithms: Iterable[str]) -> None:
        self._partial = partial
        self._hashers = {name: new_hasher(name) for name in algorithms}
        self._lock = threading.Lock()
        self._mends = partial.mends
        self.position = 0
        self.busy = False

    @property
    def current(self) -> bool:
        """Whether no byte that may have been read has been replaced since."""
        return self._mends == self._partial.mends

    def advance(self, front: Callable[[], int]) -> None:
        """Hash up to the front, which may move meanwhile; one caller at a time. OSError from the disk."""
        with self._lock:
            self._advance(front)

    def _advance(self, front: Callable[[], int]) -> None:
        buffer = memoryview(bytearray(min(_BLOCK, max(1 << 16, front() - self.position))))
        while (left := front() - self.position) > 0:
            got = self._partial.read_into(buffer[: min(left, _BLOCK)], self.position)
            if got == 0:
                msg = f"the partial ends at {self.position}, before its front"
                raise OSError(msg)
            for hasher in self._hashers.values():
                hasher.update(buffer[:got])
            self.position += got

    def values(self) -> dict[str, bytes]:
        """The digests of what was hashed so far, by algorithm."""
        return {name: hasher.digest() for name, hasher in self._hashers.items()}
