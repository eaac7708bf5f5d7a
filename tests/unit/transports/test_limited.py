"""How fast a limited transport lets bytes through: the decision with numbers, the whole with a transport of values."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from bgfetch.clock import SystemClock
from bgfetch.core.model import Fault, Headers, ReplyHead
from bgfetch.testing import OriginServer
from bgfetch.testing.memory import Canned, MemoryTransport
from bgfetch.transports.base import Deadlines, Exchange
from bgfetch.transports.curl import CurlTransport, Trust
from bgfetch.transports.limited import LimitedTransport, Throttle

CHUNK = 16_384


class Clock:
    """Moves only when it is told to."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """As the other one."""
        return self.time

    def monotonic(self) -> float:
        """Where it was put."""
        return self.time

    def chance(self) -> float:
        """None."""
        return 0.0


def through(throttle: Throttle, lanes: dict[int, int], *, seconds: float) -> dict[int, int]:
    """Bytes of each flight within so many seconds, when every flight (its lane given) brings chunks whenever it may."""
    now, got = 0.0, dict.fromkeys(lanes, 0)
    running = set(lanes)
    while now < seconds:
        for flight in sorted(running):
            got[flight] += CHUNK
            if throttle.came(flight, lanes[flight], CHUNK, now):
                running.discard(flight)
        until = throttle.next_due()
        now = now + 0.001 if running or until is None else until
        running |= set(throttle.due(now))
    return got


@pytest.mark.parametrize("flights", [1, 2, 7])
@pytest.mark.parametrize("rate", [50_000, 1_000_000])
def test_all_together_keep_the_rate(flights: int, rate: int) -> None:
    """Over ten seconds it is the rate, within the burst and a chunk each, however many share it."""
    throttle = Throttle()
    throttle.limit_all(rate, 0.0)
    got = through(throttle, {flight: flight for flight in range(flights)}, seconds=10.0)
    total = sum(got.values())
    assert 10 * rate * 0.95 <= total <= 10 * rate + rate / 4 + (flights + 1) * CHUNK


def test_a_lane_is_limited_besides() -> None:
    """The slow lane keeps its own rate; together they keep the common one."""
    throttle = Throttle()
    throttle.limit_all(1_000_000, 0.0)
    throttle.limit_lane(7, 100_000, 0.0)
    got = through(throttle, {1: 7, 2: 8}, seconds=10.0)
    assert 900_000 <= got[1] <= 1_000_000 + 100_000
    assert got[2] >= 8_000_000
    assert got[1] + got[2] <= 10_300_000


def test_no_limit_never_pauses() -> None:
    """Without limits, also without any more, nothing is held back."""
    throttle = Throttle()
    assert not throttle.came(1, 1, 1 << 30, 0.0)
    throttle.limit_all(1.0, 0.0)
    throttle.limit_lane(1, 1.0, 0.0)
    assert throttle.came(1, 1, 1000, 0.0)
    throttle.limit_all(None, 1.0)
    throttle.limit_lane(1, None, 1.0)
    assert throttle.due(1.0) == [1]
    assert not throttle.came(1, 1, 1 << 30, 2.0)


def test_a_changed_limit_changes_pauses_that_have_begun() -> None:
    """A higher rate ends a pause sooner, a lower one later."""
    throttle = Throttle()
    throttle.limit_all(1000.0, 0.0)
    assert throttle.came(1, 1, 10_250, 0.0)
    assert throttle.next_due() == 10.0
    throttle.limit_all(2000.0, 5.0)
    assert throttle.next_due() == pytest.approx(5 + (5250 - 500) / 2000)
    throttle.limit_all(100.0, 5.0)
    assert throttle.next_due() == pytest.approx(5 + (5250 - 25) / 100)


def test_what_is_over_is_forgotten() -> None:
    """Nobody is woken for an exchange that has ended."""
    throttle = Throttle()
    throttle.limit_all(1000.0, 0.0)
    throttle.came(1, 1, 10_000, 0.0)
    assert throttle.holds(1)
    throttle.forget(1)
    assert not throttle.holds(1)
    assert throttle.next_due() is None


class Count:
    """Counts bytes, and says when the exchange is over."""

    def __init__(self) -> None:
        self.count = 0
        self.over = threading.Event()
        self.first = threading.Event()

    def connected(self, address: str) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""

    def sent(self, count: int) -> None:
        """Nothing."""

    def head(self, _reply: ReplyHead) -> bool:
        """Go on."""
        return True

    def body(self, chunks: Sequence[bytes]) -> bool:
        """Count."""
        self.count += sum(map(len, chunks))
        self.first.set()
        return True

    def ended(self) -> None:
        """Over."""
        self.over.set()

    def failed(self, _fault: Fault) -> None:
        """Over."""
        self.over.set()


@pytest.fixture
def memory() -> Iterator[MemoryTransport]:
    """Ten chunks for everybody."""
    transport = MemoryTransport(
        lambda exchange: Canned(ReplyHead(exchange.url, 200, Headers()), [bytes(CHUNK)] * 10)
    )
    yield transport
    transport.close()


def test_the_clock_decides(memory: MemoryTransport) -> None:
    """While the clock stands still one chunk comes; a limit that is taken away lets the rest through."""
    limited, told = LimitedTransport(memory, Clock()), Count()
    limited.set_limit(1000)
    limited.start(Exchange(1, "http://memory/"), told)
    assert told.first.wait(5)
    other = Count()
    limited.start(Exchange(2, "http://memory/"), other)
    assert other.first.wait(5)  # what was to come of the first one would have come before
    assert told.count == CHUNK
    limited.set_limit(None)
    assert told.over.wait(5)
    assert told.count == 10 * CHUNK
    limited.close()


def test_a_callers_pause_outlives_the_limit(memory: MemoryTransport) -> None:
    """What somebody paused is not resumed because a limit allows it; what a limit holds is not resumed by somebody."""
    limited, told = LimitedTransport(memory, Clock()), Count()
    limited.set_lane_limit(5, 1000)
    limited.start(Exchange(1, "http://memory/", lane=5), told)
    assert told.first.wait(5)
    limited.pause(1)
    limited.resume(1)
    limited.pause(1)
    limited.set_lane_limit(5, None)
    other = Count()
    limited.start(Exchange(2, "http://memory/"), other)
    assert other.over.wait(5)
    assert not told.over.is_set()
    limited.resume(1)
    assert told.over.wait(5)
    limited.close()


def test_a_real_transfer_takes_its_time() -> None:
    """N bytes at R bytes a second, over libcurl, take nearly N / R seconds at least."""
    body, rate = bytes(1_000_000), 600_000
    with OriginServer(body) as origin:
        inner = CurlTransport(deadlines=Deadlines(), trust=Trust(), user_agent="test")
        limited, told = LimitedTransport(inner, SystemClock()), Count()
        limited.set_limit(rate)
        began = time.monotonic()
        limited.start(Exchange(1, origin.url), told)
        assert told.over.wait(15)
        took = time.monotonic() - began
        limited.close()
    assert told.count == len(body)
    # The burst comes at once, and one chunk of at most 256 KiB that libcurl had read.
    assert took >= 0.8 * (len(body) - rate / 4 - (256 << 10)) / rate
