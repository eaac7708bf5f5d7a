"""Every route of the local API, once: what it takes, what it gives, and what answers it.

The application, the guard's tests and the OpenAPI document are made from `ROUTES`. A handler is an ordinary function
that may wait for a disk; it runs in a thread. It raises the errors of `bgfetch.errors`, which become answers in one place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bgfetch.daemon import workers as handlers
from bgfetch.daemon.state import State
from bgfetch.errors import InvalidRequest, InvalidState, NotFound
from bgfetch.registrations.port import RegistrationRow, Wish
from bgfetch.running import stored_progress
from bgfetch.version import __version__
from bgfetch.wire import (
    PROTOCOL,
    Amendment,
    Asked,
    Fields,
    Hello,
    Json,
    Run,
    pack_look,
    pack_record,
    pack_registration,
    unpack_options,
)

__all__ = ["ROUTES", "Call", "Handler", "Route", "parameters"]


@dataclass(frozen=True, slots=True)
class Call:
    """What came.

    Args:
        path: What stands in the path, by name.
        query: What stands behind it, by name; of several the last.
        body: The JSON object; {} where there is none.
    """

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json = field(default_factory=dict)

    def number(self, name: str) -> int:
        """What stands in the path, which must be a number there.

        Raises:
            NotFound: Nothing has a name like that.
        """
        text = self.path[name]
        if not (text.isascii() and text.isdecimal() and len(text) < 19):
            raise NotFound(f"there is no {name} {text[:40]!r}")
        return int(text)

    def truth(self, name: str) -> bool | None:
        """Whether the query says so; None where it says nothing."""
        text = self.query.get(name, "")
        if text not in ("", "0", "1", "false", "true"):
            raise InvalidRequest(f"{name}: neither true nor false: {text[:40]!r}")
        return text in ("1", "true") if text else None


Handler = Callable[[State, Call], Json]


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked.

    Args:
        method: HTTP method.
        path: With the names of what varies in braces.
        summary: What it gives, for the document.
        handler: What answers; None for a stream or a text, which the application makes itself.
        status: Of an answer that is no error.
        takes: Names of the fields of the body; () for none.
        query: Names of what may stand in the query.
        socket_only: Not over TCP, also not with the token: it says which programs run.
    """

    method: str
    path: str
    summary: str
    handler: Handler | None = None
    status: int = 200
    takes: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    socket_only: bool = False


def hello(state: State, _call: Call) -> Json:
    """The handshake."""
    return Hello(
        __version__,
        PROTOCOL,
        os.getpid(),
        str(state.wiring.root),
        state.started_at,
        state.wiring.registrations.count_unfinished(),
        state.would_lose(),
    ).pack()


def _found(state: State, call: Call) -> RegistrationRow:
    uid = call.number("uid")
    row = state.wiring.registrations.get(uid)
    if row is None:
        raise NotFound(f"there is no registration {uid}")
    return row


def _told(state: State, row: RegistrationRow) -> Json:
    return pack_registration(row, state.admission.last(row.uid) or stored_progress(row))


def registrations(state: State, call: Call) -> Json:
    """Those of a scope or of all, newest first."""
    rows = state.wiring.registrations.listing(call.query.get("scope"), active=call.truth("active"))
    return {"registrations": [_told(state, row) for row in rows]}


def fetch(state: State, call: Call) -> Json:
    """`BackgroundFetchManager.fetch`."""
    return _told(state, state.fetch(Asked.unpack(call.body)))


def wish_all(state: State, call: Call) -> Json:
    """Ask all that are active, or those of a scope, to run, pause or abort."""
    it = Fields(call.body, "amendment")
    wish = it.one_of("wish", Wish)
    it.end()
    rows = state.wiring.registrations.listing(call.query.get("scope"), active=True)
    return {"changed": [row.uid for row in rows if state.admission.wish(row.uid, wish)]}


def registration(state: State, call: Call) -> Json:
    """One of them."""
    return _told(state, _found(state, call))


def amend(state: State, call: Call) -> Json:
    """Change what a registration is asked to do, how it is shown or how it runs."""
    asked = Amendment.unpack(call.body)
    row = _found(state, call)
    store = state.wiring.registrations
    if asked.title is not None or asked.icons is not None:
        store.amend(row.uid, title=asked.title, icons=asked.icons)
    if asked.options is not None:
        state.admission.amend(row.uid, unpack_options(asked.options, row.options))
    if asked.wish is not None and not state.admission.wish(row.uid, asked.wish):
        raise InvalidState(f"{row.id!r} is over or was aborted; nothing was changed")
    return _told(state, _found(state, call))


def purge(state: State, call: Call) -> Json:
    """Forget a registration that has settled."""
    row = _found(state, call)
    if row.settled_at is None:
        raise InvalidState(f"{row.id!r} is active: abort it first")
    state.wiring.registrations.purge(row.uid)
    return {}


def run(state: State, call: Call) -> Json:
    """Go on with a registration."""
    return {"running": state.run(_found(state, call).uid, Run.unpack(call.body))}


def click(state: State, call: Call) -> Json:
    """A person chose this registration."""
    return {"event_id": state.click(_found(state, call).uid)}


def records(state: State, call: Call) -> Json:
    """Its records, as they are stored."""
    return {
        "records": [pack_record(each) for each in state.wiring.registrations.records(_found(state, call).uid)]
    }


def record(state: State, call: Call) -> Json:
    """How a record that is under way stands at this moment; nothing where none is."""
    index = call.number("index")
    try:
        look = state.admission.look(call.number("uid"), index)
    except IndexError:
        raise NotFound(f"there is no record {index}") from None
    return {} if look is None else pack_look(look)


def clients(state: State, call: Call) -> Json:
    """Who is connected."""
    found = state.clients.match_all(call.query.get("scope"))
    return {"clients": [{"id": each.id, "scope": each.scope} for each in found]}


def post_message(state: State, call: Call) -> Json:
    """Give a client a message."""
    it = Fields(call.body, "message")
    data, sender = it.anything("data"), it.take("from", str, "")
    it.end()
    state.clients.post_message(call.path["client"], data, sender=sender, scope=call.query.get("scope"))
    return {}


def workers(state: State, call: Call) -> Json:
    """Workers, and the events that nobody could handle."""
    return handlers.workers(state, call.query.get("scope"))


def register_worker(state: State, call: Call) -> Json:
    """Install a worker, and let it take over."""
    return handlers.register(state, call.body)


def unregister_worker(state: State, call: Call) -> Json:
    """Abort what a scope fetches, and forget it."""
    return handlers.unregister(state, call.path["scope"])


def post_to_worker(state: State, call: Call) -> Json:
    """Give the worker of a scope a message."""
    return handlers.post_to_worker(state, call.path["scope"], call.body)


def redeliver(state: State, call: Call) -> Json:
    """Deliver an event again that nobody could handle."""
    return handlers.redeliver(state, call.number("event"))


def settings(state: State, _call: Call) -> Json:
    """What can be changed while it runs."""
    return state.steering.told()


def steer(state: State, call: Call) -> Json:
    """Change that."""
    state.steering.change(call.body)
    return state.steering.told()


def stop(state: State, _call: Call) -> Json:
    """End the daemon; everything that is unfinished goes on when one begins again."""
    state.stop()
    return {"pid": os.getpid()}


_OF_REGISTRATION = ("title", "icons", "options")

ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/", "Who answers: version, protocol, and what a restart would lose", hello),
    Route(
        "GET", "/v1/registrations", "Registrations, newest first", registrations, query=("scope", "active")
    ),
    Route(
        "POST",
        "/v1/registrations",
        "Register requests and fetch them",
        fetch,
        201,
        ("scope", "id", "requests", "download_total", "environment", *_OF_REGISTRATION),
    ),
    Route(
        "PATCH", "/v1/registrations", "Run, pause or abort all", wish_all, takes=("wish",), query=("scope",)
    ),
    Route("GET", "/v1/registrations/{uid}", "One registration", registration),
    Route("PATCH", "/v1/registrations/{uid}", "Change it", amend, takes=("wish", *_OF_REGISTRATION)),
    Route("DELETE", "/v1/registrations/{uid}", "Forget one that has settled", purge),
    Route("POST", "/v1/registrations/{uid}/run", "Go on with it", run, takes=("requests", "environment")),
    Route("POST", "/v1/registrations/{uid}/click", "A person chose it", click),
    Route("GET", "/v1/registrations/{uid}/records", "Its records", records),
    Route("GET", "/v1/registrations/{uid}/records/{index}", "How a record stands now", record),
    Route(
        "GET", "/v1/events", "What happens, as server-sent events", query=("scope", "registration", "client")
    ),
    Route("GET", "/v1/clients", "Who is connected", clients, query=("scope",)),
    Route(
        "POST",
        "/v1/clients/{client}/messages",
        "Give a client a message",
        post_message,
        takes=("data", "from"),
    ),
    Route(
        "GET", "/v1/workers", "Workers, and the events that nobody could handle", workers, query=("scope",)
    ),
    Route(
        "POST",
        "/v1/workers",
        "Install a worker, and let it take over",
        register_worker,
        201,
        ("scope", "version", "kind", "target", "python", "path", "directory", "time_limit", "mailbox"),
        socket_only=True,
    ),
    Route("DELETE", "/v1/workers/{scope}", "Abort what a scope fetches, and forget it", unregister_worker),
    Route(
        "POST",
        "/v1/workers/{scope}/messages",
        "Give a worker a message",
        post_to_worker,
        takes=("data", "from"),
    ),
    Route("POST", "/v1/events/{event}/redeliver", "Deliver a parked event again", redeliver),
    Route("GET", "/v1/settings", "What can be changed while it runs", settings),
    Route("PATCH", "/v1/settings", "Change it", steer, takes=("limit_rate", "schedule", "paused")),
    Route("POST", "/v1/stop", "End the daemon", stop),
    Route("GET", "/v1/openapi.json", "This document"),
    Route("GET", "/metrics", "Figures for Prometheus"),
)


def parameters(path: str) -> list[str]:
    """What varies in a path, in its order."""
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]
