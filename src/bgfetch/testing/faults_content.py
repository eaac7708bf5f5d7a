"""Something else than the file: captive portals, and encodings that nobody asked for."""

# ruff: noqa: ARG001  what makes a handler is given the server, whether it needs it or not

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from functools import partial

from bgfetch.testing.content import Chunk, Content
from bgfetch.testing.exchange import Exchange, Fuse, Handler
from bgfetch.testing.message import Reply, correct_reply, text_reply
from bgfetch.testing.origin import OriginServer
from bgfetch.testing.scenario import Outcome, Scenario, part

__all__ = ["TABLE"]

PORTAL = "<!DOCTYPE html>\n<html><head><title>Welcome to Café WiFi</title></head><body>Please log in.</body></html>\n"

_MEBIBYTE = 1 << 20


def _portal_page() -> Reply:
    return text_reply(200, PORTAL, "text/html; charset=utf-8").but(cache_control="no-store")


def captive(
    server: OriginServer,
    *,
    midway: bool = False,
    redirect: bool = False,
    after: int | None = None,
    times: int | None = None,
) -> Handler:
    """A captive portal answers `times` requests (all when None), from the start or after a third of the body.

    Args:
        server: The server it is for.
        midway: Whether the file itself comes first, for `after` body bytes in all (a third of the body when None).
        redirect: Whether the portal redirects to a page on another origin, or answers in the file's place.
        after: See `midway`.
        times: How many requests it answers before the network is free again.
    """
    before, left = Fuse(part(server, after, 3) if midway else 0), Fuse(times)
    portal = ""
    if redirect:
        server.second.answer_with(_show)
        portal = server.second.url_of("/login")

    def answer(exchange: Exchange) -> None:
        if not before.burnt:
            exchange.send(exchange.correct(), before)
        elif not left.take():
            exchange.send(exchange.correct())
        elif redirect:
            exchange.send(text_reply(302, "").but(location=portal))
        else:
            _show(exchange)

    return answer


def _show(exchange: Exchange) -> None:
    exchange.send(_portal_page())


def gzip_anyway(server: OriginServer) -> Handler:
    """Every body comes gzipped, ranges being ranges of the gzipped bytes."""
    packed: dict[str, Content] = {}

    def answer(exchange: Exchange) -> None:
        content = exchange.content
        if content is None or exchange.request.method not in {"GET", "HEAD"}:
            exchange.send(exchange.correct())
            return
        path = exchange.request.path
        if path not in packed:
            packed[path] = Content(memoryview(gzip.compress(content.read(), 1, mtime=0)), content.etag)
        exchange.send(correct_reply(exchange.request, packed[path]).but(content_encoding="gzip"))

    return answer


def gzip_bomb(server: OriginServer, *, size_mib: int = 2048) -> Handler:
    """A gzip of so many MiB of zeros, about 1 KiB each on the wire; made while it is sent."""

    def answer(exchange: Exchange) -> None:
        reply = exchange.correct()
        if not exchange.wants_bytes:
            exchange.send(reply)
            return
        reply = text_reply(200, "").but(content_type="application/octet-stream", content_encoding="gzip")
        exchange.drop()
        exchange.write(reply.but(content_length=None, connection="close").head())
        exchange.stream(bomb(size_mib))

    return answer


def bomb(size_mib: int) -> Iterator[Chunk]:
    """The bytes of one gzip stream of so many MiB of zeros, a piece at a time."""
    zeros, crc = bytes(_MEBIBYTE), 0
    packer = zlib.compressobj(9, wbits=-15)
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
    # After a full flush nothing refers back, so that the same piece can be repeated.
    piece = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(size_mib):
        yield piece
        crc = zlib.crc32(zeros, crc)
    yield (
        packer.flush() + crc.to_bytes(4, "little") + (size_mib * _MEBIBYTE % (1 << 32)).to_bytes(4, "little")
    )


_named = partial(Scenario, family="content")

TABLE = (
    _named(
        "captive-html",
        outcome=Outcome.REFUSE,
        description="a login page with 200 in the file's place",
        make=captive,
    ),
    _named(
        "captive-redirect",
        outcome=Outcome.REFUSE,
        description="a redirect to a login page",
        make=partial(captive, redirect=True),
    ),
    _named(
        "captive-html-midway",
        outcome=Outcome.FINISH,
        description="a third of the file, then the login page `times` times",
        make=partial(captive, midway=True, times=2),
    ),
    _named(
        "captive-redirect-midway",
        outcome=Outcome.FINISH,
        description="a third of the file, then `times` redirects to the login page",
        make=partial(captive, midway=True, redirect=True, times=2),
    ),
    _named(
        "gzip-anyway",
        outcome=Outcome.REFUSE,
        description="Content-Encoding: gzip although identity was asked",
        make=gzip_anyway,
    ),
    _named(
        "gzip-bomb",
        outcome=Outcome.REFUSE,
        description="2 MiB on the wire, 2 GiB decoded",
        make=gzip_bomb,
    ),
)
