"""Models in bgfetch's own cache, under paths made of their URLs: host first, then the path.

`https://host/m/model.gguf` is `host/m/model.gguf`; a port follows its host after "_". Their digests are known since
they were fetched, so nothing is hashed again, but for the segments of a manifest that somebody asks for.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from bgfetch.core.names import safe_name
from bgfetch.web.folder import Note, Stamp, stamp_of
from bgfetch.web.paths import Parts

if TYPE_CHECKING:
    from bgfetch.cache.entries import Entry
    from bgfetch.wiring import Wiring

__all__ = ["Stored", "note_of", "open_entry", "path_of"]

_SHA256 = "sha256:"


def path_of(url: str) -> Parts:
    """The path that a URL's file is given out under; of queries nothing is told apart."""
    parts = urlsplit(url)
    names = [parts.netloc.rpartition("@")[2], *unquote(parts.path).split("/")]
    return tuple(safe_name(name) for name in names if name)


def note_of(entry: Entry) -> Note:
    """What was found out when it was fetched."""
    sha256 = entry.digest.removeprefix(_SHA256) if entry.digest.startswith(_SHA256) else ""
    return Note(sha256, entry.reply.headers.get("etag", ""))


def open_entry(wiring: Wiring, entry: Entry) -> int:
    """A descriptor of an entry's file, which is not evicted while it is open.

    Raises:
        FileNotFoundError: It is gone, or was changed by somebody.
    """
    if not wiring.blobs.intact(entry.blob, entry.size):
        raise FileNotFoundError(errno.ENOENT, "not in the cache any more", entry.blob)
    fd = wiring.vfs.open(wiring.blobs.path(entry.blob), readonly=True)
    wiring.vfs.lease(fd)
    wiring.entries.touch(entry.entry_id, wiring.clock.now())
    return fd


class Stored:
    """The cache as a place of models.

    Args:
        wiring: The home.
        scope: Whose caches.
    """

    def __init__(self, wiring: Wiring, scope: str) -> None:
        self._wiring = wiring
        self._scope = scope

    def open(self, parts: Parts) -> int:
        """A descriptor for the caller to close; FileNotFoundError where there is none."""
        return open_entry(self._wiring, self._entry(parts))

    def files(self, parts: Parts = ()) -> Sequence[tuple[Parts, Stamp]]:
        """All files below a path, sorted; FileNotFoundError where there are none."""
        found = []
        for path, entry in self._entries().items():
            if path[: len(parts)] == parts and (stamp := self._stamp(entry)) is not None:
                found.append((path, stamp))
        if parts and not found:
            raise FileNotFoundError(errno.ENOENT, "nothing is stored below", "/".join(parts))
        return sorted(found)

    def path(self, parts: Parts) -> Path:
        """The blob."""
        return self._wiring.blobs.path(self._entry(parts).blob)

    def note(self, parts: Parts) -> Note:
        """Its digest."""
        return note_of(self._entry(parts))

    def _entry(self, parts: Parts) -> Entry:
        entry = self._entries().get(parts)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "not in the cache", "/".join(parts))
        return entry

    def _entries(self) -> dict[Parts, Entry]:
        """Of two with one path the one that was put last."""
        placed = self._wiring.entries.placed(self._scope)
        return {
            path_of(each.entry.request.url): each.entry
            for each in placed
            if each.entry.request.method == "GET"
        }

    def _stamp(self, entry: Entry) -> Stamp | None:
        try:
            fd = self._wiring.vfs.open(self._wiring.blobs.path(entry.blob), readonly=True)
        except OSError:
            return None
        try:
            return stamp_of(fd)
        finally:
            self._wiring.vfs.close(fd)
