"""A small HTTP/1.1 origin on raw sockets: well-behaved by itself, and able to misbehave at every byte.

One thread a connection. It is alone on purpose: no framework would let a handler send half a header and an RST.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bgfetch.errors import InvalidRequest
from bgfetch.testing.content import Content
from bgfetch.testing.exchange import Connection, Exchange, Handler
from bgfetch.testing.listener import Listener
from bgfetch.testing.message import SeenRequest

__all__ = ["OriginServer", "plain"]


def plain(exchange: Exchange) -> None:
    """Answer as a correct origin does: GET, HEAD, ranges, If-Range, If-None-Match, 416."""
    exchange.send(exchange.correct())


class OriginServer:
    """Serves bodies on 127.0.0.1, on a port that the OS chose, from the moment it is made until `close()`.

    Args:
        bodies: What to serve: bytes or a file under "/model.bin", or a mapping of paths ("/a/b.bin") to them.
        handler: Answers each request; well-behaved unless given.
        tls: Context with the server's certificate, for https.
        rate: Body bytes a second on each connection; 0 = as fast as it goes.
        latency: Seconds before each reply.
        repr_digest: Whether to send `Repr-Digest` (RFC 9530).

    Raises:
        InvalidRequest: There is nothing to serve, or a path does not start with "/".
    """

    def __init__(
        self,
        bodies: bytes | Path | Mapping[str, bytes | Path],
        handler: Handler = plain,
        *,
        tls: ssl.SSLContext | None = None,
        rate: float = 0.0,
        latency: float = 0.0,
        repr_digest: bool = False,
    ) -> None:
        self.contents = _contents(bodies)
        self.rate = rate
        self.latency = latency
        self.repr_digest = repr_digest
        self.requests: list[SeenRequest] = []
        self.replies: Counter[int] = Counter()
        self.bytes_sent = 0
        self.connections = 0
        self.cuts = 0
        self.stopping = threading.Event()
        self._handler = handler
        self._tls = tls
        self._lock = threading.Condition()
        self._open: dict[Connection, threading.Thread] = {}
        self._others: dict[str, OriginServer] = {}
        self._main_path = next(iter(self.contents))
        self._listener = Listener()
        self._acceptor = threading.Thread(target=self._accept, name="origin", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.port

    @property
    def url(self) -> str:
        """The URL of the first body."""
        return self.url_of(self._main_path)

    @property
    def content(self) -> Content:
        """The first body with its validators; the version that a client must end with."""
        return self.contents[self._main_path]

    @property
    def body(self) -> bytes:
        """The bytes that a client must end with."""
        return self.content.read()

    @property
    def sha256(self) -> str:
        """Digest of the bytes that a client must end with, 64 hex digits."""
        return self.content.sha256

    @property
    def second(self) -> OriginServer:
        """Another origin (same scheme, another port) with the same bodies; made when first asked for."""
        return self._other("second", self._tls)

    @property
    def insecure(self) -> OriginServer:
        """Another origin that speaks http, whatever this one speaks; made when first asked for."""
        return self._other("insecure", None)

    def url_of(self, target: str, *, host: str = "127.0.0.1") -> str:
        """The absolute URL of a path, under another name of this host if given."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{target}"

    def answer_with(self, handler: Handler) -> None:
        """Let this handler answer from the next request on."""
        self._handler = handler

    def heal(self) -> None:
        """Be reachable and well-behaved from the next request on."""
        self._handler = plain
        self.rate = self.latency = 0.0
        self._listener.up()

    def replace(self, body: bytes | Path, *, path: str | None = None) -> None:
        """Serve other bytes, under other validators, from the next request on."""
        self.replace_content(Content.of(body), path=path)

    def replace_content(self, content: Content, *, path: str | None = None) -> None:
        """Serve this content, under the validators it has, from the next request on."""
        self.contents[path or self._main_path] = content

    def down(self, seconds: float | None = None, *, silent: bool = False) -> None:
        """Cut every connection and refuse new ones (silent: let them wait), until `up()` or for so many seconds."""
        self._listener.down(seconds, silent=silent)
        self.cut_connections()

    def up(self) -> None:
        """Accept connections again."""
        self._listener.up()

    def cut_connections(self) -> None:
        """End every connection that is open now."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.kill()

    def wait_for(self, said: Callable[[], object], timeout: float | None = 10.0) -> bool:
        """Wait until this is so of `requests`, `replies`, `bytes_sent` or `cuts`, or for so many seconds; whether it is.

        Args:
            said: Looks; called with each change of one of them.
            timeout: Seconds; None for as long as it takes.
        """
        with self._lock:
            return bool(self._lock.wait_for(said, timeout))

    def count_bytes(self, count: int) -> None:
        """Add body bytes to `bytes_sent`; for handlers that write by themselves."""
        with self._lock:
            self.bytes_sent += count
            self._lock.notify_all()

    def count_reply(self, status: int) -> None:
        """Count a reply with this status in `replies`; for handlers that write by themselves."""
        with self._lock:
            self.replies[status] += 1
            self._lock.notify_all()

    def count_cut(self) -> None:
        """Count a body that broke off in `cuts`; for handlers that write by themselves."""
        with self._lock:
            self.cuts += 1
            self._lock.notify_all()

    def close(self) -> None:
        """Close everything and wait for every thread; the second time it does nothing.

        Raises:
            RuntimeError: A handler did not end: it waits for something that is neither the client nor the server.
        """
        self.stopping.set()
        self._listener.close()
        self._acceptor.join()
        with self._lock:
            threads = list(self._open.values())
        self.cut_connections()
        for thread in threads:
            thread.join(5.0)
        for other in self._others.values():
            other.close()
        if any(thread.is_alive() for thread in threads):
            raise RuntimeError("a handler of the test server did not end")

    def _other(self, name: str, tls: ssl.SSLContext | None) -> OriginServer:
        with self._lock:
            if name not in self._others:
                other = OriginServer(b"", tls=tls, rate=self.rate, latency=self.latency)
                other.contents = self.contents
                other._main_path = self._main_path
                self._others[name] = other
            return self._others[name]

    def _accept(self) -> None:
        while (sock := self._listener.accept()) is not None:
            connection = self._connected(sock)
            if connection is None:
                continue
            name = f"origin-{self.port}-{connection.number}"
            thread = threading.Thread(target=self._serve, args=(connection,), name=name, daemon=True)
            with self._lock:
                self._open[connection] = thread
            thread.start()

    def _connected(self, sock: socket.socket) -> Connection | None:
        number, self.connections = self.connections, self.connections + 1
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                # The handshake may take for ever; it belongs in the connection's own thread.
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError):  # the client is gone already
            sock.close()
            return None
        return Connection(sock, number=number)

    def _serve(self, connection: Connection) -> None:
        clean = False
        # OSError is how a client that went away, an RST or our own close() shows here: the end of a connection.
        with contextlib.suppress(OSError):
            if isinstance(connection.sock, ssl.SSLSocket):
                connection.sock.do_handshake()
            clean = self._answer_all(connection)
        connection.close(clean=clean)
        with self._lock:
            del self._open[connection]

    def _answer_all(self, connection: Connection) -> bool:
        while (request := connection.next_request()) is not None:
            with self._lock:
                self.requests.append(request)
                self._lock.notify_all()
                exchange = Exchange(self, connection, request, number=len(self.requests) - 1)
            if self.latency:
                exchange.pause(self.latency)
            self._handler(exchange)
            if not exchange.keep_alive:
                return exchange.clean
        return True


def _contents(bodies: bytes | Path | Mapping[str, bytes | Path]) -> dict[str, Content]:
    named = {"/model.bin": bodies} if isinstance(bodies, bytes | Path) else bodies
    if not named or not all(path.startswith("/") for path in named):
        raise InvalidRequest('an origin needs at least one body, under a path like "/model.bin"')
    return {path: Content.of(body) for path, body in named.items()}
