"""Makes progress durable about once a second, for all running downloads in one transaction.

The rule of invariant 2: what is recorded was synced before. So the spans are taken first, then the files are synced,
then the spans taken are written down.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence

from bgfetch.cache.partials import Partial
from bgfetch.errors import CacheError
from bgfetch.registrations.port import RecordProgress, Registrations

__all__ = ["Journal"]

Entry = tuple[Partial, RecordProgress]


class Journal:
    """A thread that syncs and records.

    Args:
        store: Where progress is recorded.
        stale: Told about registrations another process has claimed meanwhile.
    """

    def __init__(self, store: Registrations, stale: Callable[[frozenset[int]], None]) -> None:
        self._store = store
        self._stale = stale
        self._due: queue.SimpleQueue[Sequence[Entry] | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._loop, name="bgfetch-journal", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether everything handed over is recorded."""
        return self._idle.is_set()

    def record(self, entries: Sequence[Entry]) -> None:
        """Sync these partials and record what they held when this was called. Returns at once."""
        for partial, _progress in entries:
            partial.acquire()
        self._idle.clear()
        self._due.put(entries)

    def close(self) -> None:
        """Record what was handed over and end the thread."""
        self._due.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (entries := self._due.get()) is not None:
            self._record(entries)
            if self._due.empty():
                self._idle.set()

    def _record(self, entries: Sequence[Entry]) -> None:
        durable: list[RecordProgress] = []
        for partial, progress in entries:
            try:
                partial.datasync()
            except OSError:
                pass  # not durable, so not recorded; the next write meets the same disk and says so
            else:
                durable.append(progress)
            finally:
                partial.close()
        with contextlib.suppress(
            CacheError
        ):  # the bytes are safe and prove themselves; the next second tries again
            self._stale(self._store.save_progress(durable))
