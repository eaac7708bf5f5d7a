"""The application: routes to handlers, errors to answers, with the guard around everything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as StarletteRoute

from bgfetch.daemon.figures import figures
from bgfetch.daemon.guard import TRUSTED, Guard, TooLarge
from bgfetch.daemon.metrics import text_of
from bgfetch.daemon.openapi import document
from bgfetch.daemon.routes import ROUTES, Call, Handler, Route
from bgfetch.daemon.state import State
from bgfetch.daemon.stream import Wanted
from bgfetch.errors import (
    AccessDenied,
    BgfetchError,
    CacheError,
    DaemonError,
    DaemonNotRunning,
    DuplicateId,
    InvalidRequest,
    InvalidState,
    NotFound,
    ProtocolMismatch,
    QuotaExceeded,
)
from bgfetch.wire import Json, dump, load, pack_error

__all__ = ["application", "status_of"]

_LOG: Final = logging.getLogger(__name__)
_THREADS: Final = 8  # for handlers: each waits for the store, which has one writer
_ENDING: Final = "the daemon is ending; the next one goes on"
_STATUS: Final[tuple[tuple[type[BgfetchError], int], ...]] = (
    (TooLarge, 413),
    (DuplicateId, 409),
    (InvalidState, 409),
    (InvalidRequest, 400),
    (NotFound, 404),
    (AccessDenied, 403),
    (QuotaExceeded, 507),
    (ProtocolMismatch, 426),
    (CacheError, 503),
    (DaemonNotRunning, 503),
)


def status_of(error: BgfetchError) -> int:
    """The HTTP status that an error is told with."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def application(state: State, *, hosts: frozenset[str] = frozenset(), token: str = "") -> Guard:
    """The local API of a daemon.

    Args:
        state: The daemon.
        hosts: See `Guard`.
        token: See `Guard`.
    """
    api = _Api(state)
    routes = [
        StarletteRoute(
            route.path, api.endpoint(route), methods=[route.method], name=f"{route.method} {route.path}"
        )
        for route in ROUTES
    ]
    handlers = {HTTPException: _http_error, BgfetchError: _bgfetch_error}
    inner = Starlette(routes=routes, exception_handlers=handlers)
    inner.router.redirect_slashes = (
        False  # a path is one of the table or nothing; no answer sends anybody elsewhere
    )
    return Guard(inner, hosts=hosts, token=token)


class _Api:
    """Makes an endpoint of each route."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="bgfetch-api")
        self._special: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/v1/events": self._events,
            "/v1/openapi.json": self._document,
            "/metrics": self._metrics,
        }

    def endpoint(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        """What answers."""
        if route.handler is None:
            return self._special[route.path]
        return _Endpoint(self._state, self._pool, route, route.handler).answer

    async def _events(self, request: Request) -> Response:
        stream = self._state.hub.stream(_wanted(request))
        return StreamingResponse(stream, media_type="text/event-stream")

    async def _document(self, _request: Request) -> Response:
        return _json(document())

    async def _metrics(self, _request: Request) -> Response:
        told = await asyncio.get_running_loop().run_in_executor(self._pool, figures, self._state)
        return Response(text_of(told), media_type="text/plain; version=0.0.4; charset=utf-8")


class _Endpoint:
    """Answers a route by its handler, in a thread."""

    def __init__(self, state: State, pool: ThreadPoolExecutor, route: Route, handler: Handler) -> None:
        self._state = state
        self._pool = pool
        self._route = route
        self._handler = handler

    async def answer(self, request: Request) -> Response:
        """What the handler says."""
        if self._route.socket_only and not request.scope["state"].get(TRUSTED):
            raise AccessDenied("this is asked for over the Unix socket only")
        body = await request.body()
        call = Call(request.path_params, request.query_params, load(body, "the body") if body else {})
        loop = asyncio.get_running_loop()
        if self._state.ending:
            raise DaemonNotRunning(_ENDING)
        try:
            answer = await loop.run_in_executor(self._pool, self._handler, self._state, call)
        except BgfetchError:
            raise
        except Exception as bug:
            if self._state.ending:  # its store was closed meanwhile
                raise DaemonNotRunning(_ENDING) from bug
            # What it is stands in the log; what was in the values may be secret.
            _LOG.exception("%s %s failed", request.method, request.scope["path"])
            told = DaemonError(f"bgfetch itself failed ({type(bug).__name__}); see the daemon's log")
            return _json(pack_error(told), 500)
        return _json(answer, self._route.status)


def _wanted(request: Request) -> Wanted:
    query = request.query_params
    last = request.headers.get("last-event-id", "")
    uids = query.getlist("registration")
    if not all(_is_number(each) for each in [*uids, *([last] if last else [])]):
        raise InvalidRequest("registration and Last-Event-ID are numbers")
    return Wanted(
        query.get("scope", ""),
        frozenset(map(int, uids)),
        query.get("client", ""),
        int(last) if last else None,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def _json(value: Json, status: int = 200) -> Response:
    return Response(dump(value), status, media_type="application/json")


async def _bgfetch_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BgfetchError)  # noqa: S101 - registered for these
    return _json(pack_error(error), status_of(error))


async def _http_error(_request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such path, or another method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for these
    told: BgfetchError = (
        NotFound("there is nothing here") if error.status_code == 404 else InvalidRequest(error.detail)
    )
    return Response(dump(pack_error(told)), error.status_code, error.headers, media_type="application/json")
