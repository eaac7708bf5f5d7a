"""Where `-o` puts files: refused before the first byte is asked for, or written whole or not at all."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

from bgfetch.core.names import distinct, folded
from bgfetch.core.room import shortage
from bgfetch.errors import CacheError, InvalidRequest
from bgfetch.shelf import Got
from bgfetch.wiring import Wiring

__all__ = ["Target"]


class Target:
    """A file for one SOURCE, a directory for several.

    Args:
        path: What was said.
        count: How many files will come.

    Raises:
        InvalidRequest: It is of the wrong kind, or cannot be written.
    """

    def __init__(self, path: str, *, count: int) -> None:
        if path == "-":
            raise InvalidRequest(
                'a file goes to a path, not to standard output: cat "$(bgfetch get URL)"; a file named - is ./-'
            )
        self._path = Path(path)
        self._directory = count > 1
        self._taken: set[str] = set()
        directory = self._path if self._directory else self._path.parent
        if not self._directory:
            _check_file(path)
        elif self._path.is_symlink() or not self._path.is_dir():
            raise InvalidRequest(f"{count} files need a directory to go to; {path!r} is none")
        _check_directory(directory)
        self._place = directory
        self._asked = 0

    def check_room(self, wiring: Wiring, size: int) -> None:
        """Refuse what will not fit there, as soon as it is known how much will come.

        On the home's own file system a file gets a second name, and takes no room.

        Args:
            wiring: The home.
            size: Bytes of all files that will come; 0 = unknown.

        Raises:
            CacheError: The file system there, or a limit of this process, has no room for so much.
        """
        if size <= self._asked:
            return
        self._asked = size
        home = next(each for each in (wiring.root, *wiring.root.parents) if each.exists())
        if home.stat().st_dev == self._place.stat().st_dev:
            return
        words = shortage(size, free=wiring.vfs.free_space(self._place), reserve=0)
        if not words and not self._directory and size > _longest():
            words = f"{size} bytes are needed, and a limit of this process allows {_longest()} in a file"
        if words:
            raise CacheError(f"{str(self._path)!r} has no room for this: {words}")

    def put(self, wiring: Wiring, file: Got) -> Path:
        """Give the file its place; two of the same name get two names."""
        path = self._path
        if self._directory:
            name = distinct(file.name, self._taken)
            self._taken.add(folded(name))
            path = path / name
        wiring.links.export(file.path, path)
        return path


def _longest() -> float:
    """Bytes that this process may write to one file (RLIMIT_FSIZE)."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows has no such limit
        return math.inf
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return math.inf if most == resource.RLIM_INFINITY else most


def _check_file(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        if not path or path.endswith(("/", os.sep)):
            raise InvalidRequest(f"{path!r} is no name for a file; name the file to write") from None
        return
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequest(f"{path!r} cannot be written: {why}") from None
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a link"}
    raise InvalidRequest(f"{path!r} is {kinds.get(stat.S_IFMT(mode), 'a device')}; name the file to write")


def _check_directory(directory: Path) -> None:
    """Write a file there and take it away: only that tells, on a read-only mount and for an administrator."""
    if not directory.is_dir():
        raise InvalidRequest(f"{str(directory)!r} is not a directory")
    probe = directory / f".{os.urandom(8).hex()}.bgfetch"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        probe.unlink()
    except OSError as error:
        raise InvalidRequest(f"{str(directory)!r} cannot be written to: {error.strerror}") from error
