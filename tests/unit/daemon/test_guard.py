"""The guard lets in over TCP only who may come in, on every route there is."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from bgfetch.daemon.guard import TRUSTED, Guard, TooLarge, allowed_hosts
from bgfetch.daemon.routes import ROUTES

TOKEN = "t0ken"  # noqa: S105 - of this test
GOOD = {"host": "127.0.0.1:4000", "authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
Message = MutableMapping[str, Any]


class Inner:
    """An application that reads what it is sent and answers 200."""

    def __init__(self) -> None:
        self.reached = 0
        self.hold: asyncio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        self.reached += 1
        while (await receive()).get("more_body"):
            pass
        if self.hold is not None:
            await self.hold.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def made(inner: Inner) -> Guard:
    """A guard around it, for port 4000."""
    return Guard(inner, hosts=allowed_hosts(4000), token=TOKEN)


async def asked(
    guard: Guard,
    fields: dict[str, str] | list[tuple[str, str]],
    *,
    method: str = "GET",
    path: str = "/v1/",
    trusted: bool = False,
    body: tuple[bytes, ...] = (b"",),
    query: bytes = b"",
) -> tuple[int, dict[bytes, bytes]]:
    """Status and header of the answer."""
    pairs = fields.items() if isinstance(fields, dict) else fields
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
        "client": ("127.0.0.1", 5),
        "state": {TRUSTED: True} if trusted else {},
    }
    parts = list(body)
    sent: list[Message] = []

    async def receive() -> Message:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Message) -> None:
        sent.append(message)

    await guard(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_denies_by_default(route: Any) -> None:
    """No route answers without its Host, over another site's page, or without the token; none forgets to."""
    attacks: list[tuple[int, dict[str, str]]] = [
        (421, {}),
        (421, {**GOOD, "host": "rebind.test:4000"}),
        (421, {**GOOD, "host": "127.0.0.1"}),
        (421, {**GOOD, "host": "127.0.0.1:4001"}),
        (421, {**GOOD, "host": "127.0.0.1:4000.evil.test"}),
        (403, {**GOOD, "origin": "https://evil.test"}),
        (403, {**GOOD, "origin": "null"}),
        (403, {**GOOD, "origin": "http://127.0.0.1:4000.evil.test"}),
        (403, {**GOOD, "origin": "https://127.0.0.1:4000"}),
        (403, {**GOOD, "sec-fetch-site": "cross-site"}),
        (403, {**GOOD, "sec-fetch-site": "same-site"}),
        (401, {name: value for name, value in GOOD.items() if name != "authorization"}),
        (401, {**GOOD, "authorization": "Bearer wrong"}),
        (401, {**GOOD, "authorization": "Bearer "}),
        (401, {**GOOD, "authorization": f"Basic {TOKEN}"}),
        (401, {**GOOD, "authorization": "Bearer \xff"}),
    ]
    inner = Inner()
    guard = made(inner)
    path = route.path.replace("{", "").replace("}", "")
    for status, fields in attacks:
        query = f"token={TOKEN}".encode()
        got, _ = asyncio.run(asked(guard, fields, method=route.method, path=path, query=query))
        assert got == status, fields
    assert inner.reached == 0
    assert asyncio.run(asked(guard, GOOD, method=route.method, path=path))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT", "OPTIONS"])
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_only_json_has_effects(method: str, kind: str) -> None:
    """What a form or a plain text can send is not taken by any method that could change something."""
    inner = Inner()
    assert asyncio.run(asked(made(inner), {**GOOD, "content-type": kind}, method=method))[0] == 415
    assert inner.reached == 0


def test_a_deciding_field_twice() -> None:
    """Two hosts, or two tokens, are nobody's honest request."""
    pairs = [*GOOD.items(), ("host", "evil.test")]
    assert asyncio.run(asked(made(Inner()), pairs))[0] == 400


@pytest.mark.parametrize("length", ["1048577", "-1", "many"])
def test_long_bodies_are_not_taken(length: str) -> None:
    """A body that says it is long is refused before it comes."""
    status, _ = asyncio.run(asked(made(Inner()), {**GOOD, "content-length": length}, method="POST"))
    assert status == 413


def test_bodies_that_do_not_say() -> None:
    """A body that does not say how long it is is cut off where it is too long."""
    parts = tuple(b"x" * 600_000 for _ in range(2))
    with pytest.raises(TooLarge):
        asyncio.run(asked(made(Inner()), GOOD, method="POST", body=parts))


def test_streams_are_counted() -> None:
    """Sixteen streams may be open, and one that ends makes room."""

    async def many() -> tuple[int, int]:
        inner = Inner()
        inner.hold = asyncio.Event()
        guard = made(inner)
        open_ = [asyncio.create_task(asked(guard, GOOD, path="/v1/events")) for _ in range(16)]
        await asyncio.sleep(0)
        refused, _ = await asked(guard, GOOD, path="/v1/events")
        inner.hold.set()
        await asyncio.gather(*open_)
        taken, _ = await asked(guard, GOOD, path="/v1/events")
        return refused, taken

    assert asyncio.run(many()) == (429, 200)


def test_the_socket_needs_no_token() -> None:
    """Whom the system has vouched for comes in; and nothing is cached, framed or guessed at by a browser."""
    status, header = asyncio.run(asked(Guard(Inner()), {}, trusted=True))
    assert status == 200
    assert header[b"x-content-type-options"] == b"nosniff"
    assert b"frame-ancestors 'none'" in header[b"content-security-policy"]


def test_without_a_port_nobody_comes_in() -> None:
    """A guard that was told of no host and no token denies everything."""
    inner = Inner()
    for fields in ({}, GOOD, {**GOOD, "host": "", "authorization": "Bearer "}):
        assert asyncio.run(asked(Guard(inner), fields))[0] in (401, 421)
    assert inner.reached == 0
