"""Registrations in memory: what tests use, and the measure the SQLite ones are held to."""

# ruff: noqa: D102 - the port says what each method does

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, assert_never

from bgfetch.core.model import Icon, ReplyHead, Request, Result, State
from bgfetch.errors import InvalidState
from bgfetch.registrations.port import (
    Change,
    Committed,
    EventType,
    LoggedEvent,
    OutboxEvent,
    RecordFinished,
    RecordProgress,
    RecordRow,
    RegistrationOptions,
    RegistrationRow,
    Registrations,
    Settlement,
    StateChanged,
    Wish,
    counted,
    duplicate,
    event_type,
    new_row,
    settled_as,
)
from bgfetch.registrations.summary import Summary
from bgfetch.stored import pack_reply, unpack_reply, without_secrets

__all__ = ["MemoryRegistrations"]


class MemoryRegistrations(Registrations):
    """The port over dictionaries; one lock makes each method a transaction."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rows: dict[int, RegistrationRow] = {}
        self._records: dict[int, list[RecordRow]] = {}
        self._outbox: dict[int, OutboxEvent] = {}  # also those acknowledged
        self._acknowledged: set[int] = set()
        self._log: list[LoggedEvent] = []
        self._counts: dict[str, int] = {}
        self._version = 0

    def add(
        self,
        scope: str,
        id: str,  # noqa: A002 - the standard's word
        requests: Sequence[tuple[Request, str]],
        *,
        title: str = "",
        icons: Sequence[Icon] = (),
        download_total: int = 0,
        options: RegistrationOptions | None = None,
        now: float,
    ) -> RegistrationRow:
        with self._lock:
            live = self.active(scope, id)
            if live is not None:
                raise duplicate(live)
            uid = self._next("uid")
            row = new_row(
                uid,
                scope,
                id,
                title=title,
                icons=tuple(icons),
                download_total=download_total,
                upload_total=sum(len(request.body or b"") for request, _ in requests),
                options=options or RegistrationOptions(),
                now=now,
            )
            self._rows[uid] = row
            self._records[uid] = [
                RecordRow(index, without_secrets(request), key)
                for index, (request, key) in enumerate(requests)
            ]
            self.log(uid, now, "registered", counted(len(requests)))
            return row

    def active(self, scope: str, id: str) -> RegistrationRow | None:  # noqa: A002
        found = self.latest(scope, id)
        return found if found is not None and found.settled_at is None else None

    def latest(self, scope: str, id: str) -> RegistrationRow | None:  # noqa: A002
        with self._lock:
            return next(
                (row for row in reversed(self._rows.values()) if (row.scope, row.id) == (scope, id)), None
            )

    def get(self, uid: int) -> RegistrationRow | None:
        return self._rows.get(uid)

    def ids(self, scope: str) -> list[str]:
        return [row.id for row in reversed(self.listing(scope, active=True))]

    def listing(
        self, scope: str | None = None, *, active: bool | None = None, limit: int | None = None
    ) -> list[RegistrationRow]:
        with self._lock:
            rows = [
                row
                for row in reversed(self._rows.values())
                if scope in (None, row.scope) and active in (None, row.settled_at is None)
            ]
        return rows[:limit]

    def summaries(
        self, scope: str | None = None, *, active: bool = False, limit: int | None = None
    ) -> list[Summary]:
        rows = self.listing(scope, active=active or None, limit=limit)
        return [_summary(row, self.records(row.uid)) for row in rows]

    def unfinished(self, *, limit: int, paused: bool = False) -> list[int]:
        with self._lock:
            rows = [
                it
                for it in self._rows.values()
                if it.settled_at is None and (paused or it.wish is not Wish.PAUSE)
            ]
        return [it.uid for it in sorted(rows, key=lambda it: (-it.options.priority, it.uid))][:limit]

    def count_unfinished(self) -> int:
        with self._lock:
            return sum(row.settled_at is None for row in self._rows.values())

    def records(self, uid: int) -> list[RecordRow]:
        with self._lock:
            return list(self._records.get(uid, ()))

    def keys(self) -> set[str]:
        return {record.key for record in self._available()}

    def blobs(self) -> set[str]:
        return {record.blob for record in self._available() if record.blob}

    def claim(self, uid: int, owner: str, *, epoch: int | None = None) -> int:
        with self._lock:
            row = self._rows.get(uid)
            if row is None or row.settled_at is not None or epoch not in (None, row.epoch):
                raise InvalidState(
                    f"registration {uid} cannot be claimed: it has settled, or another process has it"
                )
            self._put(uid, epoch=row.epoch + 1, owner=owner)
            return row.epoch + 1

    def commit(self, changes: Sequence[Change]) -> Committed:
        stale: set[int] = set()
        events: dict[int, int] = {}
        with self._lock:
            for change in changes:
                row = self._rows.get(change.uid)
                if isinstance(change, Settlement) and row is not None and row.settled_at is not None:
                    events[row.uid] = self._settlement(row.uid)
                elif row is None or row.settled_at is not None or row.epoch != change.epoch:
                    stale.add(change.uid)
                elif isinstance(change, Settlement):
                    events[row.uid] = self._settle(row, change)
                else:
                    self._make(change)
        return Committed(frozenset(stale), events)

    def set_wish(self, uid: int, wish: Wish) -> bool:
        with self._lock:
            row = self._rows.get(uid)
            if (
                row is None
                or row.settled_at is not None
                or (row.wish is Wish.ABORT and wish is not Wish.ABORT)
            ):
                return False
            self._put(uid, wish=wish)
            return True

    def amend(
        self,
        uid: int,
        *,
        title: str | None = None,
        icons: Sequence[Icon] | None = None,
        options: RegistrationOptions | None = None,
    ) -> None:
        with self._lock:
            row = self._rows.get(uid)
            if row is not None:
                self._put(
                    uid,
                    title=row.title if title is None else title,
                    icons=row.icons if icons is None else tuple(icons),
                    options=options or row.options,
                )

    def release_records(self, uid: int) -> None:
        with self._lock:
            if uid in self._rows:
                self._put(uid, records_available=False)

    def purge(self, uid: int) -> None:
        with self._lock:
            self._rows.pop(uid, None)
            self._records.pop(uid, None)
            self._outbox = {key: event for key, event in self._outbox.items() if event.uid != uid}
            self._log = [line for line in self._log if line.uid != uid]
            self._version += 1

    def click(self, uid: int, *, now: float) -> int:
        with self._lock:
            row = self._rows.get(uid)
            if row is None:
                raise InvalidState(f"registration {uid} is gone")
            return self._announce(row, EventType.CLICK, now, "")

    def pending(self, scope: str | None = None, *, now: float) -> list[OutboxEvent]:
        with self._lock:
            return [
                event
                for event in self._outbox.values()
                if event.event_id not in self._acknowledged
                and event.not_before <= now
                and scope in (None, event.scope)
            ]

    def acknowledge(self, event_id: int, now: float) -> None:
        with self._lock:
            self._acknowledged.add(event_id)
            self._version += 1

    def postpone(self, event_id: int, not_before: float, *, attempts: int | None = None) -> bool:
        with self._lock:
            event = self._outbox.get(event_id)
            if event is None or event_id in self._acknowledged or attempts not in (None, event.attempts):
                return False
            self._outbox[event_id] = replace(event, attempts=event.attempts + 1, not_before=not_before)
            self._version += 1
            return True

    def log(self, uid: int, now: float, name: str, detail: str = "") -> None:
        with self._lock:
            row = self._rows.get(uid)
            if row is not None:
                self._log.append(LoggedEvent(self._next("seq"), uid, row.scope, row.id, now, name, detail))

    def events(self, uid: int | None = None, *, after: int = 0, limit: int = 1000) -> list[LoggedEvent]:
        with self._lock:
            lines = [line for line in self._log if line.seq > after and uid in (None, line.uid)]
        return lines[:limit]

    def last_line(self) -> int:
        with self._lock:
            return self._log[-1].seq if self._log else 0

    def data_version(self) -> int:
        return self._version

    def _next(self, name: str) -> int:
        self._version += 1
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name]

    def _put(self, uid: int, **columns: Any) -> None:
        self._rows[uid] = replace(self._rows[uid], **columns)
        self._version += 1

    def _available(self) -> list[RecordRow]:
        with self._lock:
            rows = [row for row in self._rows.values() if row.records_available]
            return [record for row in rows for record in self._records[row.uid]]

    def _settlement(self, uid: int) -> int:
        own = (event for event in self._outbox.values() if event.uid == uid)
        return next(event.event_id for event in own if event.type is not EventType.CLICK)

    def _announce(self, row: RegistrationRow, type_: EventType, now: float, detail: str) -> int:
        event_id = self._next("event_id")
        self._outbox[event_id] = OutboxEvent(event_id, row.uid, row.scope, row.id, type_, now, 0, 0.0)
        self.log(row.uid, now, type_.value, detail)
        return event_id

    def _settle(self, row: RegistrationRow, change: Settlement) -> int:
        result, reason, detail = settled_as(change, aborted=row.wish is Wish.ABORT)
        self._put(
            row.uid,
            result=result,
            failure_reason=reason,
            failure_detail=detail,
            settled_at=change.now,
            state=State.SETTLED,
            until=None,
        )
        return self._announce(row, event_type(result, reason), change.now, detail)

    def _make(self, change: RecordProgress | RecordFinished | StateChanged) -> None:
        match change:
            case StateChanged():
                self._put(change.uid, state=change.state, until=change.until)
            case RecordProgress():
                self._change_record(
                    change,
                    uploaded=change.uploaded,
                    spans=change.spans,
                    etag=change.etag,
                    last_modified=change.last_modified,
                    restarts=change.restarts,
                )
            case RecordFinished():
                before = self._record(change)
                self._change_record(
                    change,
                    uploaded=before.uploaded
                    if before is not None and change.uploaded is None
                    else change.uploaded,
                    result=change.result,
                    failure_reason=change.failure_reason,
                    failure_detail=change.failure_detail,
                    digest=change.digest,
                    verified=change.verified,
                    blob=change.blob,
                )
            case _:
                assert_never(change)

    def _record(self, change: RecordProgress | RecordFinished) -> RecordRow | None:
        """The record it is about, unless that has finished."""
        records = self._records[change.uid]
        found = records[change.index] if change.index < len(records) else None
        return found if found is not None and not found.result else None

    def _change_record(self, change: RecordProgress | RecordFinished, **columns: Any) -> None:
        before = self._record(change)
        if before is None:
            return
        after = replace(
            before, downloaded=change.downloaded, total=change.total, reply=_kept(change.reply), **columns
        )
        self._records[change.uid][change.index] = after
        row = self._rows[change.uid]
        self._put(
            row.uid,
            downloaded=row.downloaded + after.downloaded - before.downloaded,
            uploaded=row.uploaded + after.uploaded - before.uploaded,
        )


def _kept(reply: ReplyHead | None) -> ReplyHead | None:
    """What is left of a reply after it was stored."""
    return unpack_reply(pack_reply(reply))


def _summary(row: RegistrationRow, records: Sequence[RecordRow]) -> Summary:
    totals = [record.total for record in records]
    announced = sum(total for total in totals if total is not None) if None not in totals else 0
    return Summary(
        row.uid,
        row.scope,
        row.id,
        row.title,
        row.downloaded,
        row.download_total or (row.downloaded if row.result is Result.SUCCESS else announced),
        row.state.value,
        row.until,
        row.wish.value,
        row.result.value,
        row.failure_reason.value,
        row.created_at,
        row.settled_at,
    )
