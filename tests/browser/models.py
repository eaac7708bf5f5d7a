"""A model that a site serves, of any size and without memory, and all the ways in which serving it can go wrong."""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from urllib.parse import quote

from bgfetch.testing import Content, Exchange, Reply, SeenRequest, text_reply
from bgfetch.testing.content import CHUNK, Chunk
from bgfetch.testing.message import correct_reply

__all__ = ["SEGMENT", "Faults", "Model", "Seeded"]

SEGMENT = 8 << 20
"""Bytes of a segment of the manifest; 2^k x 16 KiB, as the model server chooses for files of this size."""


@dataclass(frozen=True, eq=False)
class Seeded(Content):
    """A content that is made as it is read: one random MiB, turned a little further in each MiB of the body.

    Args:
        size: Bytes in it.
    """

    size: int = 0

    @classmethod
    def made(cls, size: int, seed: int) -> Seeded:
        """The body of this size and seed; the same in every run."""
        block = random.Random(seed).randbytes(CHUNK)
        tag = hashlib.sha256(block).hexdigest()[:32]
        return cls(memoryview(block * 2), etag=f'"{tag}"', size=size)

    @property
    def length(self) -> int:
        """Bytes in it."""
        return self.size

    def chunks(self, start: int, stop: int, *, size: int = CHUNK) -> Iterator[Chunk]:
        """The bytes from `start` up to but not including `stop`."""
        stop = min(stop, self.size)
        while start < stop:
            number, within = divmod(start, CHUNK)
            turn = number * 4099 % CHUNK  # odd, so that no two MiB of 2^20 are alike
            end = min(stop - start, CHUNK - within, size)
            yield self.data[turn + within : turn + within + end]
            start += end


@dataclass(slots=True)
class Faults:
    """What goes wrong from the next request on; nothing, unless it is set.

    Args:
        drop_every: Bytes of all replies after which one connection ends, what was sent having arrived; 0 = never.
        stall_every: Bytes of all replies after which one connection says nothing for `stall` seconds, and ends; 0 = never.
        stall: Seconds.
        rate: Bytes a second over all connections, as of a line that they share; 0 = as fast as it goes.
        refuse: So many requests more are answered with 503.
        retry_after: Value of `Retry-After` with a 503; "" for none.
        ranges: Whether ranges are honoured; if not, each is answered with 200 and the whole.
        if_range: Whether If-Range is honoured.
        wrong: Segments that are sent with one byte flipped.
        html: Whether a page comes instead of the model, with status 200.
        manifest: Whether there is a manifest; if not, 404, and no Link to it.
        status: Answered to every request for bytes; 0 = the right one.
        refused: Statuses, by segment, of the answers to the next requests whose range begins in it.
    """

    drop_every: int = 0
    stall_every: int = 0
    stall: float = 0.0
    rate: float = 0.0
    refuse: int = 0
    retry_after: str = ""
    ranges: bool = True
    if_range: bool = True
    wrong: set[int] = field(default_factory=set)
    html: bool = False
    manifest: bool = True
    status: int = 0
    refused: dict[int, list[int]] = field(default_factory=dict)


class Model:
    """A file of a site, with its manifest.

    Args:
        path: Its path, such as "/models/tiny/model.bin".
        content: What is in it.
    """

    def __init__(self, path: str, content: Content) -> None:
        self.path = path
        self.content = content
        self.faults = Faults()
        self.sent = 0
        self._free = 0.0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self.content.length

    @property
    def sha256(self) -> str:
        """Digest of what is there now."""
        return self._digests[0]

    def change_etag(self) -> None:
        """Serve the same bytes under another validator from the next request on."""
        self.content = self.content.under(etag=f'"again-{self.content.etag[1:]}')

    def change(self, content: Content) -> None:
        """Serve another version from the next request on."""
        self.content = content
        self.__dict__.pop("_digests", None)

    def manifest_entry(self, folder: str) -> dict[str, object]:
        """What a folder's manifest says of it."""
        path = self.path.removeprefix(folder)
        sha256, segments = self._digests
        return {
            "path": path,
            "url": f"{quote(path)}?sha256={sha256}",
            "size": self.size,
            "sha256": sha256,
            "type": self.content.media_type,
            "segment_size": SEGMENT,
            "segments": segments,
        }

    def answer(self, exchange: Exchange) -> None:
        """Answer a request for it, or for its manifest, as well as the faults let it."""
        request, faults = exchange.request, self.faults
        if "manifest" in request.query.split("&"):
            exchange.send(manifest_reply([self], self.path.rpartition("/")[0] + "/"))
        elif faults.refuse > 0:
            faults.refuse -= 1
            refusal = text_reply(503, "busy\n")
            exchange.send(refusal.but(retry_after=faults.retry_after) if faults.retry_after else refusal)
        elif faults.html:
            exchange.send(text_reply(200, "<!doctype html><title>Log in</title>Log in", "text/html"))
        elif request.query.startswith("sha256=") and request.query != f"sha256={self.sha256}":
            exchange.send(text_reply(404, "another version is here now\n"))
        elif status := faults.status or self._refusal(request):
            exchange.send(text_reply(status, "no\n"))
        else:
            self._stream(exchange, self._reply(exchange))

    def _refusal(self, request: SeenRequest) -> int:
        asked = re.match(r"bytes=(\d+)-", request.headers.get("range", ""))
        left = self.faults.refused.get(int(asked[1]) // SEGMENT if asked else 0)
        return left.pop(0) if left else 0

    def _reply(self, exchange: Exchange) -> Reply:
        request = exchange.request
        if not self.faults.ranges:
            without = {name: value for name, value in request.headers.items() if name != "range"}
            request = replace(request, headers=without)
        reply = correct_reply(request, self.content, if_range=self.faults.if_range)
        named = quote(self.path.rpartition("/")[2])
        if self.faults.manifest:
            link = f'<{named}?manifest>; rel="describedby"; type="application/json"'
            reply = reply.but(link=link)
        return reply.but(cache_control="no-cache, no-transform")

    def _stream(self, exchange: Exchange, reply: Reply) -> None:
        """Send a reply piece by piece, so that a fault that is set on the way is met at once."""
        # What waits in a large buffer when the client hangs up would count as sent, and be asked for again.
        exchange.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        exchange.server.count_reply(reply.status)
        exchange.write(exchange.closing(reply).head())
        if exchange.request.method == "HEAD" or reply.status == 304:
            return
        for start, stop in reply.spans:
            for chunk in reply.content.chunks(start, stop, size=1 << 16):
                if not self._send(exchange, start, chunk):
                    exchange.drop()
                    return
                start += len(chunk)  # noqa: PLW2901 - the chunks of a span follow each other

    def _send(self, exchange: Exchange, at: int, chunk: Chunk) -> bool:
        """Whether the connection goes on after it."""
        faults = self.faults
        if at // SEGMENT in faults.wrong and at % SEGMENT == 0:
            chunk = bytes([chunk[0] ^ 1]) + bytes(chunk[1:])
        exchange.stream([chunk])
        with self._lock:
            before, self.sent = self.sent, self.sent + len(chunk)
            after = self.sent
        if faults.rate:
            exchange.pause(self._turn(len(chunk) / faults.rate))
        if faults.stall_every and before // faults.stall_every != after // faults.stall_every:
            exchange.hold(faults.stall)
            return False
        return not faults.drop_every or before // faults.drop_every == after // faults.drop_every

    def _turn(self, seconds: float) -> float:
        """How long to wait for the line, when what was sent keeps it busy for so long."""
        with self._lock:
            now = time.monotonic()
            self._free = max(now, self._free) + seconds
            return self._free - now

    @cached_property
    def _digests(self) -> tuple[str, list[str]]:
        whole, segments = hashlib.sha256(), []
        for at in range(0, self.size, SEGMENT):
            segment = hashlib.sha256()
            for chunk in self.content.chunks(at, at + SEGMENT):
                whole.update(chunk)
                segment.update(chunk)
            segments.append(segment.hexdigest())
        return whole.hexdigest(), segments


def manifest_reply(models: list[Model], folder: str) -> Reply:
    """The manifest of these files below a folder; 404 when one of them is to have none."""
    if not models or not all(each.faults.manifest for each in models):
        return text_reply(404, "there is no manifest\n")
    files = [each.manifest_entry(folder) for each in sorted(models, key=lambda model: model.path)]
    text = json.dumps({"bgfetch": 1, "files": files})
    tag = hashlib.sha256(text.encode()).hexdigest()
    return text_reply(200, text, "application/json").but(cache_control="no-cache", etag=f'"{tag}"')
