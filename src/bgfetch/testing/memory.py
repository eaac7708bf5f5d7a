"""A transport without a network: replies are values, and every call comes in the order the port promises."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from bgfetch.core.model import Fault, ReplyHead
from bgfetch.transports.base import Exchange, Receiver
from bgfetch.transports.faults import disk_fault

__all__ = ["Canned", "MemoryTransport"]

_STOPPED = Fault("stopped", "stopped on request", transient=True)


@dataclass(frozen=True, slots=True)
class Canned:
    """A reply.

    Args:
        head: Its head.
        chunks: Its body; may be endless, and is taken only as fast as the receiver wants it.
        fault: How the exchange breaks after these chunks, or None for a good end.
        silent: Whether it neither ends nor breaks after them: only `stop` and `close` end it.
    """

    head: ReplyHead
    chunks: Iterable[bytes] = ()
    fault: Fault | None = None
    silent: bool = False


@dataclass(slots=True)
class _Running:
    exchange: Exchange
    receiver: Receiver
    steps: Iterator[bytes] = field(default_factory=lambda: iter(()))
    reply: Canned | None = None
    paused: bool = False
    silent: bool = False


class MemoryTransport:
    """`Transport` that answers from a function, one call of a receiver at a time, the exchanges in turn.

    Args:
        answer: Gives the reply to an exchange, on the transport's thread.
    """

    def __init__(self, answer: Callable[[Exchange], Canned]) -> None:
        self._answer = answer
        self._running: dict[int, _Running] = {}
        self._errands: collections.deque[Callable[[], None]] = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self.bug: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="memory-transport", daemon=True)
        self._thread.start()

    def start(self, exchange: Exchange, receiver: Receiver) -> None:
        """Begin; the receiver hears of the end in every case."""
        if not self._send(lambda: self._running.__setitem__(exchange.flight, _Running(exchange, receiver))):
            receiver.failed(_STOPPED)

    def stop(self, flight: int) -> None:
        """Give this exchange up."""
        self._send(lambda: self._over(flight, _STOPPED))

    def pause(self, flight: int) -> None:
        """Take no more bytes of this exchange until `resume`."""
        self._send(lambda: self._set_paused(flight, paused=True))

    def resume(self, flight: int) -> None:
        """Go on after `pause`."""
        self._send(lambda: self._set_paused(flight, paused=False))

    def network_changed(self) -> None:
        """There is no network here that could change."""

    def close(self) -> None:
        """Give everything up and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _send(self, errand: Callable[[], None]) -> bool:
        with self._changed:
            if self._closing:
                return False
            self._errands.append(errand)
            self._changed.notify()
            return True

    def _set_paused(self, flight: int, *, paused: bool) -> None:
        if flight in self._running:
            self._running[flight].paused = paused

    def _run(self) -> None:
        while self._wait():
            while self._errands:
                self._errands.popleft()()
            for flight in self._ready():
                self._step(flight)
        while self._errands:
            self._errands.popleft()()
        for flight in list(self._running):
            self._over(flight, _STOPPED)

    def _wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._errands or self._ready())
            return not self._closing

    def _ready(self) -> list[int]:
        return [flight for flight, each in self._running.items() if not each.paused and not each.silent]

    def _step(self, flight: int) -> None:
        running = self._running[flight]
        try:
            more = self._advance(running)
        except OSError as error:
            self._over(flight, disk_fault(error))
            return
        if not more:
            self._over(flight, None)

    def _advance(self, running: _Running) -> bool:
        """One call of the receiver; False when it wants no more or there is no more."""
        if running.reply is None:
            running.reply = self._answer(running.exchange)
            running.steps = iter(running.reply.chunks)
            return running.receiver.head(running.reply.head)
        chunk = next(running.steps, None)
        if chunk is not None:
            return running.receiver.body([chunk])
        running.silent = running.reply.silent
        if running.reply.fault is not None:
            self._over(running.exchange.flight, running.reply.fault)
        return running.silent or running.reply.fault is not None

    def _over(self, flight: int, fault: Fault | None) -> None:
        running = self._running.pop(flight, None)
        if running is None:
            return
        if fault is None:
            running.receiver.ended()
        else:
            running.receiver.failed(fault)
