"""The life of workers: registered, installed, activated, replaced, unregistered.

A new worker is installed beside the old one, which goes on. When no event of the old one runs it takes over. One whose install
event fails never does, and the old one stays. Source: Service Workers, "Install" and "Activate".
"""

from __future__ import annotations

import hashlib
import shutil
import time
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from bgfetch.cache.partials import Partials
from bgfetch.clock import Clock
from bgfetch.core.model import FailureReason, Result
from bgfetch.errors import InvalidRequest
from bgfetch.registrations.port import RegistrationRow, Registrations, Wish
from bgfetch.worker.launcher import Ended, Launcher
from bgfetch.worker.mailbox import Mailbox
from bgfetch.worker.orders import of_worker
from bgfetch.worker.outbox import Outbox
from bgfetch.worker.places import Places
from bgfetch.worker.workers import Handler, Kind, WorkerRow, Workers, WorkerState

__all__ = ["Scopes", "log_text", "version_of"]

_PATIENCE: Final = 5.0  # seconds; whoever runs a registration looks for wishes twice a second
_POLL: Final = 0.05


class Scopes:
    """Registers and unregisters workers. Every method may be called from any thread, and blocks.

    Args:
        workers: Where they are stored.
        outbox: What is owed to them.
        mailbox: Messages kept for their clients.
        registrations: What they are told of.
        partials: Unfinished bodies.
        launcher: Runs handlers.
        places: Their locks and logs.
        clock: The time.
    """

    def __init__(
        self,
        workers: Workers,
        outbox: Outbox,
        mailbox: Mailbox,
        registrations: Registrations,
        partials: Partials,
        launcher: Launcher,
        places: Places,
        clock: Clock,
    ) -> None:
        self._workers = workers
        self._outbox = outbox
        self._mailbox = mailbox
        self._registrations = registrations
        self._partials = partials
        self._launcher = launcher
        self._places = places
        self._clock = clock

    def register(self, scope: str, handler: Handler, *, version: str = "") -> WorkerRow:
        """Install a worker and, as soon as no event of the former one runs, let it take over.

        Args:
            scope: Whose events it gets.
            handler: What it is.
            version: Tells it from others; "" for one made of what it is and of its source. The active one of the
                same version stays as it is.

        Returns:
            The worker: active, or installed where the former one has an event that lasts.

        Raises:
            InvalidRequest: It can never work, or its install event failed; the former one stays.
            InvalidState: The scope is being unregistered.
        """
        if not scope:
            raise InvalidRequest("a scope's name is not empty")
        version = version or version_of(handler)
        active = self._workers.active(scope)
        if active is not None and (active.version, active.handler) == (version, handler):
            return active
        _check(handler)
        row = self._workers.add(scope, version, handler, state=WorkerState.INSTALLING, now=self._clock.now())
        ended = self._run(row, "install")
        if ended is not None and not ended.well:
            self._workers.set_state(row, WorkerState.REDUNDANT, f"install: {ended.detail}")
            raise InvalidRequest(
                f"the worker of {scope!r} was not installed ({ended.detail}); what it said is in {self._places.log(scope)}"
            )
        self._workers.set_state(row, WorkerState.INSTALLED)
        self.activate(scope, patience=_PATIENCE)
        return self._workers.get(row.worker_id) or row

    def activate(self, scope: str, *, patience: float = 0.0) -> bool:
        """Let the worker that is installed take over; False while an event of the former one runs.

        Like the standard's, it is active whatever becomes of its activate event.
        """
        with self._places.alone(scope, patience=patience) as mine:
            return mine and self.activate_alone(scope)

    def activate_alone(self, scope: str) -> bool:
        """`activate`, by who handles events of the scope alone."""
        row = self._workers.waiting(scope)
        if row is not None:
            self._workers.take_over(row)
            ended = self._run(row, "activate")
            detail = "" if ended is None or ended.well else f"activate: {ended.detail}"
            if ended is None or not ended.stopped:
                self._workers.set_state(row, WorkerState.ACTIVE, detail)
        return True

    def unregister(self, scope: str) -> int:
        """Abort what the scope fetches, and forget its worker, its registrations, its events and its messages.

        Nobody is told by an event. Its caches stay. Returns how many registrations went.

        Source: Background Fetch explainer; Service Workers, "Clear Registration".
        """
        now = self._clock.now()
        if not any(row.state is WorkerState.UNREGISTERING for row in self._workers.listing(scope)):
            self._workers.begin_unregistering(scope, now=now)
        active = self._registrations.listing(scope, active=True)
        for row in active:
            self._registrations.set_wish(row.uid, Wish.ABORT)
        self._wait_for(active)
        rows = self._registrations.listing(scope)
        keys = {record.key for row in rows for record in self._registrations.records(row.uid)}
        self._outbox.drop(scope, now=now)
        for row in rows:
            self._registrations.purge(row.uid)
        for key in keys - self._wanted():
            self._partials.remove(key)
        self._mailbox.forget(scope)
        self._workers.forget(scope)
        return len(rows)

    def finish(self) -> None:
        """Go on with what a process that was killed has left undone."""
        for row in self._workers.listing():
            if row.state is WorkerState.UNREGISTERING:
                self.unregister(row.scope)
            elif row.state is WorkerState.INSTALLING and self._is_stale(row):
                self._workers.set_state(row, WorkerState.REDUNDANT, "install: whoever installed it was ended")

    def _is_stale(self, row: WorkerRow) -> bool:
        return self._clock.now() > row.registered_at + row.handler.time_limit + _PATIENCE

    def _wait_for(self, rows: list[RegistrationRow]) -> None:
        """Until whoever runs these has ended them, or for some seconds; what nobody runs is ended here."""
        began = time.monotonic()
        left = [row for row in rows if row.epoch]  # the others were never claimed
        while left and time.monotonic() - began < _PATIENCE:
            time.sleep(_POLL)
            left = [row for row in left if self._is_active(row.uid)]
        for row in rows:
            if self._is_active(row.uid):
                self._end(row.uid)

    def _is_active(self, uid: int) -> bool:
        row = self._registrations.get(uid)
        return row is not None and row.settled_at is None

    def _end(self, uid: int) -> None:
        """Claimed by us, nothing of a former owner counts any more."""
        epoch = self._registrations.claim(uid, "unregistering")
        self._registrations.settle(
            uid,
            epoch,
            Result.FAILURE,
            FailureReason.ABORTED,
            "its scope was unregistered",
            now=self._clock.now(),
        )

    def _wanted(self) -> set[str]:
        rows = self._registrations.listing(active=True)
        return {record.key for row in rows for record in self._registrations.records(row.uid)}

    def _run(self, row: WorkerRow, type_: str) -> Ended | None:
        """A command gets events of fetches only; whether it is there is known without running it."""
        if row.handler.kind is Kind.ARGV:
            return None
        began = self._clock.now()
        ended = self._launcher.run(row.handler, of_worker(row.scope, type_, root=self._places.root))
        self._places.write_log(row.scope, log_text(type_, row, ended, began))
        return ended


def log_text(what: str, row: WorkerRow, ended: Ended, began: float) -> bytes:
    """What is noted of a handler that was run: a line of ours, and all that it said."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began))
    head = f"-- {at} {what}, version {row.version}: {ended.detail or 'done'} after {ended.seconds:.2f} s\n"
    said = ended.output if not ended.output or ended.output.endswith(b"\n") else ended.output + b"\n"
    return head.encode("utf-8", "replace") + said


def version_of(handler: Handler) -> str:
    """A version made of what a handler is, and of its source where that can be found without running it."""
    digest = hashlib.sha256(repr((handler.kind.value, handler.target, handler.python)).encode())
    source = _source(handler)
    if source is not None and source.is_file():
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _source(handler: Handler) -> Path | None:
    if handler.kind is Kind.ARGV:
        found = shutil.which(handler.target[0], path=None)
        return Path(found) if found else None
    path: list[str] | None = list(handler.path)
    parts = handler.target[0].partition(":")[0].split(".")
    spec = None
    for count in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:count]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return Path(spec.origin) if spec is not None and spec.origin else None


def _check(handler: Handler) -> None:
    if not handler.target or not all(handler.target[:1]):
        raise InvalidRequest("a worker is an entry point such as my_app.worker, or a command")
    if handler.time_limit <= 0:
        raise InvalidRequest(f"a time limit is longer than {handler.time_limit:g} s")
    if handler.kind is Kind.ARGV:
        if any("\0" in each for each in handler.target):
            raise InvalidRequest("a command holds no NUL")
        if shutil.which(handler.target[0]) is None:
            raise InvalidRequest(f"there is no command {handler.target[0]!r}, or it may not be run")
        return
    name, colon, function = handler.target[0].partition(":")
    words = [*name.split("."), *(function.split(".") if colon else ())]
    if len(handler.target) != 1 or not all(word.isidentifier() for word in words):
        raise InvalidRequest(
            f"not an entry point: {handler.target[0][:80]!r}; write module or module:function"
        )
