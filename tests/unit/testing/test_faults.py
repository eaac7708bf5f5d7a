"""Every scenario's fault is really there on the wire: one proof a scenario, and none without."""

from __future__ import annotations

import gzip
import random
import ssl
import time
import zlib
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from tests.certificates import server_context

from bgfetch.errors import InvalidRequest
from bgfetch.testing import SCENARIOS, FaultServer, Outcome, Seen, probe
from bgfetch.testing.faults_content import bomb

BODY = random.Random(7).randbytes(60_000)
THIRD, SIXTH = 20_000, 10_000

Proof = Callable[[FaultServer], object]
PROOFS: dict[str, tuple[Proof, dict[str, Any]]] = {}


def proves(*names: str, **parameters: Any) -> Callable[[Proof], Proof]:
    """Register a proof for these scenarios, run with these parameters."""

    def register(proof: Proof) -> Proof:
        PROOFS.update(dict.fromkeys(names, (proof, parameters)))
        return proof

    return register


def span(server: FaultServer, first: int, last: int | str = "", **headers: str) -> Seen:
    """What a range request gets."""
    return probe(server.url, headers={"Range": f"bytes={first}-{last}", **headers})


def etag_of(server: FaultServer) -> str:
    """The ETag that HEAD tells."""
    return probe(server.url, method="HEAD").headers["etag"]


def dechunked(data: bytes) -> bytes:
    """The payload of chunks, as far as they go."""
    payload = b""
    while data:
        line, _, data = data.partition(b"\r\n")
        size = int(line or b"0", 16)
        payload, data = payload + data[:size], data[size + 2 :]
    return payload


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_fault_is_on_the_wire(name: str, tls: ssl.SSLContext) -> None:
    """A scenario does what its line says."""
    proof, parameters = PROOFS[name]
    context = tls if SCENARIOS[name].needs_tls else None
    with FaultServer(BODY, name, tls=context, **parameters) as server:
        proof(server)


@pytest.mark.parametrize("name", SCENARIOS)
def test_healing_ends_every_fault(name: str, tls: ssl.SSLContext) -> None:
    """After `heal()` a server is a correct origin, and the scenario's table entry is complete."""
    scenario = SCENARIOS[name]
    assert scenario.name == name
    assert scenario.description
    assert scenario.outcome in Outcome
    with FaultServer(BODY, name, tls=tls if scenario.needs_tls else None) as server:
        server.heal()
        seen = probe(server.url, tls=trusting())
        assert (seen.status, seen.body, seen.ended) == (200, server.body, "fin")


@pytest.mark.parametrize(
    ("name", "ended"), [("plain", "fin"), ("no-length", "fin"), ("drop-fin", "reset"), ("drop-rst", "reset")]
)
def test_every_fault_can_be_had_over_tls(name: str, ended: str, tls: ssl.SSLContext) -> None:
    """A good end says goodbye in TLS; a drop does not, so that it can be told from an end."""
    with FaultServer(BODY, name, tls=tls) as server:
        seen = probe(server.url, tls=trusting())
        assert server.url.startswith("https://")
        assert seen.ended == ended
        assert seen.body == BODY[: SIXTH if name == "drop-fin" else len(seen.body)]


def test_a_wrong_parameter_of_any_scenario_is_found_at_once() -> None:
    """No handler waits for its first request to say that it cannot work."""
    for name in ("long-header", "endless", "1xx-few", "206-lying", "captive-html"):
        with pytest.raises(TypeError):
            FaultServer(BODY, name, nonsense=1)


def test_a_lie_about_the_length_is_the_same_everywhere() -> None:
    """HEAD, whole answers and ranges promise the same bytes that are not there."""
    with FaultServer(BODY, "length-long", extra=10) as server:
        assert probe(server.url, method="HEAD").headers["content-length"] == "60010"
        inside, beyond = span(server, 0, 9), span(server, 59_990)
        assert (inside.headers["content-range"], inside.body) == ("bytes 0-9/60010", BODY[:10])
        assert (beyond.headers["content-length"], beyond.body) == ("20", BODY[-10:])
        assert span(server, 60_000).body == b""
        assert span(server, 60_010).headers["content-range"] == "bytes */60010"


def test_an_unknown_name_is_refused_with_its_neighbours() -> None:
    """A typing error is found at once and leaves nothing open."""
    with pytest.raises(InvalidRequest, match="drop-fin"):
        FaultServer(BODY, "drop-fim")
    with pytest.raises(TypeError):
        FaultServer(BODY, "drop-fin", afterwards=3)
    with pytest.raises(InvalidRequest, match="tls"):
        FaultServer(BODY, "redirect-downgrade")


def trusting() -> ssl.SSLContext:
    """A client context that takes every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@proves("plain")
@proves("slow", seconds=0.2)
def _whole(server: FaultServer) -> None:
    before = time.monotonic()
    seen = probe(server.url)
    assert (seen.status, seen.body, seen.ended) == (200, BODY, "fin")
    assert server.scenario.name == "plain" or time.monotonic() - before > 0.15


@proves("drop-fin")
def _drop_fin(server: FaultServer) -> None:
    seen = probe(server.url)
    assert (seen.body, seen.ended) == (BODY[:SIXTH], "fin")
    assert seen.headers["content-length"] == "60000"
    assert span(server, SIXTH).body == BODY[SIXTH : 2 * SIXTH]


@proves("drop-rst")
def _drop_rst(server: FaultServer) -> None:
    seen = probe(server.url)
    assert seen.ended == "reset"
    assert BODY[:SIXTH].startswith(seen.body)


@proves("drop-before-head", "drop-in-head", "drop-after-head", times=1)
def _drop_head(server: FaultServer) -> None:
    expected = {"drop-before-head": 0, "drop-in-head": 40}
    first, second = probe(server.url), probe(server.url)
    assert first.ended == "fin"
    assert not first.body
    assert len(first.raw) == expected.get(server.scenario.name, len(first.raw))
    assert first.raw.endswith(b"\r\n\r\n") == (server.scenario.name == "drop-after-head")
    assert second.body == BODY


@proves("outage-refuse", seconds=0.2)
def _outage_refuse(server: FaultServer) -> None:
    assert probe(server.url).body == BODY[:THIRD]
    with pytest.raises(ConnectionRefusedError):
        probe(server.url)
    assert eventually(server) == BODY


@proves("outage-silent", seconds=0.4)
def _outage_silent(server: FaultServer) -> None:
    assert probe(server.url).body == BODY[:THIRD]
    assert probe(server.url, timeout=0.1) == Seen(b"", "timeout")
    assert probe(server.url).body == BODY


@proves("outage-reset", connections=2)
def _outage_reset(server: FaultServer) -> None:
    assert probe(server.url).body == BODY[:THIRD]
    assert [probe(server.url) for _ in range(2)] == [Seen(b"", "reset")] * 2
    assert probe(server.url).body == BODY


@proves("stall-body")
def _stall_body(server: FaultServer) -> None:
    seen = probe(server.url, timeout=0.1)
    assert (seen.body, seen.ended) == (BODY[: len(BODY) // 2], "timeout")
    assert probe(server.url).body == BODY


@proves("stall-before-head", "stall-in-head")
def _stall_head(server: FaultServer) -> None:
    seen = probe(server.url, timeout=0.1)
    assert (len(seen.raw), seen.ended) == (
        0 if server.scenario.name == "stall-before-head" else 40,
        "timeout",
    )
    assert probe(server.url).body == BODY


@proves("drip-body", "drip-head", interval=0.01)
def _drip(server: FaultServer) -> None:
    seen = probe(server.url, timeout=0.2)
    dripped = seen.body if server.scenario.name == "drip-body" else seen.raw
    assert seen.ended == "timeout"
    assert 1 <= len(dripped) <= 25
    assert probe(server.url).body == BODY


@proves("200-on-range")
def _whole_on_range(server: FaultServer) -> None:
    assert probe(server.url).body == BODY[:THIRD]
    seen = span(server, 100)
    assert (seen.status, seen.body) == (200, BODY)


@proves("206-wrong-start")
def _wrong_start(server: FaultServer) -> None:
    seen = span(server, 100, 199)
    assert (seen.status, seen.headers["content-range"]) == (206, "bytes 99-198/60000")
    assert seen.body == BODY[99:199]
    assert span(server, 0, 9).headers["content-range"] == "bytes 1-9/60000"


@proves("206-wrong-label", "206-wrong-total", "206-bad-grammar", "206-star-total", "206-no-content-range")
def _wrong_content_range(server: FaultServer) -> None:
    values = {
        "206-wrong-label": "bytes 101-199/60000",
        "206-wrong-total": "bytes 100-199/60007",
        "206-bad-grammar": "100-199 of 60000",
        "206-star-total": "bytes 100-199/*",
    }
    seen = span(server, 100, 199)
    assert (seen.status, seen.body) == (206, BODY[100:200])
    assert seen.headers.get("content-range") == values.get(server.scenario.name)


@proves("206-multipart")
def _multipart(server: FaultServer) -> None:
    seen = span(server, 100, 199)
    assert seen.headers["content-type"].startswith("multipart/byteranges")
    assert BODY[100:200] in seen.body
    assert int(seen.headers["content-length"]) == len(seen.body) > 100


@proves("206-short", cap=50)
def _short(server: FaultServer) -> None:
    seen = span(server, 100, 199)
    assert (seen.headers["content-range"], seen.body) == ("bytes 100-149/60000", BODY[100:150])


@proves("206-too-little", "206-overlong", "206-truncated")
def _wrong_size(server: FaultServer) -> None:
    seen = span(server, 100, 199)
    assert seen.headers["content-range"] == "bytes 100-199/60000"
    sizes = {"206-too-little": (50, 50), "206-overlong": (1100, 1100), "206-truncated": (100, 50)}
    assert (int(seen.headers["content-length"]), len(seen.body)) == sizes[server.scenario.name]


@proves("206-lying")
def _lying(server: FaultServer) -> None:
    seen = span(server, 0)
    assert seen.headers["content-range"] == "bytes 0-59999/60000"
    assert len(seen.body) == 60_000
    assert seen.body != BODY
    assert span(server, 0).body == BODY


@proves("206-unasked")
def _unasked(server: FaultServer) -> None:
    seen = probe(server.url)
    assert (seen.status, seen.headers["content-range"]) == (206, "bytes 0-29999/60000")
    assert seen.body == BODY[:30_000]


@proves("416-always", "416-no-total")
def _not_satisfiable(server: FaultServer) -> None:
    seen = span(server, 100)
    assert seen.status == 416
    assert seen.headers.get("content-range") == (
        "bytes */60000" if server.scenario.name == "416-always" else None
    )


@proves("416-at-eof")
def _at_eof(server: FaultServer) -> None:
    seen = probe(server.url)
    assert dechunked(seen.body) == BODY
    assert not seen.body.endswith(b"0\r\n\r\n")
    end = span(server, 60_000)
    assert (end.status, end.headers["content-range"]) == (416, "bytes */60000")


@proves("etag-change", "weak-etag-change", "etag-change-no-if-range", "weak-etag-change-no-if-range")
def _etag_change(server: FaultServer) -> None:
    first = probe(server.url)
    assert len(first.body) == THIRD
    assert first.body != BODY[:THIRD]
    second = span(server, THIRD, **{"If-Range": first.headers["etag"]})
    assert second.headers["etag"] != first.headers["etag"]
    assert second.headers["etag"].startswith("W/") == server.scenario.name.startswith("weak")
    understood = not server.scenario.name.endswith("no-if-range")
    assert (second.status, second.body) == ((200, BODY) if understood else (206, BODY[THIRD:]))


@proves("etag-change-requests", requests=2)
def _etag_change_requests(server: FaultServer) -> None:
    tags = [span(server, 0, 9).headers["etag"] for _ in range(3)]
    assert tags[0] == tags[1] != tags[2]


@proves("length-change-no-validator", "change-no-validator")
def _change_silently(server: FaultServer) -> None:
    first, second = probe(server.url), span(server, THIRD)
    lacks = server.scenario.name.startswith("length")
    assert first.headers["content-length"] == ("59999" if lacks else "60000")
    assert first.body != BODY[:THIRD]
    assert not {"etag", "last-modified"} & {*first.headers, *second.headers}
    assert second.body == BODY[THIRD:]


@proves("change-same-validators")
def _change_same(server: FaultServer) -> None:
    first = probe(server.url)
    second = span(server, THIRD, **{"If-Range": first.headers["etag"]})
    assert first.body != BODY[:THIRD]
    assert (second.status, second.body, second.headers["etag"]) == (206, BODY[THIRD:], first.headers["etag"])


@proves("node-skew", "etag-rotates")
def _skew(server: FaultServer) -> None:
    seen = [span(server, 0, 9) for _ in range(4)]
    assert {answer.body for answer in seen} == {BODY[:10]}
    tags = [answer.headers["etag"] for answer in seen]
    assert len(set(tags)) == (2 if server.scenario.name == "node-skew" else 4)
    assert tags[0] != tags[1]


@proves("if-range-dropped")
def _if_range_dropped(server: FaultServer) -> None:
    etag = etag_of(server)
    assert span(server, 100, **{"If-Range": etag}).status == 200
    again = span(server, 100)
    assert (again.status, again.headers["etag"]) == (206, etag)


@proves("bitflip")
def _bitflip(server: FaultServer) -> None:
    bodies = [probe(server.url).body for _ in range(4)]
    flips = [sum((a ^ b).bit_count() for a, b in zip(body, BODY, strict=True)) for body in bodies]
    assert flips[0] >= 1
    assert sum(flips) == 3
    with FaultServer(BODY, "bitflip") as again:
        assert probe(again.url).body == bodies[0]


@proves("zero-block", at=30_000, size=100)
def _zero_block(server: FaultServer) -> None:
    assert span(server, 0, 99).body == BODY[:100]
    assert probe(server.url).body == BODY[:30_000] + bytes(100) + BODY[30_100:]
    assert probe(server.url).body == BODY


@proves("chunked", "chunked-truncated")
def _chunked(server: FaultServer) -> None:
    seen = probe(server.url)
    assert seen.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in seen.headers
    whole = server.scenario.name == "chunked"
    assert dechunked(seen.body) == (BODY if whole else BODY[:30_000])
    assert seen.body.endswith(b"0\r\n\r\n") == whole


@proves("no-length", "no-length-truncated")
def _no_length(server: FaultServer) -> None:
    seen = probe(server.url)
    assert not {"content-length", "transfer-encoding"} & {*seen.headers}
    assert seen.body == (BODY if server.scenario.name == "no-length" else BODY[:30_000])
    assert seen.ended == "fin"


@proves("length-short", "length-long", "body-long", "length-negative")
def _wrong_length(server: FaultServer) -> None:
    said = {"length-short": "30000", "length-long": "61000", "body-long": "60000", "length-negative": "-1"}
    seen = probe(server.url)
    assert seen.headers["content-length"] == said[server.scenario.name]
    assert seen.body == BODY + (bytes(1000) if server.scenario.name == "body-long" else b"")


@proves("length-twice")
def _length_twice(server: FaultServer) -> None:
    seen = probe(server.url)
    assert "Content-Length: 60000\r\nContent-Length: 60001" in seen.head


@proves("endless")
def _endless(server: FaultServer) -> None:
    seen = probe(server.url, limit=5_000_000)
    assert (seen.ended, len(seen.raw)) == ("limit", 5_000_000)
    assert "content-length" not in seen.headers


@proves("header-bomb")
def _header_bomb(server: FaultServer) -> None:
    assert probe(server.url).head.count("X-Header-") == 100_000


@proves("long-header")
def _long_header(server: FaultServer) -> None:
    seen = probe(server.url, limit=5_000_000)
    assert (seen.ended, len(seen.head.rpartition("\n")[2])) == (
        "limit",
        5_000_000 - seen.head.index("X-Long"),
    )


@proves("1xx-flood", "1xx-few")
def _interim(server: FaultServer) -> None:
    seen = probe(server.url, limit=500_000)
    count = seen.raw.count(b"HTTP/1.1 103 Early Hints\r\n")
    assert (count == 3, seen.raw.endswith(BODY)) == (server.scenario.name == "1xx-few",) * 2
    assert seen.ended == ("fin" if count == 3 else "limit")


@proves("nul-header", "http09", "garbage")
def _no_http(server: FaultServer) -> None:
    seen = probe(server.url)
    match server.scenario.name:
        case "nul-header":
            assert "X-Nul: a\0b" in seen.head
        case "http09":
            assert seen.raw == BODY
        case _:
            assert not seen.raw.startswith(b"HTTP")
            assert len(seen.raw) == 100_000


@proves("bad-chunk", "huge-chunk", "negative-chunk")
def _bad_chunks(server: FaultServer) -> None:
    line = {"bad-chunk": b"zz", "huge-chunk": b"f" * 17, "negative-chunk": b"-5"}[server.scenario.name]
    seen = probe(server.url)
    assert seen.body.startswith(b"7530\r\n" + BODY[:30_000] + b"\r\n" + line + b"\r\n" + BODY[30_000:])


@proves("captive-html", "captive-html-midway")
def _captive(server: FaultServer) -> None:
    if server.scenario.name == "captive-html-midway":
        assert probe(server.url).body == BODY[:THIRD]
    seen = span(server, THIRD)
    assert (seen.status, seen.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert seen.body.startswith(b"<!DOCTYPE html>")
    probe(server.url)
    assert (probe(server.url).body == BODY) == (server.scenario.name == "captive-html-midway")


@proves("captive-redirect", "captive-redirect-midway")
def _captive_redirect(server: FaultServer) -> None:
    if server.scenario.name == "captive-redirect-midway":
        assert probe(server.url).body == BODY[:THIRD]
    seen = span(server, THIRD)
    assert seen.status == 302
    page = probe(seen.headers["location"])
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")


@proves("gzip-anyway")
def _gzip_anyway(server: FaultServer) -> None:
    seen = probe(server.url, headers={"Accept-Encoding": "identity"})
    assert seen.headers["content-encoding"] == "gzip"
    assert gzip.decompress(seen.body) == BODY
    assert span(server, 10, 19).body == seen.body[10:20]


@proves("gzip-bomb", size_mib=64)
def _gzip_bomb(server: FaultServer) -> None:
    seen = probe(server.url)
    assert seen.headers["content-encoding"] == "gzip"
    assert len(seen.body) < 100_000
    assert len(zlib.decompress(seen.body, wbits=31)) == 64 << 20


def test_the_bomb_is_small_until_it_is_decoded() -> None:
    """2 GiB take about 2 MiB on the wire and are made a piece at a time."""
    pieces = bomb(2048)
    assert sum(len(next(pieces)) for _ in range(4)) < 5000
    assert gzip.decompress(b"".join(bomb(3))) == bytes(3 << 20)


@proves("expired-url", "expired-url-400", "expired-url-401", "expired-url-410")
def _expired(server: FaultServer) -> None:
    signed = probe(server.url)
    assert signed.status == 302
    location = signed.headers["location"]
    assert "Signature=1" in location
    assert probe(location).body == BODY[:THIRD]
    expired = int((server.scenario.name + "-403").split("-")[2])
    assert probe(location).status == expired
    fresh = probe(server.url).headers["location"]
    assert "Signature=2" in fresh
    assert probe(fresh, headers={"Range": "bytes=20000-"}).status == 206


@proves("redirect-chain")
def _chain(server: FaultServer) -> None:
    seen = probe(server.url)
    for hop in range(1, 4):
        assert (seen.status, seen.headers["location"]) == (307, f"/model.bin?hop={hop}")
        seen = probe(server.url_of(seen.headers["location"]))
    assert seen.body == BODY


@proves("redirect-port", "redirect-host", "redirect-host-port", "redirect-back")
def _elsewhere(server: FaultServer) -> None:
    location = probe(server.url, headers={"Authorization": "Bearer secret"}).headers["location"]
    assert server.requests[0].headers["authorization"] == "Bearer secret"
    name = server.scenario.name
    assert ("//localhost:" in location) == (name in {"redirect-host", "redirect-host-port"})
    assert (f":{server.port}/" in location) == (name == "redirect-host")
    seen = probe(location, headers={"Cookie": "leak=1"})
    if name == "redirect-back":
        assert server.second.requests[0].headers["cookie"] == "leak=1"
        seen = probe(seen.headers["location"])
        assert server.requests[-1].query == "hop=back"
    assert seen.body == BODY


@proves("redirect-hub")
def _hub(server: FaultServer) -> None:
    seen = probe(server.url, method="HEAD")
    assert (seen.headers["x-linked-size"], seen.headers["x-linked-etag"]) == ("60000", f'"{server.sha256}"')
    there = probe(seen.headers["location"])
    assert there.body == BODY
    assert there.headers["etag"] == '"' + "d" * 64 + '"'


@proves("redirect-loop", "redirect-nowhere", "redirect-file", "redirect-ftp", "redirect-many")
def _to(server: FaultServer) -> None:
    locations = {
        "redirect-loop": "/model.bin",
        "redirect-file": "file:///etc/passwd",
        "redirect-ftp": "ftp://127.0.0.1/model.bin",
        "redirect-many": "/model.bin?hop=1",
    }
    seen = probe(server.url)
    assert seen.status in {302, 307}
    assert seen.headers.get("location") == locations.get(server.scenario.name)


@proves("redirect-downgrade")
def _downgrade(server: FaultServer) -> None:
    assert server.url.startswith("https:")
    location = probe(server.url, tls=trusting()).headers["location"]
    assert location.startswith("http:")
    assert probe(location).body == BODY


@proves("429-seconds", "503-seconds", seconds=7)
def _retry_seconds(server: FaultServer) -> None:
    seen = probe(server.url)
    assert (str(seen.status), seen.headers["retry-after"]) == (server.scenario.name[:3], "7")
    assert probe(server.url).body == BODY


@proves("429-date", "503-date", seconds=7)
def _retry_date(server: FaultServer) -> None:
    now = time.time()
    seen = probe(server.url)
    assert str(seen.status) == server.scenario.name[:3]
    assert 7 <= parsedate_to_datetime(seen.headers["retry-after"]).timestamp() - now < 13
    assert probe(server.url).body == BODY


@proves("429-ratelimit", seconds=7)
def _rate_limit(server: FaultServer) -> None:
    seen = probe(server.url)
    assert (seen.status, seen.headers["ratelimit"]) == (429, '"resolvers";r=0;t=7')
    assert "q=3000" in seen.headers["ratelimit-policy"]


@proves("503-bare", "500-once", "401-once", times=2)
def _refused_for_a_while(server: FaultServer) -> None:
    statuses = [probe(server.url) for _ in range(3)]
    assert [seen.status for seen in statuses] == [int(server.scenario.name[:3])] * 2 + [200]
    assert "retry-after" not in statuses[0].headers
    assert ("www-authenticate" in statuses[0].headers) == (server.scenario.name == "401-once")


@proves("401-always", "403-always", "404-always", "410-always", "503-always")
def _refused_for_good(server: FaultServer) -> None:
    assert {probe(server.url).status for _ in range(4)} == {int(server.scenario.name[:3])}


@proves("head-405")
def _no_head(server: FaultServer) -> None:
    seen = probe(server.url, method="HEAD")
    assert (seen.status, seen.headers["allow"], seen.body) == (405, "GET", b"")
    assert probe(server.url).body == BODY


@proves("bad-day")
def _bad_day(server: FaultServer) -> None:
    assert probe(server.url).headers["retry-after"] == "1"
    location = probe(server.url).headers["location"]
    for part in range(2):
        seen = probe(location, headers={"Range": f"bytes={part * SIXTH}-"})
        assert seen.body == BODY[part * SIXTH : (part + 1) * SIXTH]
    assert probe(location).status == 403
    assert probe(server.url).headers["location"] != location


def eventually(server: FaultServer) -> bytes:
    """The body, once the server is there again."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            return probe(server.url).body
        except ConnectionRefusedError:
            server.stopping.wait(0.02)
    raise AssertionError("the server did not come back")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server context with a certificate of our own."""
    return server_context(tmp_path_factory.mktemp("tls") / "server.pem")
