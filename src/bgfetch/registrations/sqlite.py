"""Registrations in SQLite. The statements are in queries.sql, the tables in schema/."""

# ruff: noqa: D102 - the port says what each method does

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, assert_never

from bgfetch.core.model import Icon, Request
from bgfetch.database import Damaged, Database, load_queries
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
    settled_as,
)
from bgfetch.registrations.rows import (
    believed,
    pack_icons,
    pack_options,
    pack_record,
    pack_spans,
    unpack_event,
    unpack_line,
    unpack_record,
    unpack_registration,
)
from bgfetch.registrations.summary import Summary, summaries
from bgfetch.stored import checksum, pack_reply

__all__ = ["SqliteRegistrations"]

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class SqliteRegistrations(Registrations):
    """The port over a `Database`, which is shared and stays the caller's to close."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        columns: dict[str, Any] = {
            "scope": scope,
            "id": id,
            "title": title,
            "icons": pack_icons(icons),
            "options": pack_options(options),
            "record_count": len(requests),
            "download_total": download_total,
            "upload_total": sum(len(request.body or b"") for request, _ in requests),
            "created_at": float(now),
        }
        with self._database.write() as connection:
            live = self.active(scope, id)
            if live is not None:
                raise duplicate(live)
            uid = connection.execute(_SQL["add"], columns).lastrowid or 0
            check = checksum(uid, *columns.values())
            connection.execute(_SQL["set_checksum"], {"uid": uid, "checksum": check})
            _add_records(connection, uid, requests)
            _log(connection, uid, now, "registered", counted(len(requests)))
            added = self.active(scope, id)
        assert added is not None  # noqa: S101 - written in this transaction
        return added

    def active(self, scope: str, id: str) -> RegistrationRow | None:  # noqa: A002
        return self._of("active", scope, id)

    def latest(self, scope: str, id: str) -> RegistrationRow | None:  # noqa: A002
        return self._of("latest", scope, id)

    def get(self, uid: int) -> RegistrationRow | None:
        return self._one("get", {"uid": uid})

    def ids(self, scope: str) -> list[str]:
        return [row[0] for row in self._rows("ids", {"scope": scope})]

    def listing(
        self, scope: str | None = None, *, active: bool | None = None, limit: int | None = None
    ) -> list[RegistrationRow]:
        query = "listing_active" if active else "listing"
        parameters = {"scope": scope, "active": active, "limit": -1 if limit is None else limit}
        rows = self._rows(query, parameters)
        with self._believed("a registration"):
            return [unpack_registration(row) for row in rows]

    def summaries(
        self, scope: str | None = None, *, active: bool = False, limit: int | None = None
    ) -> list[Summary]:
        return summaries(self._database, scope, active=active, limit=limit)

    def unfinished(self, *, limit: int, paused: bool = False) -> list[int]:
        return [row[0] for row in self._rows("unfinished", {"limit": limit, "paused": paused})]

    def count_unfinished(self) -> int:
        return int(self._rows("count_unfinished")[0][0])

    def records(self, uid: int) -> list[RecordRow]:
        rows = self._rows("records", {"uid": uid})
        if not rows:
            return []
        with self._believed(f"registration {uid}"):
            records = [unpack_record(row) for row in rows if row[2] is not None]
        # A rotten index leads twice to one record, or past one, although each is what was written.
        if [record.index for record in records] != list(range(rows[0][0])):
            raise Damaged(f"{self._database.path} is damaged: registration {uid} has lost records")
        return records

    def keys(self) -> set[str]:
        # Slower than asking for the column alone, and checked: a wrong key here would cost somebody a partial.
        available = [row.uid for row in self.listing() if row.records_available]
        return {record.key for uid in available for record in self.records(uid)}

    def blobs(self) -> set[str]:
        return {row[0] for row in self._rows("blobs")}

    def claim(self, uid: int, owner: str, *, epoch: int | None = None) -> int:
        with self._database.write() as connection:
            claimed = connection.execute(_SQL["claim"], {"uid": uid, "owner": owner, "epoch": epoch})
            if not claimed.rowcount:
                raise InvalidState(
                    f"registration {uid} cannot be claimed: it has settled, or another process has it"
                )
            return int(connection.execute(_SQL["epoch"], {"uid": uid}).fetchone()[0])

    def commit(self, changes: Sequence[Change]) -> Committed:
        if not changes:
            return Committed(frozenset(), {})
        with self._database.write() as connection:
            transaction = _Transaction(connection)
            for change in changes:
                transaction.make(change)
            return transaction.close()

    def set_wish(self, uid: int, wish: Wish) -> bool:
        return bool(self._change("set_wish", {"uid": uid, "wish": wish.value}))

    def amend(
        self,
        uid: int,
        *,
        title: str | None = None,
        icons: Sequence[Icon] | None = None,
        options: RegistrationOptions | None = None,
    ) -> None:
        with self._database.write() as connection:
            found = connection.execute(_SQL["get"], {"uid": uid}).fetchone()
            if found is None:
                return
            with self._believed(f"registration {uid}"):
                unpack_registration(found)
            row = list(found[:10])
            row[3] = row[3] if title is None else title
            row[4] = row[4] if icons is None else pack_icons(icons)
            row[5] = row[5] if options is None else pack_options(options)
            shown = {"title": row[3], "icons": row[4], "options": row[5]}
            connection.execute(_SQL["amend"], {"uid": uid, "checksum": checksum(*row), **shown})

    def release_records(self, uid: int) -> None:
        self._change("release_records", {"uid": uid})

    def purge(self, uid: int) -> None:
        self._change("purge", {"uid": uid})

    def click(self, uid: int, *, now: float) -> int:
        with self._database.write() as connection:
            if connection.execute(_SQL["epoch"], {"uid": uid}).fetchone() is None:
                raise InvalidState(f"registration {uid} is gone")
            return _announce(connection, uid, EventType.CLICK, now, "")

    def pending(self, scope: str | None = None, *, now: float) -> list[OutboxEvent]:
        rows = self._rows("pending", {"scope": scope, "now": now})
        with self._believed("the outbox"):
            return [unpack_event(row) for row in rows]

    def acknowledge(self, event_id: int, now: float) -> None:
        self._change("acknowledge", {"event_id": event_id, "now": now})

    def postpone(self, event_id: int, not_before: float, *, attempts: int | None = None) -> bool:
        parameters = {"event_id": event_id, "not_before": not_before, "attempts": attempts}
        return bool(self._change("postpone", parameters))

    def log(self, uid: int, now: float, name: str, detail: str = "") -> None:
        with self._database.write() as connection:
            _log(connection, uid, now, name, detail)

    def events(self, uid: int | None = None, *, after: int = 0, limit: int = 1000) -> list[LoggedEvent]:
        query = "events" if uid is None else "events_of"
        return [unpack_line(row) for row in self._rows(query, {"uid": uid, "after": after, "limit": limit})]

    def last_line(self) -> int:
        return int(self._rows("last_line")[0][0])

    def data_version(self) -> int:
        return self._database.data_version()

    def unreadable(self) -> list[int]:
        """Registrations of which a row is not what was written: those that nobody has asked for yet, too."""
        return [uid for (uid,) in self._rows("uids") if not self._is_readable(uid)]

    def mend(self) -> tuple[int, int]:
        """Purge registrations of which a row is not what was written, and mend what is told of others; how many of each.

        Raises:
            Damaged: The file itself is, not only rows of it.
        """
        lost = self.unreadable()
        with self._database.write() as connection:
            connection.executemany(_SQL["purge"], [{"uid": uid} for uid in lost])
            strange = connection.execute(_SQL["strange_events"]).fetchall()
            for event_id, uid in strange:
                row = self.get(uid)
                settled = row is not None and row.settled_at is not None
                type_ = event_type(row.result, row.failure_reason) if row and settled else EventType.CLICK
                connection.execute(_SQL["retype"], {"event_id": event_id, "type": type_.value})
            garbled = [seq for seq, *texts in self._rows("texts_of_log") if not all(map(_is_text, texts))]
            connection.executemany(_SQL["unlog"], [{"seq": seq} for seq in garbled])
        return len(lost), len(strange) + len(garbled)

    def _is_readable(self, uid: int) -> bool:
        try:
            row, records = self.get(uid), self.records(uid)
        except Damaged:
            return False
        return row is not None and bool(records)

    def _rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self._database.rows(_SQL[query], parameters)

    def _of(self, query: str, scope: str, id_: str) -> RegistrationRow | None:
        found = self._one(query, {"scope": scope, "id": id_})
        if found is not None and (found.scope, found.id) != (scope, id_):
            raise Damaged(f"{self._database.path} is damaged: its index leads from {id_!r} to {found.id!r}")
        return found

    def _one(self, query: str, parameters: Mapping[str, Any]) -> RegistrationRow | None:
        rows = self._rows(query, parameters)
        with self._believed("a registration"):
            return unpack_registration(rows[0]) if rows else None

    def _change(self, query: str, parameters: Mapping[str, Any]) -> int:
        with self._database.write() as connection:
            return connection.execute(_SQL[query], parameters).rowcount

    def _believed(self, what: str) -> Any:
        return believed(f"{self._database.path}: {what}")


class _Transaction:
    """Changes of many registrations, each registration's fence looked up once and its sums written once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._open: dict[int, tuple[int, bool] | None] = {}  # epoch, aborted; None = settled or gone
        self._grown: dict[int, tuple[int, int]] = {}
        self._stale: set[int] = set()
        self._events: dict[int, int] = {}

    def make(self, change: Change) -> None:
        """One change, unless it is stale."""
        uid = change.uid
        fence = self._fence(uid)
        if isinstance(change, Settlement) and fence is None:
            self._remember_settlement(uid)
        elif fence is None or fence[0] != change.epoch:
            self._stale.add(uid)
        else:
            self._write(change, aborted=fence[1])

    def close(self) -> Committed:
        """Write the sums."""
        grown = [{"uid": uid, "downloaded": it[0], "uploaded": it[1]} for uid, it in self._grown.items()]
        self._connection.executemany(_SQL["grow"], grown)
        return Committed(frozenset(self._stale), self._events)

    def _fence(self, uid: int) -> tuple[int, bool] | None:
        if uid not in self._open:
            row = self._connection.execute(_SQL["fence"], {"uid": uid}).fetchone()
            self._open[uid] = (row[0], row[2] == Wish.ABORT) if row is not None and row[1] else None
        return self._open[uid]

    def _write(self, change: Change, *, aborted: bool) -> None:
        match change:
            case RecordProgress():
                self._progress(change)
            case RecordFinished():
                self._finish(change)
            case StateChanged():
                columns = {"uid": change.uid, "state": change.state.value, "until": change.until}
                self._connection.execute(_SQL["save_state"], columns)
            case Settlement():
                self._settle(change, aborted=aborted)
            case _:
                assert_never(change)

    def _progress(self, change: RecordProgress) -> None:
        if self._grow(change, change.uploaded) is None:
            return
        spans = pack_spans(
            change.spans, change.uid, change.index, etag=change.etag, last_modified=change.last_modified
        )
        columns = {
            "uid": change.uid,
            "position": change.index,
            "spans": spans,
            "downloaded": change.downloaded,
            "uploaded": change.uploaded,
            "total": change.total,
            "etag": change.etag,
            "last_modified": change.last_modified,
            "reply": pack_reply(change.reply),
            "restarts": change.restarts,
        }
        self._connection.execute(_SQL["save_record"], columns)

    def _finish(self, change: RecordFinished) -> None:
        uploaded = self._grow(change, change.uploaded)
        if uploaded is None:
            return
        columns = {
            "uid": change.uid,
            "position": change.index,
            "result": change.result.value,
            "failure_reason": change.failure_reason.value,
            "failure_detail": change.failure_detail,
            "downloaded": change.downloaded,
            "uploaded": uploaded,
            "total": change.total,
            "digest": change.digest,
            "verified": change.verified.value,
            "blob": change.blob,
            "reply": pack_reply(change.reply),
        }
        self._connection.execute(_SQL["finish_record"], columns)

    def _grow(self, change: RecordProgress | RecordFinished, uploaded: int | None) -> int | None:
        """Count what the record gained; its uploaded bytes now, or None when it has finished already."""
        place = {"uid": change.uid, "position": change.index}
        before = self._connection.execute(_SQL["record_bytes"], place).fetchone()
        if before is None:
            return None
        now = int(before[1]) if uploaded is None else uploaded
        down, up = self._grown.get(change.uid, (0, 0))
        self._grown[change.uid] = (down + change.downloaded - before[0], up + now - before[1])
        return now

    def _settle(self, change: Settlement, *, aborted: bool) -> None:
        result, reason, detail = settled_as(change, aborted=aborted)
        columns = {
            "uid": change.uid,
            "result": result.value,
            "failure_reason": reason.value,
            "failure_detail": detail,
            "now": change.now,
        }
        self._connection.execute(_SQL["settle"], columns)
        type_ = event_type(result, reason)
        self._events[change.uid] = _announce(self._connection, change.uid, type_, change.now, detail)
        self._open[change.uid] = None

    def _remember_settlement(self, uid: int) -> None:
        row = self._connection.execute(_SQL["settlement"], {"uid": uid}).fetchone()
        if row is None:
            self._stale.add(uid)
        else:
            self._events[uid] = row[0]


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _add_records(connection: sqlite3.Connection, uid: int, requests: Sequence[tuple[Request, str]]) -> None:
    rows = [pack_record(uid, position, request, key) for position, (request, key) in enumerate(requests)]
    connection.executemany(_SQL["add_record"], rows)
    bodies: Iterable[dict[str, Any]] = (
        {"uid": uid, "position": position, "body": request.body}
        for position, (request, _) in enumerate(requests)
        if request.body is not None
    )
    connection.executemany(_SQL["add_body"], bodies)


def _announce(connection: sqlite3.Connection, uid: int, type_: EventType, now: float, detail: str) -> int:
    """The outbox row and the log line that belong together."""
    event_id = connection.execute(_SQL["announce"], {"uid": uid, "type": type_.value, "now": now}).lastrowid
    _log(connection, uid, now, type_.value, detail)
    return event_id or 0


def _log(connection: sqlite3.Connection, uid: int, now: float, name: str, detail: str) -> None:
    connection.execute(_SQL["log"], {"uid": uid, "now": now, "name": name, "detail": detail})
