"""A client that sees what is on the wire, and takes nothing for granted: for proving that a fault is there."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Seen", "probe"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back.

    Args:
        raw: Every byte, as received.
        ended: "fin"; "reset", also for TLS that ends without a goodbye; "timeout"; "limit" when the probe had enough.
    """

    raw: bytes
    ended: str

    @property
    def head(self) -> str:
        """The status line and headers, without the empty line."""
        return self.raw.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        """Every byte after the head, in whatever transfer coding."""
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.head.split(" ", 2)[1])

    @property
    def headers(self) -> Mapping[str, str]:
        """Names lower-case; of repeated ones the last."""
        lines = (line.partition(":") for line in self.head.split("\r\n")[1:])
        return {name.strip().lower(): value.strip() for name, _, value in lines}


def probe(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    timeout: float = 5.0,
    limit: int = 1 << 24,
    tls: ssl.SSLContext | None = None,
) -> Seen:
    """Send one request with `Connection: close` and take what comes.

    Args:
        url: An http or https URL.
        method: As sent.
        headers: Further headers.
        timeout: How long to listen in all, seconds.
        limit: Most bytes to take.
        tls: Context for https.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    sock = socket.create_connection((parts.hostname or "", parts.port or 80), timeout)
    if parts.scheme == "https":
        context = tls or ssl.create_default_context()
        # By default Python takes an end of TLS without a goodbye, a truncation, for a good end.
        sock = context.wrap_socket(sock, server_hostname=parts.hostname, suppress_ragged_eofs=False)
    with sock:
        return _listen(sock, request, until=time.monotonic() + timeout, limit=limit)


def _listen(sock: socket.socket, request: bytes, *, until: float, limit: int) -> Seen:
    pieces: list[bytes] = []
    size = 0
    try:
        sock.sendall(request)
        while size < limit:
            sock.settimeout(max(0.001, until - time.monotonic()))
            piece = sock.recv(min(1 << 18, limit - size))
            if not piece:
                return Seen(b"".join(pieces), "fin")
            pieces.append(piece)
            size += len(piece)
    except TimeoutError:
        return Seen(b"".join(pieces), "timeout")
    except (ConnectionError, ssl.SSLError):
        return Seen(b"".join(pieces), "reset")
    return Seen(b"".join(pieces), "limit")
