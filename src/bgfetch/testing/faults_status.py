"""Servers that say no: once, for a while, or for good."""

# ruff: noqa: ARG001  what makes a handler is given the server, whether it needs it or not

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import partial

from bgfetch.testing.exchange import Exchange, Fuse, Handler
from bgfetch.testing.message import text_reply
from bgfetch.testing.origin import OriginServer, plain
from bgfetch.testing.scenario import Outcome, Scenario

__all__ = ["TABLE", "in_seconds"]

Fields = Callable[[float], Mapping[str, str]]
"""Given how long to wait, seconds: the headers that say so."""


def nothing(seconds: float) -> Mapping[str, str]:
    """No word about when."""
    return {}


def in_seconds(seconds: float) -> Mapping[str, str]:
    """Retry-After as a number."""
    return {"retry_after": str(math.ceil(seconds))}


def at_date(seconds: float) -> Mapping[str, str]:
    """Retry-After as a date, rounded up to the next second."""
    return {"retry_after": formatdate(math.ceil(time.time() + seconds), usegmt=True)}


def rate_limit(seconds: float) -> Mapping[str, str]:
    """RateLimit and RateLimit-Policy (IETF draft, as the large model hub sends them), no Retry-After."""
    policy = '"fixed window";"resolvers";q=3000;w=300'
    return {"ratelimit": f'"resolvers";r=0;t={math.ceil(seconds)}', "ratelimit_policy": policy}


def challenge(seconds: float) -> Mapping[str, str]:
    """WWW-Authenticate, as 401 has it."""
    return {"www_authenticate": 'Bearer realm="models"'}


def busy(
    server: OriginServer,
    *,
    status: int,
    times: int | None = 1,
    fields: Fields = nothing,
    seconds: float = 1.0,
) -> Handler:
    """The first `times` requests (all when None) get this status, with headers that say to wait `seconds`."""
    left = Fuse(times)

    def answer(exchange: Exchange) -> None:
        if left.take():
            exchange.send(text_reply(status, "not now\n").but(**fields(seconds)))
        else:
            plain(exchange)

    return answer


def no_head(server: OriginServer) -> Handler:
    """HEAD gets 405."""

    def answer(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            exchange.send(text_reply(405, "only GET\n").but(allow="GET"))
        else:
            plain(exchange)

    return answer


_finish = partial(Scenario, family="status", outcome=Outcome.FINISH)
_refuse = partial(Scenario, family="status", outcome=Outcome.REFUSE)

TABLE = (
    _finish(
        "429-seconds",
        description="429 with Retry-After: seconds, `times` times",
        make=partial(busy, status=429, fields=in_seconds),
    ),
    _finish(
        "429-date",
        description="429 with Retry-After: date, `times` times",
        make=partial(busy, status=429, fields=at_date),
    ),
    _finish(
        "429-ratelimit",
        description="429 with RateLimit, `times` times",
        make=partial(busy, status=429, fields=rate_limit),
    ),
    _finish(
        "503-seconds",
        description="503 with Retry-After: seconds, `times` times",
        make=partial(busy, status=503, fields=in_seconds),
    ),
    _finish(
        "503-date",
        description="503 with Retry-After: date, `times` times",
        make=partial(busy, status=503, fields=at_date),
    ),
    _finish("503-bare", description="503 without a word, `times` times", make=partial(busy, status=503)),
    _finish("500-once", description="500, `times` times", make=partial(busy, status=500)),
    _finish(
        "401-once",
        description="401, as when a token was refreshed, `times` times",
        make=partial(busy, status=401, fields=challenge),
    ),
    _finish("head-405", description="HEAD is not allowed", make=no_head),
    _refuse(
        "401-always",
        description="401 for good",
        make=partial(busy, status=401, fields=challenge, times=None),
    ),
    _refuse("403-always", description="403 for good", make=partial(busy, status=403, times=None)),
    _refuse("404-always", description="404 for good", make=partial(busy, status=404, times=None)),
    _refuse("410-always", description="410 for good", make=partial(busy, status=410, times=None)),
    _refuse("503-always", description="503 for good", make=partial(busy, status=503, times=None)),
)
