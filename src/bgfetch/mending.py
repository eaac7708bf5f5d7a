"""A damaged database, made good from what is sound in it and from what lies beside the bytes.

Where only rows are not what was written, those go and all others stay: a copy of the file is kept aside, others may
have the file open meanwhile. Where SQLite itself finds damage, the whole file is set aside and a fresh one is made.
Either way what the files know is added again (`cache/rebuild`), so that nothing that is whole is fetched twice, and
the log of each registration that was made again says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from bgfetch.cache.entries import SqliteEntries
from bgfetch.cache.maintenance import Kept
from bgfetch.cache.rebuild import rebuild
from bgfetch.database import Database
from bgfetch.registrations.sqlite import SqliteRegistrations

__all__ = ["mend_rows", "rebuild_all"]

_LOG: Final = logging.getLogger(__name__)


def mend_rows(database: Database, kept: Kept, *, now: float) -> str:
    """Take out rows that are not what was written, and add again what the files know.

    Args:
        database: Open, and perhaps in use by others.
        kept: The stores over it.
        now: Names the copy; seconds since the epoch.

    Returns:
        What was done, in words; "" where every row is sound.

    Raises:
        Damaged: The file itself is, not only rows of it: it must be started over.
        StoreFull, CacheError: There is no room for a copy; nothing was changed.
    """
    database.check()
    aside = database.copy_aside(now=now)
    registrations, entries = SqliteRegistrations(database), SqliteEntries(database)
    with database.write():
        (lost, told), dropped = registrations.mend(), entries.mend()
        again = rebuild_all(database, kept, now=now, entries_lost=bool(dropped))
    if not lost + told + dropped:
        aside.unlink()
        return ""
    words = (
        f"{database.path} had damaged rows, of {lost} registrations, {dropped} cache entries and {told} events: a copy of "
        f"it is {aside.name}, these were removed and {again} made again from the files"
    )
    _LOG.warning("%s", words)
    return words


def rebuild_all(database: Database, kept: Kept, *, now: float, entries_lost: bool = False) -> str:
    """Add what the files know and the database does not; how much that was, in words. See `rebuild`."""
    registrations = SqliteRegistrations(database)
    found = rebuild(kept, registrations, now=now, entries_lost=entries_lost)
    _tell(registrations, found.registrations, now)
    database.rebuilt()
    return f"{len(found.registrations)} registrations and {found.entries} entries"


def _tell(registrations: SqliteRegistrations, made: Sequence[tuple[str, str]], now: float) -> None:
    for scope, name in made:
        row = registrations.active(scope, name)
        if row is not None:
            detail = (
                "the database was damaged; this was made again from its files, and goes on from its bytes"
            )
            registrations.log(row.uid, now, "rebuilt", detail)
