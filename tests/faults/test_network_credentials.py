"""Credentials go to the origin they were given for, and to nobody else: over redirects, proxies, netrc and TLS."""

from __future__ import annotations

import base64
import select
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import pytest
from tests.certificates import server_context
from tests.lab import QUICK, Ended, Lab, asking

from bgfetch.core.model import FailureReason, Result
from bgfetch.testing import Exchange, FaultServer, OriginServer, SeenRequest, text_reply
from bgfetch.transports.curl import CurlTransport, Trust
from bgfetch.transports.proxies import Proxies

BODY = bytes(range(256)) * 1000
CANARY = "s3cr3t-canary"
SECRETS = (("Authorization", f"Bearer {CANARY}"), ("Cookie", f"session={CANARY}"), ("X-Api-Key", CANARY))
PUBLIC = ("X-Purpose", "tests")


def bears(request: SeenRequest) -> bool:
    """Whether anything of a request is secret."""
    encoded = base64.b64encode(f"me:{CANARY}".encode()).decode()
    text = f"{request.target} {dict(request.headers)}"
    return CANARY in text or encoded in text


def silent(ended: Ended, lab: Lab) -> bool:
    """Whether nothing told, logged or stored holds the secret."""
    said = f"{ended.row} {ended.records} {ended.outbox} {ended.log}"
    stored = [path.read_bytes() for path in lab.home.rglob("*") if path.is_file()]
    return CANARY not in said and not any(CANARY.encode() in each for each in stored)


@pytest.mark.parametrize(
    "name", ["redirect-port", "redirect-host", "redirect-host-port", "redirect-back", "redirect-hub"]
)
def test_they_stay_at_home_over_redirects(name: str, tmp_path: Path) -> None:
    """Host, port or way back: where the origin differs from the first one, or did once, no secret goes."""
    with FaultServer(BODY, name) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(asking(server.url, headers=[*SECRETS, PUBLIC]))
        first, *rest = server.requests
        elsewhere = [*rest, *server.second.requests]
        assert silent(ended, lab)
    assert ended.body == BODY
    assert bears(first)
    assert elsewhere
    assert not any(bears(request) for request in elsewhere)
    assert all(request.headers.get("x-purpose") == "tests" for request in elsewhere)


def test_they_go_along_on_the_same_origin(tmp_path: Path) -> None:
    """A redirect that stays on scheme, host and port keeps them: else nothing private could be fetched."""
    with FaultServer(BODY, "redirect-chain") as server, Lab(tmp_path) as lab:
        ended = lab.fetch(asking(server.url, headers=SECRETS))
    assert ended.body == BODY
    assert len(server.requests) > 1
    assert all(bears(request) for request in server.requests)


@pytest.mark.parametrize("name", ["redirect-downgrade", "plain"])
def test_tls(name: str, tmp_path: Path, tls: tuple[ssl.SSLContext, Path]) -> None:
    """Https works with the certificates named, and never falls back to http."""
    context, pem = tls
    with (
        FaultServer(BODY, name, tls=context) as server,
        Lab(tmp_path, trust=Trust(file=str(pem))) as lab,
    ):
        url = server.url.replace("127.0.0.1", "localhost")
        ended = lab.fetch(asking(url, headers=SECRETS))
        assert not server.insecure.requests
    if name == "plain":
        assert ended.body == BODY
    else:
        assert ended.body is None
        assert ended.row.failure_detail.startswith("redirect-scheme: ")


def test_an_unknown_certificate_is_a_named_error(tmp_path: Path, tls: tuple[ssl.SSLContext, Path]) -> None:
    """A certificate nobody vouches for is refused at once, and nothing is sent."""
    context, _ = tls
    with FaultServer(BODY, tls=context) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(asking(server.url, headers=SECRETS))
        assert not server.requests
    assert ended.row.failure_detail.startswith("certificate: ")


# Names and passwords kept for a host.


def lab_with(home: Path, *, netrc: str = "", environment: Mapping[str, str] | None = None) -> Lab:
    """A lab with this netrc and these variables for proxies."""
    file = home / "netrc"
    file.write_text(netrc)
    transport = CurlTransport(
        deadlines=QUICK,
        trust=Trust(),
        user_agent="test",
        proxies=Proxies.from_environment(environment or {}),
        netrc=str(file),
    )
    return Lab(home / "home", transport=transport)


def test_netrc_is_used_for_the_host_it_names(tmp_path: Path) -> None:
    """The name and password of a host go there, and not to the host it redirects to."""
    netrc = f"machine 127.0.0.1 login me password {CANARY}\n"
    with FaultServer(BODY, "redirect-host-port") as server, lab_with(tmp_path, netrc=netrc) as lab:
        ended = lab.fetch(asking(server.url))
        assert all(bears(request) for request in server.requests)
        assert not any(bears(request) for request in server.second.requests)
        assert silent(ended, lab)
    assert ended.body == BODY


@pytest.mark.parametrize(
    "netrc",
    [
        f"default login me password {CANARY}\n",
        f"machine localhost login me password {CANARY}\n",
    ],
)
def test_netrc_is_not_used_where_a_redirect_leads(netrc: str, tmp_path: Path) -> None:
    """Whoever can redirect must not choose to whom a password goes (CVE-2024-11053 is of this kind)."""
    with FaultServer(BODY, "redirect-host-port") as server, lab_with(tmp_path, netrc=netrc) as lab:
        ended = lab.fetch(asking(server.url))
        assert not any(bears(request) for request in server.second.requests)
    assert ended.body == BODY


def test_a_header_goes_before_netrc(tmp_path: Path) -> None:
    """Who gives an Authorization header means it."""
    netrc = "machine 127.0.0.1 login me password other\n"
    with OriginServer(BODY) as server, lab_with(tmp_path, netrc=netrc) as lab:
        lab.fetch(asking(server.url, headers=SECRETS))
        assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {CANARY}"}


# Proxies.


class Proxy:
    """A proxy on loopback: plain requests and CONNECT.

    Args:
        guarded: Whether it wants `me:CANARY`.
        leads_to: A port of this machine that it takes for every host's, or 0.
    """

    def __init__(self, *, guarded: bool = False, leads_to: int = 0) -> None:
        self.guarded = guarded
        self.leads_to = leads_to
        self.heads: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop, self._stopping = socket.socketpair()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.close()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._stop.close()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while self._listener in select.select([self._listener, self._stop], [], [])[0]:
            client, _ = self._listener.accept()
            self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                if client not in select.select([client, self._stop], [], [])[0]:
                    return
                data = client.recv(65_536)
                if not data:
                    return
                head += data
            text = head.decode("latin-1")
            self.heads.append(text)
            wanted = base64.b64encode(f"me:{CANARY}".encode()).decode()
            if self.guarded and f"Proxy-Authorization: Basic {wanted}" not in text:
                client.sendall(
                    b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            self._lead(client, text)

    def _lead(self, client: socket.socket, text: str) -> None:
        method, target, _ = text.split(" ", 2)
        parts = urlsplit(target if method != "CONNECT" else f"//{target}")
        address = ("127.0.0.1", self.leads_to) if self.leads_to else (parts.hostname or "", parts.port or 80)
        with socket.create_connection(address) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Yes\r\n\r\n")
            else:
                lines = [
                    line
                    for line in text.split("\r\n")[1:]
                    if not line.lower().startswith(("proxy-", "connection:"))
                ]
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                request = "\r\n".join([f"{method} {path} HTTP/1.1", "Connection: close", *lines])
                server.sendall(request.encode("latin-1"))
            self._relay(client, server)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        while True:
            ready = select.select([client, server, self._stop], [], [])[0]
            if self._stop in ready:
                return
            for sock in ready:
                data = sock.recv(65_536)
                if not data:
                    return
                other[sock].sendall(data)


def test_a_plain_proxy(tmp_path: Path) -> None:
    """Http goes through the proxy the environment names, whose credentials the server never sees."""
    with OriginServer(BODY) as server, Proxy(guarded=True) as proxy:
        environment = {"http_proxy": f"http://me:{CANARY}@{proxy.address}"}
        with lab_with(tmp_path, environment=environment) as lab:
            ended = lab.fetch(asking(server.url))
            assert silent(ended, lab)
        assert ended.body == BODY
        assert proxy.heads[0].startswith(f"GET {server.url} ")
        assert not any(bears(request) for request in server.requests)


def test_a_tunnel(tmp_path: Path, tls: tuple[ssl.SSLContext, Path]) -> None:
    """Https goes through CONNECT, and the proxy sees neither path nor credentials of the server."""
    context, pem = tls
    with OriginServer(BODY, tls=context) as server, Proxy() as proxy:
        transport = CurlTransport(
            deadlines=QUICK,
            trust=Trust(file=str(pem)),
            user_agent="test",
            proxies=Proxies.from_environment({"https_proxy": f"http://{proxy.address}"}),
        )
        with Lab(tmp_path, transport=transport) as lab:
            url = server.url.replace("127.0.0.1", "localhost")
            ended = lab.fetch(asking(url, headers=SECRETS))
        assert ended.body == BODY
        assert all(head.startswith(f"CONNECT localhost:{server.port} ") for head in proxy.heads)
        assert proxy.heads
        assert not any(CANARY in head or "model.bin" in head for head in proxy.heads)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_407_is_a_named_error(scheme: str, tmp_path: Path) -> None:
    """A proxy that wants credentials is told of by name at once, whether it is asked for a page or for a tunnel."""
    with OriginServer(BODY) as server, Proxy(guarded=True) as proxy:
        environment = {f"{scheme}_proxy": f"http://{proxy.address}"}
        with lab_with(tmp_path, environment=environment) as lab:
            ended = lab.fetch(asking(server.url.replace("http:", f"{scheme}:"), headers=SECRETS))
        assert not server.requests
        assert len(proxy.heads) <= 2
    assert ended.row.result is Result.FAILURE
    assert ended.row.failure_reason in (FailureReason.FETCH_ERROR, FailureReason.BAD_STATUS)
    assert "the proxy wants credentials" in ended.row.failure_detail


def test_no_proxy(tmp_path: Path) -> None:
    """Hosts that `no_proxy` names are reached without it."""
    with OriginServer(BODY) as server, Proxy() as proxy:
        environment = {"http_proxy": f"http://{proxy.address}", "no_proxy": "10.0.0.0/8, 127.0.0.1"}
        with lab_with(tmp_path, environment=environment) as lab:
            ended = lab.fetch(asking(server.url))
        assert ended.body == BODY
        assert not proxy.heads


def test_libcurl_does_not_ask_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which proxy is used is decided in one place: who gives none gets none."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with OriginServer(BODY) as server, lab_with(tmp_path) as lab:
        ended = lab.fetch(asking(server.url))
    assert ended.body == BODY


def test_what_was_public_does_not_lead_inwards(tmp_path: Path) -> None:
    """A redirect from a name to an address literal further in is refused, and nothing is sent there."""

    def inwards(exchange: Exchange) -> None:
        exchange.send(text_reply(302, "").but(location=server.second.url))

    with OriginServer(BODY, inwards) as server, Proxy(leads_to=server.port) as proxy:
        # A name that only the proxy can place: to us it might be anywhere.
        environment = {"http_proxy": f"http://{proxy.address}"}
        with lab_with(tmp_path, environment=environment) as lab:
            url = server.url.replace("127.0.0.1", "model.localhost.example")
            ended = lab.fetch(asking(url, headers=SECRETS))
        assert not server.second.requests
    assert ended.row.failure_detail.startswith("redirect-private: ")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server context with a certificate of our own for "localhost", and the file that vouches for it."""
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    return server_context(pem), pem
