"""Models in bgfetch's own cache, under paths made of their URLs: host first, then the path.

`https://host/m/model.gguf` is `host/m/model.gguf`; a port follows its host after "_". Their digests are known since
they were fetched, so nothing is hashed again, but for the segments of a manifest that somebody asks for.

All entries are loaded together and kept until there are others: a request, or a manifest of thousands, must not load
them once for each file.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from bgfetch.core.names import safe_name
from bgfetch.web.folder import Note, Stamp, stamp_of
from bgfetch.web.paths import Parts

if TYPE_CHECKING:
    from bgfetch.cache.entries import Entry
    from bgfetch.wiring import Wiring

__all__ = ["Stored", "note_of", "open_entry", "path_of"]

_SHA256 = "sha256:"
_LOOK: Final = (
    1.0  # s between two looks at whether there are others: so long what was deleted may be given out
)


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
    """The cache as a place of models; every method from any thread.

    Args:
        wiring: The home.
        scope: Whose caches.
        now: Monotonic seconds.
    """

    def __init__(self, wiring: Wiring, scope: str, now: Callable[[], float] = monotonic) -> None:
        self._wiring = wiring
        self._scope = scope
        self._now = now
        self._lock = threading.Lock()  # whoever comes while entries are loaded waits for them, and loads none
        self._known: dict[Parts, Entry] = {}
        self._state: tuple[int, int] | None = None
        self._looked_at = 0.0

    def open(self, parts: Parts) -> int:
        """A descriptor for the caller to close; FileNotFoundError where there is none."""
        known = self._entries()
        try:
            return open_entry(self._wiring, self._entry(parts))
        except FileNotFoundError:  # was it put, or put anew, since the last look?
            if self._entries(look=True) is known:
                raise
        return open_entry(self._wiring, self._entry(parts))

    def files(self, parts: Parts = ()) -> Sequence[tuple[Parts, Stamp]]:
        """All files below a path, sorted; FileNotFoundError where there are none."""
        found = []
        for path, entry in self._entries(look=True).items():
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

    def _entries(self, *, look: bool = False) -> dict[Parts, Entry]:
        """Of two with one path the one that was put last; as at the last look, a moment ago, or as they are now."""
        with self._lock:
            if self._state is None or look or self._now() - self._looked_at >= _LOOK:
                # Before they are loaded: what is put meanwhile is loaded once more, and nothing is missed.
                state = self._wiring.entries.state(self._scope)
                if state != self._state:
                    self._known, self._state = self._loaded(), state
                self._looked_at = self._now()
            return self._known

    def _loaded(self) -> dict[Parts, Entry]:
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
