"""`make web`: pages that download real models in the background and run them, served until Ctrl-C.

All of bgfetch that a server needs is the two `Mount` lines. The rest is the example's own: its pages, the packages
of npm, and the headers that a careful site sends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

import uvicorn
from models import MODELS, NPM, have, lay_out
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bgfetch.web import Kit, ModelServer

PAGES = Path(__file__).with_name("pages")

# Nothing inline, nothing from elsewhere. Runtimes are WebAssembly, which has a word of its own.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "worker-src": "'self'",
    "frame-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
# wllama makes its workers out of its own text; only its page, which the demo shows in a frame, may.
WLLAMA = {**POLICY, "worker-src": "'self' blob:", "frame-ancestors": "'self'"}


class CarefulHeaders:
    """A strict policy, and an origin of one's own (COOP, COEP), which WebAssembly needs for threads."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as `app` does, with the headers added."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = WLLAMA if scope["path"].endswith("/wllama.html") else POLICY
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = "; ".join(
                    f"{name} {value}" for name, value in policy.items()
                )
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Cross-Origin-Embedder-Policy"] = "require-corp"
                headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def application(models: Path = MODELS) -> Starlette:
    """The site, with the models of a folder."""
    return Starlette(
        routes=[
            Mount("/models", ModelServer(models)),
            Mount("/bgfetch", Kit()),
            Route("/have.json", lambda _: Response(have(models), media_type="application/json")),
            Mount("/npm", StaticFiles(directory=NPM, check_dir=False)),
            Mount("/", StaticFiles(directory=PAGES, html=True)),
        ],
        middleware=[Middleware(CarefulHeaders)],
    )


def listener() -> socket.socket:
    """A socket of loopback on `PORT`, else on 8000, else, where something else has that, on any other."""
    wanted = os.environ.get("PORT")
    try:
        return socket.create_server(("127.0.0.1", int(wanted or 8000)))
    except OSError:
        if wanted:
            raise
        return socket.create_server(("127.0.0.1", 0))


def main() -> None:
    """Serve until Ctrl-C."""
    for missing in lay_out(MODELS):
        print(f"Left out: {missing}", file=sys.stderr)
    with listener() as bound, contextlib.suppress(KeyboardInterrupt):
        print(f"\n  Open  http://localhost:{bound.getsockname()[1]}/  (Ctrl-C ends it)\n", flush=True)
        uvicorn.Server(uvicorn.Config(application(), log_level="warning", lifespan="off")).run(
            sockets=[bound]
        )


if __name__ == "__main__":
    main()
