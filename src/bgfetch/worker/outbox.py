"""The outbox as those see it who deliver: what is due, what became of a delivery, what is parked.

The rule it keeps: an event is acknowledged once, in the transaction that also writes the log line and takes the
records away; until then it is delivered again. A delivery is counted before it begins.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bgfetch.core.delivery import PARKED
from bgfetch.database import Database, load_queries
from bgfetch.registrations.port import OutboxEvent
from bgfetch.registrations.rows import believed, unpack_event

__all__ = ["Outbox", "Parked"]

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that is not delivered by itself any more.

    Args:
        ended_at: When its last delivery ended, or None where that is not known.
        exit_code: Of the handler; below 0 the signal that ended it, None where it did not end by itself.
        detail: What went wrong, for a person.
    """

    event: OutboxEvent
    ended_at: float | None
    exit_code: int | None
    detail: str


class Outbox:
    """Deliveries over a `Database`. Raises CacheError as `Registrations` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, *, now: float) -> list[OutboxEvent]:
        """The next event of each scope that has one to be delivered now: its oldest, one of a registration not
        before those of the same that came earlier.
        """
        rows = self._database.rows(_SQL["due"], {"now": now})
        with believed(f"{self._database.path}: the outbox"):
            return [unpack_event(row) for row in rows]

    def next_due(self, *, now: float) -> float | None:
        """The instant at which another event is due, or None while nothing is waiting for one."""
        instant = self._database.rows(_SQL["next_due"], {"now": now})[0][0]
        return None if instant is None else float(instant)

    def begin(self, event: OutboxEvent, *, worker_id: int, again_at: float, now: float) -> bool:
        """Count a delivery; False when another process was quicker, and nothing is to be delivered.

        Args:
            event: As it was found due.
            worker_id: Who gets it.
            again_at: The next delivery is not before this instant, should this one never be heard of again.
            now: Seconds since the epoch.
        """
        columns = {
            "event_id": event.event_id,
            "attempts": event.attempts,
            "not_before": again_at,
            "worker_id": worker_id,
            "now": now,
        }
        with self._database.write() as connection:
            if not _change(connection, "begin", columns):
                return False
            _change(connection, "delivery", columns)
            _log(connection, event, now, "delivering", f"delivery {event.attempts + 1}")
        return True

    def acknowledge(self, event: OutboxEvent, *, release: bool, now: float) -> bool:
        """The handler has done its work; False when it was acknowledged before, and nothing changed.

        Args:
            event: The event.
            release: Take the records away (Background Fetch: they are gone when the event is over).
            now: Seconds since the epoch.
        """
        columns = {"event_id": event.event_id, "uid": event.uid, "now": now, "exit_code": 0, "detail": ""}
        with self._database.write() as connection:
            if not _change(connection, "acknowledge_event", columns):
                return False
            _change(connection, "end_delivery", columns)
            if release:
                _change(connection, "release", columns)
            _log(connection, event, now, "acknowledged", event.type.value)
        return True

    def failed(
        self, event: OutboxEvent, *, exit_code: int | None, detail: str, again_at: float, now: float
    ) -> None:
        """The handler has not done its work.

        Args:
            event: As it was when its delivery began.
            exit_code: See `Parked`.
            detail: See `Parked`.
            again_at: The next delivery is not before this instant; `PARKED` for none.
            now: Seconds since the epoch.
        """
        columns = {
            "event_id": event.event_id,
            "attempts": event.attempts + 1,
            "not_before": again_at,
            "exit_code": exit_code,
            "detail": detail[:2000],
            "now": now,
        }
        with self._database.write() as connection:
            if _change(connection, "retry_at", columns):
                _change(connection, "end_delivery", columns)
                _log(connection, event, now, "parked" if again_at == PARKED else "handler-failed", detail)

    def give_back(self, event: OutboxEvent) -> None:
        """The delivery was broken off, by nothing the handler did: it does not count."""
        with self._database.write() as connection:
            _change(connection, "give_back", {"event_id": event.event_id, "attempts": event.attempts + 1})

    def parked(self, scope: str | None = None) -> list[Parked]:
        """Events nobody delivers until a person asks for it, oldest first."""
        rows = self._database.rows(_SQL["parked"], {"scope": scope})
        with believed(f"{self._database.path}: the outbox"):
            return [Parked(unpack_event(row[:8]), *row[8:]) for row in rows]

    def redeliver(self, event_id: int) -> bool:
        """Deliver a parked event again, as if it were new; False when it is not parked."""
        with self._database.write() as connection:
            return _change(connection, "redeliver", {"event_id": event_id})

    def drop(self, scope: str, *, now: float) -> None:
        """Owe the scope nothing any more (it is being unregistered)."""
        with self._database.write() as connection:
            _change(connection, "settled_events_of", {"scope": scope, "now": now})


def _change(connection: sqlite3.Connection, query: str, columns: Mapping[str, Any]) -> bool:
    return connection.execute(_SQL[query], columns).rowcount > 0


def _log(connection: sqlite3.Connection, event: OutboxEvent, now: float, name: str, detail: str) -> None:
    connection.execute(
        _SQL["log_line"], {"uid": event.uid, "now": now, "name": name, "detail": detail[:2000]}
    )
