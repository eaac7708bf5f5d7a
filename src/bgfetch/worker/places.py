"""Where the things of a scope's worker are: its lock and its log, below the home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

from bgfetch.vfs import Vfs

__all__ = ["Places", "file_name"]

_LONGEST: Final = 80
_LARGEST: Final = 1 << 20  # bytes of a log; two older ones are kept
_OLDER: Final = (".2", ".1")


def file_name(scope: str) -> str:
    """A file name for any text, another one for each: never a path, never hidden, the same in any case of letters."""
    plain = quote(scope, safe="", errors="surrogatepass").replace(".", "%2E").replace("~", "%7E")
    if plain == plain.lower() and 0 < len(plain) <= _LONGEST:
        return plain
    digest = sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{plain[:_LONGEST].lower()}-{digest}"


class Places:
    """Files of workers below a home.

    Args:
        root: BGFETCH_HOME.
        vfs: The file system.
    """

    def __init__(self, root: Path, vfs: Vfs) -> None:
        self.root = root
        self._vfs = vfs

    @contextmanager
    def alone(self, scope: str, *, patience: float = 0.0) -> Iterator[bool]:
        """Within it one process handles events of the scope, wherever locks of files hold; whether it is this one.

        Where they do not (some network file systems), what is counted before a delivery keeps a second one away.

        Args:
            scope: Whose events.
            patience: Seconds to wait for another process.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - 30 ms that only who delivers need spend

        directory = self.root / "state" / "workers"
        self._vfs.make_directory(directory)
        lock = FileLock(
            directory / f"{file_name(scope)}.lock", timeout=patience, thread_local=False, mode=0o600
        )
        try:
            lock.acquire(poll_interval=0.02)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def log(self, scope: str) -> Path:
        """What handlers of the scope wrote to stdout and stderr, the latest part."""
        return self.root / "daemon" / "log" / "workers" / f"{file_name(scope)}.log"

    def write_log(self, scope: str, text: bytes) -> None:
        """Add to the log; one that has grown too long gives way first. A disk that refuses loses the text."""
        path = self.log(scope)
        with suppress(OSError):
            self._vfs.make_directory(path.parent)
            if (self._vfs.size(path) or 0) + len(text) > _LARGEST:
                self._rotate(path)
            fd = self._vfs.open(path, create=True)
            try:
                self._vfs.pwrite(fd, text, self._vfs.size(path) or 0)
            finally:
                self._vfs.close(fd)

    def _rotate(self, path: Path) -> None:
        for older, newer in zip(_OLDER, (*_OLDER[1:], ""), strict=True):
            with suppress(FileNotFoundError):
                self._vfs.rename(path.with_name(path.name + newer), path.with_name(path.name + older))
