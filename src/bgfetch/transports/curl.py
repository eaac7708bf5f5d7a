"""HTTP by libcurl: one multi handle on a thread of its own.

libcurl does names, connections, TLS, HTTP/1.1 and 2, proxies, netrc. It follows no redirect and sends no credential
of ours that core.urls did not grant for that hop. Deadlines and head limits are our own (transports.transfer).
"""

from __future__ import annotations

import collections
import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable

import pycurl

from bgfetch.core.model import Fault
from bgfetch.core.urls import redacted
from bgfetch.transports.base import Deadlines, Exchange, Receiver
from bgfetch.transports.faults import tunnel_fault
from bgfetch.transports.proxies import Proxies
from bgfetch.transports.surroundings import Surroundings, Trust
from bgfetch.transports.transfer import Transfer

__all__ = ["CurlTransport", "Trust"]

_TICK = 1.0
_SUPPRESS_CONNECT_HEADERS = 265  # CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl does not name
_SILENT = 2.0  # s without a byte after which a transfer is not believed to survive a change of networks
_PATIENCE = (
    0.5  # s for libcurl to end; a resolver that is silent would hold it, and who waits for it, for long
)
_STOPPED = Fault("stopped", "stopped on request", transient=True)


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
        self._around = Surroundings(proxies or Proxies(), trust, netrc)
        self._deadlines = deadlines
        self._every = min(_TICK, deadlines.head / 4, deadlines.silence / 4)  # seconds a deadline may be late
        self._trust = trust
        self._changed_at: float | None = None  # when the network was last another one
        self._user_agent = user_agent
        self._transfers: dict[int, tuple[Transfer, pycurl.Curl]] = {}
        self._by_handle: dict[int, int] = {}
        self._spare: list[pycurl.Curl] = []
        self._unwanted: list[int] = []  # flights whose receivers want no more
        self._errands: collections.deque[Callable[[], None]] = collections.deque()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._timer_at: float | None = None
        self._closing = False
        self._closed = False
        self.bug: BaseException | None = None
        self._all_told = threading.Event()  # every receiver has heard of its end
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

    def network_changed(self) -> None:
        """The machine has a network again, or another one: use no connection made before, give up what is silent."""
        self._send(self._begin_anew)

    def close(self) -> None:
        """Give everything up and end the thread."""
        self._closing = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._all_told.wait()
            self._thread.join(_PATIENCE)

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
        try:
            self._loop()
        except BaseException as bug:
            self.bug = bug
            raise
        finally:
            try:
                self._shut_down()
            finally:
                self._all_told.set()  # also where that dies of the same bug: whoever closes must not wait for ever

    def _loop(self) -> None:
        next_tick = time.monotonic() + self._every
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
            self._hand_over()
            while self._unwanted:
                self._finish(self._unwanted.pop(), 0)
            self._reap()
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + self._every
                self._tick(now)

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
        self._hand_over()

    def _hand_over(self) -> None:
        """Give the receivers what has come: once a turn, since a call of each for every 16 KiB costs more than TLS."""
        for flight, (transfer, _handle) in list(self._transfers.items()):
            if transfer.holds and transfer.hand_over() is not None:
                self._unwanted.append(flight)

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

    def _trusted(self, exchange: Exchange) -> Trust:
        around = exchange.surroundings
        return self._trust if around is None or around.trust is None else around.trust

    def _begin_anew(self) -> None:
        self._changed_at = now = time.monotonic()
        for flight, (transfer, _handle) in list(self._transfers.items()):
            if transfer.silent(now) > _SILENT:
                where = redacted(transfer.exchange.url)
                fault = Fault("stall", f"{where}: silent, and the network is another one", transient=True)
                self._finish(flight, 0, fault)

    def _begin(self, exchange: Exchange, receiver: Receiver) -> None:
        transfer = Transfer(exchange, receiver, self._deadlines)
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

    def _configure(self, handle: pycurl.Curl, transfer: Transfer) -> None:
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
        put(pycurl.SOCKOPTFUNCTION, transfer.on_dialled)
        if self._changed_at is not None:
            put(pycurl.MAXLIFETIME_CONN, max(1, int(time.monotonic() - self._changed_at)))
        around, trust = exchange.surroundings or self._around, self._trusted(exchange)
        if trust.file:
            put(pycurl.CAINFO, trust.file)
        if trust.directory:
            put(pycurl.CAPATH, trust.directory)
        proxy = around.proxies.choose(exchange.url)
        put(pycurl.PROXY, proxy)  # "" keeps libcurl from asking the environment
        if not proxy:  # a proxy's address says nothing about the server's
            put(pycurl.PREREQFUNCTION, transfer.on_connected)
        if exchange.named_by_person:
            self._configure_netrc(handle, around.netrc)
        self._configure_method(handle, transfer)

    @staticmethod
    def _configure_netrc(handle: pycurl.Curl, file: str) -> None:
        handle.setopt(pycurl.NETRC, pycurl.NETRC_OPTIONAL)
        if file:
            handle.setopt(pycurl.NETRC_FILE, file)

    @staticmethod
    def _configure_method(handle: pycurl.Curl, transfer: Transfer) -> None:
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
        if flight in self._transfers and self._transfers[flight][0].holds:
            self._transfers[flight][0].hand_over()
        if flight not in self._transfers:
            return
        transfer, handle = self._transfers[flight]
        refused = handle.getinfo(pycurl.HTTP_CONNECTCODE) if code else 0
        if refused >= 300:
            fault = tunnel_fault(refused, redacted(transfer.exchange.url))
        del self._transfers[flight], self._by_handle[id(handle)]
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
        except pycurl.error as error:
            # Without a connection there is nothing to hold: the last byte was among those just handed over, and the end is told next.
            if error.args[0] != pycurl.E_BAD_FUNCTION_ARGUMENT:
                self._finish(
                    flight, error.args[0]
                )  # bytes that libcurl had kept were not wanted, or could not be written

    def _tick(self, now: float) -> None:
        for flight, (transfer, handle) in list(self._transfers.items()):
            fault = transfer.tick(now)
            if fault is None and transfer.dials and not handle.getinfo(pycurl.CONNECT_TIME):
                fault = transfer.unanswered(now)
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
        self._all_told.set()
        self._multi.close()  # waits for each name that is being looked up
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()


def _field_lines(exchange: Exchange) -> list[str]:
    return [f"{name}: {value}" if value else f"{name};" for name, value in exchange.headers]
