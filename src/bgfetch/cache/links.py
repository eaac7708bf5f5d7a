"""Names for blobs, for people and programs that want a file called what it is.

``names/<key>/<file name>`` is a second name of the blob (a hard link; a copy only where the file system has no
links). The key is of the request, so two files of the same name from two places do not meet.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bgfetch.errors import CacheError, InvalidRequest
from bgfetch.vfs import Vfs

__all__ = ["Links"]

_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP})
_BLOCK = 4 << 20


class Links:
    """Gives blobs further names.

    Args:
        root: The directory `names`.
        vfs: The file system.
    """

    def __init__(self, root: Path, vfs: Vfs) -> None:
        self._root = root
        self._vfs = vfs

    def path(self, key: str, name: str) -> Path:
        """Where the named file stands or would stand; `name` has been through core.names.safe_name."""
        return self.directory(key) / name

    def directory(self, key: str) -> Path:
        """Where the names of this key stand; its first 32 digits tell it."""
        return self._root / key[:2] / key[:32]

    def keys(self) -> list[str]:
        """The first 32 digits of each key that has names."""
        return [key for shelf in self._vfs.names(self._root) for key in self._vfs.names(self._root / shelf)]

    def files(self) -> list[Path]:
        """Every named file."""
        directories = map(self.directory, self.keys())
        return [directory / name for directory in directories for name in self._vfs.names(directory)]

    def publish(self, blob: Path, key: str, name: str) -> Path:
        """The blob under a name of its own below the root; the path."""
        target = self.path(key, name)
        self._vfs.refuse_planted(target.parent)
        if not self._linked(blob, target) and not _same_file(blob, target):
            self._vfs.make_directory(target.parent)
            if not self._linked(blob, target):
                self._put(blob, target)
        return target

    def remove(self, key: str) -> None:
        """Take all names of this key away."""
        directory = self.directory(key)
        self._vfs.remove_tree(directory)
        self._vfs.remove_directory(directory.parent)

    def export(self, blob: Path, target: Path) -> None:
        """Put the blob where a person wants it, whole or not at all; what stood there is replaced.

        Raises:
            InvalidRequest: The target is a directory, a link, or cannot be written; nothing was changed.
            CacheError: The disk refused.
        """
        if self._linked(blob, target):
            return
        if target.is_symlink():
            raise InvalidRequest(
                f"{target} is a link; name the file itself, so that nothing else is overwritten"
            )
        if target.is_dir():
            raise InvalidRequest(f"{target} is a directory; name the file to write in it")
        if _same_file(blob, target):
            return
        try:
            self._put(blob, target)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise InvalidRequest(
                f"{target} cannot be written ({error.strerror}); the download is kept"
            ) from error
        except OSError as error:
            raise CacheError(
                f"{target} could not be written ({error.strerror}); the download is kept"
            ) from error

    def _linked(self, blob: Path, target: Path) -> bool:
        """Whether nothing had the name yet, nor has now but the blob: the rule, so it is tried first."""
        try:
            self._vfs.link(blob, target)
        except OSError:
            return False
        return True

    def _put(self, blob: Path, target: Path) -> None:
        draft = target.with_name(f".{os.urandom(8).hex()}.bgfetch")
        try:
            try:
                self._vfs.link(blob, draft)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._copy(blob, draft)
            self._vfs.rename(draft, target)
        finally:
            self._vfs.unlink(draft)

    def _copy(self, blob: Path, draft: Path) -> None:
        source = self._vfs.open(blob, readonly=True)
        try:
            copy = self._vfs.open(draft, create=True)
            try:
                self._copy_bytes(source, copy)
                self._vfs.sync(copy)
            finally:
                self._vfs.close(copy)
        finally:
            self._vfs.close(source)

    def _copy_bytes(self, source: int, copy: int) -> None:
        buffer, position = memoryview(bytearray(_BLOCK)), 0
        while got := self._vfs.pread_into(source, buffer, position):
            self._vfs.pwrite(copy, buffer[:got], position)
            position += got


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(one.stat(), other.lstat())
    except OSError:
        return False
