"""Bodies that change midway, replicas that disagree, and bytes that are not the ones they are said to be.

Where a body changes, the old version is another one of the same length (`Content.changed`), and the server's `content`,
`body` and `sha256` are the new one: what a client must end with.
"""

# ruff: noqa: ARG001  a tamper function is given the offset, whether it needs it or not

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from bgfetch.testing.content import Chunk, Content
from bgfetch.testing.exchange import Exchange, Fuse, Handler
from bgfetch.testing.origin import OriginServer
from bgfetch.testing.scenario import Outcome, Scenario, forced_to_resume, part

__all__ = ["TABLE"]


def change(
    server: OriginServer,
    *,
    after: int | None = None,
    requests: int | None = None,
    validators: str = "strong",
    if_range: bool = True,
    shorter: int = 0,
) -> Handler:
    """The old version is served until it changes; replies that are on their way at that moment break off.

    Args:
        server: The server it is for.
        after: The change comes after this many body bytes in all; a third of the body when None.
        requests: If given, it comes after this many GETs instead; each of them breaks off after `after` bytes.
        validators: "strong" or "weak" ETags, "none" at all, or the "same" ones for both versions.
        if_range: Whether the server understands If-Range.
        shorter: How many bytes the old version lacks at its end.
    """
    new = _under(server.content, validators)
    old = replace(_under(server.content.changed(), validators), data=new.data[: new.length - shorter])
    if validators == "same":
        old = old.under(etag=new.etag, modified=new.modified)
    server.replace_content(new)
    most = part(server, after, 3)
    fuse, left = Fuse(most), Fuse(requests)

    def answer(exchange: Exchange) -> None:
        if exchange.content is not new:
            exchange.send(exchange.correct())
            return
        if requests is None:
            changed, until = fuse.burnt, fuse
        else:
            changed, until = not left.take(exchange.request.method == "GET") and left.burnt, Fuse(most)
        reply = exchange.correct(new if changed else old, if_range=if_range)
        exchange.send(reply, *(() if changed else (until,)))

    return answer


def _under(content: Content, validators: str) -> Content:
    if validators == "none":
        return content.under(etag="", modified="")
    return content.under(etag="W/" + content.etag) if validators == "weak" else content


def skew(
    server: OriginServer, *, nodes: int | None = 2, after: int | None = None, drops: int | None = 1
) -> Handler:
    """The same bytes under `nodes` ETags in turn, one a GET; under a new one each time when None."""
    turn = itertools.count()

    def node(exchange: Exchange, fuse: Fuse) -> None:
        number = next(turn) if nodes is None else next(turn) % nodes
        content = exchange.content or server.content
        exchange.send(exchange.correct(content.under(etag=f'"node-{number}"', modified="")), fuse)

    return forced_to_resume(
        server, lambda exchange: node(exchange, Fuse(None)), on_whole=node, after=after, drops=drops
    )


def if_range_dropped(server: OriginServer, *, after: int | None = None, drops: int | None = 1) -> Handler:
    """A range with If-Range gets a 200 although nothing changed; a plain range gets its 206."""

    def on_range(exchange: Exchange) -> None:
        headers = exchange.request.headers
        if "if-range" in headers:
            without = {name: value for name, value in headers.items() if name != "range"}
            exchange.request = replace(exchange.request, headers=without)
        exchange.send(exchange.correct())

    return forced_to_resume(server, on_range, after=after, drops=drops)


def bitflip(
    server: OriginServer, *, rate: float | None = None, seed: int = 1, limit: int | None = 3
) -> Handler:
    """Bits flip on the wire: `rate` a byte on average (three a body when None), `limit` in all.

    Counted along all body bytes that leave the server, so that with one connection each run is the same.
    """
    chance = random.Random(seed)  # noqa: S311  chance that can be repeated is the point
    mean = 1 / rate if rate else max(1.0, server.content.length / 3)
    lock, left = threading.Lock(), Fuse(limit)
    gap = 0

    def tamper(offset: int, chunk: Chunk) -> Chunk:
        nonlocal gap
        flipped, at = bytearray(chunk), 0
        with lock:
            while True:
                # Uniform, not exponential: the first flip then surely falls within the first body.
                gap = gap or 1 + int(chance.uniform(0, 2 * mean))
                if at + gap > len(chunk):
                    gap -= len(chunk) - at
                    return bytes(flipped)
                at, gap = at + gap, 0
                if left.take():
                    flipped[at - 1] ^= 1 << chance.randrange(8)

    return _tampered(lambda _: tamper)


def zero_block(
    server: OriginServer, *, at: int | None = None, size: int = 4096, times: int | None = 1
) -> Handler:
    """The block of `size` bytes at offset `at` (the middle when None) is all zeros in the first `times` replies that have it."""
    first, left = server.content.length // 2 if at is None else at, Fuse(times)

    def tamper(offset: int, chunk: Chunk) -> Chunk:
        start, stop = max(first, offset), min(first + size, offset + len(chunk))
        if start >= stop:
            return chunk
        zeroed = bytearray(chunk)
        zeroed[start - offset : stop - offset] = bytes(stop - start)
        return bytes(zeroed)

    def choose(exchange: Exchange) -> Callable[[int, Chunk], Chunk] | None:
        spans = exchange.correct().spans
        touched = any(start < first + size and first < stop for start, stop in spans)
        return tamper if touched and left.take() else None

    return _tampered(choose)


def _tampered(choose: Callable[[Exchange], Callable[[int, Chunk], Chunk] | None]) -> Handler:
    def answer(exchange: Exchange) -> None:
        tamper = choose(exchange) if exchange.wants_bytes else None
        exchange.send(exchange.correct(), tamper=tamper)

    return answer


_change = partial(Scenario, family="version", outcome=Outcome.FINISH)
_digest = partial(Scenario, family="version", outcome=Outcome.DIGEST)

TABLE = (
    _change("etag-change", description="the body and its strong ETag change midway", make=change),
    _change(
        "etag-change-no-if-range",
        description="they change and If-Range is not understood",
        make=partial(change, if_range=False),
    ),
    _change(
        "etag-change-requests",
        description="they change after `requests` GETs",
        make=partial(change, requests=1),
    ),
    _change(
        "weak-etag-change",
        description="the body and its weak ETag change midway",
        make=partial(change, validators="weak"),
    ),
    _change(
        "weak-etag-change-no-if-range",
        description="the same, and If-Range is not understood",
        make=partial(change, validators="weak", if_range=False),
    ),
    _change(
        "length-change-no-validator",
        description="a shorter body without validators grows midway",
        make=partial(change, validators="none", shorter=1),
    ),
    _digest(
        "change-no-validator",
        description="the body changes midway, without validators, at the same length",
        make=partial(change, validators="none"),
    ),
    _digest(
        "change-same-validators",
        description="the body changes midway under the same ETag, at the same length",
        make=partial(change, validators="same"),
    ),
    _digest("node-skew", description="replicas give the same bytes different ETags", make=skew),
    _digest(
        "etag-rotates", description="the same bytes get a new ETag each time", make=partial(skew, nodes=None)
    ),
    _change(
        "if-range-dropped", description="200 to If-Range although nothing changed", make=if_range_dropped
    ),
    Scenario("bitflip", "bytes", Outcome.DIGEST, "bits flip on the wire, `limit` in all", bitflip),
    Scenario("zero-block", "bytes", Outcome.DIGEST, "a block of zeros, in `times` replies", zero_block),
)
