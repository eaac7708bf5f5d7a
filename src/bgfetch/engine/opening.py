"""Opens the partials of records whose turn has come, one record a partial, and lets go of them at the end."""

from __future__ import annotations

import contextlib

from bgfetch.cache.blobs import Blobs
from bgfetch.cache.partials import Partial, Partials
from bgfetch.cache.small import SmallBodies
from bgfetch.clock import Clock
from bgfetch.core import commands as do
from bgfetch.core.machine import Recovered
from bgfetch.core.model import FailureReason, Fault, Result, State
from bgfetch.engine.tasks import RecordTask
from bgfetch.transports.faults import disk_fault

__all__ = ["Opener"]

_ATTEMPTS = 10
_PASSING = frozenset({"disk-full", "resources"})  # others give back what they hold


class Opener:
    """Keeps which record writes which partial.

    Args:
        partials: Where unfinished bodies are.
        blobs: Where finished bodies are.
        clock: The time.
        retry_scale: Factor on the delays after the disk refused.
    """

    def __init__(self, partials: Partials, blobs: Blobs, clock: Clock, *, retry_scale: float) -> None:
        self._partials = partials
        self._small = SmallBodies(partials)
        self._blobs = blobs
        self._clock = clock
        self._retry_scale = retry_scale
        self._owners: dict[str, RecordTask] = {}  # by key: two records never write one partial

    def open(self, task: RecordTask) -> bool | do.Finish:
        """Open and recover the record's partial.

        Returns:
            True when it may start; False when it must wait and be asked about again; how it ends, where it does: its
            body was there already, or the disk refused too often.
        """
        if (
            self._owners.setdefault(task.row.key, task) is not task
            or self._clock.monotonic() < task.retry_open
        ):
            return False
        if task.partial is not None:
            return True
        try:
            if self._resume_placed(task):
                return do.Finish(Result.SUCCESS)
            task.partial = self._small.open(task.row.key)
            _recover(task, task.partial)
        except OSError as error:
            return self._failed(task, disk_fault(error))
        return True

    def _resume_placed(self, task: RecordTask) -> bool:
        """Whether an earlier process gave the body its final name and ended before it could say so."""
        placed = self._blobs.resume(self._partials.path(task.row.key), task.owner)
        if placed is None:
            return False
        task.machine.state, task.machine.total = State.SETTLED, placed.size
        task.blob, task.digest, task.verified = placed.blob, placed.digest, placed.verified
        return True

    def _failed(self, task: RecordTask, fault: Fault) -> bool | do.Finish:
        del self._owners[task.row.key]
        if task.partial is not None:
            task.partial.close()
            task.partial = None
        task.open_failures += 1
        if task.open_failures > _ATTEMPTS and fault.kind not in _PASSING:
            return do.Finish(Result.FAILURE, fault.reason, fault.detail, fault.kind)
        task.machine.waiting_for = fault.detail
        task.retry_open = self._clock.monotonic() + min(5.0, 0.5 * task.open_failures) * self._retry_scale
        return False

    def opened(self, task: RecordTask) -> Partial:
        """The record's partial; an empty one where a reset could not make it. OSError."""
        task.partial = task.partial or self._partials.fresh(task.row.key)
        return task.partial

    def empty(self, task: RecordTask) -> None:
        """Give the record an empty partial: what is held is of another version."""
        partial, task.partial = task.partial, None
        if partial is not None:
            partial.close()
        with contextlib.suppress(OSError):  # `opened` tries again, and the machine is told when that fails
            task.partial = self._partials.fresh(task.row.key)

    def let_go(self, task: RecordTask, *, keep: bool = False) -> None:
        """Close the partial, for whoever is next to own it; its bytes stay unless nobody needs them any more.

        Args:
            task: The record.
            keep: Whether they stay in any case: another process owns them now.
        """
        if task.partial is not None:
            task.partial.close()
            task.partial = None
        if self._owners.get(task.row.key) is not task:
            return
        del self._owners[task.row.key]
        finish = None if keep else task.finish
        if finish is not None and (finish.result is Result.SUCCESS or finish.reason is FailureReason.ABORTED):
            with contextlib.suppress(OSError):  # what could not be deleted is found by `cache prune`
                self._partials.remove(task.row.key)


def _recover(task: RecordTask, partial: Partial) -> None:
    held = partial.recover()
    facts = partial.facts()
    if held and facts is not None:
        total = None if facts.total < 0 else facts.total
        task.machine.adopt(
            Recovered(held, total, facts.etag, facts.last_modified, facts.content_type),
        )
