"""An event that never was, for trying a handler: a home of its own, with a registration that has settled."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bgfetch.cache.drafts import Draft
from bgfetch.config import load
from bgfetch.core.identity import request_key
from bgfetch.core.model import FailureReason, Headers, ReplyHead, Request, Result, Verified
from bgfetch.registrations.port import EventType, OutboxEvent, RecordFinished
from bgfetch.wiring import Wiring
from bgfetch.worker.launcher import Ended
from bgfetch.worker.orders import of_registration, of_worker
from bgfetch.worker.workers import Handler

__all__ = ["rehearse"]

_BODY = b"not a model, but as good as one for a rehearsal\n"
_REASONS = {
    EventType.SUCCESS: FailureReason.NONE,
    EventType.CLICK: FailureReason.NONE,
    EventType.FAIL: FailureReason.FETCH_ERROR,
    EventType.ABORT: FailureReason.ABORTED,
}


def rehearse(handler: Handler, event: str, *, scope: str, url: str) -> Ended:
    """Run the handler on an event of this name about this URL; everything it is told of is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bgfetch-rehearsal-") as folder:
        wiring = Wiring(load({"home": folder, "in_process": True}))
        try:
            if event in ("install", "activate"):
                return wiring.launcher.run(handler, of_worker(scope, event, root=Path(folder)))
            owed = _settled(wiring, EventType(event), scope, url)
            row = wiring.registrations.get(owed.uid)
            assert row is not None  # noqa: S101 - just made
            records = wiring.registrations.records(owed.uid)
            order = of_registration(
                owed, row, records, blobs=wiring.blobs, root=Path(folder), mailbox=handler.mailbox
            )
            return wiring.launcher.run(handler, order)
        finally:
            wiring.close()


def _settled(wiring: Wiring, type_: EventType, scope: str, url: str) -> OutboxEvent:
    store, now, request = wiring.registrations, wiring.clock.now(), Request(url)
    uid = store.add(scope, "rehearsal", [(request, request_key(request))], title="A rehearsal", now=now).uid
    epoch, reason = store.claim(uid, "rehearsal"), _REASONS[type_]
    result = Result.FAILURE if reason else Result.SUCCESS
    finished = RecordFinished(uid, epoch, 0, result, reason, str(reason))
    if not reason:
        reply = ReplyHead(url, 200, Headers([("content-type", "application/octet-stream")]))
        draft = Draft(wiring.partials)
        try:
            draft.write(_BODY)
            blob = draft.adopt(wiring.blobs, scope, url, reply)
        finally:
            draft.drop()
        finished = RecordFinished(
            uid,
            epoch,
            0,
            result,
            downloaded=len(_BODY),
            total=len(_BODY),
            digest=f"sha256:{draft.sha256}",
            verified=Verified.DIGEST,
            blob=blob,
            reply=reply,
        )
    store.finish_records([finished])
    event_id = store.settle(uid, epoch, result, reason, str(reason), now=now)
    if type_ is EventType.CLICK:
        event_id = store.click(uid, now=now)
    return next(each for each in store.pending(now=now) if each.event_id == event_id)
