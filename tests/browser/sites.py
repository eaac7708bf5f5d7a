"""A site on loopback: pages, workers, the kit and models, each on a port and so an origin of its own.

A page or a worker tells the test something with `fetch("/told", {method: "POST", body: JSON.stringify(…)})`.
"""

from __future__ import annotations

import json
import mimetypes
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from tests.browser.browsers import PATIENCE
from tests.browser.models import Model, Seeded, manifest_reply

import bgfetch
from bgfetch.testing import Content, Exchange, Handler, OriginServer, SeenRequest, text_reply

__all__ = ["KIT", "PAGES", "Site"]

KIT = Path(bgfetch.__file__).parent / "web" / "kit"
PAGES = Path(__file__).parent / "pages"

_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".html": "text/html; charset=utf-8"}
_BLANK = "<!doctype html><meta charset=utf-8><title>blank</title><body>"


class Site:
    """Serves from the moment it is made until `close()`.

    "/" is an empty page, "/bgfetch/…" the kit, "/pages/…" the files beside this module, and what is put is where it was put.

    Args:
        tls: Context with a certificate, for https.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.server = OriginServer({"/": _BLANK.encode()}, self._answer, tls=tls)
        self.models: dict[str, Model] = {}
        self.told: list[Any] = []
        self._answers: dict[str, Handler] = {}
        self._changed = threading.Condition()
        self.put("/", _BLANK, "text/html; charset=utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Of "/"."""
        return self.server.url_of("/")

    def url_of(self, target: str, *, host: str = "127.0.0.1") -> str:
        """The absolute URL of a path; under another host of loopback it is another origin."""
        return self.server.url_of(target, host=host)

    def put(self, path: str, text: str, media_type: str = "", **headers: str) -> None:
        """Serve a text from now on; its type is that of its name, and `_` stands for "-" in a header's name."""
        kind = media_type or _TYPES.get(Path(path).suffix) or mimetypes.guess_type(path)[0] or "text/plain"
        reply = text_reply(200, text, kind).but(cache_control="no-store", **headers)

        def send(exchange: Exchange) -> None:
            exchange.send(reply)

        self.answer(path, send)

    def alter(self, script: str, former: str = "", new: str = "", *, before: str = "") -> None:
        """Serve a script of the kit from now on with `new` in place of `former`, which is there, and `before` in front of it."""
        text = (KIT / script).read_text("utf-8")
        assert former in text, (script, former)
        self.put(f"/bgfetch/{script}", f"{before}\n{text.replace(former, new)}", service_worker_allowed="/")

    def answer(self, path: str, handler: Handler) -> None:
        """Let a function answer requests for a path from now on."""
        self._answers[path] = handler

    def model(self, path: str, size: int, *, seed: int = 1) -> Model:
        """Serve so many bytes under a path; the manifest is beside it, in "manifest.json"."""
        model = self.models[path] = Model(path, Seeded.made(size, seed))
        return model

    def text(self, path: str, body: bytes, media_type: str = "application/octet-stream") -> Model:
        """Serve these bytes as a model."""
        model = self.models[path] = Model(path, Content(memoryview(body), media_type=media_type))
        return model

    def seen(self, path: str, method: str = "GET") -> list[SeenRequest]:
        """Requests for a path so far."""
        return [each for each in list(self.server.requests) if (each.path, each.method) == (path, method)]

    def wait(self, said: Callable[[], Any], *, within: float = PATIENCE, what: str = "it") -> Any:
        """What it gives once that is true; asked at each request and report.

        Raises:
            AssertionError: It was not in time.
        """
        end = time.monotonic() + within
        with self._changed:
            while not (value := said()):
                left = end - time.monotonic()
                assert left > 0, f"{what} did not happen within {within:g} s; told: {self.told[-10:]}"
                self._changed.wait(min(left, 0.05))  # bytes that are sent notify nobody
        return value

    def hears(self, *, within: float = PATIENCE, **facts: Any) -> Any:
        """The first report that has these members, once it has come."""

        def said() -> Any:
            return next((each for each in self.told if facts.items() <= each.items()), None)

        return self.wait(said, within=within, what=f"a report of {facts}")

    def down(self, seconds: float | None = None) -> None:
        """Go away: cut all connections and refuse new ones, until `up()` or for so many seconds."""
        self.server.down(seconds)

    def up(self) -> None:
        """Be there again."""
        self.server.up()

    def close(self) -> None:
        """Go away for good."""
        self.server.close()

    def _answer(self, exchange: Exchange) -> None:
        path = unquote(exchange.request.path)
        with self._changed:
            self._changed.notify_all()
        if path in self._answers:
            self._answers[path](exchange)
        elif path in self.models:
            self.models[path].answer(exchange)
        elif path == "/told":
            self._hear(exchange)
        elif path.endswith("/manifest.json"):
            folder = path.removesuffix("manifest.json")
            below = [model for name, model in self.models.items() if name.startswith(folder)]
            exchange.send(manifest_reply(below, folder))
        elif path.startswith("/bgfetch/"):
            _file(exchange, KIT, path.removeprefix("/bgfetch/"))
        elif path.startswith("/pages/"):
            _file(exchange, PAGES, path.removeprefix("/pages/"))
        else:
            exchange.send(text_reply(404, "there is nothing here\n"))

    def _hear(self, exchange: Exchange) -> None:
        with self._changed:
            self.told.append(json.loads(exchange.request.body))
            self._changed.notify_all()
        exchange.send(text_reply(204, ""))


def _file(exchange: Exchange, folder: Path, name: str) -> None:
    file = folder / name
    if ".." in name or not file.is_file():
        exchange.send(text_reply(404, "there is nothing here\n"))
        return
    kind = _TYPES.get(file.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    reply = text_reply(200, file.read_text("utf-8"), kind)
    exchange.send(reply.but(cache_control="no-cache", service_worker_allowed="/"))
