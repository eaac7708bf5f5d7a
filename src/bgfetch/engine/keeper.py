"""Checks and commits finished bodies away from the driver's thread.

Hashing runs in a pool; committing on one thread that takes all that is waiting at once, so that a thousand small
files share their directory syncs.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bgfetch.cache.blobs import Blobs, Finished
from bgfetch.cache.facts import BlobFacts
from bgfetch.cache.hashing import FrontHasher
from bgfetch.cache.partials import Partial
from bgfetch.core import events as on
from bgfetch.core.model import Verified
from bgfetch.core.ranges import is_strong
from bgfetch.engine.tasks import RecordTask
from bgfetch.transports.faults import disk_fault

__all__ = ["Keeper"]

_AT_ONCE = 256


class Keeper:
    """Verifies and commits.

    Args:
        blobs: Where finished bodies go.
        post: Takes events for the driver.
    """

    def __init__(self, blobs: Blobs, post: Callable[[RecordTask, on.Event], None]) -> None:
        self._blobs = blobs
        self._post = post
        self._closing = False
        workers = max(1, (os.cpu_count() or 2) - 1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="bgfetch-hash")
        self._due: queue.SimpleQueue[tuple[RecordTask, Finished] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._commit_loop, name="bgfetch-commit", daemon=True)
        self._thread.start()

    def follow(self, task: RecordTask) -> None:
        """Hash what is new at the front, unless that is being done, or what is held is doubted and may change yet."""
        if task.machine.held.front == task.machine.total:
            return
        hasher, partial = self._hasher(task), task.partial
        if hasher.busy or partial is None or task.machine.held.front - hasher.position < (1 << 20):
            return
        hasher.busy = True
        partial.acquire()
        self._pool.submit(self._follow, task, hasher, partial.close)

    def _follow(self, task: RecordTask, hasher: FrontHasher, release: Callable[[], None]) -> None:
        try:
            hasher.advance(lambda: self._front(task, hasher))
        except OSError:
            task.hasher = None  # what is wrong with the disk shows when the whole is verified
        finally:
            hasher.busy = False
            release()

    def _front(self, task: RecordTask, hasher: FrontHasher) -> int:
        return task.machine.held.front if task.hasher is hasher and not self._closing else hasher.position

    def _hasher(self, task: RecordTask) -> FrontHasher:
        if task.hasher is None or not task.hasher.current:
            assert task.partial is not None and task.machine.digest is not None  # noqa: S101, PT018 - only then
            task.hasher = FrontHasher(task.partial, {"sha256", task.machine.digest.algorithm})
        return task.hasher

    def verify(self, task: RecordTask, total: int) -> None:
        """Compare the whole body with its digest; posts what came out."""
        if task.partial is not None:
            task.partial.acquire()
            # From here on no transfer that has not noticed yet that it is over can change what is hashed.
            task.partial.freeze()
            self._pool.submit(self._verify, task, total, self._hasher(task), task.partial)

    def _verify(self, task: RecordTask, total: int, hasher: FrontHasher, partial: Partial) -> None:
        digest = task.machine.digest
        assert digest is not None  # noqa: S101 - Verify is commanded only with one
        try:
            hasher.advance(lambda: 0 if self._closing else total)
        except OSError as error:
            task.hasher = None
            partial.thaw()
            self._post(task, on.StoreFailed(disk_fault(error)))
            return
        finally:
            partial.close()
        if hasher.position < total:  # the process ends; the next one reads it all again
            return
        values = hasher.values()
        task.digest = f"sha256:{values['sha256'].hex()}"
        if values[digest.algorithm] == digest.value:
            self._post(task, on.DigestMatched())
            return
        task.hasher = None
        self._post(task, on.DigestMismatched(f"{digest.algorithm}:{values[digest.algorithm].hex()}"))

    def check_pieces(self, task: RecordTask) -> None:
        """Read every piece back; posts which are damaged."""
        if task.partial is not None:
            task.partial.acquire()
            self._pool.submit(self._check_pieces, task, task.partial)

    def _check_pieces(self, task: RecordTask, partial: Partial) -> None:
        event: on.Event
        try:
            damaged = partial.damaged()
            event = on.PiecesChecked(damaged, witnessed=not damaged and _witnessed(task, partial))
        except OSError as error:
            event = on.StoreFailed(disk_fault(error))
        partial.thaw()  # before anybody hears of it and sends for other bytes
        partial.close()
        self._post(task, event)

    def commit(self, task: RecordTask, total: int) -> None:
        """Give the body its final name; posts that it is durable."""
        if task.partial is not None:
            task.partial.acquire()  # an abort in between must not close it under the committer's hands
            self._due.put((task, _finished(task, task.partial, total)))

    def close(self) -> None:
        """Finish what is short, leave off hashing, and end the threads."""
        self._closing = True
        self._due.put(None)
        self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _commit_loop(self) -> None:
        while True:
            batch = [self._due.get()]
            while len(batch) < _AT_ONCE and not self._due.empty():
                batch.append(self._due.get())
            due = [each for each in batch if each is not None]
            if due:
                self._commit_all(due)
            if len(due) < len(batch):
                return

    def _commit_all(self, due: list[tuple[RecordTask, Finished]]) -> None:
        for (task, finished), name in zip(due, self._adopted(due), strict=True):
            if isinstance(name, OSError):
                task.hasher = None  # what is fetched again is hashed again
                self._post(task, _not_stored(finished, name))
            else:
                task.blob = name
                task.verified = _verified(task)
                self._post(task, on.BlobCommitted(task.verified))
            finished.partial.close()

    def _adopted(self, due: list[tuple[RecordTask, Finished]]) -> list[str | OSError]:
        """The final name of each, or why it has none yet: one that fails does not hold up the others."""
        try:
            return [*self._blobs.adopt([finished for _task, finished in due])]
        except OSError as error:
            return [error] if len(due) == 1 else [one for each in due for one in self._adopted([each])]


def _witnessed(task: RecordTask, partial: Partial) -> bool:
    """Whether the body is what the server says it is, where a person says something else."""
    witness, total = task.machine.witness, task.machine.total
    if witness is None or total is None:
        return False
    hasher = FrontHasher(partial, {witness.algorithm})
    hasher.advance(lambda: total)
    return hasher.values()[witness.algorithm] == witness.value


def _not_stored(finished: Finished, error: OSError) -> on.Event:
    """Bytes that the disk took and lost are fetched again; all else is tried again as it is."""
    lost = finished.partial.held.gaps(finished.total)
    return on.PiecesChecked(lost) if lost else on.StoreFailed(disk_fault(error))


def _finished(task: RecordTask, partial: Partial, total: int) -> Finished:
    reply = task.reply
    facts = BlobFacts(
        url=task.row.request.url,
        size=total,
        scope=task.job.row.scope,
        status=200 if reply is None or reply.status == 206 else reply.status,
        headers=() if reply is None else tuple(pair for pair in reply.headers.pairs if pair[0] in _KEPT),
        digest=task.digest,
        verified=_verified(task),
    )
    return Finished(partial, total, task.digest.removeprefix("sha256:"), facts, task.owner)


_KEPT = frozenset({"content-type", "etag", "last-modified", "content-disposition", "vary"})


def _verified(task: RecordTask) -> Verified:
    if task.machine.digest is not None:
        return Verified.DIGEST
    return Verified.VALIDATORS if is_strong(task.machine.etag) else Verified.LENGTH
