"""A hostile page, program or user at the daemon's port: nothing changes, and nothing is learnt. Byte by byte.

Every attack is made on every route of the table, so that a new route is attacked without a word here.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator

import pytest
from tests.attacks import Answer, Target, concrete, errors_only, routes, target

from bgfetch.daemon.routes import Route

Fields = list[tuple[str, str]]

HOSTS = (
    "rebind.test:{port}", "rebind.test", "127.0.0.1", "localhost", "127.0.0.1:{other}", "127.0.0.1:0{port}",
    "127.0.0.1.:{port}", "127.0.0.1:{port}.", "localhost.:{port}", "LOCALHOST:{port}", "Localhost:{port}",
    "127.1:{port}", "0.0.0.0:{port}", "0:{port}", "2130706433:{port}", "0x7f.0.0.1:{port}", "0177.0.0.1:{port}",
    "127.0.0.2:{port}", "[::ffff:127.0.0.1]:{port}", "[::]:{port}", "[0:0:0:0:0:0:0:1]:{port}", "[::1%25lo]:{port}",
    "::1:{port}", "127.0.0.1:{port}.evil.test", "127.0.0.1:{port}@evil.test", "evil.test@127.0.0.1:{port}",
    "127.0.0.1:{port},evil.test", "evil.test#127.0.0.1:{port}", "127.0.0.1:{port}/", "http://127.0.0.1:{port}",
    "127.0.0.1.nip.io:{port}", "localtest.me:{port}", "bgfetch", "", "127.0.0.1:{port}\t:1", "\xef127.0.0.1:{port}",
)  # fmt: skip
ORIGINS = (
    "https://evil.test", "http://evil.test:{port}", "null", "NULL", "", "file://", "*",
    "https://127.0.0.1:{port}", "http://127.0.0.1", "http://127.0.0.1:{other}", "http://127.0.0.1:{port}.evil.test",
    "http://127.0.0.1:{port}@evil.test", "http://evil.test/http://127.0.0.1:{port}", "http://127.0.0.1:{port}/",
    "http://evil127.0.0.1:{port}", "http://localhost:{port}.", "http://LOCALHOST:{port}", "HTTP://localhost:{port}",
    "http://sub.localhost:{port}", "http://127.0.0.1:{port} https://evil.test", "http://127.0.0.1:{port},https://evil.test",
    "chrome-extension://abcdefghijklmnop", "http://[::1]", "http://127.1:{port}", "//127.0.0.1:{port}",
)  # fmt: skip
SITES = (
    "cross-site",
    "same-site",
    "Cross-Site",
    "CROSS-SITE",
    "",
    "bogus",
    "none, cross-site",
    "same-origin,cross-site",
)
TOKENS = (
    "", "Bearer", "Bearer ", "Bearer wrong", "Bearer null", "Bearer undefined", "Bearer {token}x", "Bearer {short}",
    "Basic {token}", "{token}", "Token {token}", "Bearer  {token}", "Bearer {token},", "Bearer \xff", "Bearer {upper}",
)  # fmt: skip
KINDS = (
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/json", "application/jsonp",
    "application/json, text/plain", "text/plain; application/json", "application/x-json", "\xa0application/json",
)  # fmt: skip
EFFECT = b'{"wish":"abort"}'


@pytest.fixture(scope="module")
def prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One daemon for all attacks: what one of them leaves behind, the next ones show."""
    with target(tmp_path_factory.mktemp("attacks") / "home") as found:
        yield found


def filled(prey: Target, text: str) -> str:
    """A pattern with what the attacker may know, or guess nearly."""
    token = prey.token
    return text.format(
        port=prey.port, other=prey.port + 1, token=token, short=token[:-1], upper=token.swapcase()
    )


def attacks(prey: Target, route: Route) -> Iterator[tuple[str, set[int], Fields]]:
    """(what it is, statuses it may be told, header fields)."""
    honest = prey.honest
    host, kind = ("Host", honest["Host"]), ("Content-Type", "application/json")
    for each in HOSTS:
        yield f"Host {each!r}", {421, 400}, [*{**honest, "Host": filled(prey, each)}.items()]
    for each in ORIGINS:
        yield f"Origin {each!r}", {403}, [*honest.items(), ("Origin", filled(prey, each))]
    for each in SITES:
        yield f"site {each!r}", {403}, [*honest.items(), ("Sec-Fetch-Site", each)]
    for each in TOKENS:
        yield f"token {each!r}", {401}, [host, kind, ("Authorization", filled(prey, each))]
    yield "no token", {401}, [host, kind]
    yield (
        "token in a cookie",
        {401},
        [host, kind, ("Cookie", f"token={prey.token}; Authorization=Bearer {prey.token}")],
    )
    yield (
        "token in another field",
        {401},
        [host, kind, ("X-Token", prey.token), ("Proxy-Authorization", f"Bearer {prey.token}")],
    )
    for name, value in (
        ("Host", "evil.test"),
        ("Origin", "null"),
        ("Authorization", "Bearer x"),
        ("Sec-Fetch-Site", "none"),
    ):
        pair = [(name, value), (name, dict(honest).get(name, value))]
        yield f"{name} twice", {400}, [*((k, v) for k, v in honest.items() if k != name), *pair]
    yield (
        "forwarded",
        {421},
        [
            ("Host", "evil.test"),
            ("X-Forwarded-Host", host[1]),
            ("Forwarded", f"host={host[1]}"),
            *list(honest.items())[1:],
        ],
    )
    if route.method not in ("GET", "HEAD"):
        for each in KINDS:
            yield f"content type {each!r}", {415}, [*{**honest, "Content-Type": each}.items()]
        yield "no content type", {415}, [*list(honest.items())[:2]]


@pytest.mark.parametrize("route", routes(), ids=lambda route: f"{route.method} {route.path}")
def test_no_attack_on_any_route_comes_through(prey: Target, route: Route) -> None:
    """Wrong in one thing only, and right in all others: refused by its status, with no data and without effect."""
    before, body = prey.truth(), b"" if route.method == "GET" else EFFECT
    for what, statuses, fields in attacks(prey, route):
        for path in {concrete(route), f"{concrete(route)}?token={prey.token}&access_token={prey.token}"}:
            answer = prey.ask(route.method, path, fields, body)
            assert answer.status in statuses, (what, answer)
            assert prey.told_nothing(answer.head + answer.body), (what, answer)
            assert answer.status == 400 or errors_only(answer), (what, answer)
            assert b"access-control-" not in answer.head.lower(), (what, answer)
    assert prey.truth() == before


@pytest.mark.parametrize("route", routes(), ids=lambda route: f"{route.method} {route.path}")
def test_preflights_are_not_answered(prey: Target, route: Route) -> None:
    """A browser that asks for permission gets none, whatever it says it will send."""
    for origin in ("https://evil.test", "null", f"http://127.0.0.1:{prey.port}"):
        fields = [
            ("Host", f"127.0.0.1:{prey.port}"), ("Origin", origin), ("Access-Control-Request-Method", route.method),
            ("Access-Control-Request-Headers", "authorization, content-type"), ("Access-Control-Request-Private-Network", "true"),
        ]  # fmt: skip
        answer = prey.ask("OPTIONS", concrete(route), fields)
        assert answer.status in (401, 403)
        assert b"access-control-" not in answer.head.lower()
        assert prey.told_nothing(answer.body)


def honest_but(prey: Target, *more: tuple[str, str]) -> Fields:
    """What is let in, and more."""
    return [*prey.honest.items(), *more]


@pytest.mark.parametrize(
    "path",
    [
        "//v1/", "/v1", "/V1/", "/v1//", "/v1/.", "/v1/./registrations", "/v1/../v1/", "/v1/%2e%2e/metrics", "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/registrations/", "/v1/registrations//", "/v1/registrations%00", "/v1/registrations/1%00",
        "/v1/registrations/%31%00", "/v1/registrations/-1", "/v1/registrations/1e0", "/v1/registrations/\xd9\xa1".encode().decode("latin-1"),
        "/v1/registrations/99999999999999999999", "/metrics/", "/metrics;x", "/metrics%3f", "/v1/openapi.json/..",
        "//evil.test/%2e%2e", "///evil.test/", "http://evil.test/v1/", "http://evil.test:1/../v1/registrations", "*", "evil.test:443",
        "/v1/\\..\\registrations", "/v1/registrations/1/records/../../1", "/%76%31/%2f", "/v1/events/", "/docs", "/redoc", "/.env", "/",
    ],
)  # fmt: skip
def test_crooked_paths_lead_nowhere(prey: Target, path: str) -> None:
    """Also for who knows the token: a path is one of the table, letter by letter, or there is nothing and no redirect."""
    before = prey.truth()
    for method in ("GET", "POST", "DELETE", "PATCH"):
        answer = prey.ask(method, path, honest_but(prey), b"" if method == "GET" else EFFECT)
        assert answer.status in (400, 404, 405), answer
        assert prey.told_nothing(answer.body)
        assert b"location:" not in answer.head.lower()
    assert prey.truth() == before


@pytest.mark.parametrize("field", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
def test_a_get_stays_one(prey: Target, field: str) -> None:
    """Nothing that claims another method is believed, in a header or in the query: reading has no effects."""
    before = prey.truth()
    for route in routes():
        if route.method == "GET" and route.path != "/v1/events":
            for wanted in ("DELETE", "POST", "PATCH"):
                prey.ask(
                    "GET", f"{concrete(route)}?{field}={wanted}", honest_but(prey, (field, wanted)), EFFECT
                )
    assert prey.truth() == before


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "TRACK", "PUT", "get", "PROPFIND", "DEBUG", "FOO"])
def test_odd_methods(prey: Target, method: str) -> None:
    """What no route knows is not done, and nothing is echoed."""
    before = prey.truth()
    for path in ("/v1/", "/v1/registrations", "/v1/registrations/1"):
        answer = prey.ask(method, path, honest_but(prey, ("X-Echo", "echo-me")), EFFECT)
        assert answer.status in (400, 404, 405)
        assert b"echo-me" not in answer.body
        assert prey.told_nothing(answer.body)
    assert prey.truth() == before


def smuggled(prey: Target, first: str, body: bytes) -> bytes:
    """A request without token whose body holds another one."""
    fields = f"Host: 127.0.0.1:{prey.port}\r\nContent-Type: application/json\r\n"
    return f"POST /v1/registrations HTTP/1.1\r\n{fields}{first}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: 5\r\nTransfer-Encoding : chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\n Transfer-Encoding: chunked",
        "Content-Length: 0x5",
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_smuggling(prey: Target, framing: str, *, known: bool) -> None:
    """What can be read in two ways is read in none, and a request inside of another one gets nothing of its rights."""
    before = prey.truth()
    inside = f"DELETE /v1/workers/app HTTP/1.1\r\nHost: 127.0.0.1:{prey.port}\r\nContent-Type: application/json\r\n\r\n"
    token = f"Authorization: Bearer {prey.token}\r\n" if known else ""
    answer = prey.raw(smuggled(prey, token + framing, b"0\r\n\r\n" + inside.encode()))
    assert set(re.findall(rb"HTTP/1.1 (\d+) ", answer.head + answer.body)) <= {b"400", b"401", b"501"}
    assert answer.closed
    assert prey.told_nothing(answer.body)
    assert prey.truth() == before


def test_an_upgrade_is_none(prey: Target) -> None:
    """There is no WebSocket: who asks for one without the token is refused as everybody is, and with it gets plain HTTP."""
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    for route in routes():
        answer = prey.ask("GET", concrete(route), [("Host", f"127.0.0.1:{prey.port}"), *fields])
        assert answer.status == 401
        assert prey.told_nothing(answer.body)
    lines = "".join(f"{name}: {value}\r\n" for name, value in honest_but(prey, *fields))
    answer = prey.raw(f"GET /v1/settings HTTP/1.1\r\n{lines}\r\n".encode(), patience=1.0)
    assert answer.status == 200


def test_long_bodies(prey: Target) -> None:
    """More than a mebibyte is refused before it comes, or where it becomes too much, and the connection ends with it."""
    before, host = prey.truth(), prey.honest["Host"]
    head = f"POST /v1/registrations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    token = f"Authorization: Bearer {prey.token}\r\n"
    announced = "Content-Length: 1048577\r\n\r\n"
    assert prey.raw((head + token + announced).encode()).status == 413
    assert prey.raw((head + announced).encode()).status == 401
    endless = [b"10000\r\n" + b" " * 65536 + b"\r\n"] * 24
    for known, status in ((token, 413), ("", 401)):
        answer = prey.raw((head + known + "Transfer-Encoding: chunked\r\n\r\n").encode(), *endless)
        assert answer.status in (status, 0)  # 0: what was still under way ended the connection first
        assert answer.closed
    assert prey.truth() == before


def test_what_nobody_reads_ends_the_connection(prey: Target) -> None:
    """An answer that comes before the whole body does is the last one: the rest is not swallowed for ever."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in prey.honest.items())
    for path in ("/v1/nowhere", "/v1/openapi.json"):
        answer = prey.raw(
            f"POST {path} HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".encode()
        )
        assert answer.status in (404, 405)
        assert answer.closed


@pytest.mark.parametrize(
    "head",
    [
        "X-A: " + "a" * 400_000,
        "".join(f"X-{number}: a\r\n" for number in range(40_000)) + "X: a",
        "Cookie: " + "a=b; " * 80_000,
        "A" * 400_000,
        "X-A:\x00",
        "X\x00A: b",
        "X-A: b\r\n \t folded\x01",
        ": nameless",
    ],
    ids=["long", "many", "cookies", "no colon", "NUL value", "NUL name", "folded", "nameless"],
)
def test_header_bombs(prey: Target, head: str) -> None:
    """A head that is too long or none is refused, and the next caller is answered."""
    answer = prey.raw(f"GET /v1/ HTTP/1.1\r\nHost: 127.0.0.1:{prey.port}\r\n{head}\r\n\r\n".encode())
    assert answer.status in (400, 401, 431, 0)
    assert prey.told_nothing(answer.body)
    assert prey.daemon.answers()


@pytest.mark.parametrize(
    "line",
    ["", "\x16\x03\x01\x02\x00", "GET", "GET /v1/", "GET /v1/ HTTP/9.9", "GET /v1/ HTTP/2.0\r\n\r\nSM", "PRI * HTTP/2.0", "\r\n\r\n", "GET\t/v1/\tHTTP/1.1", "G" * 100_000, "\x00" * 64, "EHLO evil.test"],
)  # fmt: skip
def test_what_is_no_request(prey: Target, line: str) -> None:
    """Other protocols, nonsense and first lines without end get an error or nothing."""
    answer = prey.raw(line.encode("latin-1") + b"\r\n\r\n", patience=1.0)
    assert answer.status in (0, 400, 421)
    assert prey.told_nothing(answer.body)


def test_old_versions_are_guarded_too(prey: Target) -> None:
    """HTTP/1.0 without Host is nobody's either."""
    fields = [(name, value) for name, value in prey.honest.items() if name != "Host"]
    assert prey.ask("GET", "/v1/", fields, version="1.0").status == 421


def test_code_is_registered_over_the_socket_only(prey: Target) -> None:
    """Whoever has the token of the port may fetch; to have a program of theirs run, they must be this user."""
    before = prey.truth()
    body = b'{"scope":"app","kind":"argv","target":["/bin/true"]}'
    answer = prey.ask("POST", "/v1/workers", honest_but(prey), body)
    assert answer.status == 403
    assert prey.truth() == before


def opened(prey: Target, text: bytes = b"") -> socket.socket:
    """A connection that stays."""
    end = socket.create_connection(("127.0.0.1", prey.port), timeout=15.0)
    end.sendall(text)
    return end


def first_line(end: socket.socket) -> bytes:
    """Of an answer."""
    return end.recv(4096).partition(b"\r\n")[0]


def test_a_flood_of_streams(prey: Target) -> None:
    """The seventeenth stream is refused, the others go on, and one that ends makes room."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in prey.honest.items())
    ask = f"GET /v1/events HTTP/1.1\r\n{fields}\r\n".encode()
    with contextlib.ExitStack() as held:
        streams = [held.enter_context(opened(prey, ask)) for _ in range(16)]
        assert {first_line(each) for each in streams} == {b"HTTP/1.1 200 OK"}
        with opened(prey, ask) as one_more:
            assert first_line(one_more) == b"HTTP/1.1 429 Too Many Requests"
        assert prey.daemon.answers()


def test_idle_connections_keep_nobody_waiting(prey: Target) -> None:
    """Five hundred sockets that say half a word: 64 are held, the rest refused, the command line answers within a second."""
    with contextlib.ExitStack() as held:
        idle = [held.enter_context(opened(prey)) for _ in range(500)]
        for each in idle:
            with contextlib.suppress(ConnectionError):
                each.sendall(b"GET /v1/ HTTP/1.1\r\nHo")
        took = []
        for _ in range(3):
            began = time.monotonic()
            assert prey.daemon.command("daemon", "status").returncode == 0
            took.append(time.monotonic() - began)
        assert min(took) < 1.0, took
        for each in idle[:64]:  # within 10 s each of them is given up
            with contextlib.suppress(ConnectionError):
                assert each.recv(100) == b""
    assert prey.ask("GET", "/v1/settings", honest_but(prey)).status == 200


def test_answers_are_for_nobody_else(prey: Target) -> None:
    """Whatever is answered, a browser may not frame it, guess what it is, keep it or give it to other sites."""
    for answer in (
        _told(prey, "/v1/settings"),
        _told(prey, "/nowhere"),
        prey.ask("GET", "/v1/", [("Host", "evil.test")]),
    ):
        head = answer.head.lower()
        for field in (
            b"content-security-policy: default-src 'none'; frame-ancestors 'none'", b"x-content-type-options: nosniff", b"cache-control: no-store",
            b"cross-origin-resource-policy: same-origin", b"cross-origin-opener-policy: same-origin", b"referrer-policy: no-referrer", b"vary: origin",
        ):  # fmt: skip
            assert field in head
        assert b"\r\nserver:" not in head


def _told(prey: Target, path: str) -> Answer:
    return prey.ask("GET", path, honest_but(prey))
