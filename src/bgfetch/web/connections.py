"""HTTP connections of a stand-alone server: uvicorn's, with what a server of large files needs beside.

A head must come in time, a finished answer must be taken in time, and one address may not open connections without
end. To applications they offer two extensions for bytes of a body that more follow.

ASGI's "Zero Copy Send" (`http.response.zerocopysend`): they go from the page cache to the socket without passing through this
process. And `bgfetch.direct`, for those that must be copied: they go to the socket from the very buffer that they were read
into, which may be used again when the call returns. asyncio's transport keeps what the socket does not take at once, and
copies it once more to do so: a GiB over loopback took 0.50 s of processor that way, 0.38 directly.

Source: ASGI specification, extensions, "Zero Copy Send".
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bgfetch.web.sending import DIRECT, ZERO_COPY, Receive, Send

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = ["Connection", "Listener", "Network"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ZERO_COPY: Final[dict[str, Any]] = {ZERO_COPY: {}} if hasattr(os, "sendfile") else {}
_HEAD_WITHIN: Final = 15.0  # s
_END_WITHIN: Final = 60.0  # s for what of an answer is still in our buffer when it is over: less than a block
_MOST: Final = 256  # connections of one address; more are refused before a byte is read


class Connection(H11Protocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._application = self.app
        self._deadline: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is there."""
        super().connection_made(transport)
        _without_delay(transport)
        if transport.get_extra_info("sslcontext") is None:
            # A second descriptor of the same connection: the loop lets nobody write to a transport's own.
            self._socket = transport.get_extra_info("socket").dup()
            self._socket.setblocking(False)
            transport.set_write_buffer_limits(
                high=0
            )  # "drained" means that nothing of ours is left before the buffer's bytes
            self.app = self._extended
        self._within(_HEAD_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._in_time()
        if self._socket is not None:
            closing, self._socket = self._socket, None
            self.loop.remove_writer(closing)
            closing.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head must become a head in time, also those of a second one on the same connection."""
        before = self.cycle
        if self._deadline is None and self.conn.their_state is h11.IDLE:
            self._within(_HEAD_WITHIN)
        super().data_received(data)
        if self.cycle is not before:
            self._in_time()

    def timeout_keep_alive_handler(self) -> None:
        """Close it; who does not even take the end of the last answer loses it."""
        super().timeout_keep_alive_handler()
        self._within(_END_WITHIN)

    def _within(self, seconds: float) -> None:
        self._in_time()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    async def _extended(self, scope: Any, receive: Receive, send: Send) -> None:
        """The application, offered the extensions."""
        cycle = self.cycle  # of this request: the next one waits until it is over

        async def sending(message: Any) -> None:
            if message["type"] == DIRECT:
                await self._send_direct(cycle, message["body"])
            elif message["type"] == ZERO_COPY:
                await self._send_zero_copy(cycle, message)
            else:
                await send(message)

        extensions = {**scope.get("extensions", {}), DIRECT: {}, **_ZERO_COPY}
        await self._application({**scope, "extensions": extensions}, receive, sending)

    async def _send_direct(self, cycle: Any, body: memoryview) -> None:
        """What `bgfetch.direct` does.

        Raises:
            OSError: The client is gone.
        """
        await self._framed(cycle, body)
        if self._socket is None:
            raise ConnectionResetError("nobody takes it")
        await self.loop.sock_sendall(self._socket, body)

    async def _send_zero_copy(self, cycle: Any, message: Any) -> None:
        """What `http.response.zerocopysend` does.

        Raises:
            OSError: The client is gone, or the file became shorter.
        """
        count = message["count"]
        await self._framed(cycle, _Length(count))
        with os.fdopen(message["file"], "rb", buffering=0, closefd=False) as file:
            sent = await self.loop.sendfile(self.transport, file, message["offset"], count, fallback=False)
        if sent < count:
            raise OSError("the file ended early")

    async def _framed(self, cycle: Any, body: Any) -> None:
        """Have a part of a body with a Content-Length counted, and all that goes before it written."""
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            raise ConnectionResetError("nobody takes it")
        framed = self.conn.send_with_data_passthrough(h11.Data(data=body))
        if framed is None or len(framed) != 1:
            raise RuntimeError("only a body with a Content-Length can be sent past the transport")


class Listener(socket.socket):
    """A socket that listens, and hangs up on who has too many connections: before the handshake of TLS, which takes its time.

    Args:
        listening: The socket whose place it takes.
        proxies: Networks whose addresses may have any number: many clients come through each.
        most: Connections of one address.
    """

    def __init__(
        self, listening: socket.socket, proxies: Collection[Network] = (), *, most: int = _MOST
    ) -> None:
        family, kind, proto = listening.family, listening.type, listening.proto
        super().__init__(family, kind, proto, fileno=listening.detach())
        self._proxies = proxies
        self._most = most
        self._counts: Counter[bytes] = Counter()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection and its peer.

        Raises:
            ConnectionAbortedError: It is one too many, and closed; asyncio comes back for the next.
        """
        taken, peer = super().accept()
        address = ipaddress.ip_address(peer[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if any(address in network for network in self._proxies):
            return taken, peer
        client = address.packed[:8]  # all of IPv4; of IPv6 the /64, of which anybody has every address
        if self._counts[client] >= self._most:
            taken.close()
            raise ConnectionAbortedError("too many connections of one address")
        self._counts[client] += 1
        counted = _Counted(taken.family, taken.type, taken.proto, fileno=taken.detach())
        counted.closed = lambda: self._leave(client)
        return counted, peer

    def _leave(self, client: bytes) -> None:
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]


class _Counted(socket.socket):
    """A connection that says when it is closed. A second descriptor of it does not."""

    closed: Callable[[], None] | None = None

    def close(self) -> None:
        """Close it, and say so once."""
        super().close()
        if self.closed is not None:
            said, self.closed = self.closed, None
            said()


class _Length:
    """Stands for bytes that this process never sees, where their number is all that is asked."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


def _without_delay(transport: asyncio.Transport) -> None:
    """Send what is there at once: a head must not wait 40 ms for the acknowledgement of what went before.

    asyncio does so itself, but not for sockets that were made without naming their protocol.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
