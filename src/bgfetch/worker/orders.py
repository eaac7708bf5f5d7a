"""An event as JSON: what a command gets on its stdin, and what a worker's process makes its event object from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bgfetch.cache.blobs import Blobs
from bgfetch.core.model import Result
from bgfetch.registrations.port import OutboxEvent, RecordRow, RegistrationRow

__all__ = ["of_message", "of_registration", "of_worker"]


def of_registration(
    event: OutboxEvent,
    row: RegistrationRow,
    records: Sequence[RecordRow],
    *,
    blobs: Blobs,
    root: Path,
    mailbox: bool,
) -> dict[str, Any]:
    """An event of a registration.

    Args:
        event: As its delivery begins.
        row: The registration.
        records: Its records.
        blobs: Where bodies are.
        root: BGFETCH_HOME.
        mailbox: Whether messages are kept while no client is there.
    """
    return _of(row.scope, event.type.value, root, mailbox=mailbox) | {
        "event_id": event.event_id,
        "attempt": event.attempts + 1,
        "created_at": event.created_at,
        "registration": {
            "uid": row.uid,
            "id": row.id,
            "title": row.title,
            "icons": [asdict(icon) for icon in row.icons],
            "download_total": row.download_total,
            "downloaded": row.downloaded,
            "upload_total": row.upload_total,
            "uploaded": row.uploaded,
            "result": row.result.value,
            "failure_reason": row.failure_reason.value,
            "failure_detail": row.failure_detail,
            "records_available": row.records_available,
            "records": [_record(record, blobs) for record in records] if row.records_available else [],
        },
    }


def of_worker(scope: str, type_: str, *, root: Path) -> dict[str, Any]:
    """An event of the worker itself: "install" or "activate"."""
    return _of(scope, type_, root, mailbox=False)


def of_message(scope: str, data: object, *, source: str, root: Path, mailbox: bool) -> dict[str, Any]:
    """What an app posted to the worker of its scope."""
    return _of(scope, "message", root, mailbox=mailbox) | {"data": data, "source": source}


def _of(scope: str, type_: str, root: Path, *, mailbox: bool) -> dict[str, Any]:
    return {"type": type_, "scope": scope, "home": str(root), "mailbox": mailbox}


def _record(record: RecordRow, blobs: Blobs) -> dict[str, Any]:
    """`path` is read-only and shared with the cache: link or copy it before changing anything."""
    whole = record.result is Result.SUCCESS and record.blob
    return {
        "url": record.request.url,
        "method": record.request.method,
        "status": None if record.reply is None else record.reply.status,
        "result": record.result.value,
        "failure_reason": record.failure_reason.value,
        "failure_detail": record.failure_detail,
        "size": record.total,
        "digest": record.digest,
        "verified": record.verified.value,
        "path": str(blobs.path(record.blob)) if whole else None,
    }
