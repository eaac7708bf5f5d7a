"""What stands between a loopback port and everybody who can reach it: pages of the web, other users, other programs.

It wraps the whole application and denies by default: only a connection over the Unix socket, which the system and the
peer's uid have vouched for, passes without it. No single check is enough (measured in Chromium): a rebound name
shows only in `Host`, a form of another site only in `Origin` and `Sec-Fetch-Site`, an image only in the latter. And the
token is asked for in any case, in a header, since what stands in a URL is logged and leaks.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from bgfetch.errors import AccessDenied, BgfetchError, DaemonError, InvalidRequest
from bgfetch.wire import dump, pack_error

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TRUSTED", "Guard", "TooLarge", "allowed_hosts"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

TRUSTED: Final = "bgfetch.trusted"
"""Key of the connection's state: the peer came over the Unix socket and is this user."""

_MOST_BODY: Final = 1 << 20
_MOST_BODY_TRUSTED: Final = 256 << 20  # requests with bodies of their own
_MOST_STREAMS: Final = 16
_STREAM: Final = "/v1/events"
_SAFE: Final = frozenset({"GET", "HEAD"})
_HEADERS: Final = [
    (
        b"content-security-policy",
        b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"vary", b"Origin"),
]


class TooLarge(DaemonError):
    """More was sent than is taken."""


def allowed_hosts(port: int) -> frozenset[str]:
    """What `Host` may say to a daemon on this port: the names of loopback, spelled as browsers do."""
    return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))


class Guard:
    """An application within another one.

    Args:
        inner: The application.
        hosts: Exact values of `Host` that are answered over TCP; none where there is no TCP.
        token: What a caller over TCP must know; "" lets nobody in.
    """

    def __init__(self, inner: Application, *, hosts: frozenset[str] = frozenset(), token: str = "") -> None:
        self._inner = inner
        self._hosts = hosts
        self._origins = frozenset(f"http://{host}" for host in hosts)
        self._token = token
        self._streams: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] != "http":  # a WebSocket, of which there are none
            await send({"type": "websocket.close", "code": 1008})
            return
        trusted = bool(scope.get("state", {}).get(TRUSTED))
        refusal = None if trusted else self._refusal(scope)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        body = _Body(
            receive, _MOST_BODY_TRUSTED if trusted else _MOST_BODY, whole=trusted or not _has_body(scope)
        )
        with self._counted(scope, trusted=trusted):
            await self._inner(scope, body.receive, _hardened(send, body))

    def _refusal(self, scope: Scope) -> tuple[int, BgfetchError] | None:
        """Why this may not pass."""
        fields = _fields(scope)
        if fields is None:
            return 400, InvalidRequest("a header field that decides is there twice")
        if "transfer-encoding" in fields and "content-length" in fields:
            return 400, InvalidRequest("where the body ends is said in two ways")
        if fields.get("host", "") not in self._hosts:
            return 421, AccessDenied("this is not the host that is served here")
        if "origin" in fields and fields["origin"] not in self._origins:
            return 403, AccessDenied("pages of other origins are not served")
        if fields.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, AccessDenied("pages of other sites are not served")
        word, _, token = fields.get("authorization", "").partition(" ")
        if (
            word.lower() != "bearer"
            or not self._token
            or not hmac.compare_digest(token.encode(), self._token.encode())
        ):
            return 401, AccessDenied("the token of the daemon is wanted, in the field Authorization: Bearer")
        return self._refused_body(scope, fields) or self._refused_stream(scope)

    @staticmethod
    def _refused_body(scope: Scope, fields: dict[str, str]) -> tuple[int, BgfetchError] | None:
        if scope["method"] in _SAFE:
            return None
        if fields.get("content-type", "").partition(";")[0].strip(" \t").lower() != "application/json":
            return 415, InvalidRequest("the body must be application/json")
        length = fields.get("content-length", "0")
        if not length.isdecimal() or int(length) > _MOST_BODY:
            return 413, InvalidRequest(f"more than {_MOST_BODY} bytes are not taken")
        return None

    def _refused_stream(self, scope: Scope) -> tuple[int, BgfetchError] | None:
        if scope["path"] == _STREAM and self._streams[_peer(scope)] >= _MOST_STREAMS:
            return 429, DaemonError(f"{_MOST_STREAMS} streams are open already")
        return None

    @contextmanager
    def _counted(self, scope: Scope, *, trusted: bool) -> Iterator[None]:
        if trusted or scope["path"] != _STREAM:
            yield
            return
        peer = _peer(scope)
        self._streams[peer] += 1
        try:
            yield
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]


_DECIDING: Final = frozenset({
    "host", "origin", "sec-fetch-site", "authorization", "content-type", "content-length", "transfer-encoding",
})  # fmt: skip


def _fields(scope: Scope) -> dict[str, str] | None:
    """The header fields that decide; None where one of them is said twice."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in _DECIDING and key in found:
            return None
        found[key] = value.decode("latin-1")
    return found


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _has_body(scope: Scope) -> bool:
    """Whether the head says that more follows."""
    fields = dict(scope["headers"])
    return b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"


class _Body:
    """What is received of one; raises `TooLarge` once it is longer, whatever its head said."""

    def __init__(self, receive: Receive, most: int, *, whole: bool) -> None:
        self._receive = receive
        self._most = most
        self._got = 0
        self.whole = whole

    async def receive(self) -> Message:
        message = await self._receive()
        self._got += len(message.get("body", b""))
        if self._got > self._most:
            raise TooLarge(f"more than {self._most} bytes are not taken")
        self.whole = self.whole or not message.get("more_body")
        return message


def _hardened(send: Send, body: _Body) -> Send:
    """Adds what tells a browser to do nothing with an answer but hand it over.

    An answer to a body that was not read to its end is the last one: the server would go on reading it for ever.
    Who is trusted may go on.
    """

    async def adding(message: Message) -> None:
        if message["type"] == "http.response.start":
            last = [] if body.whole else [(b"connection", b"close")]
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS, *last]}
        await send(message)

    return adding


async def _answer(send: Send, status: int, error: BgfetchError) -> None:
    body = dump(pack_error(error))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
