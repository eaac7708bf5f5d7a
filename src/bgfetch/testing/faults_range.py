"""Wrong answers to a range: 200, wrong 206s of every kind, and 416.

Each breaks off the first whole reply after a third of the body (`after`, `drops`), so that every client has to ask for a
range. `drops=None` breaks off all of them: then no whole answer is to be had.
"""

# ruff: noqa: ARG001  what makes a handler is given the server, whether it needs it or not

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from bgfetch.testing.content import Content
from bgfetch.testing.exchange import Exchange, Fuse, Handler
from bgfetch.testing.message import Reply, text_reply
from bgfetch.testing.origin import OriginServer
from bgfetch.testing.scenario import Outcome, Scenario, forced_to_resume, part

__all__ = ["TABLE"]

Spoil = Callable[[Reply], Reply]
"""Given a correct 206: the wrong one."""


def wrong_206(
    server: OriginServer,
    *,
    spoil: Spoil,
    times: int | None = None,
    after: int | None = None,
    drops: int | None = 1,
) -> Handler:
    """The first `times` 206s are spoiled (all when None)."""
    left = Fuse(times)

    def on_range(exchange: Exchange) -> None:
        reply = exchange.correct()
        if reply.status == 206 and left.take():
            reply = spoil(reply)
        exchange.send(reply)

    return forced_to_resume(server, on_range, after=after, drops=drops)


def claims(form: str) -> Spoil:
    """The right bytes under a Content-Range of this form; `{start} {last} {total}` are the true ones.

    `{start_}` and `{total_}` are wrong ones.
    """

    def spoil(reply: Reply) -> Reply:
        (start, stop), total = reply.spans[0], reply.content.length
        values = {"start": start, "last": stop - 1, "total": total}
        values |= {"start_": start + 1 if start + 1 < stop else start - 1, "total_": total + 7}
        return reply.but(content_range=form.format_map(values))

    return spoil


def shifted(reply: Reply) -> Reply:
    """Another range than was asked for, truthfully labelled: it begins one byte early, or late at offset 0."""
    start, stop = reply.spans[0]
    start, stop = (start - 1, stop - 1) if start else (start + 1, max(stop, start + 2))
    content_range = f"bytes {start}-{stop - 1}/{reply.content.length}"
    spoiled = replace(reply, spans=((start, min(stop, reply.content.length)),))
    return spoiled.but(content_range=content_range, content_length=str(spoiled.length))


def unlabelled(reply: Reply) -> Reply:
    """The right bytes without a Content-Range."""
    return reply.but(content_range=None)


def multipart(reply: Reply) -> Reply:
    """The right bytes as the only part of a `multipart/byteranges`."""
    lead = f"\r\n--THIS\r\nContent-Type: {reply.content.media_type}\r\nContent-Range: {reply.headers['Content-Range']}\r\n\r\n"
    wrapped = lead.encode() + b"".join(reply.content.chunks(*reply.spans[0])) + b"\r\n--THIS--\r\n"
    content = Content(memoryview(wrapped))
    spoiled = replace(reply, content=content, spans=((0, content.length),))
    return spoiled.but(
        content_range=None,
        content_type="multipart/byteranges; boundary=THIS",
        content_length=str(content.length),
    )


def too_little(reply: Reply) -> Reply:
    """Half the bytes that Content-Range claims, under a Content-Length that is right."""
    start, stop = reply.spans[0]
    spoiled = replace(reply, spans=((start, start + (stop - start) // 2),))
    return spoiled.but(content_length=str(spoiled.length))


def overlong(reply: Reply) -> Reply:
    """1000 bytes more than Content-Range claims, under a Content-Length that is right."""
    spoiled = replace(reply, spans=(*reply.spans, (0, min(1000, reply.content.length))))
    return spoiled.but(content_length=str(spoiled.length))


def lying(reply: Reply) -> Reply:
    """The right headers over bytes from elsewhere in the body."""
    (start, stop), total = reply.spans[0], reply.content.length
    from_, shift = start + total // 2 + 1, total
    if from_ >= total:
        return replace(reply, spans=((from_ - shift, from_ - shift + stop - start),))
    until = from_ + stop - start
    return replace(reply, spans=((from_, min(until, total)), (0, max(0, until - total))))


def truncated(server: OriginServer, *, times: int | None = 2, after: int | None = None) -> Handler:
    """The first `times` 206s break off halfway, under the right headers."""
    left = Fuse(times)

    def on_range(exchange: Exchange) -> None:
        reply = exchange.correct()
        exchange.send(reply, Fuse(reply.length // 2 if left.take() else None))

    return forced_to_resume(server, on_range, after=after)


def capped(server: OriginServer, *, cap: int | None = None, after: int | None = None) -> Handler:
    """Each 206 has at most `cap` bytes (a fifth of the body when None), which is legal."""
    most = part(server, cap, 5)

    def on_range(exchange: Exchange) -> None:
        reply = exchange.correct()
        if reply.status == 206 and reply.length > most:
            start, _ = reply.spans[0]
            reply = replace(reply, spans=((start, start + most),))
            content_range = f"bytes {start}-{start + most - 1}/{reply.content.length}"
            reply = reply.but(content_range=content_range, content_length=str(most))
        exchange.send(reply)

    return forced_to_resume(server, on_range, after=after)


def unasked(server: OriginServer, *, times: int | None = 1) -> Handler:
    """The first `times` GETs without a Range are answered by a 206 with the first half."""
    left = Fuse(times)

    def answer(exchange: Exchange) -> None:
        reply = exchange.correct()
        if exchange.wants_bytes and reply.status == 200 and left.take():
            half, total = (reply.length + 1) // 2, reply.length
            reply = replace(reply, status=206, spans=((0, half),))
            reply = reply.but(content_range=f"bytes 0-{half - 1}/{total}", content_length=str(half))
        exchange.send(reply)

    return answer


def whole_for_range(server: OriginServer, *, after: int | None = None, drops: int | None = 1) -> Handler:
    """Ranges are not supported: 200 with everything."""

    def on_range(exchange: Exchange) -> None:
        without = {name: value for name, value in exchange.request.headers.items() if name != "range"}
        exchange.request = replace(exchange.request, headers=without)
        exchange.send(exchange.correct().but(accept_ranges="none"))

    return forced_to_resume(server, on_range, after=after, drops=drops)


def not_satisfiable(
    server: OriginServer, *, headers: Mapping[str, str], after: int | None = None, drops: int | None = 1
) -> Handler:
    """Every range is answered by 416 with these headers; `{total}` in a value is the body's length."""

    def on_range(exchange: Exchange) -> None:
        total = server.content.length
        fields = {name: value.format(total=total) for name, value in headers.items()}
        exchange.send(text_reply(416, "no\n").but(**fields))

    return forced_to_resume(server, on_range, after=after, drops=drops)


def unknown_end(server: OriginServer, *, times: int | None = 1) -> Handler:
    """The first `times` replies have all bytes but no length and no end: only 416 at their end tells it was the end."""
    left = Fuse(times)

    def answer(exchange: Exchange) -> None:
        reply = exchange.correct()
        if exchange.wants_bytes and reply.status == 200 and left.take():
            exchange.send_chunked(reply, last=False)
        elif exchange.request.method == "HEAD":
            exchange.send(reply.but(content_length=None))
        else:
            exchange.send(reply)

    return answer


_named = partial(Scenario, family="range", outcome=Outcome.FINISH)


def _wrong(name: str, description: str, spoil: Spoil) -> Scenario:
    return _named(name, description=description, make=partial(wrong_206, spoil=spoil))


TABLE = (
    _named("200-on-range", description="200 with everything to every range", make=whole_for_range),
    _wrong("206-wrong-start", "206 for other bytes than were asked, labelled so", shifted),
    _wrong(
        "206-wrong-label",
        "the bytes that were asked under another start",
        claims("bytes {start_}-{last}/{total}"),
    ),
    _wrong("206-wrong-total", "206 with another total", claims("bytes {start}-{last}/{total_}")),
    _wrong("206-no-content-range", "206 without Content-Range", unlabelled),
    _wrong("206-bad-grammar", "206 with a Content-Range that is none", claims("{start}-{last} of {total}")),
    _wrong("206-multipart", "206 as multipart/byteranges", multipart),
    _wrong("206-star-total", "206 with the total `*`, which is legal", claims("bytes {start}-{last}/*")),
    _named("206-short", description="206s capped at `cap` bytes, which is legal", make=capped),
    _wrong("206-too-little", "206 with half of what Content-Range claims", too_little),
    _named("206-truncated", description="206s that break off halfway, `times` times", make=truncated),
    _wrong("206-overlong", "206 with more than Content-Range claims", overlong),
    _named(
        "206-lying",
        outcome=Outcome.DIGEST,
        description="206 with right headers and bytes from elsewhere, `times` times",
        make=partial(wrong_206, spoil=lying, times=1),
    ),
    _named("206-unasked", description="206 with half the body to a GET without Range", make=unasked),
    _named(
        "416-always",
        description="416 with the true total to every range",
        make=partial(not_satisfiable, headers={"content_range": "bytes */{total}"}),
    ),
    _named(
        "416-no-total",
        description="416 without Content-Range to every range",
        make=partial(not_satisfiable, headers={}),
    ),
    _named("416-at-eof", description="all bytes, no length, no end; then 416 at the end", make=unknown_end),
)
