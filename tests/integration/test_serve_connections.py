"""Connections to `bgfetch serve`: those that never finish a handshake, too many of them, and those of a proxy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.asgi import curl
from tests.certificates import server_context
from tests.command import Command
from tests.integration.test_model_server_trouble import begin, get
from tests.integration.test_serve import serve

from bgfetch.web import ModelServer, site

MOST = 256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that no socket holds, of zeros."""
    root = tmp_path / "models"
    root.mkdir()
    (root / "a.bin").write_bytes(bytes(24 << 20))
    return root


def silent(url: str) -> socket.socket:
    """A connection that says nothing."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10)


def hung_up(client: socket.socket) -> bool:
    """Wait for it; whether the other side closes without a word."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_connections_are_counted_before_the_handshake(tmp_path: Path, folder: Path) -> None:
    """One too many is hung up on though none has begun to speak TLS."""
    pem = tmp_path / "server.pem"
    server_context(pem)
    with (
        serve(tmp_path / "home", folder, "--tls-cert", pem, "--tls-key", pem) as (url, _),
        ExitStack() as stack,
    ):
        for _number in range(MOST):
            stack.enter_context(silent(url))
        assert hung_up(stack.enter_context(silent(url)))


@contextmanager
def running(made: site.Site) -> Iterator[str]:
    """The site's URL while it runs, in a thread."""
    started = threading.Event()
    thread = threading.Thread(target=made.run, args=(started.set,), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield made.url
    finally:
        made._server.should_exit = True
        thread.join(10)


def test_a_handshake_must_come_in_time(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says nothing is hung up on, and with it the place is free again."""
    monkeypatch.setattr(site, "_HANDSHAKE_WITHIN", 0.1)
    pem = tmp_path / "server.pem"
    server_context(pem)
    made = site.Site(
        ModelServer(folder, index=None),
        site.listener("127.0.0.1", 0),
        host="127.0.0.1",
        tls=(str(pem), str(pem)),
    )
    left, leave = threading.Event(), made._listening._leave

    def leaving(client: bytes) -> None:
        leave(client)
        left.set()

    monkeypatch.setattr(made._listening, "_leave", leaving)
    with running(made) as url, silent(url) as client:
        assert hung_up(client)
        assert left.wait(10)  # it is closed before it is counted as gone
        assert not made._listening._counts


@pytest.mark.parametrize(("options", "others"), [((), 429), (("--trusted-proxy", "::1, 127.0.0.1"), 200)])
def test_behind_a_proxy_each_has_an_address(
    tmp_path: Path, folder: Path, options: tuple[str, ...], others: int
) -> None:
    """Limits go by X-Forwarded-For where the proxy that says it is trusted, and only there."""
    with (
        serve(tmp_path / "home", folder, "--per-client", "1", *options) as (url, _),
        get(url, "/models/a.bin", "X-Forwarded-For: 192.0.2.1") as client,
    ):
        begin(client)
        for address, expected in (("192.0.2.1", 429), ("192.0.2.2", others)):
            got = curl(f"{url}models/a.bin", "-H", f"X-Forwarded-For: {address}", "-r", "0-9")
            assert got.status in ((200, 206) if expected == 200 else (expected,)), address


def test_a_proxy_has_any_number_of_connections(tmp_path: Path, folder: Path) -> None:
    """Many clients come through it."""
    with (
        serve(tmp_path / "home", folder, "--trusted-proxy", "127.0.0.0/8") as (url, _),
        ExitStack() as stack,
    ):
        for _number in range(MOST):
            stack.enter_context(silent(url))
        assert curl(url).status == 200


@pytest.mark.parametrize("value", ["nginx", "", "127.0.0.1,", "10.0.0.1/8", "*", "::1/129"])
def test_what_is_no_address(tmp_path: Path, folder: Path, value: str) -> None:
    """Named, with what is asked for, before anything listens."""
    said = Command(tmp_path)("serve", folder, "-p", "0", "--trusted-proxy", value)
    assert said.code == 2
    assert "--trusted-proxy" in said.err
    assert "10.0.0.0/8" in said.err
