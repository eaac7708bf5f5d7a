"""The port for browsers: what reaches it raw, and who is kept out."""

from __future__ import annotations

import json
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import DaemonProcess
from tests.waiting import looked_for


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def port(tmp_path: Path) -> Iterator[tuple[DaemonProcess, int, str]]:
    """A daemon that listens on a port, the port, and its token."""
    number = free_port()
    daemon = DaemonProcess(tmp_path / "home")
    daemon.start("--tcp", str(number))
    yield daemon, number, daemon.address.token.read_text("ascii")
    daemon.close()


def asked(port: int, path: str, token: str = "", **fields: str) -> tuple[int, bytes]:
    """Status and body of a GET."""
    told = {"Authorization": f"Bearer {token}"} if token else {}
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=told | named)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as reply:
            return int(reply.status), reply.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def test_with_the_token_only(port: tuple[DaemonProcess, int, str]) -> None:
    """The token opens it, in a header and never in the URL; the file it is in is its owner's."""
    daemon, number, token = port
    assert stat.S_IMODE(daemon.address.token.stat().st_mode) == 0o600
    status, body = asked(number, "/v1/", token)
    assert (status, json.loads(body)["home"]) == (200, str(daemon.home))
    assert asked(number, "/v1/")[0] == 401
    assert asked(number, f"/v1/?token={token}")[0] == 401
    assert asked(number, "/v1/", token, Host="rebind.test")[0] == 421
    assert asked(number, "/v1/", token, Origin="https://evil.test")[0] == 403
    assert asked(number, "/v1/", token, Sec_Fetch_Site="cross-site")[0] == 403
    assert token not in daemon.log()


def test_metrics(port: tuple[DaemonProcess, int, str]) -> None:
    """Prometheus reads it with the token."""
    _, number, token = port
    status, body = asked(number, "/metrics", token)
    assert status == 200
    assert b"bgfetch_registrations" in body
    assert b"bgfetch_disk_free_bytes" in body


def test_too_many_connections(port: tuple[DaemonProcess, int, str]) -> None:
    """One peer has sixty-four connections at most; on the socket everything goes on."""
    daemon, number, _ = port
    held = [socket.create_connection(("127.0.0.1", number)) for _ in range(64)]
    try:
        with socket.create_connection(("127.0.0.1", number)) as refused:
            refused.settimeout(5)
            assert refused.recv(64).startswith(b"HTTP/1.1 429")
        assert daemon.answers()
    finally:
        for each in held:
            each.close()
    looked_for(
        lambda: asked(number, "/v1/")[0] == 401, because="only the server sees that a connection has ended"
    )
