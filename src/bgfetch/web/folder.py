"""Files below a folder, opened so that nothing outside of it is ever read.

Links are followed as long as they lead to somewhere below the folder (a Hugging Face cache is made of such). What was
found that way is then opened part by part without following anything, so that a folder which is exchanged for a link
meanwhile leads nowhere. Only ordinary files are files: a device or a pipe of that name is not found.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from bgfetch.web.paths import Parts, is_servable

__all__ = ["Folder", "Note", "Stamp", "grain", "stamp_of"]

_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_STEP = _READ | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe must not be waited for
_BY_STEPS = os.open in os.supports_dir_fd
# What tells a file that cannot be given from a disk that is ill.
_ABSENT = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL,
     errno.EPERM, errno.EISDIR}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is written to or replaced.

    Two are equal while an open file is not seen to be written to. What outlives the open file, a digest or a tag, goes by
    `state` instead, since a program may set the date of writing back to what it was.

    Args:
        device, inode: Which file.
        size: Bytes.
        mtime_ns: When it was last written to, or said to be.
        ctime_ns: When anything of it changed, which no program can set (Windows: when it was made). Not compared: it changes
            also when a file that is being sent is renamed over or deleted, and that one is sent to its end.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int = field(compare=False)

    @property
    def state(self) -> tuple[int, int, int, int, int]:
        """All of it; equal ones are taken for equal bytes. A chmod or a new hard link makes another, of the same bytes."""
        return self.device, self.inode, self.size, self.mtime_ns, self.ctime_ns


def grain(stamp: Stamp) -> float:
    """Seconds within which two states of this file may have one date: kernels count ticks, FAT and some shares whole seconds."""
    return 2.0 if stamp.mtime_ns % 1_000_000_000 == 0 else 0.05


class Note(NamedTuple):
    """What is known of a file without reading it.

    Args:
        sha256: Of the whole, hex, or "".
        etag: A strong tag that it has been given out under elsewhere, or "".
    """

    sha256: str = ""
    etag: str = ""


def stamp_of(fd: int) -> Stamp:
    """The stamp of an open file."""
    return _stamp(os.fstat(fd))


class Folder:
    """A folder whose files are given out.

    Args:
        root: The folder; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def open(self, parts: Parts) -> int:
        """A descriptor of this file, read-only, for the caller to close.

        Raises:
            FileNotFoundError: There is no such file below the folder, or it is none that is given out.
            OSError: The disk refused.
        """
        try:
            fd = self._opened(self._resolved(parts))
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
            if isinstance(error, OSError) and error.errno not in _ABSENT:
                raise
            raise FileNotFoundError(errno.ENOENT, "no such file", "/".join(parts)) from None
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "no ordinary file", "/".join(parts))

    def files(self, parts: Parts = ()) -> list[tuple[Parts, Stamp]]:
        """Every file below this folder that `open` would give, by name, sorted; so none that may not be read.

        Raises:
            FileNotFoundError: There is no such folder.
        """
        try:
            top = self.root.joinpath(*self._resolved(parts)) if parts else self.root.resolve(strict=True)
        except (OSError, RuntimeError):
            raise FileNotFoundError(errno.ENOENT, "no such folder", "/".join(parts)) from None
        if not top.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no folder", "/".join(parts))
        return sorted(self._walk(parts, top, frozenset()), key=itemgetter(0))

    def path(self, parts: Parts) -> Path:
        """Where a file of this name is, or would be."""
        return self.root.joinpath(*parts)

    def note(self, parts: Parts) -> Note:
        """Nothing: a file says nothing of its digest."""
        return Note()

    def _walk(
        self, parts: Parts, top: Path, seen: frozenset[tuple[int, int]]
    ) -> Iterator[tuple[Parts, Stamp]]:
        """Depth first; `seen` are the folders above, so that a link to one of them ends there."""
        try:
            facts = top.stat()
            here = (facts.st_dev, facts.st_ino)
            entries = [] if here in seen else list(os.scandir(top))
        except OSError:  # gone, or not ours to read
            return
        for entry in entries:
            name = (*parts, entry.name)
            if not is_servable(entry.name):
                continue
            with contextlib.suppress(OSError, RuntimeError):
                resolved = (
                    self.root.joinpath(*self._resolved(name)) if entry.is_symlink() else Path(entry.path)
                )
                facts = resolved.stat()
                if stat.S_ISDIR(facts.st_mode):
                    yield from self._walk(name, resolved, seen | {here})
                elif stat.S_ISREG(facts.st_mode) and not _refused(resolved):
                    yield name, _stamp(facts)

    def _resolved(self, parts: Parts) -> Parts:
        """Where the links of a name lead, below the folder.

        Raises:
            FileNotFoundError: Out of it, or to a name that is not given out.
        """
        root = self.root.resolve(strict=True)
        path = root.joinpath(*parts).resolve(strict=True)
        if not path.is_relative_to(root) or not all(map(is_servable, path.relative_to(root).parts)):
            raise FileNotFoundError(errno.ENOENT, "leads out of the folder", "/".join(parts))
        return path.relative_to(root).parts

    def _opened(self, parts: Parts) -> int:
        root = self.root.resolve(strict=True)
        if not _BY_STEPS or not parts:  # Windows has no descriptors of folders
            return os.open(root.joinpath(*parts), _STEP)
        at = os.open(root, _READ | os.O_DIRECTORY)
        try:
            for part in parts[:-1]:
                above, at = at, os.open(part, _STEP | os.O_DIRECTORY, dir_fd=at)
                os.close(above)
            return os.open(parts[-1], _STEP, dir_fd=at)
        finally:
            os.close(at)


def _refused(path: Path) -> bool:
    """Whether `open` would call this file absent. Of an ill disk, or no descriptors left, it says no: none is hidden by that."""
    try:
        os.close(os.open(path, _STEP))
    except OSError as error:
        return error.errno in _ABSENT
    return False


def _stamp(facts: os.stat_result) -> Stamp:
    return Stamp(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
