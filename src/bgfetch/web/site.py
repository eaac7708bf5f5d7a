"""`bgfetch serve`: models, kit and, where it is asked for, a page that offers each model; a whole site by itself."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Collection, Iterator
from html import escape
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Mount, Route

from bgfetch.errors import InvalidRequest
from bgfetch.web.assets import Kit
from bgfetch.web.connections import Connection, Listener, Network
from bgfetch.web.paths import url_path

if TYPE_CHECKING:
    from starlette.requests import Request

    from bgfetch.web.sending import Receive, Send
    from bgfetch.web.server import ModelServer

__all__ = ["Site", "index_page", "is_loopback", "listener"]

_GRACE: Final = 2  # s for answers in progress when it is told to end
_HANDSHAKE_WITHIN: Final = 15.0  # s; asyncio has 60, for each of which a silent client keeps a descriptor
# Everything comes from here; the element's styles are constructed, so no exception is needed.
_PAGE_FIELDS: Final = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 lets the system choose.

    Raises:
        InvalidRequest: The address is not this machine's, or taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(
            f"cannot listen on {host} port {port}: {reason}; choose another with --host and --port"
        ) from error


def index_page(models: list[tuple[str, str]]) -> str:
    """A page with one button for each model.

    Args:
        models: Name and manifest URL, both hostile: they are made of names of folders.
    """
    items = [
        f'<li><model-download name="{escape(name)}" manifest="{escape(url)}"></model-download></li>'
        for name, url in models
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Models</title>\n'
        '<script type="module" src="/bgfetch/element.js"></script>\n'
        f"<h1>Models</h1>\n<ul>\n{chr(10).join(items)}\n</ul>\n</html>\n"
    )


class Site:
    """The site over a socket.

    Args:
        models: What is below `/models/`.
        listening: The socket.
        host: The address it was made for.
        index: Whether there is a page at `/` that names every model.
        tls: Files of certificate and key, or None.
        proxies: Whose X-Forwarded-For is believed, and who may have any number of connections.
    """

    def __init__(
        self,
        models: ModelServer,
        listening: socket.socket,
        *,
        host: str,
        index: bool = False,
        tls: tuple[str, str] | None = None,
        proxies: Collection[Network] = (),
    ) -> None:
        self._models = models
        self._listening = Listener(listening, proxies)
        self._index = index
        self._host = host
        routes = [Route("/", self._page), Mount("/models", models), Mount("/bgfetch", Kit())]
        self._application = Starlette(routes=routes)
        scheme, shown = "http" if tls is None else "https", f"[{host}]" if ":" in host else host
        self.url = f"{scheme}://{shown}:{self._listening.getsockname()[1]}/"
        config = uvicorn.Config(
            self,
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=[str(network) for network in proxies],
            backlog=512,
            timeout_graceful_shutdown=_GRACE,
            ssl_certfile=None if tls is None else tls[0],
            ssl_keyfile=None if tls is None else tls[1],
        )
        self._server = _Server(config)
        logging.getLogger("uvicorn.error").addFilter(_said_already)

    def run(self, started: Callable[[], None]) -> None:
        """Serve until Ctrl-C or SIGTERM.

        Args:
            started: Called once the first request can come.
        """
        self._server.started_call = started
        try:
            self._server.run(sockets=[self._listening])
        finally:
            self._models.close()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request, if it was meant for this machine: a page elsewhere whose name was made to lead here is not."""
        if scope["type"] == "http" and is_loopback(self._host) and not _meant_for_here(scope):
            answer = PlainTextResponse("this server answers to localhost only\n", status_code=421)
            await answer(scope, receive, send)
            return
        await self._application(scope, receive, send)

    async def _page(self, _request: Request) -> HTMLResponse | PlainTextResponse:
        if not self._index:
            return PlainTextResponse(
                "models are below /models/, the kit is below /bgfetch/\n", headers=_PAGE_FIELDS
            )
        names = await asyncio.to_thread(self._models.folders)
        models = [
            ("/".join(parts) or "models", f"/models/{url_path((*parts, 'manifest.json'))}") for parts in names
        ]
        return HTMLResponse(index_page(models), headers=_PAGE_FIELDS)


class _Server(uvicorn.Server):
    """uvicorn that says when it has begun, and ends by a signal as if it had been asked to."""

    started_call: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        await super().startup([])  # it listens on nothing then, and we do: it does not limit handshakes
        within = None if self.config.ssl is None else _HANDSHAKE_WITHIN
        for each in sockets or []:
            server = await asyncio.get_running_loop().create_server(
                self._connection,
                sock=each,
                ssl=self.config.ssl,
                backlog=self.config.backlog,
                ssl_handshake_timeout=within,
            )
            self.servers.append(server)
        if self.started and self.started_call is not None:
            self.started_call()

    def _connection(self) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals, without raising them once more afterwards."""
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()


def _said_already(record: logging.LogRecord) -> bool:
    """False for what the model server says better: that it ended an answer short."""
    return "without completing response" not in record.getMessage()


def _meant_for_here(scope: Any) -> bool:
    """Whether the Host field names this machine. Source: DNS rebinding."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    name = (host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host).lower()
    return name.endswith(".localhost") or is_loopback(name.removeprefix("[").removesuffix("]"))
