"""A listening socket on loopback that can be taken down and up again on the same port."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time

__all__ = ["Listener"]


class Listener:
    """Accepts connections on 127.0.0.1, on a port that the OS chose.

    While it is down the port stays ours: bound but not listening, which refuses every connection.
    """

    def __init__(self) -> None:
        self._sock = self._bound(0)
        self._sock.listen(128)
        self.port: int = self._sock.getsockname()[1]
        self._wake_out, self._wake_in = socket.socketpair()
        self._lock = threading.Lock()
        self._state = "up"
        self._until: float | None = None

    def accept(self) -> socket.socket | None:
        """The next connection, or None when the listener was closed."""
        while self._state != "closed":
            self._wait()
            if self._until is not None and time.monotonic() >= self._until:
                self.up()
            if self._state == "up":
                with contextlib.suppress(OSError):
                    sock, _ = self._sock.accept()
                    sock.setblocking(True)
                    return sock
        self._wake_out.close()
        return None

    def down(self, seconds: float | None = None, *, silent: bool = False) -> None:
        """Refuse connections, or let them wait unanswered, until `up()` or for so many seconds."""
        with self._lock:
            if self._state != "up":
                return
            self._state = "silent" if silent else "refusing"
            self._until = None if seconds is None else time.monotonic() + seconds
            if not silent:
                self._sock.close()
                self._sock = self._bound(self.port)
        self._wake()

    def up(self) -> None:
        """Accept connections again, also those that waited."""
        with self._lock:
            if self._state == "refusing":
                self._sock.listen(128)
            if self._state != "closed":
                self._state, self._until = "up", None
        self._wake()

    def close(self) -> None:
        """Stop for good; `accept()` returns None."""
        with self._lock:
            if self._state == "closed":
                return
            self._state = "closed"
            self._sock.close()
        self._wake()
        self._wake_in.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_in.send(b"!")

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector:
            with self._lock:
                if self._state == "closed":
                    return
                selector.register(self._wake_out, selectors.EVENT_READ)
                if self._state == "up":
                    selector.register(self._sock, selectors.EVENT_READ)
                until = self._until
            timeout = None if until is None else max(0.0, until - time.monotonic())
            if any(key.fileobj is self._wake_out for key, _ in selector.select(timeout)):
                self._wake_out.recv(4096)

    @staticmethod
    def _bound(port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.setblocking(False)
        return sock
