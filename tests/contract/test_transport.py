"""What every transport promises, on each of them; and what only the wire can break, on libcurl."""

from __future__ import annotations

import errno
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from bgfetch.clock import SystemClock
from bgfetch.core.model import Fault, Headers, ReplyHead
from bgfetch.testing import Exchange as Served
from bgfetch.testing import FaultServer, Fuse, OriginServer
from bgfetch.testing.memory import Canned, MemoryTransport
from bgfetch.transports.base import Deadlines, Exchange, Transport
from bgfetch.transports.curl import CurlTransport, Trust
from bgfetch.transports.limited import LimitedTransport
from bgfetch.transports.loops import Loops

BODY = bytes(range(256)) * 4096  # 1 MiB
SOON = 10.0  # s; a bound for what should come at once
SHORT = Deadlines(connect=2.0, head=0.4, silence=0.4, least_rate=50_000, window=0.4)


@dataclass
class Told:
    """A receiver that keeps what it is told."""

    want_body: bool = True
    take: int | None = None
    error: OSError | None = None
    calls: list[str] = field(default_factory=list)
    got: bytearray = field(default_factory=bytearray)
    reply: ReplyHead | None = None
    fault: Fault | None = None
    on_body: Callable[[], None] = lambda: None
    over: threading.Event = field(default_factory=threading.Event)
    some: threading.Event = field(default_factory=threading.Event)
    threads: set[str] = field(default_factory=set)

    def connected(self, address: str) -> None:
        """Not kept: a proxy or a fake connects to nothing."""

    def tick(self) -> None:
        """Not kept: it comes by the clock."""

    def sent(self, count: int) -> None:
        """Not kept."""

    def head(self, reply: ReplyHead) -> bool:
        """Keep it."""
        self._called("head")
        self.reply = reply
        return self.want_body

    def body(self, chunks: Sequence[bytes]) -> bool:
        """Keep them."""
        self._called("body")
        assert all(chunks)
        assert 0 < sum(map(len, chunks)) <= 1 << 20
        if self.error is not None:
            raise self.error
        self.got += b"".join(chunks)
        self.some.set()
        self.on_body()
        return self.take is None or len(self.got) < self.take

    def ended(self) -> None:
        """A good end."""
        self._called("ended")
        self.over.set()

    def failed(self, fault: Fault) -> None:
        """Another one."""
        self._called("failed")
        self.fault = fault
        self.over.set()

    def _called(self, name: str) -> None:
        self.threads.add(threading.current_thread().name)
        if name != "body" or self.calls[-1:] != ["body"]:
            self.calls.append(name)


@dataclass
class Site:
    """A transport and where it finds the bodies "whole", "cut" (half, then it breaks), "quiet" (half, then nothing) and "endless"."""

    transport: Transport
    base: str
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def get(self, name: str, told: Told) -> int:
        """Start; the flight."""
        flight = next(self.numbers)
        self.transport.start(Exchange(flight, f"{self.base}/{name}"), told)
        return flight

    def fetch_whole(self) -> None:
        """Another exchange from beginning to end; what was asked of the transport before has been done then."""
        told = Told()
        self.get("whole", told)
        assert told.over.wait(SOON)
        assert told.got == BODY


def serve(exchange: Served) -> None:
    """The bodies of a `Site` on the wire."""
    name = exchange.request.path
    reply = exchange.correct(exchange.server.content)
    half = reply.length // 2
    if name == "/whole":
        exchange.send(reply)
    elif name == "/cut":
        exchange.send(reply, Fuse(half))
    elif name == "/quiet":
        exchange.write(reply.head())
        exchange.stream(reply.content.chunks(0, half))
        exchange.hold()
    elif name == "/endless":
        exchange.drop()
        exchange.write(reply.but(content_length=None, connection="close").head())
        exchange.stream(itertools.repeat(BODY))


def canned(exchange: Exchange) -> Canned:
    """The same without a wire."""
    head = ReplyHead(exchange.url, 200, Headers([("Content-Length", str(len(BODY)))]))
    chunks = [BODY[at : at + 65_536] for at in range(0, len(BODY), 65_536)]
    half = chunks[: len(chunks) // 2]
    match exchange.url.rpartition("/")[2]:
        case "cut":
            return Canned(head, half, Fault("truncated", "it broke", transient=True))
        case "quiet":
            return Canned(head, half, silent=True)
        case "endless":
            return Canned(ReplyHead(exchange.url, 200, Headers()), itertools.repeat(chunks[0]))
        case _:
            return Canned(head, chunks)


def curl(deadlines: Deadlines = Deadlines()) -> CurlTransport:  # noqa: B008 - frozen
    """The real one."""
    return CurlTransport(deadlines=deadlines, trust=Trust(), user_agent="test")


@pytest.fixture(params=["memory", "curl", "limited", "loops"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """Each implementation with something to fetch."""
    if request.param == "memory":
        transport = MemoryTransport(canned)
        yield Site(transport, "http://memory")
        transport.close()
        return
    with OriginServer(BODY, serve) as origin:
        real = curl()
        around: dict[str, Callable[[], Transport]] = {
            "limited": lambda: LimitedTransport(real, SystemClock()),
            "loops": lambda: Loops([curl(), real]),
        }
        transport_: Transport = around.get(request.param, lambda: real)()
        yield Site(transport_, f"http://127.0.0.1:{origin.port}")
        transport_.close()


def test_a_good_exchange_is_told_in_order(site: Site) -> None:
    """Head, body, end: each once, the body complete, on a thread of the transport's own."""
    told = Told()
    site.get("whole", told)
    assert told.over.wait(SOON)
    assert told.calls == ["head", "body", "ended"]
    assert told.got == BODY
    assert told.reply is not None
    assert (told.reply.status, told.reply.headers["content-length"]) == (200, str(len(BODY)))
    assert threading.current_thread().name not in told.threads
    assert len(told.threads) == 1


def test_a_broken_exchange_fails_after_its_bytes(site: Site) -> None:
    """What came is handed on before the failure, which says what broke and that trying again may help."""
    told = Told()
    site.get("cut", told)
    assert told.over.wait(SOON)
    assert told.calls == ["head", "body", "failed"]
    assert told.got == BODY[: len(BODY) // 2]
    assert told.fault is not None
    assert (told.fault.kind, told.fault.transient) == ("truncated", True)


def test_an_unwanted_body_is_not_delivered(site: Site) -> None:
    """Whoever declines the body after the head is told of a good end and of no byte."""
    told = Told(want_body=False)
    site.get("endless", told)
    assert told.over.wait(SOON)
    assert told.calls == ["head", "ended"]


def test_enough_is_enough(site: Site) -> None:
    """Whoever wants no more bytes gets none and is told of a good end, however much there is."""
    told = Told(take=1)
    site.get("endless", told)
    assert told.over.wait(SOON)
    assert told.calls == ["head", "body", "ended"]


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, "disk-full"), (errno.EIO, "disk")])
def test_a_full_disk_is_no_network_fault(site: Site, number: int, kind: str) -> None:
    """An OSError of the receiver ends the exchange under its own name."""
    told = Told(error=OSError(number, "no"))
    site.get("whole", told)
    assert told.over.wait(SOON)
    assert told.fault is not None
    assert told.fault.kind == kind


def test_stop_ends_a_silent_exchange(site: Site) -> None:
    """After `stop` the receiver hears "stopped", once, and stopping again changes nothing."""
    told = Told()
    flight = site.get("quiet", told)
    assert told.some.wait(SOON)
    site.transport.stop(flight)
    site.transport.stop(flight)
    assert told.over.wait(SOON)
    assert told.fault is not None
    assert told.fault.kind == "stopped"
    assert told.calls.count("failed") == 1


def test_stop_after_the_end_is_nothing(site: Site) -> None:
    """An exchange that ended is not ended twice; unknown ones are nobody's business."""
    told = Told()
    flight = site.get("whole", told)
    assert told.over.wait(SOON)
    for forget in (site.transport.stop, site.transport.pause, site.transport.resume):
        forget(flight)
        forget(999)
    site.fetch_whole()
    assert told.calls == ["head", "body", "ended"]


def test_a_paused_exchange_brings_nothing_until_it_is_resumed(site: Site) -> None:
    """From `pause` on no byte comes, while others go on; from `resume` on they come again."""
    told, more = Told(), threading.Event()
    flight = next(site.numbers)
    told.on_body = lambda: site.transport.pause(flight)
    site.transport.start(Exchange(flight, f"{site.base}/endless"), told)
    assert told.some.wait(SOON)
    site.fetch_whole()
    size = len(told.got)
    site.fetch_whole()
    assert len(told.got) == size
    told.on_body = more.set
    site.transport.resume(flight)
    assert more.wait(SOON)
    site.transport.stop(flight)
    assert told.over.wait(SOON)


def test_a_pause_that_comes_with_the_last_byte_is_no_failure(site: Site) -> None:
    """Whoever pauses at each byte, as a limit on speed may, gets all of them and a good end."""
    for _ in range(30):
        told, flight = Told(), next(site.numbers)

        def rest(flight: int = flight) -> None:
            site.transport.pause(flight)
            site.transport.resume(flight)

        told.on_body = rest
        site.transport.start(Exchange(flight, f"{site.base}/whole"), told)
        assert told.over.wait(SOON)
        assert told.fault is None
        assert told.got == BODY


def test_close_tells_everybody(site: Site) -> None:
    """When `close` has returned every receiver has heard of the end, and no thread is left."""
    busy = [Told() for _ in range(3)]
    for told in busy:
        site.get("quiet", told)
    for told in busy:
        assert told.some.wait(SOON)
    before = threading.active_count()
    site.transport.close()
    assert all(told.fault is not None and told.fault.kind == "stopped" for told in busy)
    assert threading.active_count() < before


def test_start_after_close_is_told_too(site: Site) -> None:
    """A receiver that comes too late hears "stopped" instead of nothing."""
    site.transport.close()
    told = Told()
    site.get("whole", told)
    assert told.over.wait(SOON)
    assert told.fault is not None
    assert told.fault.kind == "stopped"


# Only the wire can do these.


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stall-before-head", "head"),
        ("stall-in-head", "head"),
        ("drip-head", "head"),
        ("stall-body", "no byte for"),
        ("drip-body", "bytes a second"),
    ],
)
def test_deadlines(name: str, said: str) -> None:
    """A peer that is silent or drips, in its head or its body, is given up in time, and the fault says why."""
    with FaultServer(BODY, name) as origin:
        transport = curl(SHORT)
        told = Told()
        transport.start(Exchange(1, origin.url), told)
        assert told.over.wait(SOON)
        transport.close()
    assert told.fault is not None
    assert (told.fault.kind, told.fault.transient) == ("stall", True)
    assert said in told.fault.detail


def test_deadlines_stand_still_while_paused() -> None:
    """A pause longer than every deadline is no stall: the exchange ends well when it goes on."""
    with OriginServer(BODY, rate=2_000_000) as origin:
        transport = curl(SHORT)
        told, others = Told(), [Told() for _ in range(3)]
        told.on_body = lambda: transport.pause(1)
        transport.start(Exchange(1, origin.url), told)
        assert told.some.wait(SOON)
        told.on_body = lambda: None
        for number, other in enumerate(others, start=2):  # the time this takes is longer than the deadlines
            transport.start(Exchange(number, origin.url), other)
            assert other.over.wait(SOON)
        assert not told.over.is_set()
        transport.resume(1)
        assert told.over.wait(SOON)
        transport.close()
    assert told.fault is None
    assert told.got == BODY


@pytest.mark.parametrize("name", ["header-bomb", "long-header", "1xx-flood"])
def test_a_head_without_end_is_cut(name: str) -> None:
    """Memory is not taken from a peer's word: a head beyond 100 lines or 64 KiB ends the exchange for good."""
    with FaultServer(BODY, name) as origin:
        transport = curl()
        told = Told()
        transport.start(Exchange(1, origin.url), told)
        assert told.over.wait(SOON)
        transport.close()
    assert told.fault is not None
    assert (told.fault.kind, told.fault.transient) == ("header-bomb", False)


@pytest.mark.parametrize("short_by", [0, 1000])
def test_a_connection_is_used_again(short_by: int) -> None:
    """Who wants no more than came, or little less, does not cost the connection; the rest is not delivered."""
    with OriginServer(BODY) as origin:
        transport = curl()
        for number in range(3):
            told = Told(take=len(BODY) - short_by)
            transport.start(Exchange(number, origin.url), told)
            assert told.over.wait(SOON)
            assert told.calls == ["head", "body", "ended"]
            assert len(told.got) >= len(BODY) - short_by
        transport.close()
        assert origin.connections == 1


def test_what_nobody_wants_may_break() -> None:
    """A short rest that nobody waits for neither fails nor delays the exchange beyond its deadline."""
    with OriginServer({"/quiet": b"x" * 1000}, serve) as origin:
        transport = curl(SHORT)
        told = Told(want_body=False)
        transport.start(Exchange(1, origin.url), told)
        assert told.over.wait(SOON)
        transport.close()
    assert told.calls == ["head", "ended"]
