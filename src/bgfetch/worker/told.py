"""Workers and parked events as they are told to people and programs: what JSON can say."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bgfetch.worker.outbox import Parked
from bgfetch.worker.workers import WorkerRow

__all__ = ["told_parked", "told_worker"]


def told_worker(row: WorkerRow) -> dict[str, Any]:
    """A worker as it is told."""
    handler = asdict(row.handler)
    return {
        "worker_id": row.worker_id,
        "scope": row.scope,
        "version": row.version,
        "state": row.state.value,
        "detail": row.detail,
        "registered_at": row.registered_at,
        **{
            name: handler[name] for name in ("kind", "target", "python", "directory", "time_limit", "mailbox")
        },
    }


def told_parked(parked: Parked) -> dict[str, Any]:
    """A parked event as it is told."""
    event = parked.event
    return {
        "event_id": event.event_id,
        "uid": event.uid,
        "scope": event.scope,
        "id": event.id,
        "type": event.type.value,
        "attempts": event.attempts,
        "ended_at": parked.ended_at,
        "exit_code": parked.exit_code,
        "detail": parked.detail,
    }
