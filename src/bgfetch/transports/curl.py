"""HTTP by libcurl: one multi handle on a thread of its own.

libcurl does names, connections, TLS, HTTP/1.1 and 2, proxies, netrc. It follows no redirect and sends no credential
of ours that core.urls did not grant for that hop. Deadlines and head limits are our own: per-read time-outs do not
stop a peer that drips.
"""

from __future__ import annotations

import collections
import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pycurl

from bgfetch.core.model import Fault, Headers, ReplyHead
from bgfetch.core.urls import allowed_address, redacted
from bgfetch.transports.base import Deadlines, Exchange, Receiver
from bgfetch.transports.faults import disk_fault, fault_of, tunnel_fault
from bgfetch.transports.proxies import Proxies

__all__ = ["CurlTransport", "Trust"]

_HEAD_LINES = 100
_HEAD_BYTES = 64 << 10
_DRAIN = 64 << 10  # a short unwanted body is read to its end, so that its connection can be used again
_TICK = 1.0
_SUPPRESS_CONNECT_HEADERS = 265  # CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl does not name
_STOPPED = Fault("stopped", "stopped on request", transient=True)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe over TLS: a file of certificates, a directory of them, or "" for libcurl's own choice."""

    file: str = ""
    directory: str = ""


class _Transfer:
    """One exchange under way; lives on the loop's thread."""

    def __init__(self, exchange: Exchange, receiver: Receiver, deadlines: Deadlines) -> None:
        self.exchange = exchange
        self.receiver = receiver
        self.deadlines = deadlines
        self.fault: Fault | None = None
        self.finished = False
        self._paused_at: float | None = None
        self.head_done = False
        self.began = self.heard = self.window_from = time.monotonic()
        self.window_bytes = 0
        self._lines: list[bytes] = []
        self._line_count = 0
        self._byte_count = 0
        self._left: int | None = None  # bytes of the body still to come, where the head says so

    def on_header(self, line: bytes) -> int | None:
        if self.head_done:  # a trailer
            return None
        self._line_count += 1
        self._byte_count += len(line)
        if self._line_count > _HEAD_LINES or self._byte_count > _HEAD_BYTES:
            where = redacted(self.exchange.url)
            self.fault = Fault("header-bomb", f"{where}: the reply's head is larger than any honest one")
            return -1
        if line not in (b"\r\n", b"\n"):
            self._lines.append(line)
            return None
        return self._head_complete()

    def _head_complete(self) -> int | None:
        lines, self._lines = self._lines, []
        status = _status(lines[0]) if lines else 0
        if 100 <= status < 200:
            return None
        self.head_done = True
        self.heard = self.window_from = time.monotonic()
        pairs = (line.decode("latin-1").partition(":")[::2] for line in lines[1:] if b":" in line)
        reply = ReplyHead(self.exchange.url, status, Headers(pairs))
        self._left = _length(reply)
        wanted = False
        with self._disk_errors():
            wanted = self.receiver.head(reply)
        return None if wanted else self._decline(abort=-1)

    def _decline(self, *, abort: int) -> int | None:
        """Nothing more is wanted: read a short rest, so that the connection can be used again, or cut a long one."""
        self.finished = self.fault is None
        short = self._left is not None and self._left <= _DRAIN
        return None if self.finished and short else abort

    def on_body(self, chunk: bytes) -> int | None:
        self.heard = time.monotonic()
        self.window_bytes += len(chunk)
        if self._left is not None:
            self._left -= len(chunk)
        if self.finished:
            return None
        try:  # not `_disk_errors`: this runs 65,000 times a GiB
            if self.receiver.body(chunk):
                return None
        except OSError as error:
            self.fault = disk_fault(error)
        return self._decline(abort=0)

    def on_upload(self, _total: int, _got: int, _upload_total: int, sent: int) -> int:
        self.receiver.sent(sent)
        return 0

    def on_connected(self, address: str, _local: str, _port: int, _local_port: int) -> int:
        inside = self.exchange.public_only
        if not allowed_address(address, named_by_person=not inside, came_from_public=inside):
            where = redacted(self.exchange.url)
            detail = f"{where}: what was public led to {address}, which is not"
            self.fault = Fault("redirect-private", detail)
            return int(pycurl.PREREQFUNC_ABORT)
        self.receiver.connected(address)
        return int(pycurl.PREREQFUNC_OK)

    @property
    def paused(self) -> bool:
        return self._paused_at is not None

    def pause(self) -> None:
        self._paused_at = time.monotonic()

    def resume(self) -> None:
        """Let the deadlines go on from where they stood still."""
        if self._paused_at is not None:
            stood = time.monotonic() - self._paused_at
            self.began, self.heard, self.window_from = (
                self.began + stood,
                self.heard + stood,
                self.window_from + stood,
            )
        self._paused_at = None

    def tick(self, now: float) -> Fault | None:
        """What is overdue, if anything is."""
        with self._disk_errors():
            self.receiver.tick()
        if self.fault is not None or self.paused:
            return self.fault
        where, limit = redacted(self.exchange.url), self.deadlines
        if not self.head_done:
            waited = now - max(self.began, self.heard) if self.exchange.body else now - self.began
            if waited > limit.head:
                return Fault(
                    "stall", f"{where}: no complete reply head within {limit.head:g} s", transient=True
                )
            return None
        if now - self.heard > limit.silence:
            return Fault("stall", f"{where}: no byte for {limit.silence:g} s", transient=True)
        if now - self.window_from > limit.window:
            if self.window_bytes < limit.least_rate * limit.window:
                return Fault(
                    "stall", f"{where}: fewer than {limit.least_rate} bytes a second", transient=True
                )
            self.window_from, self.window_bytes = now, 0
        return None

    def over(self, code: int) -> None:
        """Tell the receiver how it ended."""
        if self.fault is not None:
            self.receiver.failed(self.fault)
        elif code == 0 or self.finished:
            if self.head_done:
                self.receiver.ended()
            else:
                self.receiver.failed(fault_of(8, redacted(self.exchange.url)))
        else:
            self.receiver.failed(fault_of(code, redacted(self.exchange.url)))

    @contextlib.contextmanager
    def _disk_errors(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a private context manager
        try:
            yield
        except OSError as error:
            self.fault = disk_fault(error)


class CurlTransport:
    """`Transport` over libcurl.

    Args:
        deadlines: When a peer is given up.
        trust: Certificates to believe.
        user_agent: What to call ourselves.
        proxies: What stands between us and servers.
        netrc: File of names and passwords by host; "" for libcurl's own choice, `~/.netrc`.
    """

    def __init__(
        self,
        *,
        deadlines: Deadlines,
        trust: Trust,
        user_agent: str,
        proxies: Proxies | None = None,
        netrc: str = "",
    ) -> None:
        self._proxies = proxies or Proxies()
        self._netrc = netrc
        self._deadlines = deadlines
        self._every = min(_TICK, deadlines.head / 4, deadlines.silence / 4)  # seconds a deadline may be late
        self._trust = trust
        self._user_agent = user_agent
        self._transfers: dict[int, tuple[_Transfer, pycurl.Curl]] = {}
        self._by_handle: dict[int, int] = {}
        self._spare: list[pycurl.Curl] = []
        self._errands: collections.deque[Callable[[], None]] = collections.deque()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._timer_at: float | None = None
        self._closing = False
        self._closed = False
        self._lock = threading.Lock()  # between the last errand and the end of the thread
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 64)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="bgfetch-curl", daemon=True)
        self._thread.start()

    def start(self, exchange: Exchange, receiver: Receiver) -> None:
        """Begin; the receiver hears of the end in every case."""
        if not self._send(lambda: self._begin(exchange, receiver)):
            receiver.failed(_STOPPED)

    def stop(self, flight: int) -> None:
        """Give this exchange up; the receiver hears `failed` with kind "stopped", unless it ended before."""
        self._send(lambda: self._finish(flight, 0, _STOPPED))

    def pause(self, flight: int) -> None:
        """Take no more bytes of this exchange until `resume`."""
        if threading.current_thread() is self._thread:  # from a receiver: before libcurl reads on
            self._set_paused(flight, paused=True)
        else:
            self._send(lambda: self._set_paused(flight, paused=True))

    def resume(self, flight: int) -> None:
        """Go on after `pause`."""
        self._send(lambda: self._set_paused(flight, paused=False))

    def close(self) -> None:
        """Give everything up and end the thread."""
        self._closing = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _send(self, errand: Callable[[], None]) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._errands.append(errand)
        self._wake()
        return True

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # a full pipe wakes as well as one byte
            self._wake_write.send(b"\0")

    def _run(self) -> None:
        next_tick = time.monotonic() + self._every
        try:
            while not self._closing:
                now = time.monotonic()
                until = next_tick if self._timer_at is None else min(next_tick, self._timer_at)
                for key, events in self._selector.select(max(0.0, until - now)):
                    self._on_ready(key.fileobj, events)
                if self._timer_at is not None and time.monotonic() >= self._timer_at:
                    self._timer_at = None
                    self._act(pycurl.SOCKET_TIMEOUT, 0)
                while self._errands:
                    self._errands.popleft()()
                self._reap()
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + self._every
                    self._tick(now)
        finally:
            self._shut_down()

    def _on_ready(self, source: object, events: int) -> None:
        if source is self._wake_read:
            with contextlib.suppress(BlockingIOError):
                while self._wake_read.recv(4096):
                    pass
            return
        mask = (pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0) | (
            pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0
        )
        assert isinstance(source, int)  # noqa: S101 - libcurl gives descriptors
        self._act(source, mask)

    def _act(self, fd: int, mask: int) -> None:
        self._multi.socket_action(fd, mask)

    def _on_socket(self, what: int, fd: int, _multi: object, _data: object) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)
        events = (selectors.EVENT_READ if what & pycurl.POLL_IN else 0) | (
            selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        )
        if what != pycurl.POLL_REMOVE and events:
            self._selector.register(fd, events)

    def _on_timer(self, milliseconds: int) -> None:
        self._timer_at = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _begin(self, exchange: Exchange, receiver: Receiver) -> None:
        transfer = _Transfer(exchange, receiver, self._deadlines)
        handle = self._spare.pop() if self._spare else pycurl.Curl()
        try:
            self._configure(handle, transfer)
            self._multi.add_handle(handle)
        except (pycurl.error, ValueError, UnicodeError) as error:
            handle.close()
            receiver.failed(Fault("url", f"{redacted(exchange.url)}: the request cannot be sent ({error})"))
            return
        self._transfers[exchange.flight] = (transfer, handle)
        self._by_handle[id(handle)] = exchange.flight

    def _configure(self, handle: pycurl.Curl, transfer: _Transfer) -> None:
        exchange = transfer.exchange
        put = handle.setopt
        put(pycurl.URL, exchange.url)
        put(pycurl.NOSIGNAL, 1)
        put(pycurl.FOLLOWLOCATION, 0)
        put(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        put(pycurl.PATH_AS_IS, 1)
        put(pycurl.HTTP09_ALLOWED, 0)
        put(_SUPPRESS_CONNECT_HEADERS, 1)
        put(pycurl.CONNECTTIMEOUT_MS, int(self._deadlines.connect * 1000))
        put(pycurl.TCP_KEEPALIVE, 1)
        put(pycurl.BUFFERSIZE, 256 << 10)
        put(pycurl.USERAGENT, self._user_agent)
        put(pycurl.HTTPHEADER, [*_field_lines(exchange), "Expect:"])
        version = pycurl.CURL_HTTP_VERSION_2TLS if exchange.multiplex else pycurl.CURL_HTTP_VERSION_1_1
        put(pycurl.HTTP_VERSION, version)
        put(pycurl.PIPEWAIT, int(exchange.multiplex))
        put(pycurl.HEADERFUNCTION, transfer.on_header)
        put(pycurl.WRITEFUNCTION, transfer.on_body)
        if self._trust.file:
            put(pycurl.CAINFO, self._trust.file)
        if self._trust.directory:
            put(pycurl.CAPATH, self._trust.directory)
        proxy = self._proxies.choose(exchange.url)
        put(pycurl.PROXY, proxy)  # "" keeps libcurl from asking the environment
        if not proxy:  # a proxy's address says nothing about the server's
            put(pycurl.PREREQFUNCTION, transfer.on_connected)
        if exchange.named_by_person:
            self._configure_netrc(handle)
        self._configure_method(handle, transfer)

    def _configure_netrc(self, handle: pycurl.Curl) -> None:
        handle.setopt(pycurl.NETRC, pycurl.NETRC_OPTIONAL)
        if self._netrc:
            handle.setopt(pycurl.NETRC_FILE, self._netrc)

    @staticmethod
    def _configure_method(handle: pycurl.Curl, transfer: _Transfer) -> None:
        exchange = transfer.exchange
        if exchange.body is not None:
            handle.setopt(pycurl.POSTFIELDS, exchange.body)
            handle.setopt(pycurl.NOPROGRESS, 0)
            handle.setopt(pycurl.XFERINFOFUNCTION, transfer.on_upload)
        if exchange.method == "HEAD":
            handle.setopt(pycurl.NOBODY, 1)
        elif exchange.method != "GET" or exchange.body is not None:
            handle.setopt(pycurl.CUSTOMREQUEST, exchange.method)

    def _reap(self) -> None:
        while True:
            waiting, done, failed = self._multi.info_read()
            for handle in done:
                self._finish(self._by_handle[id(handle)], 0)
            for handle, code, _message in failed:
                self._finish(self._by_handle[id(handle)], code)
            if not waiting:
                return

    def _finish(self, flight: int, code: int, fault: Fault | None = None) -> None:
        found = self._transfers.pop(flight, None)
        if found is None:
            return
        transfer, handle = found
        del self._by_handle[id(handle)]
        refused = handle.getinfo(pycurl.HTTP_CONNECTCODE) if code else 0
        if refused >= 300:
            fault = tunnel_fault(refused, redacted(transfer.exchange.url))
        self._multi.remove_handle(handle)
        handle.reset()
        self._spare.append(handle)
        if not transfer.finished:  # of a rest that nobody wants it does not matter how it ends
            transfer.fault = transfer.fault or fault
        transfer.over(code)

    def _set_paused(self, flight: int, *, paused: bool) -> None:
        found = self._transfers.get(flight)
        if found is None or found[0].paused == paused:
            return
        transfer, handle = found
        transfer.pause() if paused else transfer.resume()
        try:
            handle.pause(pycurl.PAUSE_RECV if paused else pycurl.PAUSE_CONT)
        except pycurl.error as error:  # bytes that libcurl had kept were not wanted, or could not be written
            self._finish(flight, error.args[0])

    def _tick(self, now: float) -> None:
        for flight, (transfer, _handle) in list(self._transfers.items()):
            fault = transfer.tick(now)
            if fault is not None:
                self._finish(flight, 0, fault)

    def _shut_down(self) -> None:
        with self._lock:
            self._closed = True
        while self._errands:
            self._errands.popleft()()
        for flight in list(self._transfers):
            self._finish(flight, 0, _STOPPED)
        for handle in self._spare:
            handle.close()
        self._multi.close()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()


def _status(line: bytes) -> int:
    parts = line.split(None, 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() and len(parts[1]) == 3 else 0


def _length(reply: ReplyHead) -> int | None:
    """What Content-Length says, or None where it does not count."""
    text = reply.headers.get("content-length", "")
    if "transfer-encoding" in reply.headers or not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    return int(text)


def _field_lines(exchange: Exchange) -> list[str]:
    return [f"{name}: {value}" if value else f"{name};" for name, value in exchange.headers]
