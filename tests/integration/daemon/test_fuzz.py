"""Whatever is said to the API that its document allows, or nearly allows: an answer with a name, never a bug, never a hang."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.attacks import Target, target

from bgfetch.daemon.openapi import document
from bgfetch.daemon.routes import ROUTES, Route
from bgfetch.testing import OriginServer

DOCUMENT = document()
# Text of every kind: lone surrogates, NUL, what ends lines, and what is nearly right.
TEXT = st.text(st.characters(), max_size=8) | st.sampled_from(
    [
        "",
        "\x00",
        "\ud800",
        "app",
        "x",
        "http://127.0.0.1:1/x",
        "https://[",
        "http://h:99999999/",
        "sha256:00",
        "10:00,1M 11:00,off",
        "a" * 70_000,
    ]
)
NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, 2**63, 10**300, 0.5, -0.0, 1e308]) | st.integers()
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [float("nan"), float("inf"), None, [], {}, True, [[]], {"": None}]
)


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a schema of ours allows."""
    if "$ref" in schema:
        return fitting(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type", ["string", "integer", "null", "object"])
    return st.one_of([_of_kind(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds)])


def _of_kind(kind: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if kind == "object":
        named = {name: spoilt(each) for name, each in schema.get("properties", {}).items()}
        must = {name: named.pop(name) for name in schema.get("required", ()) if name in named}
        return (
            st.fixed_dictionaries(must, optional=named)
            if named or must
            else st.dictionaries(TEXT, TEXT | NUMBERS, max_size=2)
        )
    if kind == "array":
        return st.lists(spoilt(schema.get("items", {})), max_size=2)
    simple = {
        "string": TEXT,
        "integer": NUMBERS,
        "number": NUMBERS,
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return simple[kind]


def spoilt(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What it allows, mostly."""
    return st.deferred(lambda: st.one_of(*[fitting(schema)] * 4, ODD, TEXT))


@pytest.fixture(scope="module")
def prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The daemon."""
    with target(tmp_path_factory.mktemp("fuzz") / "home") as found:
        yield found


def asked(prey: Target, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
    """Status and body of an answer over the socket, where everything may be asked."""
    caller = http.client.HTTPConnection("bgfetch", timeout=10.0)
    caller.sock = socket.socket(socket.AF_UNIX)
    caller.sock.settimeout(10.0)
    caller.sock.connect(str(prey.daemon.address.folder / "socket"))
    try:
        caller.request(method, path, body, {"Content-Type": "application/json"})
        answer = caller.getresponse()
        return answer.status, answer.read()
    finally:
        caller.close()


# What ends the daemon, never ends, or would start programs is not fuzzed.
FUZZED = [
    route
    for route in ROUTES
    if route.path not in ("/v1/stop", "/v1/events", "/v1/workers") or route.method == "GET"
]
FUZZED = [route for route in FUZZED if route.path != "/v1/events"]


@pytest.mark.parametrize("route", FUZZED, ids=lambda route: f"{route.method} {route.path}")
def test_no_answer_is_a_bug(prey: Target, route: Route) -> None:
    """Every answer is the one the document names or an error of ours, and the daemon lives."""
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    body = spoilt(content["schema"]) if content else st.none()
    places = [each["name"] for each in operation.get("parameters", []) if each["in"] == "path"]
    part = st.sampled_from(["1", "0", "2", "99", "-1", "nobody", "x"]) | TEXT

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        body,
        st.fixed_dictionaries(dict.fromkeys(places, part)),
        st.dictionaries(st.sampled_from([*route.query, "other"]), part, max_size=2),
    )
    def probe(value: Any, path: dict[str, str], query: dict[str, str]) -> None:
        where = route.path
        for name, text in path.items():
            where = where.replace(f"{{{name}}}", quote(text.encode("utf-8", "surrogatepass")[:2000], safe=""))
        more = "&".join(
            f"{name}={quote(text.encode('utf-8', 'surrogatepass')[:2000])}" for name, text in query.items()
        )
        sent = json.dumps(value).encode() if content else None
        status, answer = asked(prey, route.method, f"{where}?{more}", sent)
        assert status == route.status or 400 <= status < 500, (status, answer, where, sent)

    probe()
    assert prey.daemon.answers()


@pytest.mark.parametrize("body", [b"", b"[", b"[" * 100_000, b"{" * 50_000, b'{"a":' * 50_000, b"1" * 10_000, b"NaN", b"\xff\xfe", b'"\xed\xa0\x80"', b"null", b'{"id":1}{"id":2}', b'{"id":"a","id":"b"}'])  # fmt: skip
def test_bodies_that_are_none(prey: Target, body: bytes) -> None:
    """What is not JSON, or too deep, is said to be that."""
    for route in ROUTES:
        if route.takes and route.path != "/v1/workers":
            status, answer = asked(
                prey, route.method, route.path.replace("{uid}", "99").replace("{", "").replace("}", ""), body
            )
            assert 400 <= status < 500 or (not body and status == 200), (status, answer, route)


URL = "http://127.0.0.1:1/x"
WHOLE: dict[str, dict[str, Any]] = {
    "POST /v1/registrations": {
        "scope": "app", "id": "fuzz", "requests": [{"url": URL, "method": "GET", "headers": [["a", "b"]], "integrity": "", "expected_size": 1}],
        "title": "t", "icons": [{"src": "i", "sizes": "1x1"}], "download_total": 1, "environment": {"HF_TOKEN": "x"},
        "options": {"priority": 1, "limit_rate": 1, "connections": 1, "networks": "any", "schedule": ""},
    },
    "PATCH /v1/registrations/1": {"title": "t", "icons": [{"src": "i"}], "options": {"priority": 1, "limit_rate": 1, "connections": 1, "networks": "any", "schedule": ""}},
    "POST /v1/registrations/1/run": {"requests": [{"url": URL, "headers": [["a", "b"]]}], "environment": {"HF_TOKEN": "x"}},
    "POST /v1/clients/app/messages": {"data": {"a": 1}, "from": "f"},
    "POST /v1/workers/app/messages": {"data": {"a": 1}, "from": "f"},
    "PATCH /v1/settings": {"limit_rate": 1, "schedule": "", "paused": False},
    "POST /v1/workers": {"scope": "w", "version": "1", "kind": "argv", "target": ["/bin/true"], "python": "", "path": [], "directory": "", "time_limit": 1.0},
}  # fmt: skip
ODDITIES: list[Any] = [
    float("nan"), float("inf"), -float("inf"), None, True, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, 0.5, "", "\x00", "\ud800",
    "a" * 100_000, "\r\nX: y", "\u202e", [], {}, [[]], [None], ["\ud800"], {"": None}, {"a": {"b": [float("nan")]}},
]  # fmt: skip


def leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of it."""
    if at:
        yield at
    if isinstance(value, dict | list):
        for name in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[name], (*at, name))


def replaced(value: Any, at: tuple[Any, ...], by: Any) -> Any:
    """A copy with another part there."""
    if not at:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = replaced(value[at[0]], at[1:], by)
    return copy


@pytest.mark.parametrize("what", WHOLE)
def test_one_odd_thing_in_what_is_right(prey: Target, what: str) -> None:
    """In each place of a request that works, each odd value: taken or refused by name; what was taken can be told again."""
    method, path = what.split()
    for at in leaves(WHOLE[what]):
        for odd in ODDITIES:
            sent = json.dumps(replaced(WHOLE[what], at, odd)).encode()
            status, answer = asked(prey, method, path, sent)
            assert status < 500 or status == 507, (at, odd, status, answer)
            if status == 201 and path == "/v1/registrations":
                uid = json.loads(answer)["uid"]
                assert asked(prey, "PATCH", f"{path}/{uid}", b'{"wish":"abort"}')[0] < 500
        for route in (
            "/v1/registrations",
            "/v1/registrations/1/records",
            "/v1/workers",
            "/v1/settings",
            "/metrics",
            "/v1/clients",
        ):
            assert asked(prey, "GET", route, None)[0] == 200, (at, route)


def test_it_still_fetches(prey: Target) -> None:
    """After all that, what fetches lives, and a download arrives."""
    prey.daemon.call("PATCH", "/v1/settings", {"paused": False, "limit_rate": 0, "schedule": ""})
    with OriginServer(b"whole" * 1000) as server:
        assert prey.daemon.settled(prey.daemon.fetch(server.url, id="after"))["result"] == "success"
    assert "CRITICAL" not in prey.daemon.log()
