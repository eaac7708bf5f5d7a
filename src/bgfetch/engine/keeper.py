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
        workers = max(1, (os.cpu_count() or 2) - 1)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="bgfetch-hash")
        self._due: queue.SimpleQueue[tuple[RecordTask, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._commit_loop, name="bgfetch-commit", daemon=True)
        self._thread.start()

    def follow(self, task: RecordTask) -> None:
        """Hash what is new at the front, unless that is being done."""
        hasher, partial = self._hasher(task), task.partial
        if hasher.busy or partial is None or task.machine.held.front - hasher.position < (1 << 20):
            return
        hasher.busy = True
        partial.acquire()
        self._pool.submit(self._follow, task, hasher, partial.close)

    def _follow(self, task: RecordTask, hasher: FrontHasher, release: Callable[[], None]) -> None:
        try:
            hasher.advance(lambda: task.machine.held.front if task.hasher is hasher else hasher.position)
        except OSError:
            task.hasher = None  # what is wrong with the disk shows when the whole is verified
        finally:
            hasher.busy = False
            release()

    def _hasher(self, task: RecordTask) -> FrontHasher:
        if task.hasher is None:
            assert task.partial is not None and task.machine.digest is not None  # noqa: S101, PT018 - only then
            task.hasher = FrontHasher(task.partial, {"sha256", task.machine.digest.algorithm})
        return task.hasher

    def verify(self, task: RecordTask, total: int) -> None:
        """Compare the whole body with its digest; posts what came out."""
        self._pool.submit(self._verify, task, total)

    def _verify(self, task: RecordTask, total: int) -> None:
        digest = task.machine.digest
        assert digest is not None  # noqa: S101 - Verify is commanded only with one
        try:
            hasher = self._hasher(task)
            hasher.advance(lambda: total)
        except OSError as error:
            task.hasher = None
            self._post(task, on.StoreFailed(disk_fault(error)))
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
        self._pool.submit(self._check_pieces, task)

    def _check_pieces(self, task: RecordTask) -> None:
        assert task.partial is not None  # noqa: S101 - it has been written
        try:
            self._post(task, on.PiecesChecked(task.partial.damaged()))
        except OSError as error:
            self._post(task, on.StoreFailed(disk_fault(error)))

    def commit(self, task: RecordTask, total: int) -> None:
        """Give the body its final name; posts that it is durable."""
        self._due.put((task, total))

    def close(self) -> None:
        """Finish what is being done and end the threads."""
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

    def _commit_all(self, due: list[tuple[RecordTask, int]]) -> None:
        try:
            names = self._blobs.adopt([_finished(task, total) for task, total in due])
        except OSError as error:
            if len(due) > 1:
                for each in due:
                    self._commit_all([each])
                return
            self._post(due[0][0], on.StoreFailed(disk_fault(error)))
            return
        for (task, _total), name in zip(due, names, strict=True):
            task.blob = name
            task.verified = _verified(task)
            self._post(task, on.BlobCommitted(task.verified))


def _finished(task: RecordTask, total: int) -> Finished:
    assert task.partial is not None  # noqa: S101 - it has been written
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
    return Finished(task.partial, total, task.digest.removeprefix("sha256:"), facts)


_KEPT = frozenset({"content-type", "etag", "last-modified", "content-disposition", "vary"})


def _verified(task: RecordTask) -> Verified:
    if task.machine.digest is not None:
        return Verified.DIGEST
    return Verified.VALIDATORS if is_strong(task.machine.etag) else Verified.LENGTH
