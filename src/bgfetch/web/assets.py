"""The kit's files over HTTP: as they are in the package, with the types and fields that browsers want of workers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Any

from bgfetch.response import off_loop
from bgfetch.web.asked import TOO_LONG, Asked, Reply, asked, refused
from bgfetch.web.conditions import Representation, decide
from bgfetch.web.fields import text_fields
from bgfetch.web.folder import Folder, Stamp, stamp_of
from bgfetch.web.paths import Parts, parts_of
from bgfetch.web.sending import Receive, Send

__all__ = ["KIT", "Kit"]

KIT = Path(__file__).with_name("kit")
_TYPES = {".js": "text/javascript; charset=utf-8", ".d.ts": "text/plain; charset=utf-8"}
_WORKERS = frozenset({"engine.js"})  # dedicated workers: in an isolated page they must say that they are, too


class Kit:
    """An ASGI application that gives out the kit: `app.mount("/bgfetch", Kit())`.

    Scripts are asked for again each time and mostly answered with 304: a page and its worker are of one version.
    """

    def __init__(self) -> None:
        self._folder = Folder(KIT)
        self._read: dict[Parts, tuple[Stamp, bytes, str]] = {}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the kit speaks HTTP, not {scope['type']!r}")
        try:
            reply = await off_loop(self._reply, asked(scope))
        except ValueError:
            reply = TOO_LONG
        await reply.send(send, head=scope["method"] == "HEAD")

    def _reply(self, request: Asked) -> Reply:
        if request.method not in ("GET", "HEAD"):
            return refused(405, "the kit is only read", ("allow", "GET, HEAD"))
        parts = parts_of(request.path)
        kind = next((kind for ending, kind in _TYPES.items() if parts and parts[-1].endswith(ending)), "")
        with contextlib.suppress(FileNotFoundError):
            if parts and kind:
                return self._file(request, parts, kind)
        return refused(404, "the kit has no such file")

    def _file(self, request: Asked, parts: Parts, kind: str) -> Reply:
        stamp, data, etag = self._contents(parts)
        answer = decide(
            request.method,
            request.headers,
            Representation(len(data), (etag,), stamp.mtime_ns // 1_000_000_000),
            now=time.time(),
        )
        fields = [
            ("etag", etag),
            ("cache-control", "no-cache"),
            ("cross-origin-resource-policy", "cross-origin"),
            ("service-worker-allowed", "/"),
            ("x-content-type-options", "nosniff"),
        ]
        if parts[-1] in _WORKERS:
            fields.append(("cross-origin-embedder-policy", "require-corp"))
        if answer.status in (304, 412):
            return Reply(answer.status, fields)
        return Reply(200, [*text_fields(data, kind)[:2], *fields], data)

    def _contents(self, parts: Parts) -> tuple[Stamp, bytes, str]:
        """A file of some kilobytes and its tag, read once for each state of it."""
        fd = self._folder.open(parts)
        with os.fdopen(fd, "rb") as file:
            stamp, kept = stamp_of(fd), self._read.get(parts)
            if kept is None or kept[0] != stamp:
                data = file.read()
                kept = self._read[parts] = (stamp, data, f'"{hashlib.sha256(data).hexdigest()}"')
        return kept
