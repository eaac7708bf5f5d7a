"""Lengths that are wrong, headers without end, and bytes that are not HTTP."""

# ruff: noqa: ARG001  what makes a handler is given the server, whether it needs it or not

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from bgfetch.testing.content import Chunk, Content
from bgfetch.testing.exchange import Exchange, Fuse, Handler
from bgfetch.testing.message import Reply, SeenRequest, asked_span, correct_reply, text_reply
from bgfetch.testing.origin import OriginServer, plain
from bgfetch.testing.scenario import Outcome, Scenario

__all__ = ["TABLE"]

Misbehave = Callable[..., object]
"""Given the exchange, the correct reply and keyword parameters of its own: writes something else."""


def spoiled(
    server: OriginServer, *, by: Misbehave, times: int | None = None, **parameters: object
) -> Handler:
    """The first `times` GETs (all when None) are answered by `by` with these parameters."""
    left = Fuse(times)
    by = _bound(by, parameters)

    def answer(exchange: Exchange) -> None:
        reply = exchange.correct()
        if exchange.wants_bytes and left.take():
            by(exchange, reply)
        else:
            exchange.send(reply)

    return answer


def everywhere(
    server: OriginServer, *, by: Misbehave, times: int | None = None, **parameters: object
) -> Handler:
    """The first `times` requests (all when None) are answered by `by` with these parameters, HEAD too."""
    left = Fuse(times)
    by = _bound(by, parameters)

    def answer(exchange: Exchange) -> None:
        if left.take():
            by(exchange, exchange.correct())
        else:
            plain(exchange)

    return answer


def _bound(by: Misbehave, parameters: Mapping[str, object]) -> Misbehave:
    # Asked here, in the test's thread: within a handler a wrong name would look like a broken connection.
    inspect.signature(by).bind_partial(None, None, **parameters)
    return partial(by, **parameters)


def chunked(exchange: Exchange, reply: Reply) -> None:
    """Chunked, without Content-Length."""
    exchange.send_chunked(reply)


def chunked_without_end(exchange: Exchange, reply: Reply) -> None:
    """Chunked, breaking off in the middle."""
    exchange.send_chunked(reply, Fuse(reply.length // 2))


def unframed(exchange: Exchange, reply: Reply) -> None:
    """No length at all: the body ends with the connection."""
    exchange.send_unframed(reply)


def unframed_cut(exchange: Exchange, reply: Reply) -> None:
    """No length, and the body ends in the middle, with a clean end of the connection."""
    exchange.send_unframed(reply, Fuse(reply.length // 2))


def length_short(exchange: Exchange, reply: Reply) -> None:
    """Content-Length says half of what there is and of what comes."""
    exchange.send(reply.but(content_length=str(reply.length // 2)))
    exchange.drop()


def length_long(server: OriginServer, *, extra: int = 1000) -> Handler:
    """Content-Length, the total and HEAD promise so many bytes more than there are, and always the same."""

    def answer(exchange: Exchange) -> None:
        content = exchange.content
        if content is None or exchange.request.method not in {"GET", "HEAD"}:
            plain(exchange)
            return
        reply = _promising(exchange.request, content, total=content.length + extra)
        if exchange.request.method == "GET" and int(reply.headers["Content-Length"]) != reply.length:
            exchange.drop()
        exchange.send(reply)

    return answer


def _promising(request: SeenRequest, content: Content, *, total: int) -> Reply:
    """What a correct origin would answer if there were `total` bytes, with those that there are."""
    span = asked_span(request.range, total) if request.method == "GET" else None
    if span is not None and span[0] == span[1]:
        return text_reply(416, "there are no such bytes\n").but(content_range=f"bytes */{total}")
    start, stop = span or (0, total)
    whole = correct_reply(replace(request, headers={}), content)
    reply = replace(whole, spans=((min(start, content.length), min(stop, content.length)),))
    reply = reply.but(content_length=str(stop - start))
    if span is None:
        return reply
    return replace(reply, status=206).but(content_range=f"bytes {start}-{stop - 1}/{total}")


def body_long(exchange: Exchange, reply: Reply, *, extra: int = 1000) -> None:
    """After the promised bytes come others."""
    if exchange.send(reply):
        exchange.write(bytes(extra))
    exchange.drop()


def endless(exchange: Exchange, reply: Reply) -> None:
    """The body never ends."""
    exchange.drop()
    exchange.write(
        replace(reply, status=200).but(content_length=None, content_range=None, connection="close").head()
    )
    noise = random.Random(1).randbytes(65_536)  # noqa: S311  any bytes that do not compress
    exchange.stream(itertools.repeat(noise))


def with_headers(exchange: Exchange, reply: Reply, *, lines: tuple[bytes, ...]) -> None:
    """The reply with these header lines in place of Content-Length."""
    head = reply.but(content_length=None).head()[:-2]
    exchange.drop()
    exchange.write(head + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
    exchange.stream(reply.content.chunks(*reply.spans[0]))


def length_twice(exchange: Exchange, reply: Reply) -> None:
    """Two Content-Lengths that differ."""
    lines = (b"Content-Length: %d" % reply.length, b"Content-Length: %d" % (reply.length + 1))
    with_headers(exchange, reply, lines=lines)


def many_headers(exchange: Exchange, reply: Reply, *, count: int = 100_000) -> None:
    """So many headers."""
    exchange.drop()
    exchange.write(reply.head()[:-2])
    for first in range(0, count, 1000):
        exchange.write(b"".join(b"X-Header-%d: bomb\r\n" % number for number in range(first, first + 1000)))
    exchange.write(b"\r\n")


def long_header(exchange: Exchange, reply: Reply, *, size: int = 64 << 20) -> None:
    """One header line of `size` bytes."""
    exchange.drop()
    exchange.write(reply.head()[:-2] + b"X-Long: ")
    for _ in range(0, size, 65_536):
        exchange.write(b"x" * 65_536)
    exchange.write(b"\r\n\r\n")


def interim(exchange: Exchange, reply: Reply, *, count: int | None = None) -> None:
    """So many 1xx replies (without end when None) before the reply."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
    for _ in itertools.repeat(None) if count is None else range(count):
        exchange.write(early)
    exchange.send(reply)


def http09(exchange: Exchange, reply: Reply) -> None:
    """The body without any head."""
    exchange.drop()
    exchange.stream(reply.content.chunks(0, reply.content.length))


def garbage(exchange: Exchange, reply: Reply, *, size: int = 100_000, seed: int = 1) -> None:
    """Random bytes instead of a reply."""
    exchange.drop()
    exchange.write(random.Random(seed).randbytes(size))  # noqa: S311  chance that can be repeated is the point


def bad_chunks(exchange: Exchange, reply: Reply, *, size_line: bytes) -> None:
    """Half the body in a good chunk, then a chunk whose size is this."""
    exchange.drop()
    exchange.write(reply.but(content_length=None, transfer_encoding="chunked").head())
    half = reply.length // 2
    start, stop = reply.spans[0]
    parts: tuple[tuple[int, int], ...] = ((start, start + half), (start + half, stop))
    for (first, last), line in zip(parts, (b"%x" % half, size_line), strict=True):
        exchange.write(line + b"\r\n")
        exchange.stream(_chunks(reply, first, last))
        exchange.write(b"\r\n")
    exchange.write(b"0\r\n\r\n")


def _chunks(reply: Reply, start: int, stop: int) -> list[Chunk]:
    return list(reply.content.chunks(start, stop))


def _get(
    name: str,
    outcome: Outcome,
    description: str,
    by: Misbehave,
    *,
    times: int | None = None,
    family: str = "length",
) -> Scenario:
    return Scenario(name, family, outcome, description, partial(spoiled, by=by, times=times))


def _any(name: str, description: str, by: Misbehave, *, outcome: Outcome = Outcome.REFUSE) -> Scenario:
    return Scenario(name, "head", outcome, description, partial(everywhere, by=by))


_FINISH, _REFUSE, _DIGEST = Outcome.FINISH, Outcome.REFUSE, Outcome.DIGEST

TABLE = (
    _get("chunked", _FINISH, "chunked, without a length", chunked),
    _get("chunked-truncated", _FINISH, "chunked, cut halfway, `times` times", chunked_without_end, times=1),
    _get("no-length", _FINISH, "no length: the body ends with the connection", unframed),
    _get("no-length-truncated", _DIGEST, "no length, and cut halfway, `times` times", unframed_cut, times=1),
    _get("length-short", _DIGEST, "Content-Length of half the body, `times` times", length_short, times=1),
    Scenario("length-long", "length", _REFUSE, "Content-Length of more than there is", length_long),
    _get("length-twice", _REFUSE, "two Content-Lengths that differ", length_twice),
    _get(
        "length-negative",
        _REFUSE,
        "a negative Content-Length",
        partial(with_headers, lines=(b"Content-Length: -1",)),
    ),
    _get("body-long", _FINISH, "more bytes than Content-Length", body_long),
    _get("endless", _REFUSE, "a body without a length and without an end", endless),
    _any("header-bomb", "100,000 headers", many_headers),
    _any("long-header", "one header of 64 MiB", long_header),
    _any("1xx-flood", "1xx replies without end", interim),
    _any("1xx-few", "three 1xx replies before the right one", partial(interim, count=3), outcome=_FINISH),
    _get(
        "nul-header",
        _REFUSE,
        "a NUL in a header",
        partial(with_headers, lines=(b"X-Nul: a\0b", b"Connection: close")),
        family="garbage",
    ),
    _get("http09", _REFUSE, "the body without any head", http09, family="garbage"),
    _get("garbage", _REFUSE, "random bytes instead of a reply", garbage, family="garbage"),
    _get(
        "bad-chunk",
        _REFUSE,
        "a chunk size that is no number",
        partial(bad_chunks, size_line=b"zz"),
        family="garbage",
    ),
    _get(
        "huge-chunk",
        _REFUSE,
        "a chunk size beyond 64 bits",
        partial(bad_chunks, size_line=b"f" * 17),
        family="garbage",
    ),
    _get(
        "negative-chunk",
        _REFUSE,
        "a negative chunk size",
        partial(bad_chunks, size_line=b"-5"),
        family="garbage",
    ),
)
