"""What files hash to, remembered from one run to the next: a small SQLite file outside of what is served.

An entry is of one state of one file: path, inode, size and both dates. It is a memory, not a record: lost or damaged, it is
begun anew and the files are hashed again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from bgfetch.vfs import Vfs
from bgfetch.web.digesting import Digests
from bgfetch.web.folder import Stamp

__all__ = ["Index"]

_FORMER = "DROP TABLE IF EXISTS digests_1"  # knew no ctime, so what it says may be of other bytes
_SCHEMA = """
CREATE TABLE IF NOT EXISTS digests_2 (
  path BLOB PRIMARY KEY, device TEXT NOT NULL, inode TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns TEXT NOT NULL,
  ctime_ns TEXT NOT NULL, sha256 TEXT NOT NULL, segment_size INTEGER NOT NULL, segments BLOB NOT NULL
) WITHOUT ROWID
"""
_FIND = """
SELECT sha256, segment_size, segments FROM digests_2
WHERE path=? AND device=? AND inode=? AND size=? AND mtime_ns=? AND ctime_ns=?
"""
_PUT = "REPLACE INTO digests_2 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PATIENCE = 10.0  # s for another process that writes
_DIGEST = 32


class Index:
    """The digests of files by their absolute paths; every method from any thread.

    Args:
        path: The file, made when first needed; None = remember nothing beyond this process.
        vfs: The file system.
    """

    def __init__(self, path: Path | None, vfs: Vfs) -> None:
        self._path = path
        self._vfs = vfs
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def find(self, path: str, stamp: Stamp) -> Digests | None:
        """What this file hashes to in this state, if that was ever found out."""
        with self._store() as store:
            row = store.execute(_FIND, _key(path, stamp)).fetchone()
        if row is None:
            return None
        sha256, size, segments = row
        return Digests(
            sha256, size, tuple(segments[at : at + _DIGEST].hex() for at in range(0, len(segments), _DIGEST))
        )

    def put(self, path: str, stamp: Stamp, digests: Digests) -> None:
        """Remember; an earlier state of the file is forgotten."""
        segments = b"".join(map(bytes.fromhex, digests.segments))
        row = (*_key(path, stamp), digests.sha256, digests.segment_size, segments)
        with self._store() as store, store:
            store.execute(_PUT, row)

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _store(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection is None:
                self._connection = self._opened()
            yield self._connection

    def _opened(self) -> sqlite3.Connection:
        if self._path is None:
            return _made(":memory:")
        self._vfs.make_directory(self._path.parent)
        try:
            return _made(str(self._path))
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # busy, or no room: what is there may be sound
                raise
            self._vfs.unlink(self._path)
            return _made(str(self._path))


def _made(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)
    try:
        connection.execute(_SCHEMA)
        connection.execute(_FORMER)
    except BaseException:
        connection.close()
        raise
    return connection


def _key(path: str, stamp: Stamp) -> tuple[bytes, str, str, int, str, str]:
    """A path as bytes, since it need not be UTF-8; as text where a number may need more than the 63 bits of SQLite's."""
    dates = str(stamp.mtime_ns), str(stamp.ctime_ns)
    return os.fsencode(path), str(stamp.device), str(stamp.inode), stamp.size, *dates
