"""What a list shows of registrations, read without the rest of the store: `bgfetch ls` starts at once.

Nothing is decided by it, so what was stored is shown as it is, without a look at its checksum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from bgfetch.database import Database

__all__ = ["Summary", "summaries"]

_SQL: Final = """
SELECT uid, scope, id, title, downloaded,
       CASE WHEN download_total = 0 AND result = 'success' THEN downloaded ELSE download_total END,
       state, until, wish, result, failure_reason, created_at, settled_at
FROM registrations
WHERE (:scope IS NULL OR scope = :scope)
  AND (NOT :active OR uid IN (SELECT uid FROM registrations WHERE settled_at IS NULL))
ORDER BY uid DESC LIMIT :limit
"""
# The total of one that promised none and has not succeeded is what its replies announced, once all have. Apart from the
# list: one walk over the records takes a third of a look-up for each of ten thousand.
_TOTALS: Final = """
SELECT uid, sum(total) FROM records
WHERE uid IN (SELECT uid FROM registrations WHERE result <> 'success' AND NOT download_total)
GROUP BY uid HAVING count(*) = count(total)
"""


class Summary(NamedTuple):
    """What a list shows of a registration, in plain words: ten thousand of them are read in a blink.

    Args:
        download_total: What was promised, or what the replies announced, or in the end what came; 0 = unknown.
        state: See `State`; as whoever ran it last wrote it.
        wish: See `Wish`.
    """

    uid: int
    scope: str
    id: str
    title: str
    downloaded: int
    download_total: int
    state: str
    until: float | None
    wish: str
    result: str
    failure_reason: str
    created_at: float
    settled_at: float | None


def summaries(database: Database, scope: str | None, *, active: bool, limit: int | None) -> list[Summary]:
    """Registrations of one scope or of all, newest first, at most `limit`; only active ones if asked."""
    parameters = {"scope": scope, "active": active, "limit": -1 if limit is None else limit}
    rows = list(map(Summary._make, database.rows(_SQL, parameters)))
    totals = dict(database.rows(_TOTALS))
    if not totals:
        return rows
    return [row._replace(download_total=totals[row.uid]) if row.uid in totals else row for row in rows]
