"""HTTP connections as the daemon takes them: only of peers it knows, not too many of one, and none that only sits there."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bgfetch.daemon.guard import TRUSTED

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = ["Peers", "peer_uid"]

_HEAD_WITHIN: Final = 10.0  # s
_MOST: Final = 64  # connections of one address over TCP
_PEER_CREDENTIALS: Final = struct.Struct("3i")  # ucred: pid, uid, gid
_LOCAL_PEERCRED: Final = 1  # macOS: struct xucred, whose second number is the uid


def peer_uid(connection: socket.socket) -> int | None:
    """Whose process is at the other end of a Unix socket; None where the system does not say."""
    if hasattr(socket, "SO_PEERCRED"):
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        return int(_PEER_CREDENTIALS.unpack(credentials)[1])
    if hasattr(socket, "LOCAL_PEERCRED"):  # pragma: no cover - macOS
        return int(struct.unpack("2I", connection.getsockopt(0, _LOCAL_PEERCRED, 8))[1])
    return None  # pragma: no cover - elsewhere the modes of the socket and its directory decide


class Peers(H11Protocol):
    """One connection."""

    counts: Counter[str] = Counter()  # noqa: RUF012 - of the process: connections are made by uvicorn

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, TRUSTED: False}, _loop)
        self._deadline: asyncio.TimerHandle | None = None
        self._counted = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or not."""
        connection = transport.get_extra_info("socket")
        if connection.family == getattr(socket, "AF_UNIX", None):
            if peer_uid(connection) not in (None, 0, os.getuid()):
                transport.abort()
                return
            self.app_state[TRUSTED] = True
        else:
            address = str(transport.get_extra_info("peername")[0])
            if self.counts[address] >= _MOST:
                transport.write(
                    b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                transport.close()
                return
            self.counts[address] += 1
            self._counted = address
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self._counted:
            self.counts[self._counted] -= 1
        self._head_came()
        if self.transport is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head must become a head in time, also those of a second one on the same connection."""
        before = self.cycle
        if self._deadline is None and self.conn.their_state is h11.IDLE:
            self._await_head()
        super().data_received(data)
        if self.cycle is not before:
            self._head_came()

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(_HEAD_WITHIN, self._give_up)

    def _head_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self.transport.abort()
