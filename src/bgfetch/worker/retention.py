"""What is forgotten in time: records that nobody took away, and registrations that are long over.

Bytes are not touched here: what no registration and no cache refers to any more is for `bgfetch cache prune`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bgfetch.database import Database, load_queries

__all__ = ["Retention", "Swept"]

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_AT_ONCE: Final = 500  # registrations in a transaction: nobody waits for the store for long


@dataclass(frozen=True, slots=True)
class Swept:
    """How many were forgotten."""

    released: int
    purged: int


class Retention:
    """How long things are kept.

    Args:
        database: The store.
        records: Seconds from settlement for which records stay readable where nobody takes them away.
        log: Seconds from settlement after which the registration goes, with its log and its events.
    """

    def __init__(self, database: Database, *, records: float, log: float) -> None:
        self._database = database
        self._records = records
        self._log = log

    def sweep(self, *, now: float) -> Swept:
        """Forget what is due; an event that is still to be delivered keeps its registration."""
        with self._database.write() as connection:
            released = connection.execute(_SQL["release_old"], {"before": now - self._records}).rowcount
            connection.execute(_SQL["old_messages"], {"before": now - self._records})
            connection.execute(_SQL["forget_redundant"], {"before": now - self._log})
        purged = 0
        while True:
            with self._database.write() as connection:
                columns = {"before": now - self._log, "limit": _AT_ONCE}
                some = connection.execute(_SQL["purge_old"], columns).rowcount
            purged += some
            if some < _AT_ONCE:
                return Swept(released, purged)
