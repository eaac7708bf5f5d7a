"""Redirects: to other hosts, ports and schemes, in circles, and to signed URLs that expire."""

# ruff: noqa: ARG001  what makes a handler is given the server, whether it needs it or not

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

from bgfetch.testing.exchange import Exchange, Fuse, Handler
from bgfetch.testing.message import text_reply
from bgfetch.testing.origin import OriginServer
from bgfetch.testing.scenario import Outcome, Scenario, part

__all__ = ["TABLE", "Signatures"]

_DECOY = "d" * 64  # looks like a sha256 and is not the body's


class Signatures:
    """Signed URLs, each good for so many body bytes.

    Args:
        lives: Body bytes that one URL gives before it expires; None = any number.
        status: Answer to an expired URL.
    """

    def __init__(self, *, lives: int | None, status: int = 403) -> None:
        self._lives = lives
        self._status = status
        self._numbers = itertools.count(1)
        self._left: dict[str, Fuse] = {}

    def redirect(self, exchange: Exchange) -> None:
        """Redirect to a new signed URL for the same path."""
        query = f"Signature={next(self._numbers)}&Expires=soon"
        self._left[query] = Fuse(self._lives)
        location = exchange.server.url_of(f"{exchange.request.path}?{query}")
        exchange.send(text_reply(302, "").but(location=location, cache_control="no-store"))

    def serve(self, exchange: Exchange, *fuses: Fuse) -> None:
        """Serve what is there if the URL is still good; a reply breaks off when it expires."""
        left = self._left.get(exchange.request.query)
        if left is None or left.burnt:
            exchange.send(
                text_reply(self._status, "<Error><Code>AccessDenied</Code></Error>\n", "application/xml")
            )
        else:
            exchange.send(exchange.correct(), left, *fuses)


def expiring(server: OriginServer, *, lives: int | None = None, status: int = 403) -> Handler:
    """A redirect to a signed URL that expires after `lives` body bytes (a third of the body when None)."""
    signatures = Signatures(lives=part(server, lives, 3), status=status)

    def answer(exchange: Exchange) -> None:
        if exchange.request.query:
            signatures.serve(exchange)
        else:
            signatures.redirect(exchange)

    return answer


Location = Callable[[Exchange], str | None]
"""Where to redirect this request; None for no Location header."""


def always(server: OriginServer, *, to: Location, status: int = 302) -> Handler:
    """Every request is redirected."""

    def answer(exchange: Exchange) -> None:
        exchange.send(text_reply(status, "").but(location=to(exchange)))

    return answer


def unless_hop(server: OriginServer, *, to: Location, status: int = 302) -> Handler:
    """Requests without a query are redirected, others are served."""

    def answer(exchange: Exchange) -> None:
        if exchange.request.query:
            exchange.send(exchange.correct())
        else:
            exchange.send(text_reply(status, "").but(location=to(exchange)))

    return answer


def chain(server: OriginServer, *, hops: int = 3, status: int = 307) -> Handler:
    """So many redirects, with relative locations, before the file."""

    def answer(exchange: Exchange) -> None:
        done = int(exchange.request.query.removeprefix("hop=") or "0")
        if done >= hops:
            exchange.send(exchange.correct())
        else:
            exchange.send(text_reply(status, "").but(location=f"{exchange.request.path}?hop={done + 1}"))

    return answer


def hub(server: OriginServer) -> Handler:
    """As a model hub: size and sha256 only on the redirect, and a decoy ETag of 64 hex digits on the other origin."""

    def there(exchange: Exchange) -> None:
        content = exchange.content or server.content
        exchange.send(exchange.correct(content.under(etag=f'"{_DECOY}"')))

    server.second.answer_with(there)

    def answer(exchange: Exchange) -> None:
        content = exchange.content
        if content is None:
            exchange.send(exchange.correct())
            return
        location = server.second.url_of(f"{exchange.request.path}?X-Amz-Expires=3600")
        reply = text_reply(302, "").but(location=location, x_linked_size=str(content.length))
        exchange.send(reply.but(x_linked_etag=f'"{content.sha256}"', x_repo_commit="c" * 40))

    return answer


def back_again(server: OriginServer) -> Handler:
    """To the second origin, and from there back to this one."""
    server.second.answer_with(
        lambda exchange: _go(exchange, server.url_of(f"{exchange.request.path}?hop=back"))
    )
    return unless_hop(server, to=_second)


def _go(exchange: Exchange, location: str) -> None:
    exchange.send(text_reply(302, "").but(location=location))


def _second(exchange: Exchange) -> str:
    return exchange.server.second.url_of(f"{exchange.request.path}?hop=1")


def _localhost(exchange: Exchange) -> str:
    return exchange.server.second.url_of(f"{exchange.request.path}?hop=1", host="localhost")


def _same_name(exchange: Exchange) -> str:
    return exchange.server.url_of(f"{exchange.request.path}?hop=1", host="localhost")


def _insecure(exchange: Exchange) -> str:
    return exchange.server.insecure.url_of(exchange.request.path)


def _itself(exchange: Exchange) -> str:
    return exchange.request.path


def _fixed(location: str | None) -> Location:
    return lambda _: location


_finish = partial(Scenario, family="redirect", outcome=Outcome.FINISH)
_refuse = partial(Scenario, family="redirect", outcome=Outcome.REFUSE)

TABLE = (
    _finish("expired-url", description="a signed URL expires midway: 403", make=expiring),
    _finish("expired-url-400", description="the same with 400", make=partial(expiring, status=400)),
    _finish("expired-url-401", description="the same with 401", make=partial(expiring, status=401)),
    _finish("expired-url-410", description="the same with 410", make=partial(expiring, status=410)),
    _finish("redirect-chain", description="`hops` redirects, relative", make=chain),
    _finish(
        "redirect-port",
        description="to another port; credentials must stay behind",
        make=partial(unless_hop, to=_second),
    ),
    _finish(
        "redirect-host",
        description="to another name of this server; credentials must stay behind",
        make=partial(unless_hop, to=_same_name),
    ),
    _finish(
        "redirect-host-port",
        description="to another name and port; credentials must stay behind",
        make=partial(unless_hop, to=_localhost),
    ),
    _finish(
        "redirect-back",
        description="to another port and back; credentials must not come back",
        make=back_again,
    ),
    _finish("redirect-hub", description="size and sha256 on the redirect, a decoy ETag behind it", make=hub),
    _refuse("redirect-loop", description="to itself", make=partial(always, to=_itself)),
    _refuse("redirect-many", description="more hops than anybody follows", make=partial(chain, hops=1000)),
    _refuse("redirect-nowhere", description="302 without a Location", make=partial(always, to=_fixed(None))),
    _refuse("redirect-file", description="to file:", make=partial(always, to=_fixed("file:///etc/passwd"))),
    _refuse(
        "redirect-ftp",
        description="to ftp:",
        make=partial(always, to=_fixed("ftp://127.0.0.1/model.bin")),
    ),
    _refuse(
        "redirect-downgrade",
        description="from https to http",
        make=partial(always, to=_insecure),
        needs_tls=True,
    ),
)
