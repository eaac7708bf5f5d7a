"""Which process runs a registration: a lock file each, held by the operating system until the process ends.

Where a file system lets everybody have a lock (some network mounts), the epoch that a claim raises in the store still
keeps a second runner from recording anything.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bgfetch.vfs import Vfs

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["Claims", "running"]


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
        from filelock import FileLock, Timeout  # noqa: PLC0415 - 30 ms that `running` need not spend

        if uid in self._held:
            return True
        self._vfs.make_directory(self._root)
        lock = FileLock(self._path(uid), timeout=0, mode=0o600, thread_local=False)
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

    def forget(self, uid: int) -> None:
        """Another process runs it: its lock file is not ours to delete."""
        lock = self._held.pop(uid, None)
        if lock is not None:
            lock.release()

    def close(self) -> None:
        """Let other processes go on with what is unfinished."""
        for lock in self._held.values():
            lock.release()
        self._held.clear()

    def _path(self, uid: int) -> Path:
        return self._root / f"{uid}.lock"


def running(root: Path) -> set[int]:
    """Registrations that some process runs now, for showing: by the time it is shown one may have ended.

    Asking takes each lock for an instant, shared with others who ask. Who wants to run it just then is told no, and
    asks again within a quarter of a second.
    """
    try:
        names = [name for name in os.listdir(root) if name.endswith(".lock")]  # noqa: PTH208 - a third of the time
    except OSError:
        return set()
    return {int(name[:-5]) for name in names if name[:-5].isdecimal() and _locked(root / name)}


def _locked(path: Path) -> bool:
    if os.name != "posix":  # pragma: no cover - Windows: the file is there while it is held
        return True
    import fcntl  # noqa: PLC0415 - not everywhere

    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
