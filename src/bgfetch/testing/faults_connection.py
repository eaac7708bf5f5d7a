"""Connections that break, servers that vanish, bytes that do not come or come one by one."""

# ruff: noqa: ARG001  what makes a handler is given the server, whether it needs it or not

from __future__ import annotations

from functools import partial

from bgfetch.testing.exchange import Exchange, Fuse, Handler
from bgfetch.testing.origin import OriginServer, plain
from bgfetch.testing.scenario import Outcome, Scenario, part

__all__ = ["TABLE"]


def behaved(server: OriginServer) -> Handler:
    """A correct origin."""
    return plain


def slow(server: OriginServer, *, seconds: float = 1.0) -> Handler:
    """The whole body takes about `seconds` on one connection."""
    server.rate = max(1.0, server.content.length / seconds)
    return plain


def drop(server: OriginServer, *, after: int | None = None, reset: bool = False) -> Handler:
    """Each connection serves `after` body bytes (a sixth of the body when None) and ends."""
    limit = part(server, after, 6)

    def answer(exchange: Exchange) -> None:
        left = Fuse(limit - exchange.connection.sent)
        if not exchange.send(exchange.correct(), left) and reset:
            exchange.reset()

    return answer


def drop_head(server: OriginServer, *, times: int | None = 2, sent: int = 0, reset: bool = False) -> Handler:
    """The first `times` replies end after `sent` bytes of their head; more than the head has: after the head."""
    left = Fuse(times)

    def answer(exchange: Exchange) -> None:
        if not left.take():
            plain(exchange)
            return
        exchange.write(exchange.correct().head()[:sent])
        exchange.reset() if reset else exchange.drop()

    return answer


def outage(
    server: OriginServer, *, after: int | None = None, seconds: float = 1.0, silent: bool = False
) -> Handler:
    """After `after` body bytes in all (a third of the body when None) the server is down for `seconds`."""
    fuse, once = Fuse(part(server, after, 3)), Fuse(1)

    def answer(exchange: Exchange) -> None:
        if not exchange.wants_bytes or fuse.burnt:
            plain(exchange)
        elif not exchange.send(exchange.correct(), fuse) and once.take():
            server.down(seconds, silent=silent)

    return answer


def outage_reset(server: OriginServer, *, after: int | None = None, connections: int = 3) -> Handler:
    """After `after` body bytes in all (a third when None) the next `connections` connections are reset unanswered."""
    fuse, left = Fuse(part(server, after, 3)), Fuse(connections)

    def answer(exchange: Exchange) -> None:
        if fuse.burnt and left.take():
            exchange.reset()
        elif fuse.burnt or not exchange.wants_bytes:
            plain(exchange)
        else:
            exchange.send(exchange.correct(), fuse)

    return answer


def stall_body(
    server: OriginServer, *, after: int | None = None, times: int | None = 1, seconds: float | None = None
) -> Handler:
    """The first `times` bodies stop after `after` bytes (half of them when None), for `seconds` or for good."""
    left = Fuse(times)

    def answer(exchange: Exchange) -> None:
        reply = exchange.correct()
        limit = reply.length // 2 if after is None else after
        if not exchange.wants_bytes or reply.length <= limit or not left.take():
            exchange.send(reply)
            return
        exchange.write(exchange.closing(reply).head())
        start, stop = reply.spans[0]
        exchange.stream(reply.content.chunks(start, start + limit))
        exchange.hold(seconds)
        exchange.stream(reply.content.chunks(start + limit, stop))

    return answer


def stall_head(
    server: OriginServer, *, sent: int = 0, times: int | None = 1, seconds: float | None = None
) -> Handler:
    """The first `times` replies stop after `sent` bytes of their head, for `seconds` or for good."""
    left = Fuse(times)

    def answer(exchange: Exchange) -> None:
        if not left.take():
            plain(exchange)
            return
        reply = exchange.correct()
        head = exchange.closing(reply).head()
        exchange.write(head[:sent])
        exchange.hold(seconds)
        exchange.write(head[sent:])
        if exchange.request.method == "GET":
            exchange.stream(chunk for span in reply.spans for chunk in reply.content.chunks(*span))

    return answer


def drip_body(server: OriginServer, *, times: int | None = 1, interval: float = 0.05) -> Handler:
    """The first `times` bodies come one byte each `interval` seconds."""
    left = Fuse(times)

    def answer(exchange: Exchange) -> None:
        reply = exchange.correct()
        if not exchange.wants_bytes or not left.take():
            exchange.send(reply)
            return
        exchange.write(exchange.closing(reply).head())
        for chunk in reply.content.chunks(*reply.spans[0]):
            for at in range(len(chunk)):
                exchange.stream([chunk[at : at + 1]])
                exchange.pause(interval)

    return answer


def drip_head(server: OriginServer, *, times: int | None = 1, interval: float = 0.05) -> Handler:
    """The first `times` heads come one byte each `interval` seconds, and never end."""
    left = Fuse(times)

    def answer(exchange: Exchange) -> None:
        if not left.take():
            plain(exchange)
            return
        exchange.drip(exchange.correct().head()[:-2], interval=interval)
        while True:
            exchange.drip(b"X-Drip: drip\r\n", interval=interval)

    return answer


_named = partial(Scenario, family="connection", outcome=Outcome.FINISH)

TABLE = (
    _named("plain", description="a correct origin", make=behaved),
    _named("slow", description="correct, but the whole body takes `seconds`", make=slow),
    _named("drop-fin", description="each connection serves `after` bytes, then FIN", make=drop),
    _named(
        "drop-rst",
        description="each connection serves at most `after` bytes, then RST",
        make=partial(drop, reset=True),
    ),
    _named("drop-before-head", description="closes instead of an answer, `times` times", make=drop_head),
    _named(
        "drop-in-head",
        description="closes within the headers, `times` times",
        make=partial(drop_head, sent=40),
    ),
    _named(
        "drop-after-head",
        description="closes between headers and body, `times` times",
        make=partial(drop_head, sent=1 << 16),
    ),
    _named(
        "outage-refuse",
        description="cuts all, then refuses connections for `seconds`",
        make=outage,
    ),
    _named(
        "outage-silent",
        description="cuts all, then accepts nothing for `seconds`",
        make=partial(outage, silent=True),
    ),
    _named("outage-reset", description="resets the next `connections` connections", make=outage_reset),
    _named("stall-body", description="the body stops after `after` bytes", make=stall_body),
    _named("stall-before-head", description="the request is read and nothing comes", make=stall_head),
    _named("stall-in-head", description="the headers stop halfway", make=partial(stall_head, sent=40)),
    _named("drip-body", description="the body comes one byte each `interval` seconds", make=drip_body),
    _named("drip-head", description="endless headers, one byte each `interval` seconds", make=drip_head),
)
