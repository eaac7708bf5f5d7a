"""Workers over the local API: registered, listed, unregistered; parked events; what apps say to workers."""

from __future__ import annotations

from bgfetch.daemon.state import State
from bgfetch.errors import InvalidRequest, InvalidState
from bgfetch.wire import Fields, Json
from bgfetch.worker.told import told_parked, told_worker
from bgfetch.worker.workers import Handler, Kind

__all__ = [
    "post_to_worker",
    "redeliver",
    "register",
    "unregister",
    "workers",
]


def workers(state: State, scope: str | None) -> Json:
    """Workers of a scope or of all, and the events that wait for a person."""
    wiring = state.wiring
    return {
        "workers": [told_worker(row) for row in wiring.workers.listing(scope)],
        "parked": [told_parked(each) for each in wiring.outbox.parked(scope)],
    }


def register(state: State, body: Json) -> Json:
    """Install a worker, and let it take over.

    Raises:
        InvalidRequest: It can never work, or its install event failed.
        InvalidState: The scope is being unregistered.
    """
    it = Fields(body, "worker")
    scope, version = it.take("scope", str), it.take("version", str, "")
    handler = Handler(
        it.one_of("kind", Kind),
        tuple(it.each("target", _text)),
        it.take("python", str, ""),
        tuple(it.each("path", _text, [])),
        it.take("directory", str, ""),
        it.take("time_limit", float, 300.0),
        it.take("mailbox", bool, False),
    )
    it.end()
    row = state.wiring.scopes.register(scope, handler, version=version)
    state.deliver()
    return told_worker(row)


def unregister(state: State, scope: str) -> Json:
    """Abort what the scope fetches and forget it, without events."""
    return {"purged": state.wiring.scopes.unregister(scope)}


def redeliver(state: State, event_id: int) -> Json:
    """Deliver a parked event again.

    Raises:
        InvalidState: It is not parked.
    """
    if not state.wiring.outbox.redeliver(event_id):
        raise InvalidState(f"event {event_id} is not parked")
    state.deliver()
    return {"event_id": event_id}


def post_to_worker(state: State, scope: str, body: Json) -> Json:
    """`ServiceWorker.postMessage`."""
    it = Fields(body, "message")
    data, source = it.anything("data"), it.take("from", str, "")
    it.end()
    return {"delivered": state.wiring.worker.post_message(scope, data, source=source)}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"a text is wanted, not {str(value)[:40]!r}")
    return value
