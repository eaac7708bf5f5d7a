"""The well-behaved origin: what a correct server does, that it can be watched, and that it ends when told."""

from __future__ import annotations

import base64
import hashlib
import http.client
import random
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bgfetch.errors import InvalidRequest
from bgfetch.testing import Exchange, FaultServer, Fuse, OriginServer, Outcome, probe, text_reply
from bgfetch.testing.message import asked_span

BODY = random.Random(3).randbytes(50_000)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-200", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-200", (0, 100)),
        ("bytes=100-", (100, 100)),
        ("bytes=100-105", (100, 100)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
    ],
)
def test_ranges_mean_what_the_rfc_says(header: str | None, span: tuple[int, int] | None) -> None:
    """RFC 9110 section 14.1.2: what is asked for, what cannot be had, what is ignored."""
    assert asked_span(header, 100) == span


def test_a_whole_answer_and_a_head_agree() -> None:
    """HEAD tells what GET would, without the bytes."""
    with OriginServer(BODY, repr_digest=True) as server:
        got, head = probe(server.url), probe(server.url, method="HEAD")
        assert (got.status, got.body, head.body) == (200, BODY, b"")
        assert got.headers == head.headers
        assert got.headers["accept-ranges"] == "bytes"
        digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
        assert got.headers["repr-digest"] == f"sha-256=:{digest}:"
        assert server.sha256 == hashlib.sha256(BODY).hexdigest()


def test_if_range_guards_a_range() -> None:
    """A strong validator that holds gives 206; another, or a weak one, gives 200."""
    with OriginServer(BODY) as server:
        seen = probe(server.url, method="HEAD").headers
        for condition, status in [
            (seen["etag"], 206),
            (seen["last-modified"], 206),
            ('"another"', 200),
            (f"W/{seen['etag']}", 200),
        ]:
            answer = probe(server.url, headers={"Range": "bytes=5-9", "If-Range": condition})
            assert (answer.status, len(answer.body)) == (status, 5 if status == 206 else len(BODY))


def test_conditions_and_mistakes_get_their_status() -> None:
    """304, 404, 405 and 416 are as a correct server has them."""
    with OriginServer(BODY) as server:
        etag = probe(server.url, method="HEAD").headers["etag"]
        assert probe(server.url, headers={"If-None-Match": etag}).status == 304
        assert probe(server.url_of("/nothing")).status == 404
        assert probe(server.url, method="POST").status == 405
        beyond = probe(server.url, headers={"Range": "bytes=50000-"})
        assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */50000")


def test_one_connection_serves_many_requests() -> None:
    """Keep-alive works, and every request is recorded with its connection and headers."""
    with OriginServer({"/a/one.bin": BODY, "/two.bin": b"two"}) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        for path, body in [("/two.bin", b"two"), ("/a/one.bin", BODY), ("/two.bin?x=1", b"two")]:
            client.request("GET", path, headers={"Authorization": "Bearer secret"})
            assert client.getresponse().read() == body
        client.request("PUT", "/two.bin", body=b"upload")
        assert client.getresponse().read()
        client.close()
        assert [seen.path for seen in server.requests] == ["/two.bin", "/a/one.bin", "/two.bin", "/two.bin"]
        assert {seen.connection for seen in server.requests} == {0}
        assert server.requests[0].headers["authorization"] == "Bearer secret"
        assert server.requests[0].host == f"127.0.0.1:{server.port}"
        assert (server.requests[2].query, server.requests[3].body) == ("x=1", b"upload")
        assert server.bytes_sent >= len(BODY) + 6
        assert server.url.endswith("/a/one.bin")


def test_a_file_is_served_as_its_bytes(tmp_path: Path) -> None:
    """A path, also an empty one, is served without being read into memory first."""
    file, empty = tmp_path / "model.bin", tmp_path / "empty.bin"
    file.write_bytes(BODY)
    empty.touch()
    with OriginServer({"/m": file, "/e": empty}) as server:
        assert probe(server.url, headers={"Range": "bytes=-5"}).body == BODY[-5:]
        assert probe(server.url_of("/e")).headers["content-length"] == "0"
        assert server.sha256 == hashlib.sha256(BODY).hexdigest()


def test_another_version_differs_in_every_byte_and_validator() -> None:
    """`replace` changes what is served, and `Content.changed` never has a byte in common."""
    with OriginServer(BODY) as server:
        old = server.content.changed()
        assert all(a != b for a, b in zip(old.read(), BODY, strict=True))
        assert old.etag != server.content.etag
        assert old.changed().read() == BODY
        before = probe(server.url).headers["etag"]
        server.replace(b"other")
        after = probe(server.url)
        assert (after.body, server.body) == (b"other", b"other")
        assert after.headers["etag"] != before


def test_nothing_to_serve_is_a_mistake() -> None:
    """No bodies, or a path that is none, is refused before a port is opened."""
    with pytest.raises(InvalidRequest):
        OriginServer({})
    with pytest.raises(InvalidRequest):
        OriginServer({"model.bin": b""})


def test_rate_and_latency_take_their_time() -> None:
    """A rate is kept within a connection, a latency is before each reply."""
    with OriginServer(b"x" * 10_000, rate=50_000, latency=0.1) as server:
        before = time.monotonic()
        assert len(probe(server.url).body) == 10_000
        assert 0.28 <= time.monotonic() - before < 5


def test_down_refuses_and_up_accepts_on_the_same_port() -> None:
    """A server can vanish and return, as often as it likes, without losing its port."""
    with OriginServer(BODY) as server:
        for _ in range(3):
            server.down()
            with pytest.raises(ConnectionRefusedError):
                probe(server.url)
            server.up()
            assert probe(server.url).status == 200


def test_down_cuts_what_is_on_its_way() -> None:
    """Open connections end when the server goes down."""
    with FaultServer(BODY, "stall-body", after=10) as server:
        with socket.create_connection(("127.0.0.1", server.port), 5) as sock:
            sock.sendall(b"GET /model.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(10)
            server.down()
            while sock.recv(1000):
                pass
        server.heal()
        assert probe(server.url).body == BODY


def test_replies_and_cuts_are_counted() -> None:
    """After the event a test can say what the server did: which statuses, how many bodies it broke off."""
    with FaultServer(BODY, "drop-fin", after=10_000) as server:
        probe(server.url)
        probe(server.url, headers={"Range": "bytes=0-99"})
        probe(server.url_of("/nothing"))
    assert (server.replies, server.cuts) == ({200: 1, 206: 1, 404: 1}, 1)


def test_a_test_can_wait_for_what_the_server_does() -> None:
    """Whoever waits is woken by each request, reply and byte, and told when nothing comes of it."""
    with OriginServer(BODY) as server, ThreadPoolExecutor() as pool:
        waiting = [
            pool.submit(server.wait_for, lambda: server.requests),
            pool.submit(server.wait_for, lambda: server.replies[200] == 1),
            pool.submit(server.wait_for, lambda: server.bytes_sent == len(BODY)),
        ]
        probe(server.url)
        assert [each.result() for each in waiting] == [True] * 3
        assert not server.wait_for(lambda: len(server.requests) > 1, 0.01)


@pytest.mark.parametrize(
    "scenario", ["stall-body", "stall-before-head", "drip-head", "drip-body", "endless", "1xx-flood"]
)
def test_close_ends_every_thread(scenario: str) -> None:
    """Whatever a handler is doing, `close()` is quick and leaves no thread."""
    server = FaultServer(BODY, scenario)
    with socket.create_connection(("127.0.0.1", server.port), 5) as sock:
        sock.sendall(b"GET /model.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.requests:
            server.stopping.wait(0.005)
        before = time.monotonic()
        server.close()
        server.close()
        assert time.monotonic() - before < 4
    assert not [thread for thread in threading.enumerate() if f"origin-{server.port}-" in thread.name]


def test_a_handler_of_ones_own_is_a_function() -> None:
    """An Exchange is all that a test needs to misbehave in a new way."""

    def teapot(exchange: Exchange) -> None:
        exchange.send(text_reply(418, f"request {exchange.number}"))

    with OriginServer(BODY, teapot) as server:
        assert [probe(server.url).body for _ in range(2)] == [b"request 0", b"request 1"]


def test_nonsense_ends_the_connection() -> None:
    """What is no request gets no answer, and the server goes on."""
    with OriginServer(BODY) as server:
        with socket.create_connection(("127.0.0.1", server.port), 5) as sock:
            sock.sendall(b"nonsense\r\n\r\n")
            assert sock.recv(10) == b""
        assert probe(server.url).status == 200


def test_a_fuse_counts_what_all_may_use() -> None:
    """It allows no more than its count, takes back, and never runs out when it has none."""
    fuse = Fuse(10)
    assert [fuse.take(4) for _ in range(4)] == [4, 4, 2, 0]
    assert fuse.burnt
    fuse.give_back(3)
    assert (fuse.take(5), Fuse(None).take(1 << 60), Fuse(-3).burnt) == (3, 1 << 60, True)


def test_two_fuses_count_only_what_both_allow() -> None:
    """A URL does not expire early because its connection dropped first."""
    url, connection = Fuse(30_000), Fuse(20_000)

    def both(exchange: Exchange) -> None:
        exchange.send(exchange.correct(), url, connection)

    with OriginServer(BODY, both) as server:
        assert len(probe(server.url).body) == 20_000
        assert url.take(50_000) == 10_000


def test_a_second_origin_shares_the_bodies() -> None:
    """It has a port and a list of requests of its own, and closes with the first."""
    with OriginServer(BODY) as server:
        assert server.second is server.second
        assert server.second.port != server.port
        assert probe(server.second.url).body == BODY
        assert (len(server.requests), len(server.second.requests)) == (0, 1)
        url = server.second.url
    with pytest.raises(ConnectionRefusedError):
        probe(url)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs the curl program")
def test_curl_resumes_what_was_dropped(tmp_path: Path) -> None:
    """A client that everybody trusts finishes over connections that drop."""
    with FaultServer(BODY, "drop-fin") as server:
        command = ["curl", "-sS", "-C", "-", "--max-time", "5", "-o", str(tmp_path / "out"), server.url]
        codes = [subprocess.run(command, check=False, capture_output=True).returncode for _ in range(7)]
        assert server.scenario.outcome is Outcome.FINISH
        assert (tmp_path / "out").read_bytes() == BODY
        assert codes[0] == 18
