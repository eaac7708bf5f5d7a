"""A limit on speed around any transport: one for all exchanges together, and one for each lane (a registration).

It works by pausing and resuming the exchanges of the transport within, so that TCP slows the server down. Bytes are
counted when they have come; what came too early is paid for by a longer pause (core.pacing.TokenBucket), so the
average is right however large the chunks are. Nothing waits on the transport's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bgfetch.clock import Clock
from bgfetch.core.model import Fault
from bgfetch.core.pacing import TokenBucket
from bgfetch.transports.base import Exchange, Receiver, Transport

__all__ = ["LimitedTransport", "Throttle"]

_BURST = 0.25  # s of the rate that may come at once: less is choppy, more is seen by whoever shares the line


@dataclass(slots=True)
class Throttle:
    """The decision alone: whom to pause and until when. Instants are seconds of one clock that never goes back."""

    _all: TokenBucket | None = None
    _lanes: dict[int, TokenBucket] = field(default_factory=dict)
    _paused: dict[int, tuple[int, float]] = field(default_factory=dict)  # flight: lane, until

    def limit_all(self, rate: float | None, now: float) -> None:
        """Let all exchanges together have so many bytes a second, > 0; None for no limit."""
        self._all = _limited(self._all, rate, now)
        self._reckon(now)

    def limit_lane(self, lane: int, rate: float | None, now: float) -> None:
        """The same for the exchanges of one lane."""
        bucket = _limited(self._lanes.pop(lane, None), rate, now)
        if bucket is not None:
            self._lanes[lane] = bucket
        self._reckon(now)

    @property
    def limits(self) -> bool:
        """Whether anything is limited."""
        return self._all is not None or bool(self._lanes)

    def came(self, flight: int, lane: int, count: int, now: float) -> bool:
        """Count bytes of an exchange; whether it must pause."""
        if self._all is not None:
            self._all = self._all.spend(count, now)
        if lane in self._lanes:
            self._lanes[lane] = self._lanes[lane].spend(count, now)
        delay = self._delay(lane, now)
        if delay > 0:
            self._paused[flight] = (lane, now + delay)
        return delay > 0

    def due(self, now: float) -> list[int]:
        """The exchanges whose pause is over; they are told once."""
        over = [flight for flight, (_, until) in self._paused.items() if until <= now]
        for flight in over:
            del self._paused[flight]
        return over

    def next_due(self) -> float | None:
        """When the next pause is over, or None when nobody pauses."""
        return min((until for _, until in self._paused.values()), default=None)

    def holds(self, flight: int) -> bool:
        """Whether this exchange pauses for a limit."""
        return flight in self._paused

    def forget(self, flight: int) -> None:
        """The exchange is over."""
        self._paused.pop(flight, None)

    def _delay(self, lane: int, now: float) -> float:
        buckets = (self._all, self._lanes.get(lane))
        return max((bucket.delay(now) for bucket in buckets if bucket is not None), default=0.0)

    def _reckon(self, now: float) -> None:
        """A limit has changed: so have the ends of the pauses."""
        for flight, (lane, _) in self._paused.items():
            self._paused[flight] = (lane, now + self._delay(lane, now))


def _limited(bucket: TokenBucket | None, rate: float | None, now: float) -> TokenBucket | None:
    if rate is None:
        return None
    if bucket is None:
        return TokenBucket(rate, rate * _BURST, at=now)
    return replace(bucket.spend(0, now), rate=rate, burst=rate * _BURST)


class LimitedTransport:
    """`Transport` around another one, with limits that may be changed at any time.

    Args:
        inner: Makes the exchanges.
        clock: Its monotonic time is what rates are measured in.
    """

    def __init__(self, inner: Transport, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock
        self._throttle = Throttle()
        self._stopped_by_caller: set[int] = set()
        self.limiting = False  # read for each chunk, so without the lock
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="bgfetch-limit", daemon=True)
        self._thread.start()

    def set_limit(self, rate: float | None) -> None:
        """Let all exchanges together have so many bytes a second, > 0; None for no limit."""
        with self._changed:
            self._throttle.limit_all(rate, self._clock.monotonic())
            self._limits_changed()

    def set_lane_limit(self, lane: int, rate: float | None) -> None:
        """The same for the exchanges of one lane, besides the limit for all."""
        with self._changed:
            self._throttle.limit_lane(lane, rate, self._clock.monotonic())
            self._limits_changed()

    def _limits_changed(self) -> None:
        self.limiting = self._throttle.limits
        self._changed.notify()

    @property
    def bug(self) -> BaseException | None:
        """What the transport within died of, or None."""
        return self._inner.bug

    def start(self, exchange: Exchange, receiver: Receiver) -> None:
        """Begin; the receiver hears of the end in every case."""
        self._inner.start(exchange, _Counted(self, exchange, receiver))

    def stop(self, flight: int) -> None:
        """Give this exchange up."""
        self._inner.stop(flight)

    def pause(self, flight: int) -> None:
        """Take no more bytes of this exchange until `resume`, whatever the limits allow."""
        with self._changed:
            self._stopped_by_caller.add(flight)
            self._inner.pause(flight)

    def resume(self, flight: int) -> None:
        """Go on after `pause`, as soon as the limits allow."""
        with self._changed:
            self._stopped_by_caller.discard(flight)
            if not self._throttle.holds(flight):
                self._inner.resume(flight)

    def network_changed(self) -> None:
        """The machine has a network again, or another one."""
        self._inner.network_changed()

    def close(self) -> None:
        """Give everything up and end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._inner.close()

    def came(self, exchange: Exchange, count: int) -> None:
        """Count bytes, and pause the exchange if they were too many. On the transport's thread."""
        with self._changed:
            if self._throttle.came(exchange.flight, exchange.lane, count, self._clock.monotonic()):
                self._inner.pause(exchange.flight)
                self._changed.notify()

    def over(self, exchange: Exchange) -> None:
        """The exchange has ended. On the transport's thread."""
        with self._changed:
            self._throttle.forget(exchange.flight)
            self._stopped_by_caller.discard(exchange.flight)

    def _run(self) -> None:
        with self._changed:
            while not self._closing:
                for flight in self._throttle.due(self._clock.monotonic()):
                    if flight not in self._stopped_by_caller:
                        self._inner.resume(flight)
                until = self._throttle.next_due()
                self._changed.wait(None if until is None else max(0.0, until - self._clock.monotonic()))


class _Counted:
    """A receiver that counts what it hands on."""

    def __init__(self, limits: LimitedTransport, exchange: Exchange, receiver: Receiver) -> None:
        self._limits = limits
        self._exchange = exchange
        self._receiver = receiver
        self.connected = receiver.connected
        self.head = receiver.head
        self.tick = receiver.tick
        self.sent = receiver.sent

    def body(self, chunks: Sequence[bytes]) -> bool:
        wanted = self._receiver.body(chunks)
        if self._limits.limiting:
            self._limits.came(self._exchange, sum(map(len, chunks)))
        return wanted

    def ended(self) -> None:
        self._limits.over(self._exchange)
        self._receiver.ended()

    def failed(self, fault: Fault) -> None:
        self._limits.over(self._exchange)
        self._receiver.failed(fault)
