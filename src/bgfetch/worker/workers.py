"""The worker of each scope, as stored: what is run, in which version, and how far that has come.

States are those of a service worker (`ServiceWorker.state`), and ours: "unregistering", until the scope is purged.
What is run carries a checksum, for a flipped bit must not run something else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from bgfetch.database import Damaged, Database, load_queries
from bgfetch.errors import InvalidState
from bgfetch.stored import checksum

__all__ = ["Handler", "Kind", "WorkerRow", "WorkerState", "Workers"]

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class WorkerState(StrEnum):
    """`ServiceWorker.state`, and "unregistering"."""

    INSTALLING = "installing"
    INSTALLED = "installed"
    ACTIVATING = "activating"
    ACTIVE = "active"
    REDUNDANT = "redundant"
    UNREGISTERING = "unregistering"


class Kind(StrEnum):
    """How a handler is run."""

    ENTRY_POINT = "entry-point"
    ARGV = "argv"


@dataclass(frozen=True, slots=True)
class Handler:
    """What handles the events of a scope.

    Args:
        kind: How `target` is to be read.
        target: One Python entry point (`module` or `module:function`), or a command with its arguments. A
            command is never given to a shell; it gets the event as JSON on stdin.
        python: The interpreter for an entry point.
        path: Where that looks for modules.
        directory: Where it runs.
        time_limit: Seconds for one event; then it is killed with all it has started.
        mailbox: Keep messages while no client is there.
    """

    kind: Kind
    target: tuple[str, ...]
    python: str
    path: tuple[str, ...]
    directory: str
    time_limit: float = 300.0
    mailbox: bool = False


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A registered worker.

    Args:
        worker_id: Never used twice in a store.
        version: Tells it from its successor.
        detail: Why it did not get further, or "".
    """

    worker_id: int
    scope: str
    version: str
    handler: Handler
    registered_at: float
    state: WorkerState
    detail: str = ""


class Workers:
    """Workers over a `Database`. Raises CacheError as `Registrations` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, scope: str, version: str, handler: Handler, *, state: WorkerState, now: float) -> WorkerRow:
        """A new worker of the scope.

        Raises:
            InvalidState: The scope is being unregistered.
        """
        columns: dict[str, Any] = {
            "scope": scope,
            "version": version,
            "kind": handler.kind.value,
            "target": json.dumps(handler.target),
            "python": handler.python,
            "path": json.dumps(handler.path),
            "directory": handler.directory,
            "time_limit": float(handler.time_limit),
            "mailbox": int(handler.mailbox),
            "registered_at": float(now),
        }
        with self._database.write() as connection:
            if any(row.state is WorkerState.UNREGISTERING for row in self.listing(scope)):
                raise InvalidState(f"the scope {scope!r} is being unregistered: try again when that is over")
            inserted = connection.execute(_SQL["add_worker"], {**columns, "state": state.value})
            worker_id = inserted.lastrowid or 0
            check = checksum(worker_id, *columns.values())
            connection.execute(_SQL["set_worker_checksum"], {"worker_id": worker_id, "checksum": check})
        return WorkerRow(worker_id, scope, version, handler, float(now), state)

    def listing(self, scope: str | None = None, *, everything: bool = False) -> list[WorkerRow]:
        """Workers, oldest first; those that were replaced or failed only with `everything`."""
        rows = self._database.rows(_SQL["workers"], {"scope": scope, "everything": everything})
        return [self._row(row) for row in rows]

    def get(self, worker_id: int) -> WorkerRow | None:
        """One of them."""
        rows = self._database.rows(_SQL["worker"], {"worker_id": worker_id})
        return self._row(rows[0]) if rows else None

    def active(self, scope: str) -> WorkerRow | None:
        """The one that gets the events of the scope; None: the built-in one does."""
        return _in_state(self.listing(scope), WorkerState.ACTIVE)

    def waiting(self, scope: str) -> WorkerRow | None:
        """The one that will take over: installed, or interrupted while it was activated."""
        return _in_state(self.listing(scope), WorkerState.ACTIVATING, WorkerState.INSTALLED)

    def set_state(self, row: WorkerRow, state: WorkerState, detail: str = "") -> None:
        """Note how far it has come."""
        columns = {"worker_id": row.worker_id, "state": state.value, "detail": detail[:2000]}
        with self._database.write() as connection:
            connection.execute(_SQL["set_worker_state"], columns)

    def take_over(self, row: WorkerRow) -> None:
        """It is activating, and those before it are redundant."""
        with self._database.write() as connection:
            place = {"scope": row.scope, "worker_id": row.worker_id}
            connection.execute(_SQL["replace_others"], place)
            self.set_state(row, WorkerState.ACTIVATING)

    def begin_unregistering(self, scope: str, *, now: float) -> None:
        """From now on no event of the scope is delivered to anybody, and no worker can be registered."""
        nobody = Handler(Kind.ARGV, (), "", (), "")
        with self._database.write() as connection:
            connection.execute(_SQL["begin_unregistering"], {"scope": scope})
            self.add(scope, "", nobody, state=WorkerState.UNREGISTERING, now=now)

    def forget(self, scope: str) -> None:
        """There never was a worker."""
        with self._database.write() as connection:
            connection.execute(_SQL["forget_workers"], {"scope": scope})

    def _row(self, row: tuple[Any, ...]) -> WorkerRow:
        worker_id, scope, version, kind, target, python, path, directory = row[:8]
        time_limit, mailbox, registered_at, check, state, detail = row[8:]
        if checksum(*row[:11]) != check:
            raise Damaged(f"{self._database.path}: worker {worker_id} is not what was written")
        handler = Handler(
            Kind(kind), _texts(target), python, _texts(path), directory, time_limit, bool(mailbox)
        )
        return WorkerRow(worker_id, scope, version, handler, registered_at, WorkerState(state), detail)


def _texts(packed: str) -> tuple[str, ...]:
    return tuple(str(each) for each in json.loads(packed))


def _in_state(rows: Sequence[WorkerRow], *states: WorkerState) -> WorkerRow | None:
    return next((row for row in reversed(rows) if row.state in states), None)
