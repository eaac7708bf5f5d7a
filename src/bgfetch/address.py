"""Where the daemon of a home is reached, and that nobody else has put anything there.

Below `BGFETCH_HOME/daemon` (0700): `socket` (0600), `lock`, `owner`, `daemon.json`, and `log`. The address of a Unix socket
holds about a hundred bytes; for a home further down the socket lies in a directory of its own, and `daemon.json` says
where.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bgfetch.errors import CacheError

__all__ = ["Address", "private_directory"]

_MOST = (
    100  # bytes of a socket's path: sun_path holds 108 on Linux and 104 on macOS, its closing NUL included
)


@dataclass(frozen=True, slots=True)
class Address:
    """The daemon's files of one home.

    Args:
        home: BGFETCH_HOME.
    """

    home: Path

    @property
    def folder(self) -> Path:
        """All of them, but for a socket whose path would be too long."""
        return self.home / "daemon"

    @property
    def lock(self) -> Path:
        """Locked by the daemon that runs."""
        return self.folder / "lock"

    @property
    def owner(self) -> Path:
        """Says which process the daemon is, for places where locks are given to everybody."""
        return self.folder / "owner"

    @property
    def facts(self) -> Path:
        """`daemon.json`: pid, version, protocol, socket, started_at."""
        return self.folder / "daemon.json"

    @property
    def token(self) -> Path:
        """What a client on TCP must know."""
        return self.folder / "token"

    @property
    def log(self) -> Path:
        """The daemon's own log, rotated."""
        return self.folder / "log" / "daemon.log"

    def worker_log(self, name: str) -> Path:
        """The log of a scope's worker, by a name that is safe in a path."""
        return self.folder / "log" / "workers" / f"{name}.log"

    def preferred_socket(self, environ: Mapping[str, str]) -> Path:
        """Where a daemon of this home and this environment puts its socket."""
        near = self.folder / "socket"
        if len(os.fsencode(near)) <= _MOST:
            return near
        return self.distant_socket(environ)

    def distant_socket(self, environ: Mapping[str, str]) -> Path:
        """Where it goes when the home's path is too long for it, or the home's disk has no sockets."""
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        runtime = environ.get("XDG_RUNTIME_DIR", "")
        path = Path(runtime) / f"bgfetch-{name}" / "socket"
        if runtime and len(os.fsencode(path)) <= _MOST:
            return path
        owner = os.getuid() if hasattr(os, "getuid") else 0
        return Path(tempfile.gettempdir()) / f"bgfetch-{owner}-{name}" / "socket"

    def socket(self, environ: Mapping[str, str]) -> Path:
        """Where a client finds the daemon: what `daemon.json` says, else where one would be.

        Raises:
            CacheError: Somebody else may have put it there.
        """
        path = self._said() or self.preferred_socket(environ)
        for folder in {self.folder, path.parent}:
            _refuse_others(folder)
        return path

    def _said(self) -> Path | None:
        try:
            said = json.loads(self.facts.read_text("utf-8"))["socket"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Path(said) if isinstance(said, str) and said else None


def private_directory(path: Path) -> None:
    """Make a directory that only its owner may enter, and refuse one that is a link or somebody else's.

    Raises:
        CacheError: It is not ours.
        OSError: It cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        _refuse_others(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o700)


def _refuse_others(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise CacheError(f"{path} is a link or no directory: remove it, since somebody may have planted it")
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        raise CacheError(f"{path} belongs to another user: remove it, or set BGFETCH_HOME to another folder")
