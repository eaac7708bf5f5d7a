"""Pull-through: what is not here is fetched once, sent on while it comes, and never looks whole when it is not."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.asgi import Answered, curl, serving

from bgfetch.config import load
from bgfetch.errors import InvalidRequest
from bgfetch.testing import Exchange, OriginServer
from bgfetch.testing.message import text_reply
from bgfetch.web import ModelServer, server
from bgfetch.web.limits import Limits, Pace

BODY = random.Random(5).randbytes(6_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@contextmanager
def mirror(tmp_path: Path, upstream: str, limits: Limits | None = None) -> Iterator[str]:
    """The URL of a mirror with a home of its own, fetching in this process."""
    (tmp_path / "models").mkdir(exist_ok=True)
    settings = load({"home": tmp_path / "home", "in_process": True, "retry_scale": 0.01, "attempts": 3})
    models = ModelServer(tmp_path / "models", upstream=upstream, settings=settings, limits=limits)
    try:
        with serving(models) as url:
            yield url
    finally:
        models.close()


def upstream_of(origin: OriginServer) -> str:
    """The folder that the origin's models are in."""
    return origin.url_of("/models")


def test_fetched_kept_and_known(tmp_path: Path) -> None:
    """The first who asks is given it; from then on it is here, with its digests, and the upstream is not asked again."""
    with OriginServer({"/models/m/llm.gguf": BODY}) as origin, mirror(tmp_path, upstream_of(origin)) as url:
        first = curl(f"{url}/m/llm.gguf")
        assert (first.code, first.status, first.body) == (0, 200, BODY)
        asked = len(origin.requests)
        again = curl(f"{url}/m/llm.gguf", "-r", "5-9")
        assert (again.status, again.body) == (206, BODY[5:10])
        got = eventually(lambda: curl(f"{url}/m/manifest.json"), lambda got: got.status == 200)
        assert json.loads(got.body)["files"][0]["sha256"] == SHA256
        assert curl(f"{url}/m/llm.gguf?sha256={SHA256}").body == BODY
        assert len(origin.requests) == asked


def test_sent_on_while_it_comes(tmp_path: Path) -> None:
    """A client has bytes before the upstream has sent all, and one that leaves ends nothing."""
    body = BODY * 4
    with (
        OriginServer({"/models/llm.gguf": body}, rate=3e6) as origin,
        mirror(tmp_path, upstream_of(origin)) as url,
    ):
        with raw(url, "/llm.gguf") as client:
            head, begun = read_at_least(client, 1_000_000)
            assert origin.bytes_sent < len(body)
        assert head.startswith(b"HTTP/1.1 200")
        assert f"content-length: {len(body)}".encode() in head.lower()
        assert b"x-accel-buffering: no" in head.lower()
        assert body.startswith(begun)
        part = curl(f"{url}/llm.gguf", "-r", "20000000-20000099")
        assert (part.status, part.body) == (206, body[20_000_000:20_000_100])
        assert curl(f"{url}/llm.gguf").body == body
        assert origin.bytes_sent < 1.2 * len(body)


def test_who_leaves_gives_its_place_back(tmp_path: Path) -> None:
    """Also who waited for what is hours away, and was never sent a byte of it."""
    with (
        OriginServer({"/models/llm.gguf": BODY}, rate=200_000) as origin,
        mirror(tmp_path, upstream_of(origin), Limits(per_client=1)) as url,
    ):
        with raw(url, "/llm.gguf", f"Range: bytes={len(BODY) - 5}-\r\n") as client:
            assert client.recv(12) == b"HTTP/1.1 206"
            assert curl(f"{url}/llm.gguf", "--head").status == 429
        eventually(lambda: curl(f"{url}/llm.gguf", "--head"), lambda got: got.status == 200)
        assert origin.bytes_sent < len(BODY) / 2


def test_a_rate_holds_for_what_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody has asked for yet is no way around it: every byte is asked of the client's pace."""
    counts: list[int] = []

    async def paced(pace: Pace | None, count: int) -> None:
        assert pace is not None
        counts.append(count)

    monkeypatch.setattr(server, "paced", paced)
    with (
        OriginServer({"/models/llm.gguf": BODY}, rate=6e6) as origin,
        mirror(tmp_path, upstream_of(origin), Limits(rate=1)) as url,
    ):
        assert curl(f"{url}/llm.gguf").body == BODY
    assert sum(counts) == len(BODY)


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("Sec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site: same-site", 403),
        ("Origin: https://evil.example", 403),
        ("Sec-Fetch-Site: same-origin", 200),
        ("Sec-Fetch-Site: none", 200),
    ],
)
def test_pages_of_other_sites_have_nothing_fetched(tmp_path: Path, field: str, status: int) -> None:
    """They could not read it, but fill the disk."""
    with OriginServer({"/models/llm.gguf": BODY}) as origin, mirror(tmp_path, upstream_of(origin)) as url:
        assert curl(f"{url}/llm.gguf", "-H", field).status == status
        assert bool(origin.requests) is (status == 200)


def test_http_1_0_and_an_unknown_length(tmp_path: Path) -> None:
    """There the end of the connection would be the end of the file, also of one that broke off: it waits until it is here."""

    def unframed(exchange: Exchange) -> None:
        whole = replace(exchange.correct(), status=200, spans=((0, len(BODY)),))
        exchange.send_chunked(whole.but(content_length=None, content_range=None, accept_ranges=None))

    with (
        OriginServer({"/models/llm.gguf": BODY}, unframed, rate=3e6) as origin,
        mirror(tmp_path, upstream_of(origin)) as url,
    ):
        early = curl(f"{url}/llm.gguf", "--http1.0")
        assert (early.status, early.headers["retry-after"]) == (503, "2")
        got = eventually(lambda: curl(f"{url}/llm.gguf", "--http1.0"), lambda got: got.status == 200)
        assert got.body == BODY


def test_many_clients_one_download(tmp_path: Path) -> None:
    """Ten who ask at once are all given it, whole, and the upstream sends it once."""
    with OriginServer({"/models/llm.gguf": BODY}) as origin, mirror(tmp_path, upstream_of(origin)) as url:
        clients = [
            subprocess.Popen(
                ["curl", "-s", "--noproxy", "*", "--fail", f"{url}/llm.gguf"], stdout=subprocess.PIPE
            )
            for _ in range(10)
        ]
        bodies = [client.communicate(timeout=15)[0] for client in clients]
        assert [client.returncode for client in clients] == [0] * 10
        assert {hashlib.sha256(body).hexdigest() for body in bodies} == {SHA256}
        assert origin.bytes_sent < 1.2 * len(BODY)


def test_wrong_bytes_never_look_whole(tmp_path: Path) -> None:
    """Where what came is not what the upstream promised, the answer ends short, and nothing is kept."""

    def lying(exchange: Exchange) -> None:
        reply = exchange.correct().but(repr_digest="sha-256=:" + "A" * 43 + "=:")
        exchange.send(reply)

    with (
        OriginServer({"/models/llm.gguf": BODY}, lying) as origin,
        mirror(tmp_path, upstream_of(origin)) as url,
    ):
        got = curl(f"{url}/llm.gguf")
        assert got.code != 0 or got.status != 200
        assert len(got.body) < len(BODY)
        assert curl(f"{url}/manifest.json").body.find(b"llm") == -1


@pytest.mark.parametrize(("status", "expected"), [(404, 404), (410, 404), (403, 502), (500, 502)])
def test_what_the_upstream_refuses(tmp_path: Path, status: int, expected: int) -> None:
    """Its refusals become ours, in text."""

    def refusing(exchange: Exchange) -> None:
        exchange.send(text_reply(status, "<h1>no</h1>"))

    with OriginServer(BODY, refusing) as origin, mirror(tmp_path, upstream_of(origin)) as url:
        got = curl(f"{url}/llm.gguf")
        assert (got.status, got.headers["content-type"]) == (expected, "text/plain; charset=utf-8")
        assert b"<" not in got.body
        if expected == 404:
            asked = len(origin.requests)
            assert curl(f"{url}/llm.gguf").status == 404
            assert len(origin.requests) == asked


def test_nobody_upstream(tmp_path: Path) -> None:
    """An upstream that is not there is a 502 or 504 that says when to come back."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with mirror(tmp_path, f"http://127.0.0.1:{port}/models/") as url:
        got = curl(f"{url}/llm.gguf")
        assert got.status in (502, 504)
        assert int(got.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/..%2fsecret",
        "/a/..%2f..%2fsecret",
        "/%2e%2e/secret",
        "//evil.example/x",
        "/a%5c..%5cb",
        "/x%00",
    ],
)
def test_only_below_the_upstream(tmp_path: Path, path: str) -> None:
    """No path leads the mirror anywhere else: it does not even ask."""
    with OriginServer({"/secret": BODY}) as origin, mirror(tmp_path, upstream_of(origin)) as url:
        assert curl(f"{url}{path}").status == 404
        assert origin.requests == []


def test_names_are_encoded(tmp_path: Path) -> None:
    """What would be a query or another path upstream stays a part of the name."""
    with OriginServer(BODY) as origin, mirror(tmp_path, upstream_of(origin)) as url:
        assert curl(f"{url}/a%26b%3Bc%25%20d.bin").status == 404
        assert origin.requests[0].target == "/models/a%26b%3Bc%25%20d.bin"


def test_the_folder_goes_first(tmp_path: Path) -> None:
    """What is in the folder is given from there."""
    with OriginServer({"/models/llm.gguf": BODY}) as origin, mirror(tmp_path, upstream_of(origin)) as url:
        (tmp_path / "models" / "llm.gguf").write_bytes(b"mine")
        assert curl(f"{url}/llm.gguf").body == b"mine"
        assert origin.requests == []


@pytest.mark.parametrize("upstream", ["file:///etc/", "ftp://h/", "h/models", "http://h/models?x=1"])
def test_an_upstream_that_cannot_be(tmp_path: Path, upstream: str) -> None:
    """Said when the server is made."""
    with pytest.raises(InvalidRequest):
        ModelServer(tmp_path, upstream=upstream, settings=load({"home": tmp_path / "home"}))


def eventually(look: Callable[[], Answered], good: Callable[[Answered], bool]) -> Answered:
    """What `look` gives once it is good."""
    until = time.monotonic() + 10
    while not good(got := look()):
        assert time.monotonic() < until, got
    return got


@contextmanager
def raw(url: str, path: str, more: str = "") -> Iterator[socket.socket]:
    """A connection on which a GET was sent, with more lines in its head."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
        yield client


def read_at_least(client: socket.socket, count: int) -> tuple[bytes, bytes]:
    """Head and so many bytes of the body, or more."""
    data = b""
    while len(data) < count:
        more = client.recv(1 << 16)
        assert more, data[:200]
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body
