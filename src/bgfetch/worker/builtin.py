"""The worker of a scope that has none of its own: what succeeded goes into the cache `downloads`.

It does what the article's service worker does: on `backgroundfetchsuccess` it opens the cache, puts every record
into it (a link, not a copy), and is done; of a failure it keeps the records that succeeded. An event that is delivered twice puts
the same entries once more in the place of themselves.
"""

from __future__ import annotations

from typing import Final

from bgfetch.cache.entries import Entries, Entry
from bgfetch.core.matching import may_be_put
from bgfetch.core.model import Headers, ReplyHead
from bgfetch.registrations.port import EventType, OutboxEvent, RecordRow, Registrations

__all__ = ["CACHE_NAME", "ERRANDS", "BuiltinWorker", "full_reply", "whole_reply"]

CACHE_NAME: Final = "downloads"
ERRANDS: Final = "cache-add"  # the scope of what `Cache.add` fetches: who asked puts it where it belongs


class BuiltinWorker:
    """Handles settle events.

    Args:
        registrations: Where records are read and events acknowledged.
        entries: Where the cache is.
    """

    def __init__(self, registrations: Registrations, entries: Entries) -> None:
        self._registrations = registrations
        self._entries = entries

    def deliver_pending(self, scope: str, now: float) -> None:
        """Handle each event of the scope that an earlier process did not get to."""
        for event in self._registrations.pending(scope, now=now):
            self.deliver(event, now)

    def deliver(self, event: OutboxEvent, now: float) -> None:
        """Handle one event, then acknowledge it."""
        self.handle(event, now)
        self._registrations.acknowledge(event.event_id, now)

    def handle(self, event: OutboxEvent, now: float) -> None:
        """Handle one event."""
        if event.scope == ERRANDS:
            return
        if event.type in (
            EventType.SUCCESS,
            EventType.FAIL,
        ):  # of several, what did succeed is not fetched twice
            found = [_entry(record, now) for record in self._registrations.records(event.uid)]
            entries = [entry for entry in found if entry is not None]
            if entries:
                self._entries.put(self._entries.open_cache(event.scope, CACHE_NAME), *entries)


def full_reply(record: RecordRow) -> ReplyHead:
    """The head of a record's whole body."""
    head = record.reply or ReplyHead(record.request.url, 200, Headers())
    return whole_reply(head, record.total)


def whole_reply(head: ReplyHead, total: int | None) -> ReplyHead:
    """The head as that of the whole body: what came in parts is a 200, and its length is its own.

    Source: Background Fetch, "get a response": Content-Range and Content-Length are removed.
    """
    status = 200 if head.status == 206 else head.status
    pairs = [pair for pair in head.headers.pairs if pair[0] not in ("content-range", "content-length")]
    if total is not None:
        pairs.append(("content-length", str(total)))
    return ReplyHead(head.url, status, Headers(pairs))


def _entry(record: RecordRow, now: float) -> Entry | None:
    reply = full_reply(record)
    if not record.blob or may_be_put(record.request, reply) is not None:
        return None
    size = record.total or 0
    return Entry(record.request, reply, record.blob, size, record.verified, record.digest, now)
