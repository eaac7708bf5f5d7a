"""Which process runs a registration: a lock file each, held by the operating system until the process ends.

Where a file system lets everybody have a lock (some network mounts), the epoch that a claim raises in the store still
keeps a second runner from recording anything.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from filelock import FileLock, Timeout

from bgfetch.vfs import Vfs

__all__ = ["Claims"]


class Claims:
    """The locks this process holds.

    Args:
        root: Directory of lock files.
        vfs: The file system.
    """

    def __init__(self, root: Path, vfs: Vfs) -> None:
        self._root = root
        self._vfs = vfs
        self._held: dict[int, FileLock] = {}

    def take(self, uid: int) -> bool:
        """Whether this process may run the registration; False when another one does."""
        if uid in self._held:
            return True
        self._vfs.make_directory(self._root)
        lock = FileLock(self._path(uid), timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return False
        self._held[uid] = lock
        return True

    def release(self, uid: int) -> None:
        """It has settled: nobody needs to claim it again."""
        lock = self._held.pop(uid, None)
        if lock is not None:
            with contextlib.suppress(OSError):
                self._vfs.unlink(self._path(uid))
            lock.release()

    def close(self) -> None:
        """Let other processes go on with what is unfinished."""
        for lock in self._held.values():
            lock.release()
        self._held.clear()

    def _path(self, uid: int) -> Path:
        return self._root / f"{uid}.lock"
