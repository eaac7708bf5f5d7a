"""The model server on a bad day: files that change, clients that go, sit or want too much, files of 100 GB."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.asgi import curl, serving
from tests.integration.test_serve import serve

from bgfetch.web import Limits, ModelServer
from bgfetch.web.digesting import Digests
from bgfetch.web.folder import Stamp
from bgfetch.web.hashing import Wanted
from bgfetch.web.sending import copied_tail

MIB = 1 << 20
LONG_AGO = (1_600_000_000.25, 1_600_000_000.25)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of 24 MiB, of zeros, that nobody touched for years."""
    root = tmp_path / "models"
    root.mkdir()
    (root / "a.bin").write_bytes(bytes(24 * MIB))
    os.utime(root / "a.bin", LONG_AGO)
    return root


@contextlib.contextmanager
def get(url: str, path: str, *fields: str) -> Iterator[socket.socket]:
    """A connection with a small window on which a GET was sent, and nothing read yet."""
    parts = urlsplit(url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.settimeout(10)
        client.connect((parts.hostname or "", parts.port or 0))
        head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *fields, "", ""])
        client.sendall(head.encode())
        yield client


def begin(client: socket.socket) -> bytes:
    """The head of a 200 and the first of its body."""
    data = b""
    while not data.partition(b"\r\n\r\n")[2]:
        more = client.recv(1000)
        assert more
        data += more
    assert data.startswith(b"HTTP/1.1 200")
    return data


def drain(client: socket.socket, begun: bytes = b"") -> bytes:
    """The body, until the end, of an answer of which so much was read."""
    data = bytearray(begun)
    while more := client.recv(1 << 20):
        data += more
    return bytes(data).partition(b"\r\n\r\n")[2]


def overwrite(file: Path) -> None:
    """Write to it in place, all of it."""
    with file.open("r+b") as stream:
        stream.write(b"\xff" * file.stat().st_size)


def test_a_file_that_changes_is_cut_short(folder: Path) -> None:
    """Written to while it is sent, the answer ends short of its length: no mix looks whole."""
    models = ModelServer(folder, index=None)
    with serving(models) as url, get(url, "/a.bin") as client:
        begun = begin(client)
        overwrite(folder / "a.bin")
        body = drain(client, begun)
    models.close()
    assert 0 < len(body) < 24 * MIB


def test_a_file_that_changes_is_cut_short_by_serve(tmp_path: Path, folder: Path) -> None:
    """As above for `bgfetch serve`, which hands buffers to the socket itself."""
    with serve(tmp_path / "home", folder) as (url, process), get(url, "/models/a.bin") as client:
        begun = begin(client)
        overwrite(folder / "a.bin")
        assert 0 < len(drain(client, begun)) < 24 * MIB
        assert process.stderr is not None
        assert process.stderr.readline().startswith("/a.bin was cut short: it changed")


def test_a_file_that_changes_is_cut_short_without_copying(tmp_path: Path, folder: Path) -> None:
    """As above where bytes never pass through the server: what lies in sockets is the file's own memory."""
    size = copied_tail() + 64 * MIB
    with (folder / "b.bin").open("wb") as file:
        file.truncate(size)
    with serve(tmp_path / "home", folder) as (url, _), get(url, "/models/b.bin") as client:
        begun = begin(client)
        overwrite(folder / "b.bin")
        assert 0 < len(drain(client, begun)) < size


def test_a_change_after_the_last_look_is_not_seen(tmp_path: Path, folder: Path) -> None:
    """A small file is in the sockets before the client reads: changed then, the client still gets what it was."""
    (folder / "c.bin").write_bytes(bytes(1 * MIB))
    os.utime(folder / "c.bin", LONG_AGO)
    with serve(tmp_path / "home", folder) as (url, _), get(url, "/models/c.bin") as client:
        curl(f"{url}models/none")  # by now the first answer is on its way
        time_to_fill(client)
        overwrite(folder / "c.bin")
        body = drain(client)
    assert body == bytes(len(body)) != b""


def time_to_fill(client: socket.socket) -> None:
    """Return when the head and the first bytes of the body are there to be read, without reading them."""
    client.settimeout(None)  # with one of its own Python's sockets never wait for all
    assert len(client.recv(8192, socket.MSG_PEEK | socket.MSG_WAITALL)) == 8192


def test_replaced_by_another_file(folder: Path) -> None:
    """Renamed over, as downloads are, the old one is sent to its end: its descriptor is open."""
    models = ModelServer(folder, index=None)
    (folder / "new").write_bytes(b"\xff" * 24 * MIB)
    with serving(models) as url:
        with get(url, "/a.bin") as client:
            client.recv(1, socket.MSG_PEEK)
            (folder / "new").rename(folder / "a.bin")
            assert drain(client) == bytes(24 * MIB)
        assert curl(f"{url}/a.bin").body == b"\xff" * 24 * MIB
    models.close()


def test_becoming_hashed_restarts_nobody(folder: Path) -> None:
    """The tag from before the digest was known stays good: a resume under it is given the rest, under that very tag."""
    models = ModelServer(folder, index=None)
    assert models.wait_hashed(10)
    hashed = models._library
    early = ModelServer(folder, index=None)
    early._hashing.close()
    early._hashing._known.clear()
    with serving(early) as url:
        before = curl(f"{url}/a.bin", "--head").headers["etag"]
    with serving(models) as url:
        after = curl(f"{url}/a.bin", "--head").headers["etag"]
        resumed = curl(f"{url}/a.bin", "-H", f"If-Range: {before}", "-r", "5-9")
        assert curl(f"{url}/a.bin", "-H", f"If-None-Match: {before}").status == 304
        (folder / "a.bin").write_bytes(b"\xff" * 24 * MIB)
        changed = curl(f"{url}/a.bin", "-H", f"If-Range: {before}", "-r", "5-9")
    models.close()
    assert hashed is not None
    assert after == f'"{hashlib.sha256(bytes(24 * MIB)).hexdigest()}"' != before
    assert (resumed.status, resumed.headers["etag"]) == (206, before)
    assert (changed.status, len(changed.body)) == (200, 24 * MIB)


def test_a_file_just_written_has_no_tag_yet(folder: Path) -> None:
    """While a second change could leave the same date, size and inode, no tag is given that would promise equal bytes."""
    models = ModelServer(folder, index=None)
    assert models.wait_hashed(10)
    models._hashing.close()
    with serving(models) as url:
        (folder / "n.bin").write_bytes(b"one")
        moment = float(int(time.time()) + 1)  # a whole second, as coarse file systems note it
        os.utime(folder / "n.bin", (moment, moment))
        young = curl(f"{url}/n.bin", "-r", "0-0", "-H", 'If-Range: "3-4-5"')
        os.utime(folder / "n.bin", LONG_AGO)
        old = curl(f"{url}/n.bin", "--head")
    assert "etag" not in young.headers
    assert "last-modified" not in young.headers  # nor a date, by which If-Range would take the next for it
    assert (young.status, young.body) == (200, b"one")
    assert "etag" in old.headers
    assert "last-modified" in old.headers


def test_a_date_that_was_set_back_is_another_version(folder: Path) -> None:
    """Written to in place with its old date, a file is under none of the old tags, and its old version is gone."""
    models = ModelServer(folder, index=None)
    assert models.wait_hashed(10)
    early = ModelServer(folder, index=None)
    early._hashing.close()
    early._hashing._known.clear()
    old = hashlib.sha256(bytes(24 * MIB)).hexdigest()
    before = (folder / "a.bin").stat()
    with serving(models) as url, serving(early) as early_url:
        early_tag = curl(f"{early_url}/a.bin", "--head").headers["etag"]
        while (folder / "a.bin").stat().st_ctime_ns == before.st_ctime_ns:  # dates are counted in ticks
            overwrite(folder / "a.bin")
            os.utime(folder / "a.bin", LONG_AGO)
        assert curl(f"{early_url}/a.bin", "--head").headers["etag"] != early_tag
        assert curl(f"{url}/a.bin", "--head").headers["etag"] != f'"{old}"'
        assert models.wait_hashed(10)
        assert curl(f"{url}/a.bin?sha256={old}").status == 404
    models.close()


def test_a_growing_file_does_not_hide_the_others(folder: Path) -> None:
    """A file that was found changing is left out of its folder's manifest until it is hashed; alone it is waited for."""
    (folder / "growing.bin").write_bytes(b"some")
    models = ModelServer(folder, index=None)
    read = models._hashing._read
    growing = threading.Event()
    growing.set()

    def changed(fd: int, before: Stamp) -> Digests | None:
        return None if before.size == 4 and growing.is_set() else read(fd, before)

    models._hashing._read = changed  # type: ignore[method-assign]
    put_off, was_put_off = models._hashing._put_off, threading.Event()

    def soon(wanted: Wanted, seconds: float) -> None:
        if seconds >= 2.0:
            was_put_off.set()
        put_off(wanted, 0.01)

    models._hashing._put_off = soon  # type: ignore[method-assign]
    os.utime(folder / "growing.bin", LONG_AGO)
    with serving(models) as url:
        assert was_put_off.wait(10)
        until = time.monotonic() + 5
        while curl(f"{url}/manifest.json").status == 503:  # a.bin is not hashed yet
            assert time.monotonic() < until
        assert names(url) == ["a.bin"]
        assert curl(f"{url}/growing.bin?manifest").status == 503
        assert curl(f"{url}/growing.bin").body == b"some"
        growing.clear()
        assert models.wait_hashed(10)
        assert names(url) == ["a.bin", "growing.bin"]
    models.close()


def names(url: str) -> list[str]:
    """Of the files in the manifest."""
    got = curl(f"{url}/manifest.json")
    assert got.status == 200
    return [each["path"] for each in json.loads(got.body)["files"]]


def test_hashing_is_told(folder: Path) -> None:
    """While there is no digest yet: 503, how far it is, and when to come back; the file itself is given already."""
    models = ModelServer(folder, index=None)
    assert models.wait_hashed(10)
    models._hashing.close()
    with (folder / "new.bin").open("wb") as file:
        file.truncate(2_000_000_000)
    with serving(models) as url:
        for path in ("/manifest.json", "/new.bin?manifest", f"/new.bin?sha256={'0' * 64}"):
            got = curl(f"{url}{path}")
            assert got.status == 503
            assert 1 <= int(got.headers["retry-after"]) <= 30
            assert b'{"hashing":{"done":' in got.body
        assert curl(f"{url}/new.bin", "-r", "0-9").status == 206


def test_100_gb_take_no_memory(tmp_path: Path) -> None:
    """A file of 100 GB is given from anywhere, and a gigabyte of it takes no more memory than a byte."""
    root = tmp_path / "models"
    root.mkdir()
    size = 100_000_000_000
    with (root / "huge.gguf").open("wb") as file:
        file.truncate(size)
        file.seek(size - 5)
        file.write(b"END!\n")
    with serve(tmp_path / "home", root) as (base, process):
        url = f"{base}models/huge.gguf"
        assert curl(url, "--head").headers["content-length"] == str(size)
        assert curl(url, "-r", "-5").body == b"END!\n"
        before = peak(process.pid)
        part = ["curl", "-sf", "--noproxy", "*", "-o", "/dev/null", "-r", "50000000000-50999999999", url]
        assert subprocess.run(part, check=False).returncode == 0
        assert curl(url, "-r", f"{size}-").headers["content-range"] == f"bytes */{size}"
        grown = peak(process.pid) - before
    print(f"{before} KiB before, {grown} KiB more after 1 GB")
    assert grown < 16 << 10


def peak(pid: int) -> int:
    """Largest resident memory of a process so far, KiB."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def test_too_many_of_one_client(folder: Path) -> None:
    """More than so many downloads of one address get 429 with when to come back; when one is over there is a place."""
    models = ModelServer(folder, index=None, limits=Limits(per_client=2))
    with serving(models) as url:
        with get(url, "/a.bin") as one, get(url, "/a.bin") as two:
            one.recv(1, socket.MSG_PEEK)
            two.recv(1, socket.MSG_PEEK)
            got = curl(f"{url}/a.bin", "--head")
            assert (got.status, got.headers["retry-after"]) == (429, "2")
            assert len(drain(one)) == 24 * MIB
            assert len(drain(two)) == 24 * MIB
        assert curl(f"{url}/a.bin", "--head").status == 200
    models.close()


def test_a_preflight_takes_no_place(folder: Path) -> None:
    """A browser tells its page of a preflight that was refused as of a lost network."""
    models = ModelServer(folder, index=None, cors="*", limits=Limits(per_client=1))
    with serving(models) as url, get(url, "/a.bin") as client:
        client.recv(1, socket.MSG_PEEK)
        assert curl(f"{url}/a.bin", "--head").status == 429
        asked = curl(f"{url}/a.bin", "-X", "OPTIONS", "-H", "Origin: https://app.example")
        assert (asked.status, asked.headers["access-control-allow-origin"]) == (204, "*")
    models.close()


def test_too_many_in_all(folder: Path) -> None:
    """A full server says so with 503."""
    models = ModelServer(folder, index=None, limits=Limits(total=1))
    with serving(models) as url, get(url, "/a.bin") as one:
        one.recv(1, socket.MSG_PEEK)
        got = curl(f"{url}/a.bin", "--head")
        assert (got.status, got.headers["retry-after"]) == (503, "5")
    models.close()


def test_a_rate_for_each_client(folder: Path) -> None:
    """A client's downloads together are as fast as it may be, not each of them."""
    models = ModelServer(folder, index=None, limits=Limits(rate=8 * MIB))
    with serving(models) as url:
        began = time.monotonic()
        clients = [
            subprocess.Popen(
                [
                    "curl",
                    "-sf",
                    "--noproxy",
                    "*",
                    "-r",
                    f"0-{12 * MIB - 1}",
                    "-o",
                    "/dev/null",
                    f"{url}/a.bin",
                ]
            )
            for _ in range(2)
        ]
        assert [client.wait(15) for client in clients] == [0, 0]
        took = time.monotonic() - began
    models.close()
    assert 1.8 <= took <= 6.0  # 24 MiB at 8 MiB/s, the first second's worth at once


def test_a_client_that_only_sits_is_cut_off(folder: Path) -> None:
    """Who takes nothing for longer than patience lasts gives its place back."""
    models = ModelServer(folder, index=None, limits=Limits(per_client=1, patience=0.5))
    with serving(models) as url, get(url, "/a.bin") as client:
        client.recv(1, socket.MSG_PEEK)
        assert curl(f"{url}/a.bin", "--head").status == 429
        until = time.monotonic() + 10
        while curl(f"{url}/a.bin", "--head").status == 429:
            assert time.monotonic() < until
        assert len(drain(client)) < 24 * MIB
    models.close()


def test_a_client_that_goes_ends_the_reading(folder: Path) -> None:
    """Nobody reads on for who has left: its place is free at once, and no descriptor stays open."""
    models = ModelServer(folder, index=None, limits=Limits(per_client=1))
    assert models.wait_hashed(10)
    with serving(models) as url:
        assert curl(f"{url}/a.bin", "--head").status == 200
        before = opened(folder)
        with get(url, "/a.bin") as client:
            client.recv(1, socket.MSG_PEEK)
            assert opened(folder) == before + 1
        until = time.monotonic() + 10
        while curl(f"{url}/a.bin", "--head").status == 429 or opened(folder) > before:
            assert time.monotonic() < until
    models.close()


def opened(folder: Path) -> int:
    """Descriptors of this process for files below the folder."""
    found = 0
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        try:
            found += descriptor.readlink().is_relative_to(folder)
        except FileNotFoundError:
            continue
    return found


def test_a_request_given_up_while_it_is_looked_up_leaks_nothing(folder: Path) -> None:
    """An application that is cancelled between opening and sending closes what it opened."""
    models = ModelServer(folder, index=None)
    assert models.wait_hashed(10)
    before = opened(folder)
    begun, go_on = threading.Event(), threading.Event()
    look = models._library.look

    def slow(request: Any) -> Any:
        begun.set()
        assert go_on.wait(10)
        return look(request)

    models._library.look = slow  # type: ignore[method-assign]

    async def job() -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/a.bin",
            "query_string": b"",
            "headers": [],
            "client": None,
        }
        task = asyncio.ensure_future(models(scope, _never, _nothing))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(job())
    models.close()
    assert opened(folder) == before


async def _never() -> None:
    await asyncio.Event().wait()


async def _nothing(_message: Any) -> None:
    pass


def test_a_slow_head_is_not_waited_for_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bgfetch serve` hangs up on who begins a request and never ends it."""
    import uvicorn

    from bgfetch.web import connections

    monkeypatch.setattr(connections, "_HEAD_WITHIN", 0.3)
    config = uvicorn.Config(
        ModelServer(folder, index=None),
        http=connections.Connection,
        log_config=None,
        lifespan="off",
        loop="asyncio",
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    with socket.create_connection(listener.getsockname(), timeout=10) as client:
        client.sendall(b"GET /a.bin HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(10) == b""
    server.should_exit = True
    thread.join()
    listener.close()
